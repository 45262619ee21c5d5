//! The port to a key-value bucket: bytes under keys. Each operation is a single attempt.
//!
//! A simulation implements the port with a simulated server, see [`crate::jetstream::fact_stream`].

use std::collections::HashMap;
use std::fmt::Debug;
use std::time::Duration;

use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::{self, ErrorCode, kv};
use async_nats::{Client, HeaderMap, header};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use thiserror::Error;

use crate::jetstream::batch::{BatchError, Publication};
use crate::jetstream::commit::BatchSender;
use crate::jetstream::connection::API_PREFIX;
use crate::jetstream::direct_reader::{self, DirectReader, Request};
use crate::jetstream::last_message::last_message;
use crate::jetstream::storage::MARKER_TTL;
use crate::wire::time::Timestamp;

mod watch;

/// Header of a message that removes a key.
const OPERATION: &str = "KV-Operation";
/// The operation that removes a key and its history.
const PURGE: &str = "PURGE";
/// Value of the header by which a message replaces all messages on its subject.
const ROLLUP_SUBJECT: &str = "sub";
/// In errors that concern many keys.
const MANY_KEYS: &str = "several keys";

/// Why an operation on a bucket failed.
#[derive(Debug, Error)]
pub enum BucketError {
    /// The revision of the key differs: read it again.
    #[error("{key} has changed meanwhile")]
    Conflict {
        /// The key.
        key: String,
    },
    /// NATS does not reply, or rejects the request. A retry may help.
    #[error("{key}: {reason}")]
    Unavailable {
        /// The key.
        key: String,
        /// The error of NATS.
        reason: String,
    },
    /// The stored value does not have the form that this version writes.
    #[error("the value of {key} cannot be read: {error}")]
    Unreadable {
        /// The key.
        key: String,
        /// The revision of a stored value.
        revision: Option<u64>,
        /// Where the value differs from that form.
        error: serde_json::Error,
    },
}

/// A value and its revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revised<T> {
    /// The stored value.
    pub value: T,
    /// The revision of the key, for compare-and-set.
    pub revision: u64,
}

/// A change seen by a watcher.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<T> {
    /// Written, and when the server stored it.
    Put(Revised<T>, Timestamp),
    /// Deleted or expired.
    Gone,
}

/// How long the tombstone of a [`KeyValue::probe`] is kept. The server removes it up to a second later.
pub const PROBE_TTL: Duration = Duration::from_secs(1);
/// The most keys of one [`KeyValue::get_many`].
pub const MAX_KEYS: usize = direct_reader::MAX_ANSWER;

/// The result of an operation.
pub type Attempt<'a, T> = BoxFuture<'a, Result<T, BucketError>>;
/// The changes of a watch, by key.
pub type Changes = BoxStream<'static, Result<(String, Change<Bytes>), BucketError>>;

/// The bucket. Writes return the new revision.
pub trait KeyValue: Debug + Send + Sync {
    /// Reads the value from the bucket's leader, which has every acknowledged write.
    fn get<'a>(&'a self, key: &'a str) -> Attempt<'a, Option<Revised<Bytes>>>;

    /// The last messages of these keys by any replica, which may lag. Keys without one are left out; the value of a removed
    /// key is `None`. At most [`MAX_KEYS`] keys.
    fn get_many(&self, keys: Vec<String>) -> Attempt<'_, HashMap<String, Revised<Option<Bytes>>>>;

    /// Writes all entries or none; an entry without a value removes its key, as [`KeyValue::remove`] does. The revision of each must
    /// be that of the key's last message, 0 if it has none. At most [`MAX_BATCH`](crate::jetstream::batch::MAX_BATCH) entries with
    /// different keys.
    fn write_many(&self, entries: Vec<(String, Revised<Option<Bytes>>)>) -> Attempt<'_, ()>;

    /// Writes if the key has no value.
    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64>;

    /// Writes unconditionally. The key expires unless it is put again within `ttl`, in whole seconds.
    fn put_for<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> Attempt<'a, u64>;

    /// Writes if the revision matches.
    fn update<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> Attempt<'a, u64>;

    /// Purges the key if its revision matches, leaving a tombstone for [`MARKER_TTL`].
    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> Attempt<'a, ()>;

