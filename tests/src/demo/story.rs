//! One call from ringing to its bill, with everything in between that the design promises.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::INTERVAL;
use super::checklist::{Checklist, Expectation};
use super::onlooker::Onlooker;
use super::screen::{Screen, Tone};
use crate::caller::Caller;
use crate::facts::{Fact, Facts, time};
use crate::party::{Party, Received};
use crate::stack::Stack;
use crate::token::Role;
use crate::wait::eventually;

/// The paying caller of the specification's example.
pub const USER: &str = "user_001";
/// The paid companion of the specification's example.
pub const OTOMO: &str = "otomo_777";

/// How long a step may take that does not wait for a minute.
const SOON: Duration = Duration::from_secs(8);
/// Ticks that are waited for.
const TICKS: u64 = 3;
/// Packets that count as hearing somebody.
const HEARD_PACKETS: u64 = 10;

/// Plays it, ticking off what was seen. The first expectation that fails ends it.
///
/// # Errors
/// What was expected and not seen.
pub async fn play(screen: &Screen, checklist: &mut Checklist, stack: &Stack) -> Result<()> {
    let facts = Facts::connect(&stack.nats.url()).await?;
    let onlooker = Onlooker::new(*screen, &facts).await?;

    screen.heading("The user is on node 1, the otomo on node 2: it rings");
    let party = |edge, role, name| Party::connect_watched(edge, role, name, Some(onlooker.parties()));
    let user = party(stack.edge(0)?, Role::User, USER).await?;
    let otomo = party(stack.edge(1)?, Role::Otomo, OTOMO).await?;
    for one in [&user, &otomo] {
        let welcome = one.expect_notice("welcome").await?;
        ensure!(
            welcome.payload().get("activeCall") == Some(&Value::Null),
            "in a call already: {}",
            welcome.message
        );
    }
    let call = ring(&user, &otomo).await?;
    checklist.seen(Expectation::Accepted, &call);

    screen.heading("WebRTC: capabilities, transports, producers, consumers; ICE and DTLS, and not a word yet");
    let mut user_media = Caller::join(&user).await?;
    let mut otomo_media = Caller::join(&otomo).await?;
    user_media.listen(&user).await?;
    otomo_media.listen(&otomo).await?;
    unconnected(&facts, &call, &[&user, &otomo]).await?;
    checklist.seen(Expectation::Unconnected, "two transports a side");

    screen.heading("The user claims to be connected");
    self_report(&user, &call).await?;
    unconnected(&facts, &call, &[&user, &otomo]).await?;
    checklist.seen(Expectation::SelfReportRefused, "self_report_forbidden, twice");

    screen.heading("The user speaks: the first RTP packet");
    user_media.start_talking().await?;
    let connected_at = connected(&facts, &call, &[&user, &otomo], &user_media).await?;
    checklist.seen(Expectation::Connected, &connected_at);
    otomo_media.start_talking().await?;
    hears(&user_media, &otomo_media).await?;
    let (heard_by_user, heard_by_otomo) = (user_media.heard(), otomo_media.heard());
    checklist.seen(
        Expectation::Heard,
        &format!("{heard_by_user} and {heard_by_otomo} packets"),
    );
    screen.line(
        Tone::Narrator,
        &format!("RTP heard: {heard_by_user} packets by the user, {heard_by_otomo} by the otomo"),
    );

    screen.heading("The user's RTP dies, while ICE stays");
    user_media.stop_talking().await?;
    both(&facts, &call, &[&user, &otomo], "rtp_lost", "media_lost").await?;
    checklist.seen(Expectation::Lost, "party user");
    screen.heading("It comes back");
    user_media.start_talking().await?;
    let resumed = both(&facts, &call, &[&user, &otomo], "rtp_resumed", "media_resumed").await?;
    let gap = resumed
        .payload
        .get("gapMs")
        .and_then(Value::as_u64)
        .context("no gapMs")?;
    checklist.seen(Expectation::Resumed, &format!("after {gap} ms"));

    screen.heading("The user's socket breaks; the user comes back through node 2");
    tick(&user, 1, &connected_at).await?;
    drop(user);
    let user = party(stack.edge(1)?, Role::User, USER).await?;
    let last_tick = resumes(&user, &call, &connected_at).await?;
    checklist.seen(
        Expectation::Reconnected,
        &format!("{connected_at}, last tick {last_tick}"),
    );

    screen.heading("Minutes pass, two seconds each");
    for minute in (last_tick + 1)..=TICKS {
        tick(&user, minute, &connected_at).await?;
    }
    for minute in 1..=TICKS {
        tick(&otomo, minute, &connected_at).await?;
    }
    checklist.seen(Expectation::Ticked, &format!("{TICKS} ticks"));

    screen.heading("The user hangs up");
    user.request("call_hangup", json!({ "callId": call })).await?;
    let ended = facts.expect(&call, "ended", SOON).await?;
    ensure!(ended.text("reason")? == "hangup", "ended as {}", ended.payload);
    checklist.seen(Expectation::Ended, &format!("by {}", ended.text("by")?));
    let settled = facts.expect(&call, "settled", SOON).await?;
    checklist.seen(Expectation::Settled, &bill(&connected_at, &ended, &settled)?);
    for one in [&user, &otomo] {
        let told = one.expect_notice("call_ended").await?;
        for key in ["callId", "endedAt", "reason", "durationMs", "billedMinutes"] {
            let (told, stored) = (told.payload().get(key), settled.payload.get(key));
            ensure!(
                told.is_some() && told == stored,
                "{} is told {key} {told:?}, stored is {stored:?}",
                one.name()
            );
        }
    }
    checklist.seen(Expectation::Told, "the same as stored");
    checklist.seen(Expectation::Once, &once(&facts.of_call(&call).await?)?);
    Ok(())
}

