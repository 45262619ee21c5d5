//! Streams and buckets: created where they are missing, compared where they are there, never deleted.

mod follow;

use std::time::Duration;

use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::{self, ErrorCode, kv, stream};
use thiserror::Error;

use crate::jetstream::connection::Nats;
pub use crate::jetstream::names::{ACTIVE_CALLS, BILLING_ACTIVE, BILLING_LEASES, CALLS, MEDIA_WORKERS, PARKED};
use crate::wire::command::MAX_COMMAND_BYTES;
use crate::wire::subject;

/// A worker without a heartbeat for this long is lost. Several heartbeat intervals.
pub const WORKER_TTL: Duration = Duration::from_secs(6);
/// Life of a tombstone. A watch that was interrupted for a shorter time sees every removal.
pub const MARKER_TTL: Duration = Duration::from_secs(600);
/// Retention of facts: ten years, as for commercial records.
const FACTS_MAX_AGE: Duration = Duration::from_secs(3_653 * 24 * 3600);
/// Retention of messages that could not be decoded.
const PARKED_MAX_AGE: Duration = Duration::from_secs(90 * 24 * 3600);
/// Limit of these messages in bytes, so that a flood of them does not fill the disk of the facts.
const PARKED_MAX_BYTES: i64 = 256 * 1024 * 1024;
/// The longest fact, in bytes. Typical facts have a few hundred.
const FACT_MAX_BYTES: i32 = 16 * 1024;
/// The longest value in a bucket, in bytes.
const VALUE_MAX_BYTES: i32 = 16 * 1024;
/// Room for the headers of a message, which count towards the server's limit.
const HEADER_BYTES: usize = 4 * 1024;
/// The duplicate window. Expected sequences guarantee "once"; this window only saves repeated work.
const DUPLICATE_WINDOW: Duration = Duration::from_secs(120);

/// Why the storage could not be opened.
#[derive(Debug, Error)]
pub enum StorageError {
    /// JetStream does not reply, or rejects the request; a retry may help.
    #[error("{name}: {reason}")]
    Unavailable {
        /// Stream or bucket.
        name: &'static str,
        /// The error of JetStream.
        reason: String,
    },
    /// The server accepts no messages as long as this contract's.
    #[error(
        "max_payload of NATS is {found} bytes, and messages have up to {needed}: raise it in the configuration of nats-server"
    )]
    MaxPayload {
        /// `max_payload` of the server, in bytes.
        found: usize,
        /// The longest message of this contract, in bytes.
        needed: usize,
    },
    /// It exists with another configuration: an operator must decide. It is never deleted.
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
    /// Opens all streams and buckets, and creates those that are missing.
    ///
    /// # Errors
    /// [`StorageError`]. A retry helps with [`StorageError::Unavailable`] only.
    pub async fn open(nats: &Nats) -> Result<Self, StorageError> {
        let (jetstream, replicas) = (&nats.jetstream, nats.replicas);
        fits(nats.client.server_info().max_payload)?;
        Ok(Self {
            calls: open_stream(jetstream, CALLS, calls(replicas)).await?,
            parked: open_stream(jetstream, PARKED, parked(replicas)).await?,
            media_workers: open_bucket(jetstream, MEDIA_WORKERS, replicas).await?,
            active_calls: open_bucket(jetstream, ACTIVE_CALLS, replicas).await?,
            billing_active: open_bucket(jetstream, BILLING_ACTIVE, replicas).await?,
            billing_leases: open_bucket(jetstream, BILLING_LEASES, replicas).await?,
        })
    }

    /// Like [`Storage::open`], but waits until JetStream replies. Race it against the stop signal.
    ///
    /// # Errors
    /// [`StorageError::Differs`] or [`StorageError::MaxPayload`].
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

/// Compares the streams and buckets, without creating one: a line for each part that fits, or what is wrong and what to do.
pub(crate) async fn inspect(nats: &Nats) -> Vec<Result<String, String>> {
    let replicas = nats.replicas;
    let mut wanted = vec![calls(replicas), parked(replicas)];
    let buckets = [MEDIA_WORKERS, ACTIVE_CALLS, BILLING_ACTIVE, BILLING_LEASES];
    wanted.extend(buckets.map(|name| bucket(name, replicas)));
    let (mut present, mut missing, mut outcomes) = (Vec::new(), Vec::new(), Vec::new());
    outcomes.extend(
        fits(nats.client.server_info().max_payload)
            .err()
            .map(|error| Err(error.to_string())),
    );
    for wanted in wanted {
        match nats.jetstream.get_stream(&wanted.name).await {
            Ok(stream) => match stream_differences(&wanted, &stream.cached_info().config) {
                Some(differences) => outcomes.push(Err(format!(
                    "the stream {} has another configuration: {differences}. Change it on purpose, or deploy the version that fits",
                    wanted.name
                ))),
                None => present.push(wanted.name),
            },
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    missing.push(wanted.name);
                }
                _ => {
                    let text = "check that JetStream is enabled, its user has the rights of accounts.conf, and its cluster has a leader";
                    outcomes.push(Err(format!("the stream {}: {error}; {text}", wanted.name)));
                    return outcomes;
                }
            },
        }
    }
    if !present.is_empty() {
        outcomes.push(Ok(format!(
            "streams with the right configuration: {}",
            present.join(", ")
        )));
    }
    if !missing.is_empty() {
        outcomes.push(Ok(format!(
            "streams that the first service creates at its start: {}",
            missing.join(", ")
        )));
    }
    outcomes
}

