//! A call of a later version on the operations feed, in snapshots and in notices.

use anyhow::{Result, ensure};
use callpulse_tests::clients::viewer::Viewer;
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::later_version::{self, CALL, REASON};
use callpulse_tests::token::Role;
use contract::buckets::active_calls::{ActiveCall, ActiveCalls};
use contract::{Parties, Timestamp, TraceParent};

use crate::common::{edge, welcomed};

#[tokio::test]
async fn unknown_kinds_fields_and_reasons_reach_operators_and_hide_no_call() -> Result<()> {
    let stack = edge().start().await?;
    let client = ContractClient::open(&stack.nats).await?;
    let mut viewer = Viewer::connect(stack.edge(0)?).await?;
    viewer.until("the feed", |viewer| viewer.snapshots == 1).await?;
    let entry = ActiveCall {
        parties: Parties {
            call_id: CALL.parse()?,
            user_id: "user_later".parse()?,
            otomo_id: "otomo_later".parse()?,
        },
        node_id: "elsewhere".parse()?,
        requested_at: Timestamp::now(),
        // No edge ends it.
        ring_deadline: Timestamp::now().plus_millis(86_400_000),
        accepted: None,
        traceparent: TraceParent::generate(),
    };
    let active = ActiveCalls::new(&client.storage, client.facts.clone());
    active.claim(&entry).await?;

    later_version::store(&client, Some("mood_changed")).await?;
    let snapshot = welcomed(stack.edge(0)?, Role::User, "user_later").await;
    ensure!(
        snapshot["state"] == "connected" && snapshot["lastTick"]["minute"] == 1,
        "{snapshot}"
    );
    viewer
        .until("the call", |viewer| viewer.call(CALL)["lastTick"]["minute"] == 1)
        .await?;

    let ended = later_version::facts()?.into_iter().skip(8);
    for (kind, payload) in ended {
        let payload = serde_json::to_vec(&payload)?.into();
        let subject = format!("call.{CALL}.{kind}");
        client.publish_unconditionally(subject, payload).await?;
    }
    viewer
        .until("its settlement", |viewer| {
            let call = viewer.call(CALL);
            call["state"] == "settled" && call["end"]["reason"] == REASON && call["bill"]["billedMinutes"] == 2
        })
        .await?;
    let timeline = viewer.timeline(CALL).await?;
    let entries = timeline["entries"].as_array().map_or(0, Vec::len);
    ensure!(
        entries == later_version::facts()?.len() && timeline["unknown"]["kinds"] == later_version::KINDS,
        "{timeline}"
    );
    let errors = timeline["entries"].as_array().into_iter().flatten();
    ensure!(errors.clone().all(|entry| entry["error"].is_null()), "{timeline}");
    for what in ["kind", "field", "reason"] {
        let series = format!("callpulse_unknown_total{{type=\"{what}\"}}");
        let counted = stack.edges[0].metric(&series).await?;
        ensure!(counted > Some(0.0), "{what}: {counted:?}");
    }
    let undecodable = r#"callpulse_ws_undecodable_total{type="fact"}"#;
    let undecodable = stack.edges[0].metric(undecodable).await?;
    ensure!(undecodable == Some(0.0), "{undecodable:?}");
    Ok(())
}
