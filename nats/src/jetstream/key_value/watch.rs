//! A bucket's watcher: all keys as they are, then every change, until it is lost.
//!
//! The client has one that mends itself. It takes ten seconds to notice that the server which delivers is dead or frozen,
//! and a call that begins meanwhile would not be ticked; so this one notices sooner, ends, and is made anew by who follows it.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, push};
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::{Changes, is_value, unavailable};
use crate::jetstream::bucket::{BucketError, Change, Revised};

/// The server says at least this often that it is there; after two of these without a word the watcher is lost. A server
/// that waits for a slow disk must not seem dead: making a watcher costs it a read of the bucket.
const HEARTBEAT: Duration = Duration::from_millis(1500);
/// How long the server keeps a consumer that nobody listens to any more.
const KEPT: Duration = Duration::from_secs(10);

struct Watcher {
    messages: push::Messages,
    prefix: String,
    pattern: String,
    delivered: u64,
}

pub(super) async fn watch(store: &kv::Store, pattern: &str) -> Result<Changes, BucketError> {
    let config = push::Config {
        deliver_subject: format!("_INBOX.{}", uuid::Uuid::now_v7().simple()),
        filter_subject: format!("{}{pattern}", store.prefix),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        memory_storage: true,
        // Of many services' watchers, none is worth a vote of three servers.
        num_replicas: 1,
        flow_control: true,
        idle_heartbeat: HEARTBEAT,
        inactive_threshold: KEPT,
        ..Default::default()
    };
    let consumer = store.stream.create_consumer(config).await;
    let consumer = consumer.map_err(|error| unavailable(pattern, &error))?;
    let messages = consumer
        .messages()
        .await
        .map_err(|error| unavailable(pattern, &error))?;
    let watcher = Watcher {
        messages,
        prefix: store.prefix.clone(),
        pattern: pattern.to_owned(),
        delivered: 0,
    };
    let changes = stream::unfold(Some(watcher), |watcher| async {
        let mut watcher = watcher?;
        let change = watcher.next().await?;
        let lost = change.is_err();
        Some((change, (!lost).then_some(watcher)))
    });
    Ok(changes.boxed())
}

impl Watcher {
    async fn next(&mut self) -> Option<Result<(String, Change<Bytes>), BucketError>> {
        Some(match self.messages.next().await? {
            Ok(message) => self.read(message),
            Err(error) => Err(unavailable(&self.pattern, &error)),
        })
    }

    fn read(&mut self, message: jetstream::Message) -> Result<(String, Change<Bytes>), BucketError> {
        let lost = |reason: String| BucketError::Unavailable {
            key: self.pattern.clone(),
            reason,
        };
        let info = message.info().map_err(|error| lost(error.to_string()))?;
        let revision = info.stream_sequence;
        if info.consumer_sequence != self.delivered + 1 {
            return Err(lost(format!(
                "{} changes were delivered, {} arrived",
                info.consumer_sequence,
                self.delivered + 1
            )));
        }
        let Some(key) = message.subject.strip_prefix(&self.prefix) else {
            return Err(lost(format!("{} is no key", message.subject)));
        };
        let key = key.to_owned();
        self.delivered += 1;
        let change = if is_value(message.headers.as_ref(), &message.payload) {
            Change::Put(Revised {
                value: message.payload.clone(),
                revision,
            })
        } else {
            Change::Gone
        };
        Ok((key, change))
    }
}
