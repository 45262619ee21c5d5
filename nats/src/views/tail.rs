//! Following a stream or a bucket by asking: what is there, then whatever has come since the last question.
//!
//! For onlookers, who need no word the moment it is said. Nothing is pushed, so nothing can overflow, be lost on the way or
//! be left behind on the server; after an outage the next question goes on where the last answer ended. A change that was
//! overwritten between two questions is not seen, only what it was overwritten with.

use std::fmt;

use async_nats::Client;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::buckets::active_calls::{self, CALL_KEYS, CallChange};
use crate::buckets::fleet::{self, FleetChange};
use crate::buckets::leases::{self, LeaseChange};
use crate::jetstream::bucket::{BucketError, Change, Revised};
use crate::jetstream::connection::Nats;
use crate::jetstream::direct_reader::{API_PREFIX, DirectReader, MAX_ANSWER, Query, ReadError, Stored};
use crate::jetstream::storage::{ACTIVE_CALLS, BILLING_LEASES, CALLS, MEDIA_WORKERS};
use crate::views::history::Recorded;
use crate::wire::subject;

/// Answers that one question may take; more are for the next.
const MAX_ANSWERS: usize = 64;
/// Of every key.
const ALL_KEYS: &str = ">";
/// Header of a deletion or purge in a bucket.
const KV_OPERATION: &str = "KV-Operation";

/// A change in a bucket; one entry that cannot be read stops nothing.
pub type BucketChange<T> = Result<T, BucketError>;

/// Follows one stream.
pub struct Tail<T> {
    reader: DirectReader,
    filter: String,
    read: fn(Stored) -> Option<T>,
    next: u64,
    behind: bool,
}

impl<T> Tail<T> {
    fn new(reader: DirectReader, filter: String, next: u64, read: fn(Stored) -> Option<T>) -> Self {
        Self {
            reader,
            filter,
            read,
            next,
            behind: true,
        }
    }

    /// What there is, the first time; later what has come since. On an error nothing is skipped: ask again.
    ///
    /// # Errors
    /// [`ReadError`]
    pub async fn poll(&mut self) -> Result<Vec<T>, ReadError> {
        let (mut news, mut next) = (Vec::new(), self.next);
        for _ in 0..MAX_ANSWERS {
            let query = Query {
                seq: Some(next.max(1)),
                next_by_subj: Some(self.filter.clone()),
                batch: Some(MAX_ANSWER),
                ..Query::default()
            };
            let answer = self.reader.ask(&query).await?;
            next = answer.messages.last().map_or(next, |last| last.sequence + 1);
            // An answer without messages says that there are none, whatever else it says.
            self.behind = answer.more && !answer.messages.is_empty();
            news.extend(answer.messages.into_iter().filter_map(self.read));
            if !self.behind {
                break;
            }
        }
        self.next = next;
        Ok(news)
    }

    /// The last answer was not all there is.
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

/// The same for somebody who finds JetStream elsewhere; see [`History::with_prefix`](crate::views::history::History::with_prefix).
pub fn facts_at(client: Client, api_prefix: &str, after: u64) -> Tail<Recorded> {
    let read = |message| Some(Recorded::from_stored(message));
    let reader = DirectReader::new(client, api_prefix, CALLS);
    Tail::new(reader, subject::ALL_FACTS.to_owned(), after + 1, read)
}

/// The calls that are not over.
pub fn active_calls(nats: &Nats) -> Tail<BucketChange<CallChange>> {
    active_calls_at(nats.client.clone(), API_PREFIX)
}

/// The same for somebody who finds JetStream elsewhere.
pub fn active_calls_at(client: Client, api_prefix: &str) -> Tail<BucketChange<CallChange>> {
    bucket(client, api_prefix, ACTIVE_CALLS, CALL_KEYS, |message| {
        changed(ACTIVE_CALLS, message, |key, change| {
            active_calls::read(key, change).map(Ok)
        })
    })
}

/// The media-workers.
pub fn workers(nats: &Nats) -> Tail<BucketChange<FleetChange>> {
    bucket(nats.client.clone(), API_PREFIX, MEDIA_WORKERS, ALL_KEYS, |message| {
        changed(MEDIA_WORKERS, message, |key, change| fleet::read(key, change).map(Ok))
    })
}

/// The billing-timers and what they hold.
pub fn leases(nats: &Nats) -> Tail<BucketChange<LeaseChange>> {
    bucket(nats.client.clone(), API_PREFIX, BILLING_LEASES, ALL_KEYS, |message| {
        changed::<Value, _>(BILLING_LEASES, message, leases::read)
    })
}

fn bucket<T>(client: Client, api_prefix: &str, name: &str, keys: &str, read: fn(Stored) -> Option<T>) -> Tail<T> {
    let reader = DirectReader::new(client, api_prefix, &format!("KV_{name}"));
    Tail::new(reader, format!("$KV.{name}.{keys}"), 1, read)
}

fn changed<V: DeserializeOwned, T>(
    bucket: &str,
    message: Stored,
    read: impl FnOnce(&str, Change<V>) -> Option<BucketChange<T>>,
) -> Option<BucketChange<T>> {
    let key = message
        .subject
        .strip_prefix("$KV.")?
        .strip_prefix(bucket)?
        .strip_prefix('.')?;
    // The marker that the server writes for an expired key has no operation header, and no value.
    if message.payload.is_empty() || message.headers.get(KV_OPERATION).is_some() {
        return read(key, Change::Gone);
    }
    match serde_json::from_slice(&message.payload) {
        Ok(value) => {
            let revision = message.sequence;
            read(key, Change::Put(Revised { value, revision }))
        }
        Err(error) => Some(Err(BucketError::Unreadable {
            key: key.to_owned(),
            error,
        })),
    }
}
