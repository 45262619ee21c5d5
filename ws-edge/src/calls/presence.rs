//! Whether an otomo is connected, to any node.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use contract::jetstream::request::{self, CommandError};
use contract::wire::command::QueryPresence;
use contract::{Nats, OtomoId, TraceParent};
use tokio::time::sleep;

use crate::protocol::{Code, Problem};
use crate::settings::OfflineOtomo;

/// An otomo without a socket may be changing its network or its node.
const ASK_AGAIN_AFTER: Duration = Duration::from_millis(1_500);
/// How long a node may take to reply. The server itself replies at once if no node has a socket of the otomo.
const REPLY_TIMEOUT: Duration = Duration::from_millis(500);

/// Asks the nodes.
#[derive(Debug, Clone)]
pub struct Presence {
    /// The connection.
    pub nats: Nats,
    /// What happens to calls to an absent otomo.
    pub policy: OfflineOtomo,
}

impl Presence {
    /// Whether the otomo may be called, by `offline_otomo`.
    ///
    /// # Errors
    /// `otomo_offline`
    pub(super) async fn check(&self, otomo: &OtomoId, trace: TraceParent) -> Result<(), Problem> {
        if self.policy == OfflineOtomo::Ring || self.is_connected(otomo, trace).await {
            return Ok(());
        }
        sleep(ASK_AGAIN_AFTER).await;
        if self.is_connected(otomo, trace).await {
            return Ok(());
        }
        Err(Problem::new(Code::OtomoOffline, "the otomo is not connected"))
    }

    /// Only "no responders" proves that no node has a socket; a node that replies late has one.
    async fn is_connected(&self, otomo: &OtomoId, trace: TraceParent) -> bool {
        let reply = request::ask(&self.nats.client, otomo, &QueryPresence {}, trace, REPLY_TIMEOUT).await;
        !matches!(reply, Err(CommandError::Unreachable { error, .. }) if error.kind() == RequestErrorKind::NoResponders)
    }
}
