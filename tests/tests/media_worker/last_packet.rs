//! The times of the last and the first packet, and the measure of a call.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use callpulse_tests::clients::opus::Pace;
use callpulse_tests::facts::reader::Fact;
use callpulse_tests::wait::{eventually, let_time_pass};
use chrono::{DateTime, Utc};
use contract::{Parties, Role};
use futures::future::join_all;
use serde_json::{Value, json};

use crate::fixture::{Fixture, SOON, Sender, requester};

/// Losses after 3 s: the window of mediasoup's bitrate has run out.
const SETTINGS: [(&str, &str); 2] = [("rtp_lost_after_ms", "3000"), ("rtp_timeout_ms", "4000")];
/// The packets that a client sends in 4.67 s.
const PACKETS: u64 = 4_670 / 20;

/// Milliseconds from a packet to a time in a fact.
fn ms_after(packet: SystemTime, fact: &Fact, field: &str) -> i64 {
    let told: DateTime<Utc> = fact.payload[field].as_str().unwrap().parse().unwrap();
    told.signed_duration_since(DateTime::<Utc>::from(packet))
        .num_milliseconds()
}

/// A first packet, to the millisecond of the call's monotonic clock, and the delays of a busy machine.
fn assert_first_packet(late: i64) {
    assert!((-5..500).contains(&late), "{late} ms after the packet");
}

/// A last packet: never told as later than it was, and 100 ms earlier at most, unless the machine delays the polls.
fn assert_last_packet(late: i64) {
    assert!((-400..=0).contains(&late), "{late} ms after the packet");
}

fn last_sent(sender: &Sender) -> SystemTime {
    sender.send.last_datagram_sent_at().unwrap().wall
}

async fn sends(sender: &Sender, packets: u64) {
    let outcome = eventually("packets", SOON, async || {
        ensure!(sender.send.sent() >= packets, "{}", sender.send.sent());
        Ok(())
    });
    outcome.await.unwrap();
}

async fn both(fixture: &Fixture, parties: &Parties) -> [Sender; 2] {
    [
        fixture.join(&requester(parties, Role::User)).await,
        fixture.join(&requester(parties, Role::Otomo)).await,
    ]
}

/// A call in which both parties talk.
async fn talking() -> (Fixture, Parties, [Sender; 2]) {
    let fixture = Fixture::start(&SETTINGS).await;
    let parties = fixture.call().await;
    let senders = both(&fixture, &parties).await;
    for sender in &senders {
        sender.talk().await;
    }
    (fixture, parties, senders)
}

/// One packet at a time, as Opus sends comfort noise.
fn paced(pause: Duration) -> Pace {
    Pace {
        every_frame_for: Duration::ZERO,
        pause,
    }
}

/// Ends in 6 of 6 calls less than a minute of 5 s after the connection, at the last packet.
#[tokio::test]
async fn a_dead_call_ends_with_its_last_packet() {
    let fixture = Fixture::start(&SETTINGS).await;
    let calls = (0..6).map(async |number| {
        let parties = fixture.call().await;
        let senders = both(&fixture, &parties).await;
        for sender in &senders {
            sender.talk().await;
        }
        // They stop at different times within the interval of the samples.
        sends(&senders[1], PACKETS - number * 8).await;
        for sender in &senders {
            sender.stop_talking().await;
        }
        let last = senders.iter().map(last_sent).max().unwrap();
        let ended = fixture.fact(&parties, "ended").await;
        let lost = fixture.fact(&parties, "rtp_lost").await;
        let connected = fixture.fact(&parties, "rtp_detected").await;
        (ms_after(last, &ended, "endedAt"), last, ended, lost, connected)
    });
    let mut told_late = Vec::new();
    for (late, last, ended, lost, connected) in join_all(calls).await {
        assert_eq!(ended.payload["reason"], "rtp_timeout");
        assert_eq!(ended.payload["party"], Value::Null);
        assert_last_packet(late);
        told_late.push(late);
        assert!(ms_after(last, &lost, "lastRtpAt") <= 0, "{:?}", lost.payload);
        let duration = ended.time("endedAt").unwrap() - connected.time("connectedAt").unwrap();
        assert_eq!(ended.payload["durationMs"].as_i64(), Some(duration.num_milliseconds()));
        assert!(duration.num_milliseconds() < 5_000);
        assert!(ended.payload["clockStepMs"].as_i64().unwrap().abs() < 50);
    }
    told_late.sort_unstable();
    assert!(told_late[3] >= -100, "{told_late:?}");
}

