//! Values that facts and notices share.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantArray};

/// Why a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, IntoStaticStr, VariantArray)]
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
    /// The media-worker disappeared.
    WorkerLost,
    /// The media-worker shut down.
    WorkerShutdown,
    /// The longest allowed duration was reached.
    MaxDuration,
    /// An operator or another team ended it.
    Terminated,
}

impl EndReason {
    /// The reason as it is serialised.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// How the SFU detected the connection. There is one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The SFU received the first audio RTP packet.
    SfuRtpDetected,
}
