//! A key-value bucket: revisions, delete markers, keys that expire, watchers.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use bytes::Bytes;
use contract::Timestamp;
use contract::jetstream::bucket::{BucketError, Change, Revised};
use contract::jetstream::key_value::{Attempt, Changes, KeyValue};
use contract::jetstream::storage::MARKER_TTL;
use futures::{FutureExt, StreamExt};

use super::{BucketName, ServerBug};
use crate::core::Core;
use crate::core::network::{Inbox, LATEST, NoAnswer, Sender};
use crate::time::micros;

const TIMEOUT: Duration = Duration::from_secs(2);
/// The longest lag of a replica.
const MAX_LAG: Duration = Duration::from_millis(200);

type Notification = Result<(String, Change<Bytes>), BucketError>;

#[derive(Debug, Default)]
pub(crate) struct Bucket {
    revision: u64,
    keys: BTreeMap<String, Key>,
    watchers: Vec<Watcher>,
}

#[derive(Debug)]
struct Key {
    revision: u64,
    /// None for a marker.
    value: Option<Bytes>,
    at: Timestamp,
    /// The previous value, and the time at which it was replaced.
    before: Option<(u64, Option<Revised<Bytes>>)>,
}

#[derive(Debug)]
struct Watcher {
    id: u64,
    host: usize,
    inbox: Inbox<Notification>,
    /// It has missed a change and delivers nothing more.
    has_gap: bool,
    /// When its last change arrives: changes arrive in order.
    last: u64,
}

impl Bucket {
    pub(crate) fn open_keys(&self) -> impl Iterator<Item = (&str, &Bytes)> {
        let keys = self.keys.iter();
        keys.filter_map(|(key, entry)| Some((key.as_str(), entry.value.as_ref()?)))
    }

    pub(crate) fn has(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(|key| key.value.is_some())
    }

    pub(crate) fn mark_gap(&mut self, host: usize) {
        let watchers = self.watchers.iter_mut().filter(|watcher| watcher.host == host);
        watchers.for_each(|watcher| watcher.has_gap = true);
    }

    pub(crate) fn forget(&mut self, host: usize) {
        self.watchers.retain(|watcher| watcher.host != host);
    }

    /// Ends the streams of one host's watchers.
    pub(crate) fn end_watchers(&mut self, host: usize) {
        for watcher in self.watchers.iter_mut().filter(|watcher| watcher.host == host) {
            watcher.has_gap = true;
            watcher.inbox.end();
        }
    }

    fn current(&self, key: &str) -> Option<Revised<Bytes>> {
        let Key { revision, value, .. } = self.keys.get(key)?;
        value.clone().map(|value| Revised {
            value,
            revision: *revision,
        })
    }
}

impl Core {
    fn write(&mut self, which: BucketName, key: &str, value: Option<Bytes>) -> u64 {
        let (now, at) = (self.now, self.true_time());
        let bucket = self.server.bucket(which);
        bucket.revision += 1;
        let (revision, before) = (bucket.revision, bucket.current(key));
        let entry = Key {
            revision,
            value: value.clone(),
            at,
            before: Some((now, before)),
        };
        bucket.keys.insert(key.to_owned(), entry);
        let text = (key.to_owned(), value.is_some());
        self.note("written", revision, || {
            format!(
                "{which:?} {} at {revision}{}",
                text.0,
                if text.1 { "" } else { ": gone" }
            )
        });
        if value.is_none() {
            let key = key.to_owned();
            self.run_after(MARKER_TTL, move |core| {
                let keys = &mut core.server.bucket(which).keys;
                if keys.get(&key).is_some_and(|marker| marker.revision == revision) {
                    keys.remove(&key);
                }
            });
        }
        let change = match value {
            Some(value) => Change::Put(Revised { value, revision }, at),
            None => Change::Gone,
        };
        for index in 0..self.server.bucket(which).watchers.len() {
            self.notify(which, index, key.to_owned(), change.clone());
        }
        revision
    }

