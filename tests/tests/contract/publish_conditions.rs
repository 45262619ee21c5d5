//! Single facts with their publish conditions.

use anyhow::{Context, Result, ensure};
use contract::jetstream::fact_store::{Outcome, PublishCondition};
use contract::samples::{at, requested, rtp_detected, rtp_lost, tick};
use contract::wire::fact::{EndReason, Ended};
use contract::{Fact, FactKind, TraceParent};

use crate::fixture::{Fixture, ended};

#[tokio::test]
async fn the_first_fact_is_stored_and_its_repetition_is_recognised() -> Result<()> {
    let fixture = Fixture::start().await?;
    let fact: Fact = rtp_detected("c", at(1)).into();
    let trace = TraceParent::generate();
    let Outcome::Stored(sequence) = fixture.facts.publish(&fact, PublishCondition::First, trace).await? else {
        anyhow::bail!("not stored");
    };
    let again = fixture
        .other()
        .await?
        .publish(&fact, PublishCondition::First, TraceParent::generate())
        .await?;
    ensure!(again == Outcome::AlreadyStored(sequence), "{again:?}");
    let stored = fixture
        .facts
        .last(fact.call_id(), FactKind::RtpDetected)
        .await?
        .context("nothing stored")?;
    ensure!(
        stored.fact == fact && stored.sequence == sequence && stored.trace.trace_id() == trace.trace_id(),
        "{stored:?}"
    );
    ensure!(stored.trace != trace, "the publication has no span of its own");

    let other = fixture
        .facts
        .publish(&rtp_detected("c", at(2)).into(), PublishCondition::First, trace)
        .await?;
    ensure!(other == Outcome::Superseded(Box::new(stored)), "{other:?}");
    ensure!(other.sequence().is_none());
    Ok(())
}

#[tokio::test]
async fn exactly_one_of_two_concurrent_publishers_succeeds() -> Result<()> {
    let fixture = Fixture::start().await?;
    let other = fixture.other().await?;
    for round in 0..50 {
        let call = format!("c{round}");
        let (one, two) = (
            ended(&call, EndReason::Hangup).into(),
            ended(&call, EndReason::WorkerLost).into(),
        );
        let (one, two) = tokio::join!(
            fixture
                .facts
                .publish(&one, PublishCondition::First, TraceParent::generate()),
            other.publish(&two, PublishCondition::First, TraceParent::generate()),
        );
        match (one?, two?) {
            (Outcome::Stored(sequence), Outcome::Superseded(stored))
            | (Outcome::Superseded(stored), Outcome::Stored(sequence)) => ensure!(stored.sequence == sequence),
            outcomes => anyhow::bail!("{outcomes:?}"),
        }
    }
    Ok(())
}

#[tokio::test]
async fn each_tick_requires_the_previous_one() -> Result<()> {
    let fixture = Fixture::start().await?;
    let publish = async |minute, condition| {
        fixture
            .facts
            .publish(
                &tick("c", minute, at(0), 60_000).into(),
                condition,
                TraceParent::generate(),
            )
            .await
    };
    let first = publish(1, PublishCondition::First)
        .await?
        .sequence()
        .context("refused")?;
    let second = publish(2, PublishCondition::CallUnchangedSince(first))
        .await?
        .sequence()
        .context("refused")?;
    ensure!(publish(2, PublishCondition::CallUnchangedSince(first)).await? == Outcome::AlreadyStored(second));
    ensure!(
        matches!(publish(3, PublishCondition::CallUnchangedSince(first)).await?, Outcome::Superseded(stored) if stored.sequence == second)
    );
    ensure!(matches!(
        publish(3, PublishCondition::First).await?,
        Outcome::Superseded(_)
    ));
    ensure!(matches!(
        publish(3, PublishCondition::CallUnchangedSince(second)).await?,
        Outcome::Stored(_)
    ));
    Ok(())
}

#[tokio::test]
async fn a_publication_can_require_an_unchanged_call() -> Result<()> {
    let fixture = Fixture::start().await?;
    let trace = TraceParent::generate();
    let requested = fixture
        .facts
        .publish(&requested("c", at(0)).into(), PublishCondition::First, trace)
        .await?
        .sequence()
        .context("refused")?;
    // Facts of another call do not change this one.
    fixture
        .facts
        .publish(&rtp_detected("other", at(1)).into(), PublishCondition::First, trace)
        .await?;
    let connected = fixture
        .facts
        .publish(
            &rtp_detected("c", at(1)).into(),
            PublishCondition::CallUnchangedSince(requested),
            trace,
        )
        .await?;
    let connected = connected
        .sequence()
        .context("refused although nothing happened in between")?;

    let end = ended("c", EndReason::MediaTimeout).into();
    let late = fixture
        .facts
        .publish(&end, PublishCondition::CallUnchangedSince(requested), trace)
        .await?;
    ensure!(late == Outcome::ConditionFailed, "the call has moved on: {late:?}");
    let last = fixture
        .facts
        .last_of_call(end.call_id())
        .await?
        .context("nothing stored")?;
    ensure!(last.sequence == connected && last.fact.is_some_and(|fact| fact.kind() == FactKind::RtpDetected));
    let timely = fixture
        .facts
        .publish(&end, PublishCondition::CallUnchangedSince(connected), trace)
        .await?;
    ensure!(matches!(timely, Outcome::Stored(_)), "{timely:?}");
    let again = fixture
        .facts
        .publish(&end, PublishCondition::CallUnchangedSince(connected), trace)
        .await?;
    ensure!(matches!(again, Outcome::AlreadyStored(_)), "{again:?}");
    Ok(())
}

