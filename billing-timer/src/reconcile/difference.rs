//! Differences, printed one per line.

use std::fmt;

use contract::CallId;
use serde::ser::SerializeStruct;
use serde::{Serialize, Serializer};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        /// The kind of a difference.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// The printed name.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// A call has no `ended` although its maximum duration has passed.
    NotEnded = "not_ended";
    /// A call has ended and has no `settled`.
    NotSettled = "not_settled";
    /// A call has a `settled` but no `ended`.
    SettledWithoutEnd = "settled_without_end";
    /// A second `rtp_detected`.
    ConnectedTwice = "rtp_detected_twice";
    /// A second `ended`.
    EndedTwice = "ended_twice";
    /// A second `settled`.
    SettledTwice = "settled_twice";
    /// A fact has another `connectedAt` than `rtp_detected`, or one without an `rtp_detected`.
    Beginning = "beginning";
    /// A fact names other parties than the call's first one.
    Parties = "parties";
    /// A fact names other terms than the call's request.
    Terms = "terms";
    /// A minute was due but has no tick.
    TickMissing = "tick_missing";
    /// A minute has a second tick.
    TickDoubled = "tick_doubled";
    /// A minute's tick is stored after a later minute's.
    TickOutOfOrder = "tick_out_of_order";
    /// A tick is not at `connectedAt` + minute × interval.
    TickTime = "tick_time";
    /// A call's interval differs from the setting.
    MinuteLength = "minute_length";
    /// A tick of a call without `rtp_detected`.
    TickUnconnected = "tick_unconnected";
    /// There are more ticks beyond the end than `overTicks` reports.
    TickBeyondEnd = "tick_beyond_end";
    /// A field of `settled` does not follow from the facts.
    Settlement = "settlement";
    /// The wall clock of the media-worker stepped during the call. The bill does not depend on it.
    ClockStep = "clock_step";
    /// A message of the stream is not a fact.
    Unreadable = "unreadable";
    /// A service has parked a message that it could not decode.
    Parked = "parked";
}

impl Kind {
    /// Whether the bill or the facts are wrong. All others are findings.
    pub(crate) fn is_difference(self) -> bool {
        self != Self::ClockStep
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// A mismatch between the stored messages and what follows from the facts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Difference {
    /// What does not match.
    pub(crate) kind: Kind,
    /// The call, if known.
    pub(crate) call_id: Option<CallId>,
    /// The sequences of the affected messages in `CALLS`.
    pub(crate) sequences: Vec<u64>,
    /// The expected value.
    pub(crate) expected: String,
    /// The stored value.
    pub(crate) found: String,
}

impl Serialize for Difference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let name = if self.kind.is_difference() {
            "difference"
        } else {
            "finding"
        };
        let mut fields = serializer.serialize_struct("Difference", 5)?;
        fields.serialize_field(name, &self.kind)?;
        fields.serialize_field("callId", &self.call_id)?;
        fields.serialize_field("sequences", &self.sequences)?;
        fields.serialize_field("expected", &self.expected)?;
        fields.serialize_field("found", &self.found)?;
        fields.end()
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.call_id {
            Some(call) => write!(f, "{call}: ")?,
            None => f.write_str("no call: ")?,
        }
        write!(f, "{}: expected {}, found {}", self.kind, self.expected, self.found)?;
        let sequences: Vec<String> = self.sequences.iter().map(ToString::to_string).collect();
        if sequences.is_empty() {
            return Ok(());
        }
        write!(f, " (sequence {})", sequences.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_difference_is_printed_as_one_line_of_text_or_json() {
        let difference = Difference {
            kind: Kind::Settlement,
            call_id: Some("c1".parse().unwrap()),
            sequences: vec![7, 9],
            expected: "billedMinutes 3".to_owned(),
            found: "4".to_owned(),
        };
        assert_eq!(
            difference.to_string(),
            "c1: settlement: expected billedMinutes 3, found 4 (sequence 7, 9)"
        );
        assert_eq!(
            serde_json::to_string(&difference).unwrap(),
            r#"{"difference":"settlement","callId":"c1","sequences":[7,9],"expected":"billedMinutes 3","found":"4"}"#
        );
    }
}
