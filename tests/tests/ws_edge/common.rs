//! What the tests of the edge share.

use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::nats_server::Sync;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token::Role;
use serde_json::{Value, json};

/// One edge and its server.
pub(crate) fn edge() -> StackBuilder {
    StackBuilder::default().workers(0).timers(0).sync(Sync::Lazy)
}

/// A party that has received `welcome`, on an edge.
pub(crate) async fn connect(stack: &Stack, edge: usize, role: Role, name: &str) -> Party {
    let party = Party::connect(stack.edge(edge).unwrap(), role, name).await.unwrap();
    party.expect_notice("welcome").await.unwrap();
    party
}

/// A user that has received `welcome`.
pub(crate) async fn user(stack: &Stack, name: &str) -> Party {
    connect(stack, 0, Role::User, name).await
}

/// A call that rings, and one that is accepted.
pub(crate) async fn ringing_and_accepted(pair: Pair<'_>) -> [Conversation; 2] {
    let ringing = Conversation::ringing(pair.named("user_r", "otomo_r")).await.unwrap();
    let accepted = Conversation::accepted(pair.named("user_a", "otomo_a")).await.unwrap();
    [ringing, accepted]
}

/// Sends a request that must be refused with this code.
pub(crate) async fn assert_refused(party: &Party, kind: &str, payload: Value, code: &str) {
    assert_eq!(
        party.refused(kind, payload).await.unwrap(),
        code,
        "{kind} of {}",
        party.name()
    );
}

/// Edges and one worker, without a billing-timer.
pub(crate) fn edges(count: usize) -> StackBuilder {
    StackBuilder::default().edges(count).timers(0).sync(Sync::Lazy)
}

/// The user on the first edge, the otomo on the last.
pub(crate) fn pair(stack: &Stack) -> Pair<'static> {
    Pair::across(stack).unwrap()
}

/// The facts of a call, by name.
pub(crate) async fn names(facts: &Facts, call: &str) -> Vec<String> {
    facts
        .of_call(call)
        .await
        .unwrap()
        .into_iter()
        .map(|fact| fact.name)
        .collect()
}

/// Waits for the `call_ended` of a call that never began.
pub(crate) async fn ended(party: &Party, call: &str, reason: &str) {
    let notice = party.expect_notice("call_ended").await.unwrap();
    let payload = notice.payload();
    assert_eq!(
        (payload["callId"].as_str(), payload["reason"].as_str()),
        (Some(call), Some(reason))
    );
    assert_eq!(
        (&payload["durationMs"], &payload["billedMinutes"]),
        (&json!(0), &json!(0))
    );
}

/// The active call in the welcome of a new socket.
pub(crate) async fn welcomed(edge: std::net::SocketAddr, role: Role, name: &str) -> Value {
    let party = Party::connect(edge, role, name).await.unwrap();
    let welcome = party.expect_notice("welcome").await.unwrap();
    assert!(welcome.payload()["sessionId"].is_string());
    welcome.payload()["activeCall"].clone()
}
