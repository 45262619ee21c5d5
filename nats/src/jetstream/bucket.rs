//! A key-value bucket with JSON values, on which the typed buckets are built.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use crate::jetstream::key_value::{Batches, JetStreamKeys, KeyValue};
use async_nats::Client;
use async_nats::jetstream::{self, kv};
use bytes::Bytes;
use futures::{Stream, StreamExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use crate::jetstream::key_value::{BucketError, Change, Revised};

#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    keys: Arc<dyn KeyValue>,
}

impl Bucket {
    pub(crate) fn new(store: kv::Store) -> Self {
        Self::with_port(Arc::new(JetStreamKeys {
            store,
            jetstream: None,
            batches: None,
        }))
    }

    /// For [`Bucket::put_for`].
    pub(crate) fn expiring(jetstream: jetstream::Context, store: kv::Store) -> Self {
        let jetstream = Some(jetstream);
        Self::with_port(Arc::new(JetStreamKeys {
            store,
            jetstream,
            batches: None,
        }))
    }

    /// For [`Bucket::get_many`], [`Bucket::write_many`], [`Bucket::remove_many`] and [`Bucket::probe`].
    pub(crate) fn with_batches(client: Client, store: kv::Store) -> Self {
        let jetstream = Some(jetstream::new(client.clone()));
        let batches = Some(Batches::new(client, &store));
        Self::with_port(Arc::new(JetStreamKeys {
            store,
            jetstream,
            batches,
        }))
    }

    pub(crate) fn with_port(keys: Arc<dyn KeyValue>) -> Self {
        Self { keys }
    }

    pub(crate) async fn get<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Revised<T>>, BucketError> {
        let Some(Revised { value, revision }) = self.keys.get(key).await? else {
            return Ok(None);
        };
        let value = decode(key, &value, revision)?;
        Ok(Some(Revised { value, revision }))
    }

    /// Like [`Bucket::get`], but without the value of an entry that cannot be read. Buckets are derived: such an entry is
    /// overwritten.
    pub(crate) async fn find<T: DeserializeOwned>(&self, key: &str) -> Result<Option<Revised<Option<T>>>, BucketError> {
        let found = self.keys.get(key).await?;
        Ok(found.map(|Revised { value, revision }| Revised {
            value: readable(decode(key, &value, revision)),
            revision,
        }))
    }

    /// See [`KeyValue::get_many`]. Without the values of entries that cannot be read, like [`Bucket::find`].
    pub(crate) async fn get_many<T: DeserializeOwned>(
        &self,
        keys: Vec<String>,
    ) -> Result<HashMap<String, Revised<Option<T>>>, BucketError> {
        let found = self.keys.get_many(keys).await?.into_iter();
        let read = found.map(|(key, Revised { value, revision })| {
            let value = value.and_then(|value| readable(decode(&key, &value, revision)));
            (key, Revised { value, revision })
        });
        Ok(read.collect())
    }

    /// See [`KeyValue::write_many`].
    pub(crate) async fn write_many<'a, T: Serialize + 'a>(
        &self,
        entries: impl Iterator<Item = (&'a str, Revised<&'a T>)>,
    ) -> Result<(), BucketError> {
        let entries = entries.map(|(key, Revised { value, revision })| {
            let value = Some(encode(key, value)?);
            Ok((key.to_owned(), Revised { value, revision }))
        });
        self.keys.write_many(entries.collect::<Result<_, _>>()?).await
    }

    /// Purges all keys or none, as [`Bucket::remove`] does one.
    pub(crate) async fn remove_many<'a>(&self, keys: impl Iterator<Item = (&'a str, u64)>) -> Result<(), BucketError> {
        let removals = keys.map(|(key, revision)| {
            let value = None;
            (key.to_owned(), Revised { value, revision })
        });
        self.keys.write_many(removals.collect()).await
    }

    pub(crate) async fn create<T: Serialize>(&self, key: &str, value: &T) -> Result<u64, BucketError> {
        self.keys.create(key, encode(key, value)?).await
    }

    /// The key expires unless it is put again within `ttl`; the server counts whole seconds.
    pub(crate) async fn put_for<T: Serialize>(&self, key: &str, value: &T, ttl: Duration) -> Result<u64, BucketError> {
        self.keys.put_for(key, encode(key, value)?, ttl).await
    }

    /// Purges the key, leaving a tombstone, which expires.
    pub(crate) async fn clear(&self, key: &str) -> Result<(), BucketError> {
        self.keys.clear(key).await
    }

    pub(crate) async fn update<T: Serialize>(&self, key: &str, value: &T, revision: u64) -> Result<u64, BucketError> {
        self.keys.update(key, encode(key, value)?, revision).await
    }

    /// Purges the key if its revision matches, leaving a tombstone, which expires.
    pub(crate) async fn remove(&self, key: &str, revision: u64) -> Result<(), BucketError> {
        self.keys.remove(key, revision).await
    }

    /// See [`KeyValue::probe`].
    pub(crate) async fn probe(&self, key: &str, bytes: usize) -> Result<(), BucketError> {
        self.keys.probe(key, bytes).await
    }

    /// All keys that match `pattern`, then every change. The stream ends when the watch is lost: watch again.
    pub(crate) async fn watch<T: DeserializeOwned>(
        &self,
        pattern: &str,
    ) -> Result<impl Stream<Item = Result<(String, Change<T>), BucketError>> + use<T>, BucketError> {
        let changes = self.keys.watch(pattern).await?;
        Ok(changes.map(|change| {
            let (key, change) = change?;
            let change = match change {
                Change::Put(Revised { value, revision }, stored_at) => {
                    let value = decode(&key, &value, revision)?;
                    Change::Put(Revised { value, revision }, stored_at)
                }
                Change::Gone => Change::Gone,
            };
            Ok((key, change))
        }))
    }
}

fn encode<T: Serialize>(key: &str, value: &T) -> Result<Bytes, BucketError> {
    serde_json::to_vec(value)
        .map(Bytes::from)
        .map_err(|error| BucketError::Unreadable {
            key: key.to_owned(),
            revision: None,
            error,
        })
}

pub(crate) fn decode<T: DeserializeOwned>(key: &str, value: &[u8], revision: u64) -> Result<T, BucketError> {
    serde_json::from_slice(value).map_err(|error| BucketError::Unreadable {
        key: key.to_owned(),
        revision: Some(revision),
        error,
    })
}

/// The value, if it can be read; a warning otherwise.
pub(crate) fn readable<T>(decoded: Result<T, BucketError>) -> Option<T> {
    let log = |error: &BucketError| tracing::warn!(%error, "bucket entry not decoded, it counts as absent: check its writer's version");
    decoded.inspect_err(log).ok()
}