    /// Purges the key, leaving a tombstone for [`MARKER_TTL`].
    fn clear<'a>(&'a self, key: &'a str) -> Attempt<'a, ()>;

    /// Stores a tombstone with so many bytes of payload, which disappears after [`PROBE_TTL`] and leaves nothing behind: whether the
    /// bucket has room for a new key. A key that is still there could be replaced although there is none.
    fn probe<'a>(&'a self, key: &'a str, bytes: usize) -> Attempt<'a, ()>;

    /// All keys that match, tombstones included, then every change, in order.
    fn watch<'a>(&'a self, pattern: &'a str) -> Attempt<'a, Changes>;
}

/// The implementation on JetStream.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamKeys {
    pub(crate) store: kv::Store,
    /// Needed by buckets whose keys expire, and for probes: the client's `Store` sets a TTL only on creation.
    pub(crate) jetstream: Option<jetstream::Context>,
    /// Where many keys are read and written together.
    pub(crate) batches: Option<Batches>,
}

/// Reads and writes many keys of a bucket together.
#[derive(Debug, Clone)]
pub(crate) struct Batches {
    pub(crate) sender: BatchSender,
    pub(crate) reader: DirectReader,
}

impl Batches {
    pub(crate) fn new(client: Client, store: &kv::Store) -> Self {
        Self {
            reader: DirectReader::new(client.clone(), API_PREFIX, &store.stream_name),
            sender: BatchSender::new(client),
        }
    }
}

impl KeyValue for JetStreamKeys {
    fn get<'a>(&'a self, key: &'a str) -> Attempt<'a, Option<Revised<Bytes>>> {
        async move { Ok(stored(&self.store, key).await?.map(|(stored, _)| stored)) }.boxed()
    }

    fn get_many(&self, keys: Vec<String>) -> Attempt<'_, HashMap<String, Revised<Option<Bytes>>>> {
        async move {
            let batches = self.batches()?;
            let multi_last = keys.iter().map(|key| format!("{}{key}", self.store.prefix)).collect();
            let request = Request {
                multi_last,
                ..Request::default()
            };
            let answer = batches.reader.ask(&request).await;
            let answer = answer.map_err(|error| unavailable(MANY_KEYS, &error))?;
            let found = answer.messages.into_iter().filter_map(|message| {
                let key = message.subject.strip_prefix(&self.store.prefix)?.to_owned();
                let revised = Revised {
                    value: is_value(Some(&message.headers), &message.payload).then_some(message.payload),
                    revision: message.sequence,
                };
                Some((key, revised))
            });
            Ok(found.collect())
        }
        .boxed()
    }

    fn write_many(&self, entries: Vec<(String, Revised<Option<Bytes>>)>) -> Attempt<'_, ()> {
        async move {
            let batches = self.batches()?;
            let publications = entries.into_iter().map(|(key, Revised { value, revision })| {
                let mut headers = HeaderMap::new();
                headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, revision.to_string());
                if value.is_none() {
                    headers.insert(OPERATION, PURGE);
                    headers.insert(header::NATS_ROLLUP, ROLLUP_SUBJECT);
                    headers.insert(header::NATS_MESSAGE_TTL, MARKER_TTL.as_secs().to_string());
                }
                Publication {
                    subject: format!("{}{key}", self.store.prefix),
                    headers,
                    payload: value.unwrap_or_default(),
                }
            });
            match batches.sender.commit(publications.collect()).await {
                Ok(_) => Ok(()),
                Err(BatchError::Rejected(_)) => Err(BucketError::Conflict {
                    key: MANY_KEYS.to_owned(),
                }),
                Err(error) => Err(unavailable(MANY_KEYS, &error)),
            }
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64> {
        async move {
            match self.update(key, value.clone(), 0).await {
                Err(BucketError::Conflict { .. }) => {}
                outcome => return outcome,
            }
            // The conflict may be with a tombstone, or with a key that has gone since.
            match last(&self.store, key).await? {
                Some(last) if is_value(Some(&last.headers), &last.payload) => {
                    Err(BucketError::Conflict { key: key.to_owned() })
                }
                marker => {
                    self.update(key, value, marker.map_or(0, |marker| marker.sequence))
                        .await
                }
            }
        }
        .boxed()
    }

    fn put_for<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> Attempt<'a, u64> {
        async move { self.publish(key, PublishMessage::build().payload(value).ttl(ttl)).await }.boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> Attempt<'a, u64> {
        async move {
            let update = self.store.update(key, value, revision).await;
            update.map_err(|error| not_changed(key, &error))
        }
        .boxed()
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> Attempt<'a, ()> {
        async move {
            let purge = self
                .store
                .purge_expect_revision_with_ttl(key, revision, MARKER_TTL)
                .await;
            purge.map_err(|error| not_changed(key, &error))
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

    fn probe<'a>(&'a self, key: &'a str, bytes: usize) -> Attempt<'a, ()> {
        async move {
            let tombstone = PublishMessage::build()
                .payload(vec![0; bytes].into())
                .header(OPERATION, PURGE)
                .header(header::NATS_ROLLUP, ROLLUP_SUBJECT)
                .ttl(PROBE_TTL);
            self.publish(key, tombstone).await.map(drop)
        }
        .boxed()
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> Attempt<'a, Changes> {
        watch::watch(&self.store, pattern).boxed()
    }
}

