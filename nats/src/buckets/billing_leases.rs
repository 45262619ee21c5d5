//! Bucket `billing_leases`: the live billing-timers, and the partitions that each ticks.
//!
//! Calls fall into [`PARTITIONS`] by a hash of their ID. The key of a partition names the instance that ticks its calls. The lease
//! is valid while the instance has a key of its own, which expires unless it is renewed. One small write therefore renews all
//! leases of an instance, and its death releases them all.
//!
//! Two instances that both believe to hold a partition are harmless: expected sequences let one tick through. A lease is
//! therefore not a lock, and changes need no handshake.

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::jetstream::bucket::{Bucket, BucketError, Change, Revised};
use crate::jetstream::clock::{Clock, SystemClock};
use crate::jetstream::connection::{API_PREFIX, Nats};
use crate::jetstream::direct_reader::{DirectReader, ReadError, Request};
use crate::jetstream::key_value::KeyValue;
use crate::jetstream::storage::{BILLING_LEASES, Storage};
use crate::wire::id::{CallId, NodeId};
use crate::wire::time::Timestamp;

/// Number of partitions.
pub const PARTITIONS: u8 = 64;

/// A group of calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Partition(u8);

impl Partition {
    /// The partition of a call, the same in all versions: FNV-1a (64 bits), its halves folded.
    pub fn of(call: &CallId) -> Self {
        let hash = fnv_1a(call.as_str().as_bytes());
        let folded = (hash >> 32) ^ hash;
        Self(u8::try_from(folded % u64::from(PARTITIONS)).unwrap_or_default())
    }

    /// Its number, below [`PARTITIONS`].
    pub fn number(self) -> u8 {
        self.0
    }

    /// The partition of this number, if there is one.
    pub fn numbered(number: u8) -> Option<Self> {
        (number < PARTITIONS).then_some(Self(number))
    }

    /// All of them, in order.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        (0..PARTITIONS).map(Self)
    }
}

/// draft-eastlake-fnv: the standard library promises no hash that stays the same.
fn fnv_1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// The heartbeat of an instance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Instance {
    /// The billing-timer that sends the heartbeat.
    pub instance_id: NodeId,
    /// Time of the heartbeat, by the instance's clock.
    pub at: Timestamp,
    /// The process that runs under this ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Process>,
    /// Whether it can write to `billing_active`: otherwise calls that begin have no minutes until it can. Absent if it can, or in
    /// heartbeats of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub can_bill: Option<bool>,
}

/// A process that uses an instance ID. Of several with one ID, the first continues.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// Its start, by its clock.
    pub started_at: Timestamp,
    /// Random: two may start in the same millisecond.
    pub nonce: u32,
}

impl Process {
    /// A process that starts at this time.
    pub fn new(started_at: Timestamp) -> Self {
        let nonce = rand::random();
        Self { started_at, nonce }
    }
}

/// The holder of a partition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Lease {
    /// The billing-timer that holds the partition.
    pub instance_id: NodeId,
    /// Start of the lease, by the clock of its writer.
    pub since: Timestamp,
}

/// A change of the leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LeaseChange {
    /// A heartbeat of an instance, with its revision and the process.
    Alive(NodeId, u64, Option<Process>),
    /// The instance stopped, or its key expired.
    Gone(NodeId),
    /// The partition has a holder.
    Held(Partition, Revised<Lease>),
    /// The partition has no holder.
    Vacant(Partition),
    /// The partition's value, of this revision, names no holder.
    Unreadable(Partition, u64),
}

/// The bucket.
#[derive(Debug, Clone)]
pub struct Leases {
    bucket: Bucket,
    clock: Arc<dyn Clock>,
}

const INSTANCE: &str = "instance.";
const PARTITION: &str = "partition.";

impl Leases {
    /// Opens the bucket.
    pub fn new(nats: &Nats, storage: &Storage) -> Self {
        Self {
            bucket: Bucket::expiring(nats.jetstream.clone(), storage.billing_leases.clone()),
            clock: Arc::new(SystemClock),
        }
    }

    /// Uses another implementation of bucket and clock, such as simulated ones.
    pub fn with_port(keys: Arc<dyn KeyValue>, clock: Arc<dyn Clock>) -> Self {
        Self {
            bucket: Bucket::with_port(keys),
            clock,
        }
    }

