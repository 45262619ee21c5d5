//! The stored facts of each call, parsed as the documentation of the contract specifies.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::stream::Stored;
use crate::records::timestamp::Timestamp;
use crate::report::{Check, Report};

const KINDS: [&str; 11] = [
    "credit_low",
    "credit_granted",
    "requested",
    "accepted",
    "rtp_detected",
    "media_started",
    "rtp_lost",
    "rtp_resumed",
    "tick",
    "ended",
    "settled",
];

/// `call.<id>.requested`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Requested {
    #[serde(rename = "requestedAt")]
    _at: Timestamp,
    pub(super) terms: Option<Terms>,
    pub(super) until_ms: Option<i64>,
}

/// How a call is billed.
#[derive(Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Terms {
    pub(super) terms_id: String,
    pub(super) interval_ms: i64,
    pub(super) charge: String,
    pub(super) free_ms: i64,
    pub(super) minimum_ms: i64,
    pub(super) silence: String,
}

/// `call.<id>.credit_granted`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Granted {
    pub(super) until_ms: i64,
}

/// `call.<id>.credit_low`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct CreditLow {
    pub(super) until_ms: i64,
    pub(super) remaining_ms: i64,
}

/// How long each party was silent.
#[derive(Debug, Deserialize)]
pub(super) struct SilentMs {
    pub(super) user: i64,
    pub(super) otomo: i64,
}

/// `call.<id>.accepted`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Accepted {
    pub(super) accepted_at: Timestamp,
    pub(super) worker_id: String,
}

/// `call.<id>.rtp_detected`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Detected {
    pub(super) connected_at: Timestamp,
    pub(super) method: String,
    pub(super) detected_from: String,
    pub(super) worker_id: String,
    pub(super) producer_id: String,
    pub(super) ssrc: u32,
}

/// `call.<id>.media_started`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Started {
    pub(super) party: String,
    pub(super) at: Timestamp,
    pub(super) worker_id: String,
    pub(super) ssrc: u32,
}

/// `call.<id>.rtp_lost` and `call.<id>.rtp_resumed`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Media {
    pub(super) party: String,
    /// Null if the party was never heard.
    #[serde(alias = "lastRtpAt", deserialize_with = "present")]
    pub(super) at: Option<Timestamp>,
}

/// `call.<id>.tick`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tick {
    pub(super) minute: u64,
    pub(super) at: Timestamp,
    pub(super) connected_at: Timestamp,
}

/// `call.<id>.ended`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Ended {
    pub(super) ended_at: Timestamp,
    pub(super) reason: String,
    #[serde(deserialize_with = "present")]
    pub(super) connected_at: Option<Timestamp>,
    pub(super) duration_ms: Option<i64>,
}

/// `call.<id>.settled`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Settled {
    #[serde(deserialize_with = "present")]
    pub(super) connected_at: Option<Timestamp>,
    pub(super) ended_at: Timestamp,
    pub(super) duration_ms: i64,
    pub(super) ticks: u64,
    #[serde(default)]
    pub(super) over_ticks: u64,
    pub(super) billed_minutes: u64,
    pub(super) reason: String,
    pub(super) billed_ms: Option<i64>,
    pub(super) silent_ms: Option<SilentMs>,
    pub(super) until_ms: Option<i64>,
    pub(super) terms: Option<Terms>,
}

/// One stored fact.
#[derive(Debug)]
pub(super) struct Fact<T> {
    pub(super) sequence: u64,
    pub(super) stored_at: Timestamp,
    pub(super) payload: T,
}

/// The facts of a call, each kind in stream order.
#[derive(Debug, Default)]
pub(super) struct Call {
    /// By how much the clock of its worker was ahead as it was connected.
    pub(super) ahead_ms: i64,
    pub(super) user_id: String,
    pub(super) otomo_id: String,
    pub(super) requested: Vec<Fact<Requested>>,
    pub(super) granted: Vec<Fact<Granted>>,
    pub(super) credit_low: Vec<Fact<CreditLow>>,
    pub(super) accepted: Vec<Fact<Accepted>>,
    pub(super) detected: Vec<Fact<Detected>>,
    pub(super) started: Vec<Fact<Started>>,
    pub(super) lost: Vec<Fact<Media>>,
    pub(super) resumed: Vec<Fact<Media>>,
    pub(super) ticks: Vec<Fact<Tick>>,
    pub(super) ended: Vec<Fact<Ended>>,
    pub(super) settled: Vec<Fact<Settled>>,
}

