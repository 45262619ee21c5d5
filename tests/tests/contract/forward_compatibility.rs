//! Readers of the contract keep what a later version has stored, and continue.

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::contract_client::ContractClient;
use callpulse_tests::facts::later_version::{self, CALL, FIELDS, KINDS, REASON, REASONS};
use contract::views::call_view::{CallState, CallView};
use contract::views::history::History;
use contract::views::timeline::Timeline;
use contract::wire::unknown::Unknown;
use contract::{CallId, Fact, FactKind, Outcome, PublishCondition, Timestamp, TraceParent};

use crate::fixture::Fixture;

async fn client(fixture: &Fixture) -> Result<ContractClient> {
    ContractClient::open(&fixture.server).await
}

#[tokio::test]
async fn a_timeline_shows_unknown_kinds_fields_and_reasons() -> Result<()> {
    let fixture = Fixture::start().await?;
    later_version::store(&client(&fixture).await?, None).await?;
    let page = History::new(&fixture.nats).of_call(&CALL.parse()?).await?;
    let timeline = Timeline::new(&page, Timestamp::now());
    let stored = later_version::facts()?;
    ensure!(timeline.entries.len() == stored.len());
    for (entry, (kind, payload)) in timeline.entries.iter().zip(&stored) {
        ensure!(entry.fact == *kind && entry.error.is_none(), "{entry:?}");
        match payload.as_object() {
            Some(fields) => {
                let shown = entry.payload.as_object().context("no object")?;
                ensure!(shown.len() + 3 == fields.len(), "{shown:?}");
                ensure!(
                    shown.iter().all(|(key, value)| fields.get(key) == Some(value)),
                    "{shown:?}"
                );
            }
            None if payload.is_null() => ensure!(entry.payload.is_null(), "{entry:?}"),
            None => ensure!(entry.payload["value"] == *payload, "{entry:?}"),
        }
    }
    let unknown = Unknown {
        kinds: KINDS,
        fields: FIELDS,
        reasons: REASONS,
    };
    ensure!(timeline.unknown == unknown, "{:?}", timeline.unknown);
    ensure!(timeline.state == Some(CallState::Settled) && timeline.minutes.due == Some(2));
    let view = CallView::of(&page.facts).context("no call")?;
    ensure!(view.end.context("no end")?.reason.as_str() == REASON);
    Ok(())
}

#[tokio::test]
async fn an_unknown_fact_between_known_ones_stops_no_publication() -> Result<()> {
    let fixture = Fixture::start().await?;
    let client = client(&fixture).await?;
    let call: CallId = CALL.parse()?;
    later_version::store(&client, Some("mood_changed")).await?;
    let last = fixture.facts.last_of_call(&call).await?.context("nothing stored")?;
    ensure!(last.fact.is_none() && last.sequence == 8, "{last:?}");
    let (mut sequence, mut read) = (0, Vec::new());
    while let Some(stored) = fixture.facts.next_of_call(&call, sequence).await? {
        sequence = stored.sequence + 1;
        read.push(stored.fact.map(|fact| fact.kind()));
    }
    let known = [
        FactKind::Requested,
        FactKind::Accepted,
        FactKind::RtpDetected,
        FactKind::Tick,
    ];
    ensure!(read == known.map(|kind| [Some(kind), None]).concat(), "{read:?}");
    let stored = later_version::facts()?;
    let fact = |kind: FactKind| {
        let of_kind = |(name, payload): &(String, serde_json::Value)| {
            let payload = (name == kind.as_str()).then(|| serde_json::to_vec(payload))?.ok()?;
            Fact::decode(&format!("call.{CALL}.{name}"), &payload).ok()
        };
        stored.iter().find_map(of_kind).context("no such fact")
    };
    for (kind, condition) in [
        (FactKind::RtpLost, PublishCondition::WhileOpen),
        (FactKind::Ended, PublishCondition::OnceWhileOpen),
    ] {
        let (fact, trace) = (fact(kind)?, TraceParent::generate());
        let outcome = fixture.facts.publish(&fact, condition, trace).await?;
        ensure!(matches!(outcome, Outcome::Stored(_)), "{outcome:?}");
        let again = fixture.facts.publish(&fact, condition, trace).await?;
        ensure!(matches!(again, Outcome::AlreadyStored(_)), "{again:?}");
    }
    let ended = fixture.facts.last(&call, FactKind::Ended).await?.context("no end")?;
    ensure!(ended.fact.reason().is_some_and(|reason| reason.as_str() == REASON));
    Ok(())
}
