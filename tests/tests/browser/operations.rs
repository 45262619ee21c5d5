//! The operations page during a call.

use callpulse_tests::facts::record::Record;
use serde_json::{Value, json};

use crate::call::{assert_clean_consoles, shown};
use crate::fixture::{Fixture, INTERVAL_MS, SOON};

fn count(cell: &Value) -> usize {
    cell.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_operator_sees_the_live_call_the_settled_call_and_its_timeline() {
    let Some(fixture) = Fixture::start("operations").await.unwrap() else {
        return;
    };
    let mut script = fixture.run_script("operations").await.unwrap();

    let live = script.expect("live").await.unwrap();
    let call_id = fixture.call_id().await.unwrap();
    let stored = fixture.facts.of_call(&call_id).await.unwrap();
    let row = &live["row"];
    for (cell, text) in [
        ("state", "connected"),
        ("call", call_id.as_str()),
        ("user", "user_001"),
        ("otomo", "otomo_777"),
        ("worker", "media-worker-1"),
    ] {
        assert_eq!(row[cell], text, "{row}");
    }
    let ticks = stored.iter().filter(|fact| fact.name == "tick").count();
    assert!((2..=ticks).contains(&count(&row["ticks"])), "{ticks} are stored: {row}");
    assert_eq!(live["workers"], json!(["media-worker-1"]));
    assert_eq!(live["edges"], json!(["ws-edge-1", "ws-edge-2"]));
    assert_eq!(live["timers"], json!(["billing-timer-1"]));
    script.done("live").await.unwrap();

    let over = script.expect("over").await.unwrap();
    let record = Record::checked(&fixture.facts, &call_id, INTERVAL_MS, SOON)
        .await
        .unwrap();
    assert_eq!(over["record"], shown(&record, &call_id));
    let minutes = record.ticks.len();
    let row = &over["row"];
    let state = row["state"].as_str().unwrap();
    assert!(state.starts_with("settled"), "{state}");
    assert!(state.ends_with(&format!("{minutes} min billed")), "{state}");
    assert_eq!(
        (row["call"].as_str().unwrap(), count(&row["ticks"])),
        (call_id.as_str(), minutes)
    );

    let stored = fixture.facts.of_call(&call_id).await.unwrap();
    let names: Vec<&str> = stored.iter().map(|fact| fact.name.as_str()).collect();
    assert_eq!(over["facts"], json!(names));
    let sources = over["sources"].as_array().unwrap();
    assert_eq!(sources.len(), stored.len());
    for (shown, fact) in sources.iter().zip(&stored) {
        let shown = shown.as_str().unwrap();
        let source = fact.headers.get("ce-source").unwrap().as_str();
        assert!(shown.contains(source.rsplit('/').next().unwrap()), "{source}: {shown}");
        assert!(shown.ends_with(&format!("#{}", fact.sequence)), "{shown}");
    }
    // The interval, and the minutes due, stored and billed.
    let added_up: Vec<&str> = over["minutes"]
        .as_array()
        .unwrap()
        .iter()
        .map(|dd| dd.as_str().unwrap())
        .collect();
    let number = minutes.to_string();
    assert_eq!(added_up[1..], [number.as_str(); 3], "{added_up:?}");
    let windows = script.end().await.unwrap();
    assert_clean_consoles(&windows);
}
