//! Credit control: the worker stops the media when the granted time is over, whatever else is away.

use std::time::Duration;

use anyhow::ensure;
use callpulse_tests::clients::transport::Transport;
use callpulse_tests::facts::reader::Fact;
use callpulse_tests::wait::{eventually, let_time_pass};
use chrono::{DateTime, Utc};
use contract::jetstream::request::RefusalCode;
use contract::samples::new_parties;
use contract::wire::command::{GrantCredit, OpenCall};
use contract::wire::credit::Grant;
use contract::wire::terms::{Charge, Silence, Terms};
use contract::{Parties, Role};

use crate::fixture::{Fixture, SOON, Sender, code, receives, requester};

/// Media after the end of the granted time: the requirement.
const TOO_LATE: Duration = Duration::from_millis(100);
const QUICK: [(&str, &str); 1] = [("credit_low_ms", "1000")];

/// Minutes of half a second.
fn terms() -> Terms {
    Terms {
        terms_id: "quick".parse().unwrap(),
        interval_ms: 500,
        charge: Charge::Full,
        free_ms: 0,
        minimum_ms: 0,
        silence: Silence::Bill,
    }
}

fn grant(id: &str, until_ms: u64) -> Grant {
    Grant {
        grant_id: id.parse().unwrap(),
        until_ms,
    }
}

fn duration_ms(ended: &Fact, detected: &Fact) -> i64 {
    let duration = ended.time("endedAt").unwrap() - detected.time("connectedAt").unwrap();
    duration.num_milliseconds()
}

/// A call that was granted `until_ms`, with both parties; not connected yet.
struct Talk {
    parties: Parties,
    user: Sender,
    otomo: Sender,
    heard: Transport,
}

impl Talk {
    async fn prepare(fixture: &Fixture, until_ms: u64) -> Self {
        let parties = new_parties();
        let open = OpenCall {
            grant: Some(grant("first", until_ms)),
            terms: Some(terms()),
            ..OpenCall::new(parties.clone())
        };
        fixture.ask(&open).await.unwrap();
        let user = fixture.join(&requester(&parties, Role::User)).await;
        let otomo = fixture.join(&requester(&parties, Role::Otomo)).await;
        let heard = fixture.listen(&requester(&parties, Role::User)).await;
        Self {
            parties,
            user,
            otomo,
            heard,
        }
    }

    async fn connect(&self, fixture: &Fixture) -> Fact {
        self.otomo.talk().await;
        self.user.talk().await;
        receives(&self.heard, 5).await;
        fixture.fact(&self.parties, "media_started").await;
        fixture.fact(&self.parties, "rtp_detected").await
    }

    async fn extend(&self, fixture: &Fixture, grant: Grant) -> Result<(u64, bool), RefusalCode> {
        let command = GrantCredit {
            call_id: self.parties.call_id.clone(),
            grant,
        };
        match fixture.ask(&command).await {
            Ok(extended) => Ok((extended.until_ms, extended.superseded)),
            refused => Err(code(refused)),
        }
    }

    /// The peer was heard until the end of the granted time, and not longer.
    fn assert_stopped_at(&self, ended: &Fact) {
        let last = self.heard.last_received_at().unwrap();
        let late = DateTime::<Utc>::from(last.wall) - ended.time("endedAt").unwrap();
        let late = late.num_milliseconds();
        assert!(
            late <= i64::try_from(TOO_LATE.as_millis()).unwrap(),
            "media {late} ms after the end"
        );
        assert!(late > -1_000, "the media stopped {late} ms early");
    }
}

