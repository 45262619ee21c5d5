//! A watch of a bucket: all keys, then every change, until the watch is lost.
//!
//! A pull consumer delivers no faster than its changes are processed, so no number of keys overflows a buffer. A deleted
//! consumer, missed heartbeats or a gap in the sequence end this watch alone; its user opens another one.
//!
//! The client's own watcher resumes by itself, but needs ten seconds to detect a dead or frozen server. Calls that begin in this
//! time would not be ticked.

use std::time::Duration;

use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream;

use super::{BucketError, Change, Changes, Revised, is_value, unavailable};

/// The idle heartbeat; after two missed heartbeats the watch is lost. A server that waits for a slow disk must not seem dead,
/// because another watch costs it a read of the bucket.
const HEARTBEAT: Duration = Duration::from_millis(1500);
/// Changes requested at a time. The client requests more when half of them are taken.
const BATCH: usize = 256;
/// Expiry of one pull request.
const PULL_EXPIRES: Duration = Duration::from_secs(30);
/// After this time without a pull request the server removes the consumer. It exceeds any pause of a busy user of the watch.
const INACTIVE_THRESHOLD: Duration = Duration::from_secs(30);

struct Watcher {
    messages: pull::Stream,
    prefix: String,
    pattern: String,
    delivered: u64,
}

pub(super) async fn watch(store: &kv::Store, pattern: &str) -> Result<Changes, BucketError> {
    let config = pull::Config {
        filter_subject: format!("{}{pattern}", store.prefix),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ack_policy: AckPolicy::None,
        max_deliver: 1,
        memory_storage: true,
        // A watch is replaced when its server dies, so it needs no replicas.
        num_replicas: 1,
        inactive_threshold: INACTIVE_THRESHOLD,
        ..Default::default()
    };
    let consumer = store.stream.create_consumer(config).await;
    let consumer = consumer.map_err(|error| unavailable(pattern, &error))?;
    let messages = consumer
        .stream()
        .max_messages_per_batch(BATCH)
        .expires(PULL_EXPIRES)
        .heartbeat(HEARTBEAT)
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
        let (revision, stored_at) = (info.stream_sequence, info.published.into());
        if info.consumer_sequence != self.delivered + 1 {
            return Err(lost(format!(
                "{} changes were delivered, {} arrived",
                info.consumer_sequence,
                self.delivered + 1
            )));
        }
        let Some(key) = message.subject.strip_prefix(&self.prefix) else {
            return Err(lost(format!("{} is not a key", message.subject)));
        };
        let key = key.to_owned();
        self.delivered += 1;
        let change = if is_value(message.headers.as_ref(), &message.payload) {
            let value = message.payload.clone();
            Change::Put(Revised { value, revision }, stored_at)
        } else {
            Change::Gone
        };
        Ok((key, change))
    }
}
