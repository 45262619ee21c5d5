//! Reading facts and following buckets by direct gets.

use anyhow::{Context, Result, ensure};
use callpulse_tests::wait::eventually;
use contract::buckets::active_calls::{ActiveCall, ActiveCalls, CallChange};
use contract::buckets::billing_leases::{LeaseChange, Leases, Partition, Process};
use contract::buckets::media_workers::{MediaWorkers, WorkerChange, WorkerStatus};
use contract::samples::{at, parties, requested, rtp_detected, tick};
use contract::views::call_view::{CallState, CallView};
use contract::views::history::{History, MAX_OF_CALL, Start};
use contract::views::tail;
use contract::views::timeline::Timeline;
use contract::{CallId, EndReason, Fact, FactKind, PublishCondition, TraceParent};

use crate::fixture::{Fixture, SOON, ended};

async fn store(fixture: &Fixture, fact: impl Into<Fact>) -> Result<u64> {
    let fact = fact.into();
    let sequence = fixture.facts.sequence_of_call(fact.call_id()).await?;
    let condition = PublishCondition::CallUnchangedSince(sequence);
    let outcome = fixture.facts.publish(&fact, condition, TraceParent::generate());
    outcome.await?.sequence().context("not stored")
}

fn subjects<'a>(facts: impl IntoIterator<Item = &'a contract::views::history::Recorded>) -> Vec<&'a str> {
    facts.into_iter().map(|fact| fact.subject.as_str()).collect()
}

#[tokio::test]
async fn the_leader_tells_the_time_by_which_it_stamps_facts() -> Result<()> {
    let fixture = Fixture::start().await?;
    let before = fixture.facts.leader_time().await?;
    store(&fixture, requested("c1", at(0))).await?;
    let after = fixture.facts.leader_time().await?;
    ensure!(before.leader == after.leader, "{before:?}, {after:?}");
    let page = History::new(&fixture.nats).of_call(&"c1".parse()?).await?;
    let stored_at = page.facts.first().context("not stored")?.stored_at;
    ensure!(
        (before.at..=after.at).contains(&stored_at),
        "{before:?}, {stored_at}, {after:?}"
    );
    Ok(())
}

#[tokio::test]
async fn the_facts_of_a_call_are_read_in_order_with_source_and_time() -> Result<()> {
    let fixture = Fixture::start().await?;
    let history = History::new(&fixture.nats);
    let call: CallId = "c1".parse()?;
    ensure!(history.last_sequence().await? == 0);
    ensure!(history.of_call(&call).await?.facts.is_empty());
    store(&fixture, requested("c1", at(0))).await?;
    store(&fixture, requested("c2", at(0))).await?;
    store(&fixture, rtp_detected("c1", at(0))).await?;
    for minute in 1..=3 {
        store(&fixture, tick("c1", minute, at(0), 60_000)).await?;
    }
    let last = store(&fixture, ended("c1", EndReason::Hangup)).await?;
    ensure!(history.last_sequence().await? == last);

    let page = history.of_call(&call).await?;
    let expected = ["requested", "rtp_detected", "tick", "tick", "tick", "ended"].map(|kind| format!("call.c1.{kind}"));
    ensure!(subjects(&page.facts) == expected, "{page:?}");
    ensure!(!page.more);
    let sources: Vec<_> = page.facts.iter().filter_map(|fact| fact.source.as_deref()).collect();
    ensure!(sources == ["/test/1"; 6]);
    let timeline = Timeline::new(&page, at(90_000));
    ensure!(timeline.state == Some(CallState::Ended));
    ensure!(
        timeline.minutes.stored == 3 && timeline.minutes.due == Some(1),
        "{timeline:?}"
    );

    let ticks = history.page(Some(FactKind::Tick), Start::Sequence(0), 2).await?;
    ensure!(subjects(&ticks.facts) == ["call.c1.tick"; 2] && ticks.more);
    let from = ticks.facts.last().context("none")?.sequence + 1;
    let ticks = history.page(Some(FactKind::Tick), Start::Sequence(from), 2).await?;
    ensure!(subjects(&ticks.facts) == ["call.c1.tick"] && !ticks.more);
    let stored_at = page.facts.last().context("none")?.stored_at;
    let late = history.page(None, Start::Time(stored_at), 10).await?;
    ensure!(subjects(&late.facts).last() == Some(&"call.c1.ended"));
    let none = history
        .page(None, Start::Time(stored_at.plus_millis(60_000)), 10)
        .await?;
    ensure!(none.facts.is_empty() && !none.more);
    Ok(())
}

#[tokio::test]
async fn reading_a_very_long_call_is_bounded() -> Result<()> {
    let fixture = Fixture::start().await?;
    let minutes = u32::try_from(MAX_OF_CALL)? + 5;
    for minute in 1..=minutes {
        store(&fixture, tick("c1", minute, at(0), 60_000)).await?;
    }
    let page = History::new(&fixture.nats).of_call(&"c1".parse()?).await?;
    ensure!(page.facts.len() == MAX_OF_CALL && page.more);
    Ok(())
}

