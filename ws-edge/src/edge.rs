//! What every connection of this node shares.

use std::ops::Deref;
use std::sync::Arc;

use tokio_util::task::TaskTracker;

use crate::calls::Calls;
use crate::connection::registry::Directory;
use crate::handshake::Door;
use crate::http::pages::Pages;
use crate::ops::OpsFeed;
use crate::settings::Limits;

/// This node. Clones share it.
#[derive(Clone)]
pub struct Edge(Arc<Parts>);

/// What it consists of.
pub struct Parts {
    /// Who may come in.
    pub door: Door,
    /// What a browser is shown, where that is wanted.
    pub pages: Option<Pages>,
    /// What one client, and all of them, may use.
    pub limits: Limits,
    /// Who is connected here.
    pub directory: Directory,
    /// What they may ask.
    pub calls: Calls,
    /// The operations feed.
    pub ops: OpsFeed,
    /// Sockets and requests: what the node's end waits for.
    pub tracker: TaskTracker,
}

impl Edge {
    /// Puts it together.
    pub fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }
}

impl Deref for Edge {
    type Target = Parts;
    fn deref(&self) -> &Parts {
        &self.0
    }
}
