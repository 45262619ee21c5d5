//! A key-value bucket with JSON values: what the typed buckets share.

use std::time::Duration;

use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use thiserror::Error;

use crate::storage::MARKER_TTL;

/// Why a bucket did not do as asked.
#[derive(Debug, Error)]
pub enum BucketError {
    /// Somebody else was faster; read again.
    #[error("{key} has changed meanwhile")]
    Conflict {
        /// Which key.
        key: String,
    },
    /// NATS does not answer, or refuses; trying again may help.
    #[error("{key}: {reason}")]
    Unavailable {
        /// Which key.
        key: String,
        /// What NATS says.
        reason: String,
    },
    /// What is stored there is not what this version writes.
    #[error("{key} holds what cannot be read: {error}")]
    Unreadable {
        /// Which key.
        key: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
}

/// A value and the revision that a later change must name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised<T> {
    /// What is stored.
    pub value: T,
    /// For compare-and-set.
    pub revision: u64,
}

/// A change seen by a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// There now.
    Put(Revised<T>),
    /// Deleted by somebody, or expired.
    Gone,
}

#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    store: kv::Store,
}

impl Bucket {
    pub(crate) fn new(store: kv::Store) -> Self {
        Self { store }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Revised<T>>, BucketError> {
        let entry = self.store.entry(key).await.map_err(|error| unavailable(key, &error))?;
        match entry {
            Some(entry) if entry.operation == kv::Operation::Put => {
                let value = decode(key, &entry.value)?;
                Ok(Some(Revised {
                    value,
                    revision: entry.revision,
                }))
            }
            _ => Ok(None),
        }
    }

    pub(crate) async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, BucketError> {
        self.store
            .create(key, encode(key, value)?)
            .await
            .map_err(|error| match error.kind() {
                kv::CreateErrorKind::AlreadyExists => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
    }

    pub(crate) async fn put<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, BucketError> {
        self.store
            .put(key, encode(key, value)?)
            .await
            .map_err(|error| unavailable(key, &error))
    }

    /// Expires if it is not put again within `ttl`, of which the server counts whole seconds.
    pub(crate) async fn put_for<T: Serialize>(
        &self,
        jetstream: &jetstream::Context,
        key: &str,
        value: &T,
        ttl: Duration,
    ) -> Result<u64, BucketError> {
        let message = PublishMessage::build().payload(encode(key, value)?).ttl(ttl);
        let subject = format!("{}{key}", self.store.prefix);
        let publish = async { jetstream.send_publish(subject, message).await?.await };
        let acknowledgement = publish.await.map_err(|error| unavailable(key, &error))?;
        Ok(acknowledgement.sequence)
    }

    /// Whatever is there. Leaves nothing behind but a marker, which expires.
    pub(crate) async fn clear(&self, key: &str) -> Result<(), BucketError> {
        let purged = self.store.purge_with_ttl(key, MARKER_TTL).await;
        purged.map_err(|error| unavailable(key, &error))
    }

    pub(crate) async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, BucketError> {
        self.store
            .update(key, encode(key, value)?, revision)
            .await
            .map_err(|error| match error.kind() {
                kv::UpdateErrorKind::WrongLastRevision => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
    }

    /// Leaves nothing behind but a marker, which expires.
    pub(crate) async fn remove(&self, key: &str, revision: u64) -> Result<(), BucketError> {
        self.store
            .purge_expect_revision_with_ttl(key, revision, MARKER_TTL)
            .await
            .map_err(|error| match error.kind() {
                kv::PurgeErrorKind::WrongLastRevision => BucketError::Conflict { key: key.to_owned() },
                _ => unavailable(key, &error),
            })
    }

    /// All keys that match `pattern` as they are, then every change. The stream ends when the watcher is lost: watch again.
    pub(crate) async fn watch<T: DeserializeOwned>(
        &self,
        pattern: &str,
    ) -> Result<impl Stream<Item = Result<(String, Change<T>), BucketError>> + use<T>, BucketError> {
        let watch = self
            .store
            .watch_with_history(pattern)
            .await
            .map_err(|error| unavailable(pattern, &error))?;
        let pattern = pattern.to_owned();
        Ok(watch.map(move |entry| {
            let entry = entry.map_err(|error| unavailable(&pattern, &error))?;
            let change = match entry.operation {
                kv::Operation::Put if !entry.value.is_empty() => {
                    let value = decode(&entry.key, &entry.value)?;
                    Change::Put(Revised {
                        value,
                        revision: entry.revision,
                    })
                }
                // The marker that the server writes for an expired key has no operation header, and no value.
                _ => Change::Gone,
            };
            Ok((entry.key, change))
        }))
    }
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, BucketError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| BucketError::Unreadable {
            key: key.to_owned(),
            error,
        })
}

fn decode<T: DeserializeOwned>(key: &str, value: &[u8]) -> Result<T, BucketError> {
    serde_json::from_slice(value).map_err(|error| BucketError::Unreadable {
        key: key.to_owned(),
        error,
    })
}

fn unavailable(key: &str, error: &dyn std::error::Error) -> BucketError {
    let source = error.source().map(|source| format!(" ({source})")).unwrap_or_default();
    BucketError::Unavailable {
        key: key.to_owned(),
        reason: format!("{error}{source}"),
    }
}
