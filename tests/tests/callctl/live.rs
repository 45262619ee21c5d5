//! `callctl` during and after a real call.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::wait::eventually;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::fixture::{callctl, lines, output};

const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_call_is_listed_watched_and_shown_from_its_first_to_its_last_fact() -> Result<()> {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", 1_000)
        .start()
        .await?;
    ensure!(output(&stack.nats, &["list"]).await? == "no such call\n");

    let log = stack.folder().join("callctl.log");
    let mut watching = Child::start("callctl", &mut callctl(&stack.nats, &["watch", "--json"])?, &log)?;
    let mut watched = BufReader::new(watching.take_stdout()?).lines();
    let (conversation, user, otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    for party in conversation.parties() {
        party.expect_notice("tick").await?;
    }

    let list = lines(&output(&stack.nats, &["list", "--json"]).await?)?;
    ensure!(list.len() == 1, "{list:?}");
    let listed = &list[0];
    ensure!(
        listed["callId"] == conversation.call_id.as_str() && listed["state"] == "connected",
        "{listed}"
    );
    ensure!(
        listed["userId"] == "user_001" && listed["otomoId"] == "otomo_777" && listed["workerId"] == "media-worker-1",
        "{listed}"
    );
    ensure!(listed["lastTick"]["minute"].as_u64() >= Some(1), "{listed}");
    let table = output(&stack.nats, &["list", "--state", "connected"]).await?;
    ensure!(
        table.starts_with("CALL") && table.contains(&conversation.call_id),
        "{table}"
    );
    ensure!(output(&stack.nats, &["list", "--state", "ringing"]).await? == "no such call\n");

    conversation.user.request("call_hangup", conversation.id()).await?;
    for party in conversation.parties() {
        party.expect_notice("call_ended").await?;
    }
    drop((user, otomo));

    let shown = &lines(&output(&stack.nats, &["show", &conversation.call_id, "--json"]).await?)?[0];
    let facts: Vec<_> = shown["entries"]
        .as_array()
        .context("no entries")?
        .iter()
        .filter_map(|entry| entry["fact"].as_str())
        .collect();
    ensure!(
        facts.starts_with(&["requested", "accepted", "rtp_detected"]),
        "{facts:?}"
    );
    ensure!(facts.ends_with(&["settled"]) && facts.contains(&"ended"), "{facts:?}");
    ensure!(
        shown["minutes"]["due"] == shown["minutes"]["stored"] && shown["minutes"]["missing"] == serde_json::json!([]),
        "{shown}"
    );
    let shown = output(&stack.nats, &["show", &conversation.call_id]).await?;
    ensure!(
        shown.contains("user_001 called otomo_777") && shown.contains("rtp_detected") && shown.contains(" billed"),
        "{shown}"
    );

    // `watch` prints every stored fact in order.
    let mut last = 0;
    loop {
        let line = timeout(SOON, watched.next_line())
            .await
            .context("nothing more was watched")??;
        let fact = &lines(&line.context("it ended by itself")?)?[0];
        let sequence = fact["sequence"].as_u64().context("no sequence")?;
        ensure!(sequence > last, "{sequence} after {last}");
        last = sequence;
        if fact["subject"]
            .as_str()
            .is_some_and(|subject| subject.ends_with(".settled"))
        {
            ensure!(fact["payload"]["callId"] == conversation.call_id.as_str(), "{fact}");
            break;
        }
    }
    watching.kill()?;
    eventually("the call being off the list", SOON, async || {
        ensure!(output(&stack.nats, &["list"]).await? == "no such call\n");
        Ok(())
    })
    .await?;
    stack.stop().await
}
