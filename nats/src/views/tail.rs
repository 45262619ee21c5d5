//! Polls a stream or a bucket: first its content, then what was stored since the last poll.
//!
//! For observers that tolerate a delay. Nothing is pushed, so nothing can overflow, be lost or be left on the server. After an
//! outage, the next poll continues where the last one ended. In a bucket, a value that was overwritten between two polls is not
//! seen.

use std::fmt;

use async_nats::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::buckets::active_calls::{self, CALL_KEYS, CallChange};
use crate::buckets::billing_leases::{self, LeaseChange};
use crate::buckets::media_workers::{self, WorkerChange};
use crate::jetstream::bucket::{BucketError, Change, Revised};
use crate::jetstream::connection::{API_PREFIX, Nats};
use crate::jetstream::direct_reader::{DirectMessage, DirectReader, MAX_ANSWER, ReadError, Request, Start};
use crate::jetstream::storage::{ACTIVE_CALLS, BILLING_LEASES, CALLS, MEDIA_WORKERS};
use crate::views::history::Recorded;
use crate::wire::subject;

/// The most answers that one poll reads.
const MAX_ANSWERS: usize = 64;
/// Filter of all keys.
const ALL_KEYS: &str = ">";
/// Header of a deletion or purge.
const KV_OPERATION: &str = "KV-Operation";

/// A change in a bucket, or an entry that was not decoded.
pub type BucketChange<T> = Result<T, BucketError>;

/// Polls one stream.
pub struct Tail<T> {
    reader: DirectReader,
    filter: String,
    read: fn(DirectMessage) -> Option<T>,
    next: u64,
    behind: bool,
}

impl<T> Tail<T> {
    fn new(reader: DirectReader, filter: String, next: u64, read: fn(DirectMessage) -> Option<T>) -> Self {
        Self {
            reader,
            filter,
            read,
            next,
            behind: true,
        }
    }

    /// What was stored since the last poll, or everything. After an error, the next poll repeats this one.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn poll(&mut self) -> Result<Vec<T>, ReadError> {
        let (mut new, mut next) = (Vec::new(), self.next);
        for _ in 0..MAX_ANSWERS {
            let request = Request::page(&self.filter, Start::Sequence(next), MAX_ANSWER);
            let answer = self.reader.ask(&request).await?;
            next = answer.messages.last().map_or(next, |last| last.sequence + 1);
            // An answer without messages is the end, whatever its `more`.
            self.behind = answer.more && !answer.messages.is_empty();
            new.extend(answer.messages.into_iter().filter_map(self.read));
            if !self.behind {
                break;
            }
        }
        self.next = next;
        Ok(new)
    }

    /// More messages are stored than were read.
    pub fn is_behind(&self) -> bool {
        self.behind
    }
}

impl<T> fmt::Debug for Tail<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tail")
            .field("filter", &self.filter)
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}

/// All facts after a sequence; see [`History::last_sequence`](crate::views::history::History::last_sequence).
pub fn facts(nats: &Nats, after: u64) -> Tail<Recorded> {
    facts_at(nats.client.clone(), API_PREFIX, after)
}

/// Like [`facts`], with another prefix; see [`History::with_prefix`](crate::views::history::History::with_prefix).
pub fn facts_at(client: Client, api_prefix: &str, after: u64) -> Tail<Recorded> {
    let read = |message| Some(Recorded::from_stored(message));
    let reader = DirectReader::new(client, api_prefix, CALLS);
    Tail::new(reader, subject::ALL_FACTS.to_owned(), after + 1, read)
}

/// The calls that have not ended.
pub fn active_calls(nats: &Nats) -> Tail<BucketChange<CallChange>> {
    active_calls_at(nats.client.clone(), API_PREFIX)
}

/// Like [`active_calls`], with another prefix.
pub fn active_calls_at(client: Client, api_prefix: &str) -> Tail<BucketChange<CallChange>> {
    bucket(client, api_prefix, ACTIVE_CALLS, CALL_KEYS, |message| {
        changed(ACTIVE_CALLS, message, |key, change| {
            active_calls::read(key, change).map(Ok)
        })
    })
}

/// The media-workers.
pub fn workers(nats: &Nats) -> Tail<BucketChange<WorkerChange>> {
    workers_at(nats.client.clone(), API_PREFIX)
}

/// Like [`workers`], with another prefix.
pub fn workers_at(client: Client, api_prefix: &str) -> Tail<BucketChange<WorkerChange>> {
    bucket(client, api_prefix, MEDIA_WORKERS, ALL_KEYS, |message| {
        changed(MEDIA_WORKERS, message, |key, change| {
            media_workers::read(key, change).map(Ok)
        })
    })
}

/// The billing-timers and their leases.
pub fn leases(nats: &Nats) -> Tail<BucketChange<LeaseChange>> {
    bucket(nats.client.clone(), API_PREFIX, BILLING_LEASES, ALL_KEYS, |message| {
        changed::<Value, _>(BILLING_LEASES, message, |key, change| {
            billing_leases::read(key, change).map(Ok)
        })
    })
}

fn bucket<T>(
    client: Client,
    api_prefix: &str,
    name: &str,
    keys: &str,
    read: fn(DirectMessage) -> Option<T>,
) -> Tail<T> {
    let reader = DirectReader::new(client, api_prefix, &format!("KV_{name}"));
    Tail::new(reader, format!("$KV.{name}.{keys}"), 1, read)
}

fn changed<V: DeserializeOwned, T>(
    bucket: &str,
    message: DirectMessage,
    read: impl FnOnce(&str, Change<V>) -> Option<BucketChange<T>>,
) -> Option<BucketChange<T>> {
    let key = message
        .subject
        .strip_prefix("$KV.")?
        .strip_prefix(bucket)?
        .strip_prefix('.')?;
    // The server's marker of an expired key has no operation header and no value.
    if message.payload.is_empty() || message.headers.get(KV_OPERATION).is_some() {
        return read(key, Change::Gone);
    }
    match serde_json::from_slice(&message.payload) {
        Ok(value) => {
            let revision = message.sequence;
            read(key, Change::Put(Revised { value, revision }, message.stored_at))
        }
        Err(error) => Some(Err(BucketError::Unreadable {
            key: key.to_owned(),
            revision: Some(message.sequence),
            error,
        })),
    }
}
