//! One call from ringing to its bill.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::INTERVAL;
use super::checklist::{Checklist, Expectation};
use crate::clients::caller::Caller;
use crate::clients::conversation::Conversation;
use crate::clients::party::{Party, Received};
use crate::facts::reader::{Fact, Facts, time};
use crate::servers::stack::Stack;
use crate::terminal::event_printer::EventPrinter;
use crate::terminal::screen::{LineKind, Screen};
use crate::token::Role;
use crate::wait::eventually;

/// The paying caller of the specification's example.
pub const USER: &str = "user_001";
/// The paid companion of the specification's example.
pub const OTOMO: &str = "otomo_777";

/// The deadline for a step that does not wait for a minute.
const SOON: Duration = Duration::from_secs(8);
/// The number of ticks to wait for.
const TICKS: u64 = 3;
/// The packets that each side must receive.
const MIN_PACKETS: u64 = 10;

/// Runs the call and marks the expectations. The first failed expectation ends it.
pub async fn play(screen: &Screen, checklist: &mut Checklist, stack: &Stack) -> Result<()> {
    let facts = Facts::connect(&stack.nats.url()).await?;
    let printer = EventPrinter::new(*screen, &facts).await?;

    screen.heading("The user is on node 1, the otomo on node 2: the call rings");
    let party = |edge, role, name| Party::connect_observed(edge, role, name, Some(printer.messages()));
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
    let conversation = Conversation::ring(user, otomo).await?;
    conversation.accept().await?;
    let Conversation {
        call_id: call,
        user,
        otomo,
    } = conversation;
    checklist.seen(Expectation::Accepted, &call);

    screen.heading("WebRTC: capabilities, transports, producers, consumers; ICE and DTLS, no RTP yet");
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

    screen.heading("The user sends the first RTP packet");
    user_media.start_talking().await?;
    let connected_at = connected(&facts, &call, &[&user, &otomo], &user_media).await?;
    checklist.seen(Expectation::Connected, &connected_at);
    otomo_media.start_talking().await?;
    both_receive(&user_media, &otomo_media).await?;
    let (by_user, by_otomo) = (user_media.received(), otomo_media.received());
    checklist.seen(Expectation::Received, &format!("{by_user} and {by_otomo} packets"));
    screen.line(
        LineKind::Info,
        &format!("RTP received: {by_user} packets by the user, {by_otomo} by the otomo"),
    );

    screen.heading("The user's RTP stops, ICE continues");
    user_media.stop_talking().await?;
    both(&facts, &call, &[&user, &otomo], "rtp_lost", "media_lost").await?;
    checklist.seen(Expectation::Lost, "party user");
    screen.heading("It resumes");
    user_media.start_talking().await?;
    let resumed = both(&facts, &call, &[&user, &otomo], "rtp_resumed", "media_resumed").await?;
    let gap = resumed
        .payload
        .get("gapMs")
        .and_then(Value::as_u64)
        .context("no gapMs")?;
    checklist.seen(Expectation::Resumed, &format!("after {gap} ms"));

    screen.heading("The user's WebSocket breaks; the user reconnects through node 2");
    tick(&user, 1, &connected_at).await?;
    drop(user);
    let user = party(stack.edge(1)?, Role::User, USER).await?;
    let last_tick = rejoins(&user, &call, &connected_at).await?;
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
        let notice = one.expect_notice("call_ended").await?;
        for key in ["callId", "endedAt", "reason", "durationMs", "billedMinutes"] {
            let (sent, stored) = (notice.payload().get(key), settled.payload.get(key));
            ensure!(
                sent.is_some() && sent == stored,
                "{} received {key} {sent:?}, stored is {stored:?}",
                one.name()
            );
        }
    }
    checklist.seen(Expectation::Notified, "the same as stored");
    checklist.seen(Expectation::Once, &once(&facts.of_call(&call).await?)?);
    Ok(())
}

async fn unconnected(facts: &Facts, call: &str, parties: &[&Party]) -> Result<()> {
    let stored = facts.of_call(call).await?;
    ensure!(
        stored.iter().all(|fact| fact.name != "rtp_detected"),
        "connected without RTP: {stored:?}"
    );
    for party in parties {
        let notices = party.received_of("call_connected");
        ensure!(notices.is_empty(), "{} received {notices:?} without RTP", party.name());
    }
    Ok(())
}

async fn self_report(user: &Party, call: &str) -> Result<()> {
    for claim in ["webrtc_connected", "call_connected"] {
        let code = user.refused(claim, json!({ "callId": call })).await?;
        ensure!(code == "self_report_forbidden", "{claim} was refused as {code}");
    }
    Ok(())
}

/// The fact, and its notice to both parties. Returns `connectedAt`.
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
        let notice = party.expect_notice("call_connected").await?;
        ensure!(
            *notice.payload() == expected,
            "{} received {}, not {expected}",
            party.name(),
            notice.message
        );
    }
    Ok(connected_at)
}

async fn both_receive(one: &Caller, other: &Caller) -> Result<()> {
    eventually("each receiving the other", SOON, async || {
        let received = (one.received(), other.received());
        ensure!(
            received.0 >= MIN_PACKETS && received.1 >= MIN_PACKETS,
            "received {received:?} packets"
        );
        Ok(())
    })
    .await
}

/// A fact about the user's RTP, and its notice to both parties.
async fn both(facts: &Facts, call: &str, parties: &[&Party], fact: &str, notice: &str) -> Result<Fact> {
    for party in parties {
        let received = party.expect_notice_within(notice, SOON).await?;
        ensure!(
            *received.payload() == json!({ "callId": call, "party": "user" }),
            "{notice} is {}",
            received.message
        );
    }
    facts.expect(call, fact, SOON).await
}

async fn tick(party: &Party, minute: u64, connected_at: &str) -> Result<()> {
    let minute_of = |notice: &Received| notice.payload().get("minute").and_then(Value::as_u64);
    let mut notice = party.expect_notice_within("tick", SOON).await?;
    // After a reconnect, a tick may arrive twice: in `welcome`, and as a notice that was in flight.
    while minute_of(&notice).is_some_and(|received| received < minute) {
        notice = party.expect_notice_within("tick", SOON).await?;
    }
    let payload = notice.payload();
    ensure!(
        minute_of(&notice) == Some(minute),
        "expected tick {minute}: {}",
        notice.message
    );
    ensure!(
        payload.get("connectedAt") == Some(&json!(connected_at)),
        "another connectedAt: {}",
        notice.message
    );
    let at = time(payload.get("at").and_then(Value::as_str).context("no at")?)?;
    let due = time(connected_at)? + INTERVAL * u32::try_from(minute)?;
    ensure!(at == due, "tick {minute} is at {at}, due at {due}");
    Ok(())
}

/// The other node sends the original `connectedAt`. Returns the last tick.
async fn rejoins(user: &Party, call: &str, connected_at: &str) -> Result<u64> {
    let welcome = user.expect_notice("welcome").await?;
    let active = welcome.payload().get("activeCall").context("no activeCall")?;
    ensure!(
        active.get("callId") == Some(&json!(call)),
        "another call: {}",
        welcome.message
    );
    ensure!(
        active.get("connectedAt") == Some(&json!(connected_at)),
        "another connectedAt: {}",
        welcome.message
    );
    let last = active.pointer("/lastTick/minute").and_then(Value::as_u64);
    last.with_context(|| format!("no last tick in {}", welcome.message))
}

/// Compares the settlement with the facts before it.
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

/// Facts that happen once are stored once, ticks are 1, 2, 3, …, and `settled` is last.
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
