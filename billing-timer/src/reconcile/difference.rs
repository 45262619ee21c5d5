//! What differs, each in one line.

use std::fmt;

use contract::CallId;
use serde::{Serialize, Serializer};

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal;)*) => {
        /// What is wrong.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub(crate) enum Kind {
            $($(#[$doc])* $kind,)*
        }

        impl Kind {
            /// As it is printed.
            pub(crate) fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }
        }
    };
}

kinds! {
    /// A call has no `ended`, though its longest duration is long over.
    NotEnded = "not_ended";
    /// A call is over, and has no `settled`.
    NotSettled = "not_settled";
    /// A call has a `settled` and no `ended`.
    SettledWithoutEnd = "settled_without_end";
    /// A second `rtp_detected`.
    ConnectedTwice = "rtp_detected_twice";
    /// A second `ended`.
    EndedTwice = "ended_twice";
    /// A second `settled`.
    SettledTwice = "settled_twice";
    /// A fact tells of another beginning than `rtp_detected`, or of one where there is none.
    Beginning = "beginning";
    /// A fact names other parties than the call's first one.
    Parties = "parties";
    /// A minute was due, and has no tick.
    TickMissing = "tick_missing";
    /// A minute has a second tick.
    TickDoubled = "tick_doubled";
    /// A minute's tick is stored after a later minute's.
    TickOutOfOrder = "tick_out_of_order";
    /// A tick is not at `connectedAt` + minute × interval.
    TickTime = "tick_time";
    /// A call's minutes are of another length than the setting says.
    MinuteLength = "minute_length";
    /// A tick of a call that never connected.
    TickUnconnected = "tick_unconnected";
    /// More ticks lie beyond the end than `overTicks` announces.
    TickBeyondEnd = "tick_beyond_end";
    /// A field of `settled` is not what the facts give.
    Settlement = "settlement";
    /// A message of the stream of facts is no fact.
    Unreadable = "unreadable";
    /// A service met a message that it could not read.
    Parked = "parked";
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

/// One thing that is not as the facts say it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Difference {
    /// What is wrong.
    #[serde(rename = "difference")]
    pub(crate) kind: Kind,
    /// The call, where it is known.
    pub(crate) call_id: Option<CallId>,
    /// The messages in question, by their sequence in `CALLS`.
    pub(crate) sequences: Vec<u64>,
    /// What should be.
    pub(crate) expected: String,
    /// What is.
    pub(crate) found: String,
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
    fn is_one_line_for_people_and_one_for_machines() {
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
