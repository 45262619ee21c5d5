//! Requests that are under way when the storage falls silent: whatever their users are told, each comes to an end.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use callpulse_tests::party::{Answer, Party};
use callpulse_tests::token::Role;
use callpulse_tests::wait::{eventually, let_time_pass};
use futures::future::try_join_all;
use serde_json::json;

use crate::scene::{SOON, facts, turn, two_of_each};

/// Longer than anything waits for here: no deadline ends a call.
const RING_TIMEOUT: Duration = Duration::from_secs(120);
const STORAGE_TIMEOUT: Duration = Duration::from_millis(300);
/// Longer than an edge waits for the storage, and shorter than it takes to miss the server.
const SILENCE: Duration = Duration::from_millis(900);
const ROUNDS: u64 = 4;
const USERS: u64 = 24;

#[tokio::test]
async fn a_request_that_is_stored_after_its_user_was_refused_is_taken_back() -> Result<()> {
    let _turn = turn().await?;
    let stack = two_of_each()
        .workers(0)
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
        // One after the other within a few milliseconds, so that the silence finds each at another step.
        let requests = users.iter().zip(0..).map(|(user, number)| async move {
            let_time_pass("requests follow each other", Duration::from_millis(number)).await;
            call(user).await
        });
        let silence = async {
            let half_way = Duration::from_millis(USERS / 2 + 3 * round);
            let_time_pass("some requests are under way", half_way).await;
            links.stall();
            let_time_pass("the edge gives up waiting", SILENCE).await;
            links.mend();
            Ok(())
        };
        let (answers, ()) = tokio::try_join!(try_join_all(requests), silence)?;
        for (user, answer) in users.iter().zip(answers) {
            match answer {
                Answer::Response(payload) => drop(
                    user.request("call_cancel", json!({ "callId": payload["callId"] }))
                        .await?,
                ),
                Answer::Refusal { code, .. } if code == "unavailable" => refused += 1,
                Answer::Refusal { code, message } => bail!("{}: {code}: {message}", user.name()),
            }
        }
        // None of them stays locked out.
        for user in &users {
            eventually("calling again", SOON, async || match call(user).await? {
                Answer::Response(payload) => {
                    user.request("call_cancel", json!({ "callId": payload["callId"] }))
                        .await?;
                    Ok(())
                }
                Answer::Refusal { code, message } => bail!("{}: {code}: {message}", user.name()),
            })
            .await?;
        }
    }
    ensure!(refused > 0, "the silence was noticed by nobody");
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