async fn ring(user: &Party, otomo: &Party) -> Result<String> {
    let answer = user.request("call_request", json!({ "otomoId": OTOMO })).await?;
    let call = answer
        .get("callId")
        .and_then(Value::as_str)
        .context("no callId")?
        .to_owned();
    let incoming = otomo.expect_notice("incoming_call").await?;
    ensure!(
        incoming.payload().get("callId") == Some(&json!(call)),
        "another call rings: {}",
        incoming.message
    );
    otomo.request("call_accept", json!({ "callId": call })).await?;
    for one in [user, otomo] {
        let accepted = one.expect_notice("call_accepted").await?;
        ensure!(
            accepted.payload().get("callId") == Some(&json!(call)),
            "another call: {}",
            accepted.message
        );
    }
    Ok(call)
}

async fn unconnected(facts: &Facts, call: &str, parties: &[&Party]) -> Result<()> {
    let stored = facts.of_call(call).await?;
    ensure!(
        stored.iter().all(|fact| fact.name != "rtp_detected"),
        "connected without RTP: {stored:?}"
    );
    let told = parties
        .iter()
        .find(|party| !party.received_of("call_connected").is_empty());
    ensure!(
        told.is_none(),
        "{} was told call_connected without RTP",
        told.map(|party| party.name()).unwrap_or_default()
    );
    Ok(())
}

async fn self_report(user: &Party, call: &str) -> Result<()> {
    for claim in ["webrtc_connected", "call_connected"] {
        let code = user.refused(claim, json!({ "callId": call })).await?;
        ensure!(code == "self_report_forbidden", "{claim} was refused as {code}");
    }
    Ok(())
}

/// The fact, and its notice to everybody. Returns `connectedAt`.
async fn connected(facts: &Facts, call: &str, parties: &[&Party], speaker: &Caller) -> Result<String> {
    let fact = facts.expect(call, "rtp_detected", SOON).await?;
    let connected_at = fact.text("connectedAt")?.to_owned();
    ensure!(
        fact.text("detectedFrom")? == "user",
        "not the user's packet: {}",
        fact.payload
    );
    ensure!(
        fact.payload.get("ssrc") == Some(&json!(speaker.ssrc())),
        "another SSRC: {}",
        fact.payload
    );
    let sent: DateTime<Utc> = speaker.first_datagram_sent_at().context("nothing sent")?.wall.into();
    let late = (fact.time("connectedAt")? - sent).num_milliseconds();
    ensure!(
        (-1..1000).contains(&late),
        "connectedAt is {late} ms after the packet was sent"
    );
    let expected = json!({
        "callId": call,
        "userId": USER,
        "otomoId": OTOMO,
        "connectedAt": connected_at,
        "method": "sfu_rtp_detected",
    });
    for party in parties {
        let told = party.expect_notice("call_connected").await?;
        ensure!(
            *told.payload() == expected,
            "{} was told {}, not {expected}",
            party.name(),
            told.message
        );
    }
    Ok(connected_at)
}

