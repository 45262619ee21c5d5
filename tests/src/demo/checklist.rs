//! What must have been seen for the demo to succeed.

use super::screen::{Screen, Tone};

/// Something that must happen, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// Every process is ready.
    Started,
    /// It rings and is taken.
    Accepted,
    /// Media stands, but nobody has said a word: no `call_connected`.
    Unconnected,
    /// A client cannot say that it is connected.
    SelfReportRefused,
    /// The first RTP packet connects.
    Connected,
    /// Sound goes both ways.
    Heard,
    /// RTP stops.
    Lost,
    /// RTP comes back.
    Resumed,
    /// Another node tells the original beginning.
    Reconnected,
    /// Minutes pass.
    Ticked,
    /// Hang-up ends it.
    Ended,
    /// The bill is right.
    Settled,
    /// Both are told the bill.
    Told,
    /// Nothing happened more often than it may.
    Once,
    /// Many more calls.
    Measured,
    /// All processes stop in order.
    Stopped,
}

impl Expectation {
    const ALL: [Self; 16] = [
        Self::Started,
        Self::Accepted,
        Self::Unconnected,
        Self::SelfReportRefused,
        Self::Connected,
        Self::Heard,
        Self::Lost,
        Self::Resumed,
        Self::Reconnected,
        Self::Ticked,
        Self::Ended,
        Self::Settled,
        Self::Told,
        Self::Once,
        Self::Measured,
        Self::Stopped,
    ];

    fn text(self) -> &'static str {
        match self {
            Self::Started => "all processes are ready",
            Self::Accepted => "user on node 1 calls otomo on node 2, who accepts; both are told",
            Self::Unconnected => "media stands on both sides, and without RTP nothing is connected",
            Self::SelfReportRefused => "a client that says it is connected is refused, nothing changes",
            Self::Connected => "the first RTP packet: one fact, then call_connected to both, the same",
            Self::Heard => "each hears the other",
            Self::Lost => "the user's RTP dies: rtp_lost, media_lost to both",
            Self::Resumed => "it comes back: rtp_resumed, media_resumed to both",
            Self::Reconnected => "the user reconnects through node 2 and gets the original connectedAt",
            Self::Ticked => "at least three ticks, each due at connectedAt + n × 2 s, told to both",
            Self::Ended => "hang-up: ended, by the user",
            Self::Settled => "settled: the record agrees with connectedAt, endedAt and the ticks",
            Self::Told => "call_ended to both with that bill",
            Self::Once => "every fact exactly once, and in order",
            Self::Measured => "latency over at least 20 calls",
            Self::Stopped => "everything stops in order",
        }
    }
}

/// What was seen so far.
#[derive(Debug, Default)]
pub struct Checklist {
    seen: Vec<(Expectation, String)>,
    failure: Option<String>,
}

impl Checklist {
    /// Ticks one off, with what was seen.
    pub fn seen(&mut self, expectation: Expectation, detail: &str) {
        self.seen.push((expectation, detail.to_owned()));
    }

    /// Nothing more will be seen, and why.
    pub fn fail(&mut self, reason: &str) {
        self.failure = Some(reason.to_owned());
    }

    /// Whether everything was seen.
    #[must_use]
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
            let (tone, mark, detail) = match self.detail(expected) {
                Some(detail) => (Tone::Good, "✓", detail),
                // The first one that is missing is the one that failed.
                None => match failure.take() {
                    Some(failure) => (Tone::Bad, "✗", failure),
                    None => (Tone::Quiet, "·", "not reached"),
                },
            };
            screen.plain(tone, &format!("  {mark} {:<width$}  {detail}", expected.text()));
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
    fn complete_only_with_everything_and_no_failure() {
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
