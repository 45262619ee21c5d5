//! Facts, and why calls end.

use contract::wire::fact::EndReason;
use contract::{Fact, FactKind};
use serde_json::Value;

use crate::golden::Golden;

#[test]
fn facts_and_the_notices_that_follow_them() {
    let mut golden = Golden::default();
    for kind in FactKind::ALL {
        for stored in golden.payload(&format!("fact.{kind}"), kind.payload()) {
            let subject = format!("call.{}.{kind}", stored["callId"].as_str().unwrap());
            let fact = Fact::decode(&subject, stored.to_string().as_bytes()).unwrap();
            assert_eq!(
                serde_json::from_slice::<Value>(&fact.encode().unwrap()).unwrap(),
                stored
            );
            if let Some(notice) = fact.notice() {
                let declared = kind.declaration().notices;
                assert!(
                    declared.contains(&(&notice).into()),
                    "{kind}: {} is not declared",
                    notice.name()
                );
            }
        }
    }
    golden.complete("fact.");
}

#[test]
fn reasons_of_an_end() {
    let mut golden = Golden::default();
    golden.value("reasons", &EndReason::known().collect::<Vec<_>>());
    for reason in EndReason::known() {
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.as_str());
    }
    golden.complete("reasons");
}