/// mediasoup's window is 6 s for streams with DTX: longer than a call needs to be lost by default.
#[tokio::test]
async fn a_dead_call_with_dtx_ends_with_its_last_packet() {
    let fixture = Fixture::start(&[("rtp_lost_after_ms", "3000"), ("rtp_timeout_ms", "8000")]).await;
    let calls = (0..3).map(async |number| {
        let parties = fixture.call().await;
        let dtx = json!({ "useinbandfec": 1, "usedtx": 1 });
        let mut senders = Vec::new();
        for role in Role::BOTH {
            let sender = fixture.join_declaring(&requester(&parties, role), dtx.clone()).await;
            sender.talk().await;
            senders.push(sender);
        }
        sends(&senders[1], 100 + number * 13).await;
        for sender in &senders {
            sender.stop_talking().await;
        }
        let last = senders.iter().map(last_sent).max().unwrap();
        let ended = fixture.fact(&parties, "ended").await;
        let lost = fixture.fact(&parties, "rtp_lost").await;
        (ms_after(last, &ended, "endedAt"), ms_after(last, &lost, "lastRtpAt"))
    });
    let (mut told_late, lost_late): (Vec<_>, Vec<_>) = join_all(calls).await.into_iter().unzip();
    for late in &told_late {
        assert_last_packet(*late);
    }
    told_late.sort_unstable();
    assert!(told_late[1] >= -100, "{told_late:?}");
    // Declared lost within the window: the last sample at which the count grew.
    assert!(
        lost_late.iter().all(|late| (-2_000..=0).contains(late)),
        "{lost_late:?}"
    );
}

#[tokio::test]
async fn padding_alone_does_not_count_as_media() {
    let fixture = Fixture::start(&SETTINGS).await;
    let parties = fixture.call().await;
    let senders = both(&fixture, &parties).await;
    for sender in &senders {
        sender.talk().await;
    }
    sends(&senders[1], 60).await;
    for sender in &senders {
        sender.stop_talking().await;
    }
    let last = senders.iter().map(last_sent).max().unwrap();
    let ended = fixture.fact(&parties, "ended");
    let padding = async {
        loop {
            for sender in &senders {
                let _ = sender.send.send_padding_only(sender.ssrc, 1).await; // closed by the SFU in the end
            }
            let_time_pass("a steady stream of padding", Duration::from_millis(20)).await;
        }
    };
    let ended = tokio::select! {
        ended = ended => ended,
        () = padding => unreachable!(),
    };
    assert!(senders.iter().all(|sender| sender.send.padding_sent() > 50));
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    assert_last_packet(ms_after(last, &ended, "endedAt"));
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started", "rtp_lost", "rtp_lost", "ended"]
    );
}

#[tokio::test]
async fn the_return_of_a_party_is_its_first_packet() {
    let (fixture, parties, [user, otomo]) = talking().await;
    sends(&otomo, 60).await;
    otomo.stop_talking().await;
    let last = last_sent(&otomo);
    let lost = fixture.fact(&parties, "rtp_lost").await;
    let late = ms_after(last, &lost, "lastRtpAt");
    assert_last_packet(late);
    // Padding is not media.
    otomo.send.send_padding_only(otomo.ssrc, 20).await.unwrap();
    let before = user.send.sent();
    sends(&user, before + 60).await;
    let back = SystemTime::now();
    otomo.talk().await;
    let resumed = fixture.fact(&parties, "rtp_resumed").await;
    let late = ms_after(back, &resumed, "at");
    assert_first_packet(late);
    let gap = resumed.time("at").unwrap() - lost.time("lastRtpAt").unwrap();
    let rounded = resumed.payload["gapMs"].as_i64().unwrap() - gap.num_milliseconds();
    assert!((-1..=1).contains(&rounded), "{rounded} ms");
}

#[tokio::test]
async fn a_single_packet_makes_a_call_without_duration() {
    let fixture = Fixture::start(&SETTINGS).await;
    let parties = fixture.call().await;
    let user = fixture.join(&requester(&parties, Role::User)).await;
    user.send
        .start_talking_at(user.ssrc, paced(Duration::from_secs(60)))
        .await
        .unwrap();
    let ended = fixture.fact(&parties, "ended").await;
    assert_eq!(user.send.sent(), 1);
    assert_eq!(ended.payload["durationMs"], 0, "{:?}", ended.payload);
    assert_eq!(ended.payload["endedAt"], ended.payload["connectedAt"]);
}

#[tokio::test]
async fn comfort_noise_keeps_a_call_alive() {
    let fixture = Fixture::start(&SETTINGS).await;
    let parties = fixture.call().await;
    for sender in &both(&fixture, &parties).await {
        sender
            .send
            .start_talking_at(sender.ssrc, paced(Duration::from_millis(400)))
            .await
            .unwrap();
        sends(sender, 16).await;
    }
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "rtp_lost", "media_started", "rtp_resumed"],
        "the second party began after 6 s; neither was lost since"
    );
}

