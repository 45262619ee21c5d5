//! Counts the notices `tick` as ws-edge nodes receive them.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::Result;
use async_nats::{Client, ConnectOptions};
use contract::Role;
use contract::wire::notice::NoticeKind;
use contract::wire::subject;
use futures::{StreamExt, stream};
use parking_lot::Mutex;
use serde::Deserialize;
use tokio::task::JoinSet;

/// Notices that may wait to be counted: a burst must not drop any.
const CAPACITY: usize = 1 << 20;

/// How often each notice was published, by subject and minute.
type Counts = HashMap<(String, u32), u32>;

/// A subscription to all notices `tick`.
#[derive(Debug)]
pub struct NoticeCounter {
    counts: Arc<Mutex<Counts>>,
    /// Its connection closes with it.
    _client: Client,
    _task: JoinSet<()>,
}

/// What was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoticeCounts {
    /// Different notices.
    pub notices: usize,
    /// Notices that were published more than once.
    pub repeated: usize,
    /// How often the most repeated notice was published.
    pub most: u32,
}

#[derive(Deserialize)]
struct Envelope {
    payload: Minute,
}

#[derive(Deserialize)]
struct Minute {
    minute: u32,
}

impl NoticeCounter {
    /// Subscribes over a connection of its own.
    pub async fn subscribe(url: &str) -> Result<Self> {
        let options = ConnectOptions::new().subscription_capacity(CAPACITY);
        let client = options.connect(url).await?;
        let mut subscriptions = Vec::new();
        for role in Role::BOTH {
            let subject = subject::notices_of_kind(role, NoticeKind::Tick);
            subscriptions.push(client.subscribe(subject).await?);
        }
        client.flush().await?;
        let counts = Arc::new(Mutex::new(Counts::new()));
        let mut task = JoinSet::new();
        task.spawn({
            let counts = Arc::clone(&counts);
            let mut messages = stream::select_all(subscriptions);
            async move {
                while let Some(message) = messages.next().await {
                    let minute = serde_json::from_slice::<Envelope>(&message.payload);
                    let minute = minute.map_or(0, |envelope| envelope.payload.minute);
                    let mut counts = counts.lock();
                    *counts.entry((message.subject.to_string(), minute)).or_default() += 1;
                }
            }
        });
        Ok(Self {
            counts,
            _client: client,
            _task: task,
        })
    }

    /// What was counted so far.
    pub fn counts(&self) -> NoticeCounts {
        let counts = self.counts.lock();
        NoticeCounts {
            notices: counts.len(),
            repeated: counts.values().filter(|count| **count > 1).count(),
            most: counts.values().copied().max().unwrap_or(0),
        }
    }
}