impl JetStreamKeys {
    fn batches(&self) -> Result<&Batches, BucketError> {
        self.batches.as_ref().ok_or_else(|| BucketError::Unavailable {
            key: MANY_KEYS.to_owned(),
            reason: "this bucket was not opened for batches".to_owned(),
        })
    }

    /// Writes unconditionally, and returns the new revision.
    async fn publish(&self, key: &str, message: PublishMessage) -> Result<u64, BucketError> {
        let Some(jetstream) = &self.jetstream else {
            return Err(BucketError::Unavailable {
                key: key.to_owned(),
                reason: "this bucket was not opened for keys that expire".to_owned(),
            });
        };
        let subject = format!("{}{key}", self.store.prefix);
        let publish = async { jetstream.send_publish(subject, message).await?.await };
        let acknowledgement = publish.await.map_err(|error| unavailable(key, &error))?;
        Ok(acknowledgement.sequence)
    }
}

/// The value of a key with the time at which the server stored it, like [`KeyValue::get`].
pub(crate) async fn stored(store: &kv::Store, key: &str) -> Result<Option<(Revised<Bytes>, Timestamp)>, BucketError> {
    let last = last(store, key).await?;
    Ok(last
        .filter(|last| is_value(Some(&last.headers), &last.payload))
        .map(|last| {
            let stored = Revised {
                value: last.payload,
                revision: last.sequence,
            };
            (stored, last.time.into())
        }))
}

/// Reads from the leader. The client's `Store` reads from any replica, which may still hold a lock that was just released.
async fn last(store: &kv::Store, key: &str) -> Result<Option<StreamMessage>, BucketError> {
    let subject = format!("{}{key}", store.prefix);
    let last = last_message(&store.stream, &subject).await;
    last.map_err(|error| unavailable(key, &error))
}

/// Whether a message is a value. The tombstone that the server writes for an expired key has neither operation nor content.
fn is_value(headers: Option<&HeaderMap>, payload: &Bytes) -> bool {
    !payload.is_empty() && headers.is_none_or(|headers| headers.get(OPERATION).is_none())
}

/// The error of a conditional write.
///
/// A cluster rejects a write that conflicts with one in progress by a code of its own, which the client does not treat as a conflict.
fn not_changed(key: &str, error: &(dyn std::error::Error + 'static)) -> BucketError {
    let mut causes = std::iter::successors(Some(error), |error| error.source());
    let codes = [
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE,
        ErrorCode::STREAM_WRONG_LAST_SEQUENCE_CONSTANT,
    ];
    let is_conflict = causes.any(|error| {
        let refusal = error.downcast_ref::<jetstream::Error>();
        refusal.is_some_and(|refusal| codes.contains(&refusal.error_code()))
    });
    if is_conflict {
        BucketError::Conflict { key: key.to_owned() }
    } else {
        unavailable(key, error)
    }
}

fn unavailable(key: &str, error: &dyn std::error::Error) -> BucketError {
    let source = error.source().map(|source| format!(" ({source})")).unwrap_or_default();
    BucketError::Unavailable {
        key: key.to_owned(),
        reason: format!("{error}{source}"),
    }
}