    fn notify(&mut self, which: BucketName, index: usize, key: String, change: Change<Bytes>) {
        let mut latency = self.latency();
        if self.rng.per_mille(self.plan.network_conditions.disturbed) {
            latency = self.rng.span(Duration::from_millis(10), LATEST);
        }
        let arrives = self.now + micros(latency);
        let watcher = &mut self.server.bucket(which).watchers[index];
        if watcher.has_gap {
            return;
        }
        let (id, host, inbox) = (watcher.id, watcher.host, watcher.inbox.clone());
        watcher.last = arrives.max(watcher.last);
        let arrives = watcher.last;
        self.run_at(arrives, move |core| {
            let is_up = core.hosts[host].is_up();
            let mut watchers = core.server.bucket(which).watchers.iter_mut();
            match watchers.find(|watcher| watcher.id == id) {
                Some(watcher) if !is_up => watcher.has_gap = true,
                Some(watcher) if !watcher.has_gap => inbox.push(Ok((key, change))),
                _ => {}
            }
        });
    }

    fn expire(&mut self, which: BucketName, key: &str, revision: u64) {
        let current = self.server.bucket(which).current(key);
        if current.is_some_and(|current| current.revision == revision) {
            self.write(which, key, None);
        }
    }

    /// Writes if the key has the expected revision; none means that the key must not exist.
    fn compare_and_set(
        &mut self,
        which: BucketName,
        key: &str,
        value: Option<Bytes>,
        expected: Option<u64>,
    ) -> Option<u64> {
        let current = self.server.bucket(which).current(key).map(|current| current.revision);
        (current == expected).then(|| self.write(which, key, value))
    }
}

/// A bucket as the client of an instance.
#[derive(Debug)]
pub(crate) struct SimulatedKeys {
    pub(crate) sender: Sender,
    pub(crate) which: BucketName,
}

impl SimulatedKeys {
    async fn request<R: Send + 'static>(
        &self,
        what: &'static str,
        key: &str,
        effect: impl FnOnce(&mut Core, BucketName, &str) -> R + Send + 'static,
    ) -> Result<R, BucketError> {
        let (which, owned) = (self.which, key.to_owned());
        let answer = self
            .sender
            .request(what, TIMEOUT, move |core| effect(core, which, &owned));
        answer.await.map_err(|no_answer| unavailable(key, no_answer))
    }

    async fn set(
        &self,
        what: &'static str,
        key: &str,
        value: Option<Bytes>,
        expected: Option<u64>,
    ) -> Result<u64, BucketError> {
        let set = move |core: &mut Core, which, key: &str| core.compare_and_set(which, key, value, expected);
        let written = self.request(what, key, set).await?;
        written.ok_or_else(|| BucketError::Conflict { key: key.to_owned() })
    }
}

fn unavailable(key: &str, no_answer: NoAnswer) -> BucketError {
    BucketError::Unavailable {
        key: key.to_owned(),
        reason: format!("{no_answer:?}"),
    }
}

impl KeyValue for SimulatedKeys {
    fn get<'a>(&'a self, key: &'a str) -> Attempt<'a, Option<Revised<Bytes>>> {
        let get = |core: &mut Core, which: BucketName, key: &str| {
            let stale = core.plan.replicas && core.rng.per_mille(200);
            let after = core.now.saturating_sub(micros(MAX_LAG));
            let bucket = core.server.bucket(which);
            match bucket.keys.get(key).and_then(|key| key.before.clone()) {
                Some((changed, before)) if stale && changed > after => before,
                _ => bucket.current(key),
            }
        };
        self.request("a key's value", key, get).boxed()
    }

