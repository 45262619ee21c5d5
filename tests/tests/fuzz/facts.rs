use callpulse_tests::fuzz::{Fuzz, golden};
use contract::views::call_view::CallView;
use contract::{Fact, FactKind, TraceParent};
use serde_json::Value;

#[test]
fn stored_facts() {
    let fuzz = Fuzz::new("facts", golden("fact.").unwrap()).unwrap();
    fuzz.run(|input| {
        let call = serde_json::from_slice::<Value>(input).unwrap_or_default();
        let call = call.get("callId").and_then(Value::as_str).unwrap_or("call_abc123");
        for kind in FactKind::ALL {
            let Ok(fact) = Fact::decode(&format!("call.{call}.{kind}"), input) else {
                continue;
            };
            let encoded = fact.encode().unwrap();
            assert_eq!(Fact::decode(&fact.subject(), &encoded).unwrap(), fact);
            fact.notice().map(|notice| notice.encode().unwrap());
            let _ = (fact.event_id(), fact.occurred_at());
            let mut view = CallView::new(&fact, 1, TraceParent::generate());
            view.apply(&fact, 2, TraceParent::generate());
            assert!(serde_json::to_string(&view).is_ok());
        }
        let _ = Fact::decode(&String::from_utf8_lossy(input), b"{}");
    })
    .unwrap();
}
