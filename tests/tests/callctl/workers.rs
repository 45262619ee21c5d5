//! `callctl workers`, `cordon`, `uncordon` and `drain`, as the user `operator`.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::commands::{callctl, output};
use callpulse_tests::servers::nats_server::NatsServer;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::eventually;
use serde_json::Value;

use crate::fixture;

const SOON: Duration = Duration::from_secs(20);

fn as_operator(server: &NatsServer, arguments: &[&str]) -> Result<Command> {
    callctl(server, "operator", arguments)
}

/// Its stdout; it must succeed.
async fn operator(server: &NatsServer, arguments: &[&str]) -> Result<String> {
    fixture::stdout_of(as_operator(server, arguments)?).await
}

async fn workers(server: &NatsServer) -> Result<Vec<Value>> {
    fixture::lines(&operator(server, &["workers", "--json"]).await?)
}

/// The worker that hosts a call.
async fn host(facts: &Facts, call: &str) -> Result<String> {
    Ok(facts.expect(call, "accepted", SOON).await?.text("workerId")?.to_owned())
}

async fn calling(stack: &Stack, number: usize) -> Result<Conversation> {
    let (user, otomo) = (format!("user_{number}"), format!("otomo_{number}"));
    let pair = Pair::across(stack)?.named(&user, &otomo);
    Conversation::accepted(pair).await
}

#[tokio::test]
async fn an_operator_drains_a_worker_whose_calls_end_by_themselves() -> Result<()> {
    let mut stack = StackBuilder::default().workers(2).start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let (conversation, user, otomo) = Conversation::talking(Pair::across(&stack)?).await?;
    let full = host(&facts, &conversation.call_id).await?;

    // Only the operator may: neither the observer, nor anyone for a worker that does not exist.
    let error = fixture::stderr_of_failure(&stack.nats, &["cordon", &full], 1).await?;
    ensure!(error.contains("the user operator may"), "{error}");
    let error = fixture::stderr_of_failure(&stack.nats, &["workers"], 1).await?;
    ensure!(error.contains("--nats-user operator"), "{error}");
    let unknown = output(as_operator(&stack.nats, &["drain", "media-worker-9"])?).await?;
    ensure!(
        String::from_utf8_lossy(&unknown.stderr).contains("does not run"),
        "{unknown:?}"
    );

    let log = stack.folder().join("drain.log");
    let mut draining = Child::start("callctl", &mut as_operator(&stack.nats, &["drain", &full])?, &log)?;
    eventually("the worker being listed as cordoned", SOON, async || {
        let workers = workers(&stack.nats).await?;
        let worker = workers.iter().find(|worker| worker["workerId"] == full.as_str());
        let worker = worker.context("it is not listed")?;
        ensure!(worker["cordoned"] == true && worker["calls"] == 1, "{worker}");
        Ok(())
    })
    .await?;
    let mut others = Vec::new();
    for number in 0..4 {
        let call = calling(&stack, number).await?;
        ensure!(
            host(&facts, &call.call_id).await? != full,
            "a new call on the cordoned worker"
        );
        others.push(call);
    }
    ensure!(
        draining.ended()?.is_none(),
        "it ended before the call: {}",
        draining.log_tail()
    );
    conversation.user.request("call_hangup", conversation.id()).await?;
    drop((user, otomo));
    let status = draining.until_ended(SOON).await?;
    ensure!(status.success(), "{}", draining.log_tail());
    let ended = facts.expect(&conversation.call_id, "ended", SOON).await?;
    ensure!(ended.text("reason")? == "hangup", "{ended:?}");

    let output = operator(&stack.nats, &["uncordon", &full]).await?;
    ensure!(output.contains("accepts calls"), "{output}");
    let output = operator(&stack.nats, &["cordon", &full]).await?;
    ensure!(output.contains("hosts 0 calls"), "{output}");
    let output = operator(&stack.nats, &["drain", &full, "--within", "1"]).await?;
    ensure!(output.contains("hosts no call and stays cordoned"), "{output}");
    let table = operator(&stack.nats, &["workers"]).await?;
    ensure!(
        table.lines().count() == 3 && table.contains("cordoned") && table.contains("active"),
        "{table}"
    );

    // A restart lifts the cordon.
    let restarted = stack.workers.iter_mut();
    let restarted = restarted.filter(|worker| worker.setting("worker_id") == Some(&full));
    for worker in restarted {
        worker.restart().await?;
        worker.ready().await?;
    }
    eventually("the worker being active", SOON, async || {
        let workers = workers(&stack.nats).await?;
        ensure!(
            workers.len() == 2 && workers.iter().all(|worker| worker["cordoned"] == false),
            "{workers:?}"
        );
        Ok(())
    })
    .await?;
    drop(others);
    stack.stop().await
}
