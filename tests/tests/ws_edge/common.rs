//! What the tests of the edge's limits and of bad input share.

use callpulse_tests::nats_server::Sync;
use callpulse_tests::party::Party;
use callpulse_tests::process::Service;
use callpulse_tests::stack::{Stack, StackBuilder};
use callpulse_tests::token::Role;

/// One edge, and nothing else but its server.
pub(crate) fn edge() -> StackBuilder {
    StackBuilder::default().workers(0).timers(0).sync(Sync::Lazy)
}

/// A user who was welcomed.
pub(crate) async fn user(stack: &Stack, name: &str) -> Party {
    let party = Party::connect(stack.edge(0).unwrap(), Role::User, name).await.unwrap();
    party.expect_notice("welcome").await.unwrap();
    party
}

/// A metric's value, by its name and labels.
pub(crate) async fn metric(service: &Service, line: &str) -> Option<f64> {
    let (status, body) = service.ops("/metrics").await.unwrap();
    assert_eq!(status, 200);
    let value = body.lines().find_map(|found| found.strip_prefix(line))?;
    value.trim().parse().ok()
}
