//! The expectations of the demo.

use crate::terminal::screen::{LineKind, Screen};

/// The expectations, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// Every process is ready.
    Started,
    /// The call rings and is accepted.
    Accepted,
    /// Media is connected, but no packet was sent: no `call_connected`.
    Unconnected,
    /// A client's claim that it is connected is refused.
    SelfReportRefused,
    /// The first RTP packet connects.
    Connected,
    /// Each receives the other.
    Received,
    /// RTP stops.
    Lost,
    /// RTP comes back.
    Resumed,
    /// Another node sends the original `connectedAt`.
    Reconnected,
    /// Minutes pass.
    Ticked,
    /// Hang-up ends the call.
    Ended,
    /// The bill is right.
    Settled,
    /// Both receive the bill.
    Notified,
    /// Facts that happen once are stored once.
    Once,
    /// The wallet grants what the balance covers.
    Granted,
    /// The user is warned before the end.
    Warned,
    /// The media stops at the end of the granted time.
    Exhausted,
    /// The wallet has charged the bill.
    Charged,
    /// The latency of many more calls.
    Measured,
    /// All processes stop in order.
    Stopped,
}

impl Expectation {
    const ALL: [Self; 20] = [
        Self::Started,
        Self::Accepted,
        Self::Unconnected,
        Self::SelfReportRefused,
        Self::Connected,
        Self::Received,
        Self::Lost,
        Self::Resumed,
        Self::Reconnected,
        Self::Ticked,
        Self::Ended,
        Self::Settled,
        Self::Notified,
        Self::Once,
        Self::Granted,
        Self::Warned,
        Self::Exhausted,
        Self::Charged,
        Self::Measured,
        Self::Stopped,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Started => "all processes are ready",
            Self::Accepted => "user on node 1 calls otomo on node 2, who accepts; both are notified",
            Self::Unconnected => "media is connected on both sides; without RTP the call is not",
            Self::SelfReportRefused => "a client that claims to be connected is refused",
            Self::Connected => "the first RTP packet: one fact, then the same call_connected to both",
            Self::Received => "each receives the other",
            Self::Lost => "the user's RTP stops: rtp_lost, media_lost to both",
            Self::Resumed => "it resumes: rtp_resumed, media_resumed to both",
            Self::Reconnected => "the user reconnects through node 2 and gets the original connectedAt",
            Self::Ticked => "at least three ticks, each due at connectedAt + n × 2 s, sent to both",
            Self::Ended => "hang-up: ended, by the user",
            Self::Settled => "settled: the record agrees with connectedAt, endedAt and the ticks",
            Self::Notified => "call_ended to both with that bill",
            Self::Once => "every fact exactly once, in order",
            Self::Granted => "a second call: the wallet grants the three minutes that the balance covers",
            Self::Warned => "credit_low to the user alone, before they are over",
            Self::Exhausted => "credit_exhausted exactly after three minutes, which are billed; both are notified",
            Self::Charged => "the wallet has charged them, and denies the next call",
            Self::Measured => "latency over at least 20 calls",
            Self::Stopped => "every process stops in order",
        }
    }
}

/// The expectations that were met so far.
#[derive(Debug, Default)]
pub struct Checklist {
    seen: Vec<(Expectation, String)>,
    failure: Option<String>,
}

impl Checklist {
    /// Marks one as met, with a detail.
    pub fn seen(&mut self, expectation: Expectation, detail: &str) {
        self.seen.push((expectation, detail.to_owned()));
    }

    /// Marks the first missing expectation as failed, with the reason.
    pub fn fail(&mut self, reason: &str) {
        self.failure = Some(reason.to_owned());
    }

    /// Whether all were met.
    pub fn complete(&self) -> bool {
        self.failure.is_none() && Expectation::ALL.iter().all(|expected| self.detail(*expected).is_some())
    }

    /// Prints the table.
    pub fn show(&self, screen: &Screen) {
        screen.heading("Expected and seen");
        let mut failure = self.failure.as_deref();
        let width = Expectation::ALL
            .iter()
            .map(|expected| expected.text().chars().count())
            .max()
            .unwrap_or_default();
        for expected in Expectation::ALL {
            let (kind, mark, detail) = match self.detail(expected) {
                Some(detail) => (LineKind::Good, "✓", detail),
                // The first missing one is the one that failed.
                None => match failure.take() {
                    Some(failure) => (LineKind::Bad, "✗", failure),
                    None => (LineKind::Quiet, "·", "not reached"),
                },
            };
            screen.plain(kind, &format!("  {mark} {:<width$}  {detail}", expected.text()));
        }
    }

    fn detail(&self, expected: Expectation) -> Option<&str> {
        self.seen
            .iter()
            .find(|(seen, _)| *seen == expected)
            .map(|(_, detail)| detail.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_complete_with_all_expectations_and_without_a_failure() {
        let mut checklist = Checklist::default();
        for expected in Expectation::ALL {
            assert!(!checklist.complete());
            checklist.seen(expected, "");
        }
        assert!(checklist.complete());
        checklist.fail("in the end");
        assert!(!checklist.complete());
    }
}