/// Calls by ID.
pub(super) type Calls = BTreeMap<String, Call>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Parties {
    call_id: String,
    user_id: String,
    otomo_id: String,
}

impl Call {
    /// A time of its worker's clock by a true clock. All such times follow the connection of the call by the monotonic clock.
    pub(super) fn true_time(&self, at: Timestamp) -> Timestamp {
        at.plus_ms(-self.ahead_ms)
    }

    /// Both parties with their roles.
    pub(super) fn parties(&self) -> [(&'static str, &str); 2] {
        [("user", &self.user_id), ("otomo", &self.otomo_id)]
    }

    fn add(&mut self, stored: &Stored, call_id: &str, kind: &str) -> Result<()> {
        let body: Value = serde_json::from_slice(&stored.payload).context("not JSON")?;
        let parties: Parties = serde_json::from_value(body.clone())?;
        ensure!(parties.call_id == call_id, "the payload has call {}", parties.call_id);
        if self.user_id.is_empty() {
            (self.user_id, self.otomo_id) = (parties.user_id, parties.otomo_id);
        } else {
            let same = (&self.user_id, &self.otomo_id) == (&parties.user_id, &parties.otomo_id);
            ensure!(same, "its parties have changed");
        }
        match kind {
            "requested" => self.requested.push(stored.read(body)?),
            "credit_granted" => self.granted.push(stored.read(body)?),
            "credit_low" => self.credit_low.push(stored.read(body)?),
            "accepted" => self.accepted.push(stored.read(body)?),
            "rtp_detected" => self.detected.push(stored.read(body)?),
            "media_started" => self.started.push(stored.read(body)?),
            "rtp_lost" => self.lost.push(stored.read(body)?),
            "rtp_resumed" => self.resumed.push(stored.read(body)?),
            "tick" => self.ticks.push(stored.read(body)?),
            // Reasons are texts: a later version has others.
            "ended" => self.ended.push(stored.read(body)?),
            "settled" => self.settled.push(stored.read(body)?),
            _ => {}
        }
        Ok(())
    }
}

impl Stored {
    fn with<T>(&self, payload: T) -> Fact<T> {
        Fact {
            sequence: self.sequence,
            stored_at: self.stored_at,
            payload,
        }
    }

    fn read<T: DeserializeOwned>(&self, body: Value) -> Result<Fact<T>> {
        Ok(self.with(serde_json::from_value(body)?))
    }
}

/// Groups the stream by call. A message that cannot be parsed is a finding, and so is a gap, because nothing may be deleted.
pub(super) fn read(stream: &[Stored], report: &mut Report) -> Calls {
    let mut calls = Calls::new();
    let mut expected = 1;
    for stored in stream {
        if stored.sequence != expected {
            let text = format!("expected sequence {expected}, found {}", stored.sequence);
            report.find(Check::StreamGap, "", &[stored.sequence], text);
        }
        expected = stored.sequence + 1;
        let tokens: Vec<&str> = stored.subject.split('.').collect();
        let outcome = match *tokens.as_slice() {
            // Of a later version.
            ["call", _, kind] if !KINDS.contains(&kind) => {
                report.unknown += 1;
                continue;
            }
            ["call", call_id, kind] => calls
                .entry(call_id.to_owned())
                .or_default()
                .add(stored, call_id, kind)
                .map_err(|error| (call_id, error)),
            _ => Err(("", anyhow::anyhow!("not the subject of a fact"))),
        };
        if let Err((call_id, error)) = outcome {
            let text = format!("{}: {error:#}", stored.subject);
            report.find(Check::Unreadable, call_id, &[stored.sequence], text);
        }
    }
    calls
}

/// May be null, but not absent.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Timestamp>, D::Error> {
    Option::deserialize(deserializer)
}