async fn hears(one: &Caller, other: &Caller) -> Result<()> {
    eventually("each hearing the other", SOON, async || {
        let heard = (one.heard(), other.heard());
        ensure!(
            heard.0 >= HEARD_PACKETS && heard.1 >= HEARD_PACKETS,
            "heard {heard:?} packets"
        );
        Ok(())
    })
    .await
}

/// A fact about the user's RTP, and its notice to everybody.
async fn both(facts: &Facts, call: &str, parties: &[&Party], fact: &str, notice: &str) -> Result<Fact> {
    for party in parties {
        let told = party.expect_notice_within(notice, SOON).await?;
        ensure!(
            *told.payload() == json!({ "callId": call, "party": "user" }),
            "{notice} says {}",
            told.message
        );
    }
    facts.expect(call, fact, SOON).await
}

async fn tick(party: &Party, minute: u64, connected_at: &str) -> Result<()> {
    let minute_of = |told: &Received| told.payload().get("minute").and_then(Value::as_u64);
    let mut told = party.expect_notice_within("tick", SOON).await?;
    // A tick may come twice to who reconnects just then: in `welcome`, and as the notice that was on its way.
    while minute_of(&told).is_some_and(|told| told < minute) {
        told = party.expect_notice_within("tick", SOON).await?;
    }
    let payload = told.payload();
    ensure!(
        minute_of(&told) == Some(minute),
        "expected tick {minute}: {}",
        told.message
    );
    ensure!(
        payload.get("connectedAt") == Some(&json!(connected_at)),
        "of another beginning: {}",
        told.message
    );
    let at = time(payload.get("at").and_then(Value::as_str).context("no at")?)?;
    let due = time(connected_at)? + INTERVAL * u32::try_from(minute)?;
    ensure!(at == due, "tick {minute} is of {at}, due was {due}");
    Ok(())
}

/// What the other node tells: the original beginning. Returns the last tick.
async fn resumes(user: &Party, call: &str, connected_at: &str) -> Result<u64> {
    let welcome = user.expect_notice("welcome").await?;
    let active = welcome.payload().get("activeCall").context("no activeCall")?;
    ensure!(
        active.get("callId") == Some(&json!(call)),
        "another call: {}",
        welcome.message
    );
    ensure!(
        active.get("connectedAt") == Some(&json!(connected_at)),
        "another beginning: {}",
        welcome.message
    );
    let last = active.pointer("/lastTick/minute").and_then(Value::as_u64);
    last.with_context(|| format!("no last tick in {}", welcome.message))
}

/// The record against the facts that it sums up.
fn bill(connected_at: &str, ended: &Fact, settled: &Fact) -> Result<String> {
    let number = |key: &str| {
        let number = settled.payload.get(key).and_then(Value::as_u64);
        number.with_context(|| format!("no {key} in {}", settled.payload))
    };
    ensure!(
        settled.text("connectedAt")? == connected_at,
        "settled from {}",
        settled.payload
    );
    ensure!(
        settled.text("endedAt")? == ended.text("endedAt")?,
        "settled until {}",
        settled.payload
    );
    let duration = u64::try_from((ended.time("endedAt")? - time(connected_at)?).num_milliseconds())?;
    ensure!(
        number("durationMs")? == duration,
        "duration {duration} ms is settled as {}",
        settled.payload
    );
    let full_minutes = duration / u64::try_from(INTERVAL.as_millis())?;
    let (ticks, billed) = (number("ticks")?, number("billedMinutes")?);
    ensure!(
        (ticks, billed) == (full_minutes, full_minutes),
        "{full_minutes} full minutes: {}",
        settled.payload
    );
    Ok(format!("{duration} ms, {ticks} ticks, {billed} minutes billed"))
}

/// Facts that happen once are there once; ticks are 1, 2, 3, …; `settled` is the last word.
fn once(stored: &[Fact]) -> Result<String> {
    let names: Vec<&str> = stored.iter().map(|fact| fact.name.as_str()).collect();
    for name in ["requested", "accepted", "rtp_detected", "ended", "settled"] {
        let times = names.iter().filter(|stored| **stored == name).count();
        ensure!(times == 1, "{name} is stored {times} times: {names:?}");
    }
    let ticks = stored.iter().filter(|fact| fact.name == "tick");
    for (minute, tick) in (1_u64..).zip(ticks) {
        ensure!(
            tick.payload.get("minute") == Some(&json!(minute)),
            "tick {minute} is {}",
            tick.payload
        );
    }
    ensure!(names.last() == Some(&"settled"), "settled is not the last: {names:?}");
    Ok(format!("{} facts", names.len()))
}
