//! The services that publish facts and notices.

use std::fmt;

use strum::{IntoStaticStr, VariantArray};

/// A service: its package, its user in `nats/conf/accounts.conf`, and the first part of its CloudEvents source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, IntoStaticStr, VariantArray)]
#[strum(serialize_all = "kebab-case")]
pub enum Service {
    /// Hosts calls on mediasoup.
    MediaWorker,
    /// Serves the WebSocket.
    WsEdge,
    /// Counts minutes and settles calls.
    BillingTimer,
}

impl Service {
    /// The name as it is written in configurations.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
