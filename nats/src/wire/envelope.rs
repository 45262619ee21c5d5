//! The envelope of a fact: CloudEvents attributes and W3C trace context as NATS headers.
//!
//! Sources: CloudEvents 1.0, NATS protocol binding, binary mode; W3C Trace Context, `traceparent`.

use std::fmt;
use std::str::FromStr;

use async_nats::{HeaderMap, HeaderName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::fact::Fact;
use crate::wire::time::Timestamp;

/// Prefix of `ce-type`.
const TYPE_PREFIX: &str = "callpulse.call";
/// Header names.
const CE_ID: HeaderName = HeaderName::from_static("ce-id");
const CE_TYPE: HeaderName = HeaderName::from_static("ce-type");
pub(crate) const CE_SOURCE: HeaderName = HeaderName::from_static("ce-source");
const CE_TIME: HeaderName = HeaderName::from_static("ce-time");
const CE_SPECVERSION: HeaderName = HeaderName::from_static("ce-specversion");
/// Header of a fact: how long before its publication it happened, in milliseconds, by the publisher's clocks alone.
const AGE: HeaderName = HeaderName::from_static("callpulse-age-ms");
/// Header that carries a [`TraceParent`], on facts and on commands.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The publisher: the CloudEvents `source`, e.g. `/media-worker/mw_1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source(String);

impl Source {
    /// `service` is the package's name, `instance` the process's identifier.
    pub fn new(service: &str, instance: impl fmt::Display) -> Self {
        Self(format!("/{service}/{instance}"))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The trace of a call, from its request to its settlement: `00-<trace id>-<span id>-01`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
pub struct TraceParent {
    /// In two halves: billing keeps a trace of every call, and the alignment of one number would cost 8 bytes more.
    trace_id: [u64; 2],
    span_id: u64,
}

impl TraceParent {
    /// The start of a trace.
    pub fn generate() -> Self {
        Self {
            trace_id: [rand::random(), rand::random::<u64>().max(1)],
            span_id: rand::random::<u64>().max(1),
        }
    }

    /// With these IDs, neither of them 0.
    pub(crate) fn new(trace_id: u128, span_id: u64) -> Self {
        let [high, low] = [(trace_id >> 64) as u64, trace_id as u64];
        Self {
            trace_id: [high, low],
            span_id,
        }
    }

    /// The IDs of the trace and of the span.
    pub(crate) fn ids(self) -> (u128, u64) {
        let [high, low] = self.trace_id;
        (u128::from(high) << 64 | u128::from(low), self.span_id)
    }

    /// The trace ID as tracing tools write it: 32 hexadecimal digits.
    pub fn trace_id(self) -> String {
        let [high, low] = self.trace_id;
        format!("{high:016x}{low:016x}")
    }

    /// A new span of the same trace.
    #[must_use]
    pub fn child(self) -> Self {
        Self {
            span_id: rand::random::<u64>().max(1),
            ..self
        }
    }

    /// From a message's headers. A missing or invalid header starts a new trace (W3C Trace Context section 4.3).
    pub fn of(headers: Option<&HeaderMap>) -> Self {
        Self::find(headers).unwrap_or_else(Self::generate)
    }

    /// From a message's headers, if there is a valid one.
    pub(crate) fn find(headers: Option<&HeaderMap>) -> Option<Self> {
        headers?.get(TRACEPARENT)?.as_str().parse().ok()
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [high, low] = self.trace_id;
        write!(f, "00-{high:016x}{low:016x}-{:016x}-01", self.span_id)
    }
}

/// The text is not a `traceparent`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent (W3C Trace Context, version 00)")]
pub struct InvalidTraceParent;

impl FromStr for TraceParent {
    type Err = InvalidTraceParent;

    fn from_str(text: &str) -> Result<Self, InvalidTraceParent> {
        let mut parts = text.split('-');
        let (Some(version), Some(trace), Some(span), Some(flags)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(InvalidTraceParent);
        };
        let lengths = (version.len(), trace.len(), span.len(), flags.len());
        let lowercase_hex = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        // Later versions may append fields; version 255 is forbidden.
        let appended = parts.next().is_some();
        if lengths != (2, 32, 16, 2)
            || ![version, trace, span, flags].into_iter().all(lowercase_hex)
            || version == "ff"
            || (version == "00" && appended)
        {
            return Err(InvalidTraceParent);
        }
        let hex = |part: &str| u64::from_str_radix(part, 16).map_err(|_| InvalidTraceParent);
        let (high, low) = trace.split_at_checked(16).ok_or(InvalidTraceParent)?;
        let (trace_id, span_id) = ([hex(high)?, hex(low)?], hex(span)?);
        if trace_id == [0, 0] || span_id == 0 {
            Err(InvalidTraceParent)
        } else {
            Ok(Self { trace_id, span_id })
        }
    }
}

impl TryFrom<String> for TraceParent {
    type Error = InvalidTraceParent;
    fn try_from(text: String) -> Result<Self, InvalidTraceParent> {
        text.parse()
    }
}

impl From<TraceParent> for String {
    fn from(trace: TraceParent) -> String {
        trace.to_string()
    }
}

/// When the fact with these headers happened; `None` without a valid `ce-time`.
pub fn time(headers: &HeaderMap) -> Option<Timestamp> {
    let text = headers.get(CE_TIME)?.as_str();
    serde_json::from_value(text.into()).ok()
}

/// When a fact happened, by the clock of the server that stored it at `stored_at`. None without the age of the fact.
pub fn happened_at(headers: Option<&HeaderMap>, stored_at: Timestamp) -> Option<Timestamp> {
    let age_ms: i64 = headers?.get(AGE)?.as_str().parse().ok()?;
    Timestamp::from_millis(stored_at.as_millis().checked_sub(age_ms)?)
}

/// Adds how old a fact is.
pub(crate) fn set_age(headers: &mut HeaderMap, age_ms: i64) {
    headers.insert(AGE, age_ms.to_string());
}

/// The headers of a fact.
pub fn headers(fact: &Fact, source: &Source, trace: TraceParent) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(CE_SPECVERSION, "1.0");
    headers.insert(CE_ID, fact.event_id());
    headers.insert(CE_TYPE, format!("{TYPE_PREFIX}.{}", fact.kind()));
    headers.insert(CE_SOURCE, source.to_string());
    headers.insert(CE_TIME, fact.occurred_at().to_string());
    headers.insert(TRACEPARENT, trace.to_string());
    headers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_serialisation() {
        let trace = TraceParent::generate();
        assert_eq!(trace.to_string().parse(), Ok(trace));
        let child = trace.child();
        assert_eq!(
            (child.trace_id, child.span_id == trace.span_id),
            (trace.trace_id, false)
        );
    }

    #[test]
    fn the_traceparent_of_the_specification_is_parsed_and_corruptions_are_rejected() {
        let example = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(example.parse::<TraceParent>().unwrap().to_string(), example);
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(bad.parse::<TraceParent>(), Err(InvalidTraceParent), "{bad}");
        }
    }
}
