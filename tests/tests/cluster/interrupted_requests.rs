//! Requests in flight when the storage stalls: each has an end, whatever its response was.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use callpulse_tests::clients::party::{Answer, Party};
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass};
use futures::future::try_join_all;
use serde_json::json;

use crate::fixture::{SOON, cluster_permit, facts, two_of_each};

/// Longer than any wait of the test: no deadline ends a call.
const RING_TIMEOUT: Duration = Duration::from_secs(120);
const STORAGE_TIMEOUT: Duration = Duration::from_millis(300);
/// Longer than the storage timeout of an edge, and shorter than its detection of a dead server.
const STALL: Duration = Duration::from_millis(900);
const ROUNDS: u64 = 4;
const USERS: u64 = 24;

#[tokio::test]
async fn a_request_stored_after_its_rejection_is_ended() -> Result<()> {
    let _permit = cluster_permit().await?;
    let stack = two_of_each()
        .timers(0)
        .edges(1)
        .proxied()
        .set("ws-edge", "ring_timeout_ms", RING_TIMEOUT.as_millis())
        .set("ws-edge", "storage_timeout_ms", STORAGE_TIMEOUT.as_millis())
        .start()
        .await?;
    let (edge, links) = (stack.edge(0)?, stack.links("ws-edge-1")?);
    let users = (0..USERS).map(|number| async move {
        let user = Party::connect(edge, Role::User, &format!("user_{number}")).await?;
        user.expect_notice("welcome").await?;
        anyhow::Ok(user)
    });
    let users = try_join_all(users).await?;
    let mut refused = 0;
    for round in 0..ROUNDS {
        // One millisecond apart, so that the stall interrupts each at another step.
        let requests = users.iter().zip(0..).map(|(user, number)| async move {
            let_time_pass("requests follow each other", Duration::from_millis(number)).await;
            call(user).await
        });
        let stall = async {
            let half_way = Duration::from_millis(USERS / 2 + 3 * round);
            let_time_pass("some requests are in flight", half_way).await;
            links.stall();
            let_time_pass("the edge gives up waiting", STALL).await;
            links.restore();
            Ok(())
        };
        let (answers, ()) = tokio::try_join!(try_join_all(requests), stall)?;
        for (user, answer) in users.iter().zip(answers) {
            match answer {
                Answer::Response(payload) => drop(
                    user.request("call_cancel", json!({ "callId": payload["callId"] }))
                        .await?,
                ),
                Answer::Refusal { code, .. } if code == "unavailable" => refused += 1,
                Answer::Refusal { code, message, .. } => bail!("{}: {code}: {message}", user.name()),
            }
        }
        // Nobody stays busy.
        for user in &users {
            eventually("calling again", SOON, async || match call(user).await? {
                Answer::Response(payload) => {
                    user.request("call_cancel", json!({ "callId": payload["callId"] }))
                        .await?;
                    Ok(())
                }
                Answer::Refusal { code, message, .. } => bail!("{}: {code}: {message}", user.name()),
            })
            .await?;
        }
    }
    ensure!(refused > 0, "no request was interrupted");
    let facts = facts(&stack).await?;
    eventually("the end of every request", SOON, async || {
        let all = facts.all().await?;
        let calls = |name: &str| -> BTreeSet<String> {
            let named = all.iter().filter(|fact| fact.name == name);
            named.map(|fact| fact.call_id.clone()).collect()
        };
        let (requested, ended) = (calls("requested"), calls("ended"));
        ensure!(requested == ended, "{:?} have no end", &requested - &ended);
        Ok(())
    })
    .await
}

async fn call(user: &Party) -> Result<Answer> {
    let otomo = user.name().replace("user", "otomo");
    user.ask("call_request", json!({ "otomoId": otomo })).await
}