#[tokio::test]
async fn a_repeatable_fact_is_stored_again_but_its_retry_is_not() -> Result<()> {
    let fixture = Fixture::start().await?;
    let lost = |millis| Fact::from(rtp_lost("c", at(millis)));
    let publish = async |fact: &Fact| {
        fixture
            .facts
            .publish(fact, PublishCondition::WhileOpen, TraceParent::generate())
            .await
    };
    let Outcome::Stored(first) = publish(&lost(1)).await? else {
        anyhow::bail!("not stored")
    };
    ensure!(publish(&lost(1)).await? == Outcome::AlreadyStored(first));
    ensure!(matches!(publish(&lost(2)).await?, Outcome::Stored(_)));
    Ok(())
}

#[tokio::test]
async fn no_repeatable_fact_is_stored_after_the_end() -> Result<()> {
    let fixture = Fixture::start().await?;
    let lost = |call: &str, millis| Fact::from(rtp_lost(call, at(millis)));
    let publish = async |fact: &Fact, condition| fixture.facts.publish(fact, condition, TraceParent::generate()).await;
    for (call, millis) in [("c", 1), ("c", 2), ("d", 1)] {
        let outcome = publish(&lost(call, millis), PublishCondition::WhileOpen).await?;
        ensure!(matches!(outcome, Outcome::Stored(_)), "{outcome:?}");
    }
    publish(&ended("c", EndReason::Hangup).into(), PublishCondition::First).await?;
    let late = publish(&lost("c", 3), PublishCondition::WhileOpen).await?;
    ensure!(late.sequence().is_none(), "stored after the end: {late:?}");
    // An attempt with a lost acknowledgement finds its fact stored.
    let again = publish(&lost("c", 2), PublishCondition::WhileOpen).await?;
    ensure!(matches!(again, Outcome::AlreadyStored(_)), "{again:?}");
    let other = publish(&lost("d", 2), PublishCondition::WhileOpen).await?;
    ensure!(
        matches!(other, Outcome::Stored(_)),
        "another call's end is none of its business: {other:?}"
    );
    Ok(())
}

#[tokio::test]
async fn a_call_has_one_end_with_its_stored_connection() -> Result<()> {
    let fixture = Fixture::start().await?;
    let publish = async |fact: Fact| {
        let condition = PublishCondition::OnceWhileOpen;
        fixture.facts.publish(&fact, condition, TraceParent::generate()).await
    };
    fixture
        .facts
        .publish(
            &requested("c", at(0)).into(),
            PublishCondition::First,
            TraceParent::generate(),
        )
        .await?;
    ensure!(matches!(
        publish(rtp_detected("c", at(1)).into()).await?,
        Outcome::Stored(_)
    ));
    let other = publish(rtp_detected("c", at(2)).into()).await?;
    ensure!(
        matches!(other, Outcome::Superseded(_)),
        "a second connection: {other:?}"
    );
    let unconnected = ended("c", EndReason::WorkerLost);
    let outcome = publish(unconnected.clone().into()).await?;
    ensure!(outcome == Outcome::ConditionFailed, "it was connected: {outcome:?}");
    let connected = Ended {
        connected_at: Some(at(1)),
        ..unconnected.clone()
    };
    ensure!(matches!(publish(connected.clone().into()).await?, Outcome::Stored(_)));
    ensure!(matches!(publish(connected.into()).await?, Outcome::AlreadyStored(_)));
    let other = publish(unconnected.into()).await?;
    ensure!(matches!(other, Outcome::Superseded(_)), "a second end: {other:?}");
    let late = publish(rtp_detected("c", at(3)).into()).await?;
    ensure!(late.sequence().is_none(), "connected after its end: {late:?}");
    Ok(())
}

#[tokio::test]
async fn the_facts_of_a_call_are_read_in_order() -> Result<()> {
    let fixture = Fixture::start().await?;
    let facts: [Fact; 3] = [
        requested("c", at(0)).into(),
        rtp_detected("c", at(1)).into(),
        ended("c", EndReason::Hangup).into(),
    ];
    for fact in &facts {
        fixture
            .facts
            .publish(fact, PublishCondition::First, TraceParent::generate())
            .await?;
        fixture
            .facts
            .publish(
                &rtp_detected(&format!("x{}", fact.kind()), at(1)).into(),
                PublishCondition::First,
                TraceParent::generate(),
            )
            .await?;
    }
    let (call, mut sequence, mut read) = ("c".parse()?, 1, Vec::new());
    while let Some(stored) = fixture.facts.next_of_call(&call, sequence).await? {
        sequence = stored.sequence + 1;
        read.extend(stored.fact);
    }
    ensure!(read == facts, "{read:?}");
    ensure!(fixture.facts.last(&call, FactKind::Tick).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn a_fact_published_while_the_server_is_dead_is_stored_when_it_is_back() -> Result<()> {
    let mut fixture = Fixture::start().await?;
    fixture.server.kill()?;
    let facts = fixture.facts.clone();
    let fact: Fact = rtp_detected("c", at(1)).into();
    let publication = tokio::spawn({
        let fact = fact.clone();
        async move {
            facts
                .publish(&fact, PublishCondition::First, TraceParent::generate())
                .await
        }
    });
    let mut link = fixture.nats.state();
    tokio::time::timeout(crate::fixture::SOON, link.wait_for(|link| !link.connected)).await??;
    ensure!(!publication.is_finished(), "no server could store it");
    fixture.server.restart().await?;
    let outcome = tokio::time::timeout(crate::fixture::SOON, publication).await???;
    let sequence = outcome.sequence().with_context(|| format!("{outcome:?}"))?;
    let stored = fixture
        .facts
        .last(fact.call_id(), FactKind::RtpDetected)
        .await?
        .context("nothing stored")?;
    ensure!(stored.sequence == sequence && stored.fact == fact);
    Ok(())
}
