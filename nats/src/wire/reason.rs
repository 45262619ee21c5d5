//! Values that facts and notices share.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::LazyLock;

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use strum::{EnumIter, IntoEnumIterator, IntoStaticStr};

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr, EnumIter)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum EndReason {
    /// A party hung up.
    Hangup,
    /// The otomo rejected the call.
    Rejected,
    /// The user cancelled the call while it rang.
    Cancelled,
    /// The otomo did not answer in time.
    NoAnswer,
    /// Accepted, but no RTP arrived.
    MediaTimeout,
    /// RTP stopped.
    RtpTimeout,
    /// The time that the wallet had granted was over.
    CreditExhausted,
    /// The media-worker disappeared.
    WorkerLost,
    /// The media-worker shut down.
    WorkerShutdown,
    /// The longest allowed duration was reached.
    MaxDuration,
    /// An operator or another team ended it.
    Terminated,
    /// A reason of a later version. Readers keep it; no request may name it.
    #[serde(untagged)]
    #[schemars(skip)]
    #[strum(disabled)]
    Unknown(UnknownReason),
}

impl EndReason {
    /// The reasons that this version knows.
    pub fn known() -> impl Iterator<Item = Self> {
        Self::iter()
    }

    /// Whether this version knows it.
    pub fn is_known(self) -> bool {
        !matches!(self, Self::Unknown(_))
    }

    /// The reason as it is serialised.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown(reason) => reason.0,
            known => known.into(),
        }
    }
}

/// The text of a reason that this version does not know.
///
/// Texts are kept for the life of the process, so that a reason is as small as a reference and a label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UnknownReason(&'static str);

/// The longest text that is kept, in bytes; longer ones are cut.
const MAX_REASON_BYTES: usize = 64;
/// Different texts that are kept. Later versions have a handful.
const MAX_REASONS: usize = 256;
/// Stands for all further texts.
const OTHER: &str = "other";

static TEXTS: LazyLock<Mutex<KeptTexts>> = LazyLock::new(Mutex::default);

#[derive(Debug, Default)]
struct KeptTexts(HashSet<&'static str>);

impl KeptTexts {
    fn keep(&mut self, text: &str) -> &'static str {
        let ends = text
            .char_indices()
            .map(|(start, character)| start + character.len_utf8());
        let end = ends.take_while(|end| *end <= MAX_REASON_BYTES).last();
        let text = text.get(..end.unwrap_or(0)).unwrap_or_default();
        match self.0.get(text) {
            Some(kept) => kept,
            None if self.0.len() >= MAX_REASONS => OTHER,
            None => {
                let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
                self.0.insert(text);
                text
            }
        }
    }
}

impl Serialize for UnknownReason {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0)
    }
}

impl<'de> Deserialize<'de> for UnknownReason {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<str>::deserialize(deserializer).map(|text| Self(TEXTS.lock().keep(&text)))
    }
}

/// How the SFU detected the connection. There is one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The SFU received the first audio RTP packet.
    SfuRtpDetected,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> EndReason {
        serde_json::from_value(text.into()).unwrap()
    }

    #[test]
    fn unknown_reasons_are_kept_as_text() {
        for text in ["eclipse", "日蝕", "", "Hangup"] {
            let reason = read(text);
            assert_eq!((reason.as_str(), reason.is_known()), (text, false));
            assert_eq!(serde_json::to_value(reason).unwrap(), text);
            assert_eq!(reason, read(text));
        }
        for reason in EndReason::known() {
            assert_eq!((read(reason.as_str()), reason.is_known()), (reason, true));
        }
        for wrong in ["3", "null", "{}", "[]"] {
            assert!(serde_json::from_str::<EndReason>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_long_reason_is_cut_between_characters_and_the_texts_are_bounded() {
        let mut texts = KeptTexts::default();
        assert_eq!(texts.keep(&"蝕".repeat(30)), "蝕".repeat(21));
        let kept: HashSet<&str> = (0..1_000).map(|number| texts.keep(&format!("r{number}"))).collect();
        assert!(kept.contains(OTHER) && kept.len() == MAX_REASONS, "{}", kept.len());
        assert_eq!(texts.keep("r7"), "r7");
    }
}