    fn get_many(&self, keys: Vec<String>) -> Attempt<'_, HashMap<String, Revised<Option<Bytes>>>> {
        let get_many = move |core: &mut Core, which: BucketName, _: &str| {
            let stale = core.plan.replicas && core.rng.per_mille(200);
            let after = core.now.saturating_sub(micros(MAX_LAG));
            let bucket = core.server.bucket(which);
            let found = keys.into_iter().filter_map(|name| {
                let key = bucket.keys.get(&name)?;
                let current = Revised {
                    value: key.value.clone(),
                    revision: key.revision,
                };
                match &key.before {
                    Some((changed, before)) if stale && *changed > after => {
                        let before = before.clone()?;
                        let value = Some(before.value);
                        Some((
                            name,
                            Revised {
                                value,
                                revision: before.revision,
                            },
                        ))
                    }
                    _ => Some((name, current)),
                }
            });
            found.collect()
        };
        self.request("the values of several keys", "several keys", get_many)
            .boxed()
    }

    fn write_many(&self, entries: Vec<(String, Revised<Option<Bytes>>)>) -> Attempt<'_, ()> {
        let write = move |core: &mut Core, which: BucketName, _: &str| {
            let bucket = core.server.bucket(which);
            let holds = |(key, entry): &(String, Revised<Option<Bytes>>)| {
                bucket.keys.get(key).map_or(0, |key| key.revision) == entry.revision
            };
            let all_hold = entries.iter().all(holds);
            if all_hold {
                for (key, entry) in entries {
                    core.write(which, &key, entry.value);
                }
            }
            all_hold
        };
        async move {
            let key = "several keys".to_owned();
            match self.request("a batch of keys", "several keys", write).await? {
                true => Ok(()),
                false => Err(BucketError::Conflict { key }),
            }
        }
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a str, value: Bytes) -> Attempt<'a, u64> {
        self.set("a new key", key, Some(value), None).boxed()
    }

    fn put_for<'a>(&'a self, key: &'a str, value: Bytes, ttl: Duration) -> Attempt<'a, u64> {
        let put = move |core: &mut Core, which: BucketName, key: &str| {
            let revision = core.write(which, key, Some(value));
            let late = Duration::from_millis(core.rng.below(1_000));
            let key = key.to_owned();
            if core.server.bug != Some(ServerBug::NoExpiry) {
                core.run_after(ttl + late, move |core| core.expire(which, &key, revision));
            }
            revision
        };
        self.request("a key that expires", key, put).boxed()
    }

    fn update<'a>(&'a self, key: &'a str, value: Bytes, revision: u64) -> Attempt<'a, u64> {
        self.set("a change of a key", key, Some(value), Some(revision)).boxed()
    }

    fn remove<'a>(&'a self, key: &'a str, revision: u64) -> Attempt<'a, ()> {
        let removed = self.set("a removal", key, None, Some(revision));
        async move { removed.await.map(|_| ()) }.boxed()
    }

    fn clear<'a>(&'a self, key: &'a str) -> Attempt<'a, ()> {
        let clear = |core: &mut Core, which: BucketName, key: &str| {
            core.write(which, key, None);
        };
        self.request("a removal", key, clear).boxed()
    }

    fn probe<'a>(&'a self, key: &'a str, _bytes: usize) -> Attempt<'a, ()> {
        self.clear(key)
    }

    fn watch<'a>(&'a self, pattern: &'a str) -> Attempt<'a, Changes> {
        let inbox = Inbox::default();
        let (sender_inbox, host) = (inbox.clone(), self.sender.host);
        let watch = move |core: &mut Core, which: BucketName, _: &str| {
            let id = core.server.next_subscription();
            let last = core.now;
            let bucket = core.server.bucket(which);
            let index = bucket.watchers.len();
            bucket.watchers.push(Watcher {
                id,
                host,
                inbox: sender_inbox,
                has_gap: false,
                last,
            });
            // In the order in which they were written.
            let mut keys: Vec<(u64, String, Change<Bytes>)> = bucket
                .keys
                .iter()
                .map(|(name, key)| {
                    let put = |value| Change::Put(value, key.at);
                    let change = bucket.current(name).map_or(Change::Gone, put);
                    (key.revision, name.clone(), change)
                })
                .collect();
            keys.sort_by_key(|(revision, ..)| *revision);
            for (_, key, change) in keys {
                core.notify(which, index, key, change);
            }
        };
        async move {
            self.request("a watcher", pattern, watch).await?;
            Ok(inbox.boxed())
        }
        .boxed()
    }
}