    /// Stores a heartbeat, valid for `ttl`. The server counts whole seconds, so `ttl` is rounded up.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn put_heartbeat(
        &self,
        instance: &NodeId,
        process: &Process,
        can_bill: bool,
        ttl: Duration,
    ) -> Result<u64, BucketError> {
        let key = format!("{INSTANCE}{instance}");
        let value = Instance {
            instance_id: instance.clone(),
            at: self.clock.now(),
            process: Some(process.clone()),
            can_bill: (!can_bill).then_some(false),
        };
        let ttl = Duration::from_secs(ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0));
        self.bucket.put_for(&key, &value, ttl).await
    }

    /// Removes the key of an instance that stops, which releases its partitions immediately.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn withdraw(&self, instance: &NodeId) -> Result<(), BucketError> {
        self.bucket.clear(&format!("{INSTANCE}{instance}")).await
    }

    /// Assigns a partition to an instance if its key still has this revision (`None`: no value).
    ///
    /// # Errors
    /// [`BucketError::Conflict`] if another instance was faster.
    pub async fn assign(
        &self,
        partition: Partition,
        instance: &NodeId,
        revision: Option<u64>,
    ) -> Result<Revised<Lease>, BucketError> {
        let key = format!("{PARTITION}{}", partition.number());
        let value = Lease {
            instance_id: instance.clone(),
            since: self.clock.now(),
        };
        let revision = match revision {
            Some(revision) => self.bucket.update(&key, &value, revision).await?,
            None => self.bucket.create(&key, &value).await?,
        };
        Ok(Revised { value, revision })
    }

    /// All instances and leases, then every change. Ends when the watch is lost: watch again.
    ///
    /// # Errors
    /// [`BucketError::Unavailable`]
    pub async fn watch(&self) -> Result<impl Stream<Item = Result<LeaseChange, BucketError>> + use<>, BucketError> {
        let changes = self.bucket.watch::<Value>(">").await?;
        Ok(changes.filter_map(async |change| match change {
            Ok((key, change)) => read(&key, change).map(Ok),
            Err(BucketError::Unreadable {
                key,
                revision: Some(revision),
                ..
            }) => Some(Ok(LeaseChange::Unreadable(partition(&key)?, revision))),
            Err(error) => Some(Err(error)),
        }))
    }
}

/// The revision of the latest heartbeat of any instance that can bill, by any replica. It grows as long as such an instance lives and
/// the bucket accepts writes: heartbeats of a bucket that accepts none do not expire either.
///
/// # Errors
/// [`ReadError`]
pub async fn latest_heartbeat(nats: &Nats) -> Result<Option<u64>, ReadError> {
    let reader = DirectReader::new(nats.client.clone(), API_PREFIX, &format!("KV_{BILLING_LEASES}"));
    let request = Request {
        multi_last: vec![format!("$KV.{BILLING_LEASES}.{INSTANCE}*")],
        ..Request::default()
    };
    let answer = reader.ask(&request).await?;
    // A tombstone has no content.
    let heartbeats = answer.messages.iter().filter(|message| {
        let heartbeat = serde_json::from_slice::<Value>(&message.payload).unwrap_or_default();
        heartbeat.is_object() && heartbeat.get("canBill") != Some(&Value::Bool(false))
    });
    Ok(heartbeats.map(|message| message.sequence).max())
}

/// `None` for a key that this version does not know.
pub(crate) fn read(key: &str, change: Change<Value>) -> Option<LeaseChange> {
    if let Some(instance) = key.strip_prefix(INSTANCE) {
        let instance = instance.parse().ok()?;
        return Some(match change {
            Change::Put(entry, _) => {
                let process = entry.value.get("process").cloned();
                let process = process.and_then(|process| serde_json::from_value(process).ok());
                LeaseChange::Alive(instance, entry.revision, process)
            }
            Change::Gone => LeaseChange::Gone(instance),
        });
    }
    let partition = partition(key)?;
    Some(match change {
        Change::Put(Revised { value, revision }, _) => match serde_json::from_value(value) {
            Ok(value) => LeaseChange::Held(partition, Revised { value, revision }),
            Err(_) => LeaseChange::Unreadable(partition, revision),
        },
        Change::Gone => LeaseChange::Vacant(partition),
    })
}

fn partition(key: &str) -> Option<Partition> {
    Partition::numbered(key.strip_prefix(PARTITION)?.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_matches_the_published_test_vectors() {
        // draft-eastlake-fnv, its test vectors.
        for (text, hash) in [
            ("", 0xcbf2_9ce4_8422_2325),
            ("a", 0xaf63_dc4c_8601_ec8c),
            ("foobar", 0x8594_4171_f739_67e8),
        ] {
            assert_eq!(fnv_1a(text.as_bytes()), hash, "{text:?}");
        }
    }

    #[test]
    fn calls_spread_evenly() {
        let mut calls = [0u32; PARTITIONS as usize];
        for _ in 0..6_400 {
            calls[usize::from(Partition::of(&CallId::generate()).number())] += 1;
        }
        // 100 each, with a standard deviation of 10.
        assert!(calls.iter().all(|calls| (40..160).contains(calls)), "{calls:?}");
    }

    #[test]
    fn unknown_keys_are_ignored() {
        let put = || {
            let (value, revision) = (Value::Null, 1);
            Change::Put(Revised { value, revision }, Timestamp::now())
        };
        for key in ["partition.64", "partition.x", "instance.a.b", "other.1", "instance."] {
            assert!(read(key, put()).is_none(), "{key}");
        }
        let last = Partition::numbered(63).unwrap();
        assert_eq!(read("partition.63", put()), Some(LeaseChange::Unreadable(last, 1)));
    }
}