#[tokio::test]
async fn a_call_ends_on_time_without_credit_and_its_user_is_warned_before() {
    let fixture = Fixture::start(&QUICK).await;
    let talk = Talk::prepare(&fixture, 2_500).await;
    let user = fixture.notices(&talk.parties.party(Role::User)).await;
    let otomo = fixture.notices(&talk.parties.party(Role::Otomo)).await;
    let detected = talk.connect(&fixture).await;
    let low = user.expect("credit_low").await;
    assert_eq!(low["untilMs"], 2_500);
    let ended = fixture.fact(&talk.parties, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    assert_eq!(duration_ms(&ended, &detected), 2_500);
    talk.assert_stopped_at(&ended);
    assert_eq!(
        fixture.stored(&talk.parties).await,
        ["rtp_detected", "media_started", "credit_low", "ended"]
    );
    let low = fixture.fact(&talk.parties, "credit_low").await;
    let remaining = low.payload["remainingMs"].as_u64().unwrap();
    assert!((1..=1_000).contains(&remaining), "{remaining}");
    assert_eq!(low.payload["grantId"], "first");
    assert_eq!(otomo.count("credit_low"), 0, "the user pays");
}

#[tokio::test]
async fn a_hangup_that_a_paused_worker_reads_after_the_granted_time_ends_the_call_at_that_time() {
    let fixture = Fixture::start(&QUICK).await;
    let talk = Talk::prepare(&fixture, 2_500).await;
    let detected = talk.connect(&fixture).await;
    fixture.worker.freeze().unwrap();
    let paused = async {
        let_time_pass("the granted time passes", Duration::from_secs(4)).await;
        fixture.worker.resume().unwrap();
    };
    let (hung_up, ()) = tokio::join!(fixture.hang_up(&talk.parties), paused);
    // Or the worker ends the call first.
    assert!(hung_up.is_ok() || code(hung_up) == RefusalCode::UnknownCall);
    let ended = fixture.fact(&talk.parties, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    assert_eq!(duration_ms(&ended, &detected), 2_500);
    // The pause is no step of the clock.
    assert!(ended.payload["clockStepMs"].as_i64().unwrap().abs() < 50);
}

#[tokio::test]
async fn without_nats_the_media_stops_on_time_and_the_end_is_stored_later() {
    let (fixture, proxy) = Fixture::start_behind_proxy(&QUICK).await;
    let talk = Talk::prepare(&fixture, 3_000).await;
    let detected = talk.connect(&fixture).await;
    proxy.stall();
    eventually("the end of the media", SOON, async || {
        let last = talk.heard.last_received_at().unwrap();
        ensure!(last.at.elapsed() > Duration::from_secs(1), "media flows");
        Ok(())
    })
    .await
    .unwrap();
    let packets = talk.heard.received();
    proxy.cut();
    let_time_pass("the parties go on sending", Duration::from_secs(1)).await;
    assert_eq!(talk.heard.received(), packets);
    assert_eq!(fixture.stored(&talk.parties).await, ["rtp_detected", "media_started"]);
    proxy.restore();
    let ended = fixture.fact(&talk.parties, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    assert_eq!(duration_ms(&ended, &detected), 3_000);
    talk.assert_stopped_at(&ended);
    assert_eq!(
        fixture.stored(&talk.parties).await,
        ["rtp_detected", "media_started", "credit_low", "ended"]
    );
}

#[tokio::test]
async fn a_grant_extends_a_call_once_and_bad_ones_change_nothing() {
    let fixture = Fixture::start(&QUICK).await;
    let talk = Talk::prepare(&fixture, 3_000).await;
    let user = fixture.notices(&talk.parties.party(Role::User)).await;
    let detected = talk.connect(&fixture).await;
    for bad in [0, 499, 4_001, u64::MAX] {
        let refused = talk.extend(&fixture, grant("bad", bad)).await;
        assert_eq!(refused, Err(RefusalCode::InvalidGrant), "{bad}");
    }
    user.expect("credit_low").await;
    assert_eq!(talk.extend(&fixture, grant("third", 6_000)).await, Ok((6_000, false)));
    assert_eq!(user.expect("credit_granted").await["untilMs"], 6_000);
    assert_eq!(talk.extend(&fixture, grant("third", 6_000)).await, Ok((6_000, true)));
    let older = talk.extend(&fixture, grant("second", 4_500)).await;
    assert_eq!(older, Ok((6_000, true)), "an older grant after a newer one");
    let ended = fixture.fact(&talk.parties, "ended").await;
    assert_eq!(duration_ms(&ended, &detected), 6_000);
    talk.assert_stopped_at(&ended);
    let expected = [
        "rtp_detected",
        "media_started",
        "credit_low",
        "credit_granted",
        "credit_low",
        "ended",
    ];
    assert_eq!(fixture.stored(&talk.parties).await, expected);
    let granted = fixture.fact(&talk.parties, "credit_granted").await;
    assert_eq!(
        (&granted.payload["grantId"], &granted.payload["untilMs"]),
        (&"third".into(), &6_000.into())
    );
    let late = talk.extend(&fixture, grant("late", 8_000)).await;
    assert_eq!(late, Err(RefusalCode::UnknownCall));
}

#[tokio::test]
async fn a_call_without_credit_control_takes_no_grant_and_a_bad_first_grant_opens_no_call() {
    let fixture = Fixture::start(&QUICK).await;
    let parties = fixture.call().await;
    let command = GrantCredit {
        call_id: parties.call_id.clone(),
        grant: grant("first", 1_000),
    };
    assert_eq!(code(fixture.ask(&command).await), RefusalCode::WrongState);
    assert!(fixture.stored(&parties).await.is_empty());
    let open = OpenCall {
        grant: Some(grant("odd", 1_001)),
        terms: Some(terms()),
        ..OpenCall::new(new_parties())
    };
    assert_eq!(code(fixture.ask(&open).await), RefusalCode::InvalidGrant);
}

#[tokio::test]
async fn a_grant_before_the_connection_counts_from_the_connection() {
    let fixture = Fixture::start(&QUICK).await;
    let talk = Talk::prepare(&fixture, 1_000).await;
    assert_eq!(talk.extend(&fixture, grant("early", 3_000)).await, Ok((3_000, false)));
    assert_eq!(talk.extend(&fixture, grant("shorter", 500)).await, Ok((3_000, true)));
    let detected = talk.connect(&fixture).await;
    let ended = fixture.fact(&talk.parties, "ended").await;
    assert_eq!(ended.payload["reason"], "credit_exhausted");
    assert_eq!(duration_ms(&ended, &detected), 3_000);
    talk.assert_stopped_at(&ended);
}
