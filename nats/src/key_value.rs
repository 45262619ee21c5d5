//! A key-value bucket as a server offers it: bytes under keys, changed by single attempts.
//!
//! A simulation puts a server of its own here, see [`crate::log`].

use std::fmt::Debug;
use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};

use crate::bucket::{BucketError, Change, Revised};
use crate::storage::MARKER_TTL;

/// What comes of an attempt.
pub type Attempt<'a, T> = BoxFuture<'a, Result<T, BucketError>>;
/// What a watcher sees, by key.
pub type Changes = BoxStream<'static, Result<(String, Change<Bytes>), BucketError>>;

/// The bucket. Where something is written, the new revision is what comes of it.
pub trait KeyValue: Debug + Send + Sync {
    /// What stands there. A replica may answer, so it may be a moment old.
    fn get<'a>(&'a self, key: &'a str) -> Attempt<'a, Option<Revised<Bytes>>>;

    /// Writes if nothing stands there.
    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64>;

    /// Writes, whatever stands there.
    fn put<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64>;

    /// Writes, whatever stands there; expires if it is not put again within `ttl`, in whole seconds.
    fn put_for<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> Attempt<'a, u64>;

    /// Writes if what stands there has this revision.
    fn update<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> Attempt<'a, u64>;

    /// Takes away what has this revision. A marker of it stays for [`MARKER_TTL`].
    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> Attempt<'a, ()>;

    /// Takes away whatever stands there. A marker of it stays for [`MARKER_TTL`].
    fn clear<'a>(&'a self, key: &'a str) -> Attempt<'a, ()>;

    /// All keys that match, markers too, then every change, in order.
    fn watch<'a>(&'a self, pattern: &'a str) -> Attempt<'a, Changes>;
}

/// The real one.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamKeys {
    pub(crate) store: kv::Store,
    /// Where keys are to expire one by one: the client's bucket knows that only of new keys.
    pub(crate) jetstream: Option<jetstream::Context>,
}

impl KeyValue for JetStreamKeys {
    fn get<'a>(&'a self, key: &'a str) -> Attempt<'a, Option<Revised<Bytes>>> {
        async move {
            let entry = self.store.entry(key).await.map_err(|error| unavailable(key, &error))?;
            Ok(match entry {
                Some(entry) if entry.operation == kv::Operation::Put => Some(Revised {
                    value: entry.value,
                    revision: entry.revision,
                }),
                _ => None,
            })
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64> {
        async move {
            self.store.create(key, value).await.map_err(|error| match error.kind() {
                kv::CreateErrorKind::AlreadyExists => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
        }
        .boxed()
    }

    fn put<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64> {
        async move {
            let put = self.store.put(key, value).await;
            put.map_err(|error| unavailable(key, &error))
        }
        .boxed()
    }

    fn put_for<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> Attempt<'a, u64> {
        async move {
            let Some(jetstream) = &self.jetstream else {
                return Err(BucketError::Unavailable {
                    key: key.to_owned(),
                    reason: "this bucket was not opened for keys that expire".to_owned(),
                });
            };
            let message = PublishMessage::build().payload(value).ttl(ttl);
            let subject = format!("{}{key}", self.store.prefix);
            let publish = async { jetstream.send_publish(subject, message).await?.await };
            let acknowledgement = publish.await.map_err(|error| unavailable(key, &error))?;
            Ok(acknowledgement.sequence)
        }
        .boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> Attempt<'a, u64> {
        async move {
            let update = self.store.update(key, value, revision).await;
            update.map_err(|error| match error.kind() {
                kv::UpdateErrorKind::WrongLastRevision => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> Attempt<'a, ()> {
        async move {
            let purge = self
                .store
                .purge_expect_revision_with_ttl(key, revision, MARKER_TTL)
                .await;
            purge.map_err(|error| match error.kind() {
                kv::PurgeErrorKind::WrongLastRevision => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
        }
        .boxed()
    }

    fn clear<'a>(&'a self, key: &'a str) -> Attempt<'a, ()> {
        async move {
            let purged = self.store.purge_with_ttl(key, MARKER_TTL).await;
            purged.map_err(|error| unavailable(key, &error))
        }
        .boxed()
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> Attempt<'a, Changes> {
        async move {
            let watch = self.store.watch_with_history(pattern).await;
            let watch = watch.map_err(|error| unavailable(pattern, &error))?;
            let pattern = pattern.to_owned();
            let changes = watch.map(move |entry| {
                let entry = entry.map_err(|error| unavailable(&pattern, &error))?;
                let change = match entry.operation {
                    kv::Operation::Put if !entry.value.is_empty() => Change::Put(Revised {
                        value: entry.value,
                        revision: entry.revision,
                    }),
                    // The marker that the server writes for an expired key has no operation header, and no value.
                    _ => Change::Gone,
                };
                Ok((entry.key, change))
            });
            Ok(changes.boxed())
        }
        .boxed()
    }
}

fn unavailable(key: &str, error: &dyn std::error::Error) -> BucketError {
    let source = error.source().map(|source| format!(" ({source})")).unwrap_or_default();
    BucketError::Unavailable {
        key: key.to_owned(),
        reason: format!("{error}{source}"),
    }
}
