//! Commands and their replies.

use contract::EndReason;
use contract::wire::command::{Terminate, declarations};

use crate::golden::Golden;

#[test]
fn commands() {
    let mut golden = Golden::default();
    for command in declarations() {
        golden.payload(&format!("command.{}.request", command.name), command.request);
        golden.payload(&format!("command.{}.reply", command.name), command.reply);
    }
    golden.complete("command.");
}

#[test]
fn the_reason_of_terminate_may_be_absent() {
    let brief: Terminate = serde_json::from_str(r#"{"by":"wallet"}"#).unwrap();
    assert_eq!(brief.reason, EndReason::Terminated);
}
