//! The bill of calls on real RTP: with silence in the middle under every kind of terms, dead, and with one side only.

use std::time::{Duration, SystemTime};

use anyhow::{Context, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::{Conversation, Pair};
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::commands::{output, reconcile};
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::wait::{eventually, let_time_pass};
use chrono::{DateTime, Utc};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::fixture::{INTERVAL_MS, SOON, answering, client, fact, with_credit};

/// More than any call lasts, but one.
const GRANTED_MS: i64 = 30_000;
/// Losses after 3 s: the window of mediasoup's bitrate has run out, and the last packet is known.
const LOST_AFTER_MS: u64 = 3_000;
/// The delays of a busy machine.
const TOLERANCE_MS: i64 = 1_000;

/// `termsId`, `charge`, `freeMs`, `minimumMs`, `silence`, `untilMs`.
type Case = (&'static str, &'static str, i64, i64, &'static str, i64);

const CASES: [Case; 9] = [
    ("bill", "full", 0, 0, "bill", GRANTED_MS),
    ("otomo", "full", 0, 0, "deduct_otomo", GRANTED_MS),
    ("any", "full", 0, 0, "deduct_any", GRANTED_MS),
    ("otomo-start", "start", 0, 0, "deduct_otomo", GRANTED_MS),
    ("otomo-free", "full", 1_500, 0, "deduct_otomo", GRANTED_MS),
    ("otomo-minimum", "full", 0, 20_000, "deduct_otomo", GRANTED_MS),
    ("all-free", "start", GRANTED_MS, 0, "bill", GRANTED_MS),
    ("any-start-free", "start", 500, 0, "deduct_any", GRANTED_MS),
    // Its credit runs out while the otomo is silent, and the minimum is above the grant.
    ("out_of_credit", "full", 0, 20_000, "deduct_otomo", 9_000),
];

fn terms(case: &Case) -> Value {
    let (id, charge, free_ms, minimum_ms, silence, _) = case;
    json!({
        "termsId": id, "intervalMs": INTERVAL_MS, "charge": charge, "freeMs": free_ms, "minimumMs": minimum_ms, "silence": silence,
    })
}

fn number(fact: &Fact, pointer: &str) -> i64 {
    let value = fact.payload.pointer(pointer).and_then(Value::as_i64);
    value.unwrap_or_else(|| panic!("no {pointer} in {}", fact.payload))
}

/// Milliseconds from the connection at which a party was silent, by the facts: one gap, or none.
fn silence(stored: &[Fact], party: &str, duration_ms: i64) -> (i64, i64) {
    let connected = stored.iter().find(|fact| fact.name == "rtp_detected").unwrap();
    let connected_at = connected.time("connectedAt").unwrap();
    let of = |name: &str, field: &str| {
        let mut found = stored
            .iter()
            .filter(|fact| fact.name == name && fact.payload["party"] == party);
        let at = found.next().map(|fact| fact.time(field).unwrap());
        assert!(found.next().is_none(), "two of {name}");
        at.map(|at| (at - connected_at).num_milliseconds())
    };
    let from = of("rtp_lost", "lastRtpAt").unwrap_or(duration_ms);
    (from, of("rtp_resumed", "at").unwrap_or(duration_ms))
}

/// The formula of the documents, with at most one gap of each party.
fn bill(case: &Case, duration_ms: i64, user: (i64, i64), otomo: (i64, i64)) -> (i64, i64) {
    let (_, charge, free_ms, minimum_ms, silence, until_ms) = *case;
    let length = |silence: (i64, i64)| silence.1 - silence.0;
    let both = (user.0.max(otomo.0), user.1.min(otomo.1));
    let deducted = match silence {
        "bill" => 0,
        "deduct_otomo" => length(otomo),
        _ => length(user) + length(otomo) - length(both).max(0),
    };
    let base = (duration_ms.min(until_ms) - deducted - free_ms).max(0);
    let billed_ms = base.max(minimum_ms.min(until_ms));
    let interval_ms = i64::try_from(INTERVAL_MS).unwrap();
    let round_up = if charge == "start" { interval_ms - 1 } else { 0 };
    (billed_ms, (billed_ms + round_up) / interval_ms)
}

fn assert_near(told_ms: i64, from: SystemTime, to: SystemTime) {
    let real = DateTime::<Utc>::from(to) - DateTime::<Utc>::from(from);
    let more = told_ms - real.num_milliseconds();
    assert!(more.abs() < TOLERANCE_MS, "{told_ms} ms of silence, {more} ms too many");
}

/// Talks with silence of the otomo from 2 s to 8 s, and of the user from 5 s to 10.5 s; hangs up after 12 s.
async fn call(pair: Pair<'_>, facts: &Facts, case: &Case) {
    let (call, user, otomo) = Conversation::talking(pair).await.unwrap();
    let id = call.call_id.as_str();
    let wait = async |ms| let_time_pass("the parties talk or are silent", Duration::from_millis(ms)).await;
    wait(2_000).await;
    otomo.stop_talking().await.unwrap();
    let otomo_left = SystemTime::now();
    wait(3_000).await;
    if case.5 == GRANTED_MS {
        user.stop_talking().await.unwrap();
        let user_left = SystemTime::now();
        wait(3_000).await;
        otomo.start_talking().await.unwrap();
        let otomo_back = SystemTime::now();
        wait(2_500).await;
        user.start_talking().await.unwrap();
        let user_back = SystemTime::now();
        wait(1_500).await;
        call.user.request("call_hangup", call.id()).await.unwrap();
        let settled = fact(facts, id, "settled").await;
        assert_near(number(&settled, "/silentMs/otomo"), otomo_left, otomo_back);
        assert_near(number(&settled, "/silentMs/user"), user_left, user_back);
    }
    let settled = fact(facts, id, "settled").await;
    let ended = fact(facts, id, "ended").await;
    let duration_ms = number(&ended, "/durationMs");
    let stored = facts.of_call(id).await.unwrap();
    let silences = ["user", "otomo"].map(|party| silence(&stored, party, duration_ms));
    let (billed_ms, minutes) = bill(case, duration_ms, silences[0], silences[1]);
    let told = json!({
        "terms": settled.payload["terms"],
        "durationMs": settled.payload["durationMs"],
        "silentMs": settled.payload["silentMs"],
        "billedMs": settled.payload["billedMs"],
        "billedMinutes": settled.payload["billedMinutes"],
        "untilMs": settled.payload["untilMs"],
    });
    let expected = json!({
        "terms": terms(case),
        "durationMs": duration_ms,
        "silentMs": { "user": silences[0].1 - silences[0].0, "otomo": silences[1].1 - silences[1].0 },
        "billedMs": billed_ms,
        "billedMinutes": minutes,
        "untilMs": case.5,
    });
    assert_eq!(told, expected, "{}", case.0);
    if case.5 < GRANTED_MS {
        assert_eq!(ended.payload["reason"], "credit_exhausted");
        assert_eq!(duration_ms, case.5);
        assert!(silences[1].1 - silences[1].0 > 2_000, "silent to the end");
    }
}

#[tokio::test]
async fn silence_free_time_and_minimum_are_billed_as_the_terms_say() {
    let stack = with_credit(StackBuilder::default())
        .set("media-worker", "rtp_lost_after_ms", LOST_AFTER_MS)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let client = client(&stack).await;
    // Each user has terms of their own.
    let answer = |question: &Value| {
        let user = question["userId"].as_str().unwrap();
        let case = CASES.iter().find(|case| case.0 == user).unwrap();
        let grant_id = format!("for-{user}");
        vec![json!({ "allow": true, "grantId": grant_id, "untilMs": case.5, "terms": terms(case) }).to_string()]
    };
    let _wallet = answering(&client, Duration::ZERO, answer).await;
    let pair = Pair::across(&stack).unwrap();
    let calls = CASES.iter().map(async |case| {
        let otomo = format!("otomo-{}", case.0);
        let pair = pair.named(case.0, &otomo);
        call(pair, &facts, case).await;
    });
    join_all(calls).await;
    assert_reconciled(&stack, CASES.len()).await;
}

/// `reconcile` agrees with the bills, whatever its own settings for calls without terms are.
async fn assert_reconciled(stack: &Stack, calls: usize) {
    let run = async || {
        let settings = [("tick_interval_ms", "7000".to_owned()), ("charge", "start".to_owned())];
        let output = output(reconcile(&stack.nats, "1s", settings)?).await?;
        let printed = String::from_utf8(output.stdout)?;
        let last = printed.lines().last().context("no summary")?;
        let summary: Value = serde_json::from_str(last)?;
        let found = summary.pointer("/summary/settled").and_then(Value::as_u64);
        ensure!(found == u64::try_from(calls).ok(), "{printed}");
        anyhow::Ok((output.status.code(), printed))
    };
    let (code, printed) = eventually("the calls being old enough", SOON, run).await.unwrap();
    assert_eq!(code, Some(0), "{printed}");
}

fn names(number: usize) -> (String, String) {
    (format!("user_{number}"), format!("otomo_{number}"))
}

fn pair_of<'a>(stack: &Stack, (user, otomo): &'a (String, String)) -> Pair<'a> {
    Pair::across(stack).unwrap().named(user, otomo)
}