/// Whether the longest command fits into the server's limit; 0 means that the server's INFO has not arrived yet.
fn fits(max_payload: usize) -> Result<(), StorageError> {
    let needed = MAX_COMMAND_BYTES + HEADER_BYTES;
    match max_payload {
        0 => Ok(()),
        found if found < needed => Err(StorageError::MaxPayload { found, needed }),
        _ => Ok(()),
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
        // An archiver will purge what it has copied. Until then, nobody but the admin has the right.
        deny_purge: false,
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

/// As the client's `create_key_value` configures it, which cannot allow atomic batches.
fn bucket(name: &str, replicas: usize) -> stream::Config {
    stream::Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        storage: stream::StorageType::File,
        num_replicas: replicas,
        max_age: if name == MEDIA_WORKERS {
            WORKER_TTL
        } else {
            Duration::ZERO
        },
        max_messages_per_subject: 1,
        max_message_size: VALUE_MAX_BYTES,
        discard: stream::DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        allow_message_ttl: true,
        subject_delete_marker_ttl: Some(MARKER_TTL),
        allow_atomic_publish: name == BILLING_ACTIVE,
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
    match stream_differences(&wanted, &stream.cached_info().config) {
        Some(differences) => Err(StorageError::Differs { name, differences }),
        None => Ok(stream),
    }
}

/// Of a stream, or of the stream of a bucket. `deny_purge` may be set: it cannot be taken back, and only keeps an archiver from its work.
fn stream_differences(wanted: &stream::Config, found: &stream::Config) -> Option<String> {
    type Setting = fn(&stream::Config) -> String;
    let settings: [(&str, Setting); 9] = [
        ("subjects", |config| format!("{:?}", config.subjects)),
        ("storage", |config| format!("{:?}", config.storage)),
        ("replicas", |config| config.num_replicas.to_string()),
        ("max_age", |config| format!("{:?}", config.max_age)),
        ("deny_delete", |config| config.deny_delete.to_string()),
        ("allow_rollup", |config| config.allow_rollup.to_string()),
        ("allow_direct", |config| config.allow_direct.to_string()),
        ("allow_atomic", |config| config.allow_atomic_publish.to_string()),
        ("limit_markers", |config| {
            format!("{:?}", config.subject_delete_marker_ttl)
        }),
    ];
    let compared = settings.map(|(name, setting)| (name, setting(wanted), setting(found)));
    let differing = compared.into_iter().filter(|(_, wanted, found)| wanted != found);
    let texts: Vec<_> = differing
        .map(|(name, wanted, found)| format!("{name} should be {wanted} and is {found}"))
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

async fn open_bucket(
    jetstream: &jetstream::Context,
    name: &'static str,
    replicas: usize,
) -> Result<kv::Store, StorageError> {
    let unavailable = |reason: String| StorageError::Unavailable { name, reason };
    let store = match jetstream.get_key_value(name).await {
        Ok(store) => store,
        // Two services may create it concurrently: the server accepts the same configuration twice.
        Err(_) => {
            let created = jetstream.create_stream(bucket(name, replicas)).await;
            created.map_err(|error| unavailable(format!("{error}: {:?}", std::error::Error::source(&error))))?;
            let opened = jetstream.get_key_value(name).await;
            opened.map_err(|error| unavailable(error.to_string()))?
        }
    };
    let found = &store
        .status()
        .await
        .map_err(|error| unavailable(error.to_string()))?
        .info
        .config;
    match stream_differences(&bucket(name, replicas), found) {
        Some(differences) => Err(StorageError::Differs { name, differences }),
        None => Ok(store),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_for_a_small_max_payload_names_both_sizes() {
        let error = fits(32 * 1024).unwrap_err().to_string();
        assert!(
            error.contains("max_payload of NATS is 32768 bytes") && error.contains("up to 69632"),
            "{error}"
        );
        assert!(fits(1024 * 1024).is_ok() && fits(0).is_ok());
    }
}
