use std::time::Duration;

use async_nats::{Client, ConnectOptions};
use callpulse_tests::clients::conversation::Pair;
use callpulse_tests::clients::party::{Answer, Party};
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token::Role;
use callpulse_tests::wait::let_time_pass;
use contract::wire::subject;
use futures::StreamExt;
use serde_json::{Value, json};
use tokio::task::JoinSet;

pub(crate) const SOON: Duration = Duration::from_secs(20);
/// A "minute".
pub(crate) const INTERVAL_MS: u64 = 1_000;
pub(crate) const USER: &str = "user_001";
pub(crate) const OTOMO: &str = "otomo_777";

/// Credit control, with short minutes.
pub(crate) fn with_credit(stack: StackBuilder) -> StackBuilder {
    stack
        .set("ws-edge", "credit.enabled", true)
        .set("ws-edge", "credit.timeout_ms", 1_500)
        .set("ws-edge", "limits.calls_per_minute_of_user", 100)
        .set("ws-edge", "limits.calls_per_minute_of_pair", 100)
        .set("media-worker", "credit_low_ms", 1_000)
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
}

/// A stack with credit control, and these settings of ws-edge.
pub(crate) async fn start(edge: &[(&str, &str)]) -> (Stack, Facts) {
    let mut builder = with_credit(StackBuilder::default());
    for (key, value) in edge {
        builder = builder.set("ws-edge", key, value);
    }
    let stack = builder.start().await.unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    (stack, facts)
}

/// A client with the rights of the wallet.
pub(crate) async fn client(stack: &Stack) -> Client {
    let password = stack.nats.password("wallet").unwrap().to_owned();
    let options = ConnectOptions::with_user_and_password("wallet".to_owned(), password);
    options
        .connect(format!("127.0.0.1:{}", stack.nats.port()))
        .await
        .unwrap()
}

/// A wallet that answers each question so, after a delay.
pub(crate) async fn answering(
    client: &Client,
    delay: Duration,
    answers: impl Fn(&Value) -> Vec<String> + Send + 'static,
) -> JoinSet<()> {
    let mut questions = client.subscribe(subject::AUTHORIZE).await.unwrap();
    client.flush().await.unwrap();
    let client = client.clone();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some(question) = questions.next().await {
            let_time_pass("the wallet thinks", delay).await;
            for answer in answers(&serde_json::from_slice(&question.payload).unwrap()) {
                let reply = question.reply.clone().unwrap();
                client.publish(reply, answer.into()).await.unwrap();
            }
        }
    });
    task
}

pub(crate) fn pair(stack: &Stack) -> Pair<'static> {
    Pair::across(stack).unwrap().named(USER, OTOMO)
}

/// The reason of `call_denied`, as the caller receives it; panics if the call rings.
pub(crate) async fn denied(stack: &Stack) -> String {
    let user = Party::connect(stack.edge(0).unwrap(), Role::User, USER).await.unwrap();
    let answer = user.ask("call_request", json!({ "otomoId": OTOMO })).await.unwrap();
    let Answer::Refusal { code, reason, .. } = answer else {
        panic!("the call rings: {answer:?}");
    };
    assert_eq!(code, "call_denied");
    reason
}

pub(crate) async fn fact(facts: &Facts, call: &str, name: &str) -> Fact {
    facts.expect(call, name, SOON).await.unwrap()
}

/// The bill never exceeds what was granted, and the call did not last longer.
pub(crate) async fn assert_within_grants(facts: &Facts, call: &str) {
    let stored = facts.of_call(call).await.unwrap();
    let granted = stored
        .iter()
        .filter(|fact| ["requested", "credit_granted"].contains(&fact.name.as_str()))
        .filter_map(|fact| fact.payload["untilMs"].as_u64())
        .max()
        .unwrap();
    let settled = stored.iter().find(|fact| fact.name == "settled").unwrap();
    assert!(
        settled.payload["durationMs"].as_u64().unwrap() <= granted,
        "{settled:?}"
    );
    assert!(settled.payload["billedMinutes"].as_u64().unwrap() * INTERVAL_MS <= granted);
}