/// Both send for 4.67 s of a minute of 5 s, and stop.
#[tokio::test]
async fn a_call_that_dies_in_its_minute_is_not_billed_for_it() {
    const MINUTE_MS: i64 = 5_000;
    const PACKETS: u64 = 4_670 / 20;
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", MINUTE_MS)
        .set("media-worker", "rtp_lost_after_ms", LOST_AFTER_MS)
        .set("media-worker", "rtp_timeout_ms", 4_000)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let calls = (0..6).map(async |index: usize| {
        let names = names(index);
        let (call, user, otomo) = Conversation::talking(pair_of(&stack, &names)).await.unwrap();
        let sent = eventually("the packets of the minute", SOON, async || {
            // They stop at different times within the interval of the samples.
            ensure!(user.sent() >= PACKETS - 8 * index as u64, "{}", user.sent());
            Ok(())
        });
        sent.await.unwrap();
        user.stop_talking().await.unwrap();
        otomo.stop_talking().await.unwrap();
        let last = [&user, &otomo].map(|caller| caller.last_datagram_sent_at().unwrap().wall);
        let last = DateTime::<Utc>::from(last.into_iter().max().unwrap());
        let settled = fact(&facts, &call.call_id, "settled").await;
        assert_eq!(settled.payload["reason"], "rtp_timeout");
        assert!(
            settled.time("endedAt").unwrap() <= last,
            "{settled:?}, last packet {last}"
        );
        let lasted_ms = (last - settled.time("connectedAt").unwrap()).num_milliseconds();
        assert_eq!(
            number(&settled, "/billedMinutes"),
            lasted_ms / MINUTE_MS,
            "{settled:?} {last}"
        );
        lasted_ms
    });
    let lasted_ms = join_all(calls).await;
    assert!(lasted_ms.iter().any(|ms| *ms < MINUTE_MS), "{lasted_ms:?}");
    assert_reconciled(&stack, 6).await;
}

