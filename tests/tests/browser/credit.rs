//! A call that lasts as long as the balance of its user, with the wallet of the examples.

use callpulse_tests::facts::record::Record;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::servers::wallet::{WalletHome, WalletOptions};
use serde_json::json;

use crate::call::{assert_clean_consoles, shown};
use crate::fixture::{Fixture, INTERVAL_MS, SOON};

const GRANTED: u64 = 20;
/// Half of it: enough for a reload on a busy machine, and less than the script waits for anything.
const LOW_MS: u64 = 15_000;

#[tokio::test]
async fn a_user_sees_the_remaining_credit_a_warning_and_the_reason_of_the_end() {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("ws-edge", "credit.enabled", true)
        .set("media-worker", "credit_low_ms", LOW_MS);
    let Some(fixture) = Fixture::start_with("credit", stack).await.unwrap() else {
        return;
    };
    let options = WalletOptions {
        first_intervals: GRANTED,
        ..WalletOptions::new(INTERVAL_MS.try_into().unwrap())
    };
    let balance = GRANTED * options.price;
    let nats = &fixture.stack.nats;
    let home = WalletHome::new(nats, fixture.stack.folder(), options).await.unwrap();
    home.deposit("user_001", balance).unwrap();
    let _wallet = home.start(None).await.unwrap();

    let mut script = fixture.run_script("credit").await.unwrap();
    let call_id = fixture.expect_connected(&mut script).await.unwrap();
    let before = script.expect("before").await.unwrap();
    let left = |seen: &serde_json::Value| seen["left"].as_u64().unwrap() * 1_000;
    let granted_ms = GRANTED * u64::try_from(INTERVAL_MS).unwrap();
    assert!((1..=granted_ms).contains(&left(&before)), "{before}");
    let of_otomo = before["otomo"].as_str().unwrap();
    assert!(!of_otomo.contains("balance"), "the user pays: {of_otomo}");
    let low = script.expect("low").await.unwrap();
    assert!(left(&low) <= LOW_MS && left(&low) <= left(&before), "{before} {low}");
    assert_eq!(low["otomo"], false);
    let reloaded = script.expect("reloaded").await.unwrap();
    assert!(left(&reloaded) <= left(&low), "{low} {reloaded}");

    let ended = script.expect("ended").await.unwrap();
    let record = Record::checked(&fixture.facts, &call_id, INTERVAL_MS, SOON)
        .await
        .unwrap();
    assert_eq!(ended["otomo"], shown(&record, &call_id));
    assert_eq!(ended["otomo"]["reason"], "credit_exhausted");
    let expected = json!({ "reason": "残高がなくなりました", "detail": "00:30.000・請求 20 分" });
    assert_eq!(ended["user"], expected);
    let denied = script.expect("denied").await.unwrap();
    assert_eq!(denied["code"], "call_denied");
    let advice = denied["advice"].as_str().unwrap();
    assert!(advice.starts_with("残高が足りない"), "{advice}");
    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
}