#[tokio::test]
async fn a_party_resumes_on_a_second_transport() {
    let (fixture, parties, [_user, otomo]) = talking().await;
    sends(&otomo, 60).await;
    otomo.send.cut().await.unwrap();
    let lost = fixture.fact(&parties, "rtp_lost").await;
    assert_eq!(lost.payload["party"], "otomo");
    let second = fixture.join(&requester(&parties, Role::Otomo)).await;
    second.talk().await;
    let resumed = fixture.fact(&parties, "rtp_resumed").await;
    let back = second.send.first_datagram_sent_at().unwrap().wall;
    let late = ms_after(back, &resumed, "at");
    assert_first_packet(late);
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started", "rtp_lost", "rtp_resumed"]
    );
}

#[tokio::test]
async fn a_closed_connection_is_lost_at_once_and_the_party_resumes_on_another() {
    let settings = [("rtp_lost_after_ms", "20000"), ("rtp_timeout_ms", "30000")];
    let fixture = Fixture::start(&settings).await;
    let parties = fixture.call().await;
    let notices = fixture.notices(&parties.party(Role::User)).await;
    let [user, otomo] = both(&fixture, &parties).await;
    user.talk().await;
    otomo.talk().await;
    sends(&otomo, 60).await;
    otomo.send.close().await.unwrap();
    assert_eq!(notices.expect("media_lost").await["party"], "otomo");
    let last = last_sent(&otomo);
    let lost = fixture.fact(&parties, "rtp_lost").await;
    assert!(lost.payload["gapMs"].as_u64().unwrap() < 5_000, "{:?}", lost.payload);
    // The last sample at which the count grew.
    let late = ms_after(last, &lost, "lastRtpAt");
    assert!((-2_000..=0).contains(&late), "{late} ms after the packet");
    let second = fixture.join(&requester(&parties, Role::Otomo)).await;
    second.talk().await;
    let resumed = fixture.fact(&parties, "rtp_resumed").await;
    let back = second.send.first_datagram_sent_at().unwrap().wall;
    assert_first_packet(ms_after(back, &resumed, "at"));
    assert_eq!(
        fixture.stored(&parties).await,
        ["rtp_detected", "media_started", "rtp_lost", "rtp_resumed"]
    );
}

#[tokio::test]
async fn a_party_that_is_never_heard_is_reported_to_both_and_ends_the_call() {
    let settings = [
        SETTINGS[0],
        ("rtp_timeout_ms", "30000"),
        ("one_sided_timeout_ms", "6000"),
    ];
    let fixture = Fixture::start(&settings).await;
    let parties = fixture.call().await;
    let notices = join_all(Role::BOTH.map(async |role| fixture.notices(&parties.party(role)).await)).await;
    let [user, _silent] = both(&fixture, &parties).await;
    user.talk().await;
    let lost = fixture.fact(&parties, "rtp_lost").await;
    assert_eq!(lost.payload["party"], "otomo");
    assert_eq!(lost.payload["lastRtpAt"], Value::Null);
    assert!(lost.payload["gapMs"].as_u64().unwrap() >= 3_000);
    for told in &notices {
        assert_eq!(told.expect("media_lost").await["party"], "otomo");
    }
    let ended = fixture.fact(&parties, "ended").await;
    let ended_after = ms_after(last_sent(&user), &ended, "endedAt");
    assert_eq!(ended.payload["reason"], "rtp_timeout");
    assert_eq!(ended.payload["party"], "otomo");
    assert!(
        ended_after.abs() < 1_000,
        "it ends at that moment, while the user talks: {ended_after} ms"
    );
    assert!(ended.payload["durationMs"].as_u64().unwrap() >= 6_000);
    assert_eq!(fixture.stored(&parties).await, ["rtp_detected", "rtp_lost", "ended"]);
}

#[tokio::test]
async fn the_first_packet_of_the_other_party_is_a_fact_with_evidence() {
    let fixture = Fixture::start(&SETTINGS).await;
    let parties = fixture.call().await;
    let [user, otomo] = both(&fixture, &parties).await;
    user.talk().await;
    let connected = fixture.fact(&parties, "rtp_detected").await;
    otomo.talk().await;
    let started = fixture.fact(&parties, "media_started").await;
    assert_eq!(started.payload["party"], "otomo");
    for (fact, sender) in [(&connected, &user), (&started, &otomo)] {
        assert_eq!(fact.payload["ssrc"], sender.ssrc);
        assert_eq!(fact.payload["producerId"], sender.producer_id);
        assert!(fact.payload["sequenceNumber"].is_u64() && fact.payload["rtpTimestamp"].is_u64());
    }
    let first = otomo.send.first_datagram_sent_at().unwrap().wall;
    assert_first_packet(ms_after(first, &started, "at"));
}
