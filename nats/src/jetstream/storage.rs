//! Streams and buckets: created where they are missing, compared where they are there, never deleted.

use std::time::Duration;

use async_nats::jetstream::{self, kv, stream};
use thiserror::Error;

use crate::jetstream::connection::Nats;
use crate::wire::subject;

/// The stream of all facts.
pub const CALLS: &str = "CALLS";
/// The stream of messages that could not be read.
pub const PARKED: &str = "PARKED";
/// Bucket: one key a media-worker.
pub const MEDIA_WORKERS: &str = "media_workers";
/// Bucket: calls that are not over, and who is in one.
pub const ACTIVE_CALLS: &str = "active_calls";
/// Bucket: calls being billed.
pub const BILLING_ACTIVE: &str = "billing_active";
/// Bucket: which billing-timers live, and who ticks which calls.
pub const BILLING_LEASES: &str = "billing_leases";

/// A worker that has not been heard of for this long is lost. Several heartbeats long.
pub const WORKER_TTL: Duration = Duration::from_secs(6);
/// How long a bucket remembers that a key is gone, for watchers that were away. Then nothing is left of it.
pub const MARKER_TTL: Duration = Duration::from_secs(600);
/// Facts are kept for longer than any replay or dispute: ten years, as commercial records are.
const FACTS_MAX_AGE: Duration = Duration::from_secs(3_653 * 24 * 3600);
/// Unreadable messages are kept long enough for somebody to look.
const PARKED_MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// And no more than this many bytes of them: a flood of rubbish must not fill the disk that the facts are on.
const PARKED_MAX_BYTES: i64 = 256 * 1024 * 1024;
/// The longest fact, in bytes; real ones have a few hundred.
const FACT_MAX_BYTES: i32 = 16 * 1024;
/// The longest value in a bucket, in bytes.
const VALUE_MAX_BYTES: i32 = 16 * 1024;
/// For retries without an expected sequence (`rtp_lost`, `rtp_resumed`); "once" does not rest on it.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Why the storage is not as the code needs it.
#[derive(Debug, Error)]
pub enum StorageError {
    /// JetStream does not answer, or refuses; trying again may help.
    #[error("{name}: {reason}")]
    Unavailable {
        /// Stream or bucket.
        name: &'static str,
        /// What JetStream says.
        reason: String,
    },
    /// It is there, and differs: a person must decide. It is never deleted to make it fit.
    #[error(
        "{name} exists with another configuration: {differences}. Change it on purpose, or deploy the version that fits"
    )]
    Differs {
        /// Stream or bucket.
        name: &'static str,
        /// Setting, wanted and found.
        differences: String,
    },
}

/// The streams and buckets, opened.
#[derive(Debug, Clone)]
pub struct Storage {
    /// [`CALLS`]
    pub calls: stream::Stream,
    /// [`PARKED`]
    pub parked: stream::Stream,
    /// [`MEDIA_WORKERS`]
    pub media_workers: kv::Store,
    /// [`ACTIVE_CALLS`]
    pub active_calls: kv::Store,
    /// [`BILLING_ACTIVE`]
    pub billing_active: kv::Store,
    /// [`BILLING_LEASES`]
    pub billing_leases: kv::Store,
}

impl Storage {
    /// Opens all streams and buckets, creating what is missing.
    ///
    /// # Errors
    /// [`StorageError::Unavailable`] may pass, [`StorageError::Differs`] will not.
    pub async fn open(nats: &Nats) -> Result<Self, StorageError> {
        let (jetstream, replicas) = (&nats.jetstream, nats.replicas);
        Ok(Self {
            calls: open_stream(jetstream, CALLS, calls(replicas)).await?,
            parked: open_stream(jetstream, PARKED, parked(replicas)).await?,
            media_workers: open_bucket(jetstream, MEDIA_WORKERS, WORKER_TTL, replicas).await?,
            active_calls: open_bucket(jetstream, ACTIVE_CALLS, Duration::ZERO, replicas).await?,
            billing_active: open_bucket(jetstream, BILLING_ACTIVE, Duration::ZERO, replicas).await?,
            billing_leases: open_bucket(jetstream, BILLING_LEASES, Duration::ZERO, replicas).await?,
        })
    }

    /// Opens all streams and buckets, waiting until JetStream answers. Race it against the stop signal.
    ///
    /// # Errors
    /// Only [`StorageError::Differs`].
    pub async fn open_when_available(nats: &Nats) -> Result<Self, StorageError> {
        let mut delay = Duration::from_millis(50);
        loop {
            nats.connected().await;
            match Box::pin(Self::open(nats)).await {
                Err(error @ StorageError::Unavailable { .. }) => {
                    tracing::warn!(%error, "JetStream is not available yet");
                    tokio::time::sleep(delay).await;
                    delay = (delay * 2).min(Duration::from_secs(2));
                }
                outcome => return outcome,
            }
        }
    }
}