#[tokio::test]
async fn the_last_facts_of_many_calls_give_their_states() -> Result<()> {
    let fixture = Fixture::start().await?;
    let names: Vec<String> = (0..300).map(|number| format!("c{number}")).collect();
    let stores = names.iter().map(async |name| {
        store(&fixture, requested(name, at(0))).await?;
        store(&fixture, rtp_detected(name, at(0))).await?;
        for minute in 1..=3 {
            store(&fixture, tick(name, minute, at(0), 60_000)).await?;
        }
        anyhow::Ok(())
    });
    futures::future::try_join_all(stores).await?;
    let mut calls: Vec<CallId> = names.iter().filter_map(|name| name.parse().ok()).collect();
    calls.push("unheard_of".parse()?);
    let facts = History::new(&fixture.nats).last_of_calls(&calls).await?;
    ensure!(facts.len() == 900, "{} facts", facts.len());
    for name in names {
        let of_call = facts
            .iter()
            .filter(|fact| fact.subject.starts_with(&format!("call.{name}.")));
        let view = CallView::of(of_call).context("no view")?;
        ensure!(view.state() == CallState::Connected && view.last_tick.map(|tick| tick.minute) == Some(3));
    }
    Ok(())
}

#[tokio::test]
async fn facts_are_followed_from_a_sequence_and_across_an_outage() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    store(&fixture, requested("before", at(0))).await?;
    let mut tail = tail::facts(&fixture.nats, History::new(&fixture.nats).last_sequence().await?);
    ensure!(tail.poll().await?.is_empty() && !tail.is_behind());
    let stores = (0..1_500).map(|number| {
        let fixture = &fixture;
        async move { store(fixture, requested(&format!("c{number}"), at(0))).await }
    });
    futures::future::try_join_all(stores).await?;
    ensure!(tail.poll().await?.len() == 1_500, "more than one answer takes");
    ensure!(tail.poll().await?.is_empty());
    fixture.server.kill()?;
    ensure!(tail.poll().await.is_err());
    fixture.server.restart().await?;
    store(&fixture, requested("after", at(0))).await?;
    let seen = eventually("an answer", SOON, async || Ok(tail.poll().await?)).await?;
    ensure!(subjects(&seen) == ["call.after.requested"], "{seen:?}");
    Ok(())
}

#[tokio::test]
async fn buckets_are_followed_with_removals_and_expiries() -> Result<()> {
    let fixture = Fixture::start().await?;
    let (mut calls, mut workers, mut leases) = (
        tail::active_calls(&fixture.nats),
        tail::workers(&fixture.nats),
        tail::leases(&fixture.nats),
    );
    let active = ActiveCalls::new(&fixture.storage, fixture.facts.clone());
    let call = ActiveCall {
        parties: parties("c1"),
        node_id: "n".parse()?,
        requested_at: at(0),
        ring_deadline: at(1),
        accepted: None,
        traceparent: TraceParent::generate(),
    };
    let revision = active.claim(&call).await?;
    let news: Vec<_> = calls.poll().await?.into_iter().collect::<Result<_, _>>()?;
    ensure!(
        matches!(&news[..], [CallChange::Active(seen)] if seen.value == call && seen.revision == revision),
        "{news:?}"
    );
    active.release(&call.parties).await?;
    let news: Vec<_> = calls.poll().await?.into_iter().collect::<Result<_, _>>()?;
    ensure!(news == [CallChange::Gone("c1".parse()?)], "{news:?}");

    let status = WorkerStatus {
        worker_id: "mw".parse()?,
        calls: 1,
        capacity: 2,
        draining: false,
        cordoned: false,
        at: at(0),
        started_at: at(0),
        wall: None,
        stored_at: None,
    };
    MediaWorkers::new(&fixture.storage).claim(&status).await?;
    let news: Vec<_> = workers.poll().await?.into_iter().collect::<Result<_, _>>()?;
    ensure!(
        matches!(&news[..], [WorkerChange::Alive(seen)] if seen.worker_id == status.worker_id && seen.stored_at.is_some()),
        "{news:?}"
    );
    let gone = eventually("the worker's key expires", SOON, async || {
        let news = workers.poll().await?;
        ensure!(!news.is_empty(), "nothing yet");
        Ok(news)
    });
    let gone: Vec<_> = gone.await?.into_iter().collect::<Result<_, _>>()?;
    ensure!(gone == [WorkerChange::Gone("mw".parse()?)], "{gone:?}");

    let held = Leases::new(&fixture.nats, &fixture.storage);
    let timer = "bt".parse()?;
    let process = Process::new(at(0));
    held.put_heartbeat(&timer, &process, true, std::time::Duration::from_secs(60))
        .await?;
    let seventh = Partition::numbered(7).context("no partition")?;
    let lease = held.assign(seventh, &timer, None).await?;
    held.withdraw(&timer).await?;
    let news: Vec<_> = leases.poll().await?.into_iter().collect::<Result<_, _>>()?;
    ensure!(
        news == [LeaseChange::Held(seventh, lease), LeaseChange::Gone(timer)],
        "{news:?}"
    );
    Ok(())
}