/// An otomo that was never heard, and one whose machine dies in the call: the user talks on.
#[tokio::test]
async fn a_user_pays_only_for_the_time_in_which_the_otomo_was_heard() {
    let stack = StackBuilder::default()
        .set("billing-timer", "tick_interval_ms", INTERVAL_MS)
        .set("media-worker", "rtp_lost_after_ms", LOST_AFTER_MS)
        .set("media-worker", "one_sided_timeout_ms", 6_000)
        .start()
        .await
        .unwrap();
    let facts = Facts::connect(&stack.nats.url()).await.unwrap();
    let never_heard = async {
        let names = names(1);
        let call = Conversation::accepted(pair_of(&stack, &names)).await.unwrap();
        let user = Caller::join(&call.user).await.unwrap();
        let _otomo = Caller::join(&call.otomo).await.unwrap();
        user.start_talking().await.unwrap();
        for party in call.parties() {
            let lost = party.expect_notice_within("media_lost", SOON).await.unwrap();
            assert_eq!(lost.payload()["party"], "otomo");
        }
        let settled = fact(&facts, &call.call_id, "settled").await;
        (settled, 0..=0)
    };
    let dies = async {
        let names = names(2);
        let (call, _user, otomo) = Conversation::talking(pair_of(&stack, &names)).await.unwrap();
        let Conversation {
            call_id,
            user,
            otomo: party,
        } = call;
        let_time_pass("the parties talk", Duration::from_secs(2)).await;
        let last = DateTime::<Utc>::from(SystemTime::now());
        drop((otomo, party));
        user.expect_notice_within("media_lost", SOON).await.unwrap();
        let settled = fact(&facts, &call_id, "settled").await;
        let heard_ms = (last - settled.time("connectedAt").unwrap()).num_milliseconds();
        (settled, heard_ms - TOLERANCE_MS..=heard_ms + TOLERANCE_MS)
    };
    let (never_heard, dies) = tokio::join!(never_heard, dies);
    for (settled, heard_ms) in [never_heard, dies] {
        assert_eq!(settled.payload["reason"], "rtp_timeout");
        let duration_ms = number(&settled, "/durationMs");
        assert!(duration_ms >= 6_000, "{settled:?}");
        let billed_ms = number(&settled, "/billedMs");
        assert!(heard_ms.contains(&billed_ms), "{settled:?}");
        assert_eq!(duration_ms - number(&settled, "/silentMs/otomo"), billed_ms);
        assert_eq!(number(&settled, "/billedMinutes"), billed_ms / 1_000);
    }
    assert_reconciled(&stack, 2).await;
}