fn calls(replicas: usize) -> stream::Config {
    stream::Config {
        name: CALLS.to_owned(),
        description: Some("Facts of calls; the legal record".to_owned()),
        subjects: vec![subject::ALL_FACTS.to_owned()],
        storage: stream::StorageType::File,
        num_replicas: replicas,
        max_age: FACTS_MAX_AGE,
        max_message_size: FACT_MAX_BYTES,
        duplicate_window: DUPLICATE_WINDOW,
        deny_delete: true,
        deny_purge: true,
        allow_direct: true,
        allow_atomic_publish: true,
        ..Default::default()
    }
}

fn parked(replicas: usize) -> stream::Config {
    stream::Config {
        name: PARKED.to_owned(),
        description: Some("Messages that could not be read, with the reason".to_owned()),
        subjects: vec![subject::ALL_PARKED.to_owned()],
        storage: stream::StorageType::File,
        num_replicas: replicas,
        max_age: PARKED_MAX_AGE,
        max_bytes: PARKED_MAX_BYTES,
        duplicate_window: DUPLICATE_WINDOW,
        allow_direct: true,
        ..Default::default()
    }
}

async fn open_stream(
    jetstream: &jetstream::Context,
    name: &'static str,
    wanted: stream::Config,
) -> Result<stream::Stream, StorageError> {
    let stream = jetstream
        .get_or_create_stream(&wanted)
        .await
        .map_err(|error| StorageError::Unavailable {
            name,
            reason: error.to_string(),
        })?;
    let found = &stream.cached_info().config;
    let differences = differences([
        (
            "subjects",
            format!("{:?}", wanted.subjects),
            format!("{:?}", found.subjects),
        ),
        (
            "storage",
            format!("{:?}", wanted.storage),
            format!("{:?}", found.storage),
        ),
        (
            "replicas",
            wanted.num_replicas.to_string(),
            found.num_replicas.to_string(),
        ),
        (
            "max_age",
            format!("{:?}", wanted.max_age),
            format!("{:?}", found.max_age),
        ),
        (
            "deny_delete",
            wanted.deny_delete.to_string(),
            found.deny_delete.to_string(),
        ),
        (
            "deny_purge",
            wanted.deny_purge.to_string(),
            found.deny_purge.to_string(),
        ),
        (
            "allow_direct",
            wanted.allow_direct.to_string(),
            found.allow_direct.to_string(),
        ),
        (
            "allow_atomic",
            wanted.allow_atomic_publish.to_string(),
            found.allow_atomic_publish.to_string(),
        ),
    ]);
    match differences {
        Some(differences) => Err(StorageError::Differs { name, differences }),
        None => Ok(stream),
    }
}

async fn open_bucket(
    jetstream: &jetstream::Context,
    name: &'static str,
    max_age: Duration,
    replicas: usize,
) -> Result<kv::Store, StorageError> {
    let unavailable = |reason: String| StorageError::Unavailable { name, reason };
    let store = match jetstream.get_key_value(name).await {
        Ok(store) => store,
        // Two services starting side by side both create it: the same configuration twice is no error to the server.
        Err(_) => jetstream
            .create_key_value(kv::Config {
                bucket: name.to_owned(),
                history: 1,
                max_age,
                max_value_size: VALUE_MAX_BYTES,
                storage: stream::StorageType::File,
                num_replicas: replicas,
                limit_markers: Some(MARKER_TTL),
                ..Default::default()
            })
            .await
            .map_err(|error| unavailable(format!("{error}: {:?}", std::error::Error::source(&error))))?,
    };
    let found = &store
        .status()
        .await
        .map_err(|error| unavailable(error.to_string()))?
        .info
        .config;
    let differences = differences([
        ("max_age", format!("{max_age:?}"), format!("{:?}", found.max_age)),
        ("replicas", replicas.to_string(), found.num_replicas.to_string()),
        (
            "limit_markers",
            format!("{:?}", Some(MARKER_TTL)),
            format!("{:?}", found.subject_delete_marker_ttl),
        ),
    ]);
    match differences {
        Some(differences) => Err(StorageError::Differs { name, differences }),
        None => Ok(store),
    }
}

fn differences<const N: usize>(settings: [(&str, String, String); N]) -> Option<String> {
    let differing: Vec<String> = settings
        .into_iter()
        .filter(|(_, wanted, found)| wanted != found)
        .map(|(setting, wanted, found)| format!("{setting} should be {wanted} and is {found}"))
        .collect();
    (!differing.is_empty()).then(|| differing.join(", "))
}
