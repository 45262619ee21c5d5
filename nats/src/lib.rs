//! The contract between callpulse's services: subjects, payloads, streams and buckets on NATS.
//!
//! In reading order:
//!
//! | folder | content |
//! | --- | --- |
//! | [`wire`] | messages: identifiers, subjects, facts, notices, requests, commands and their envelope |
//! | [`jetstream`] | access to NATS: the connection, streams and buckets, conditional publication, readers of stored messages, requests |
//! | [`buckets`] | shared state derived from facts: active calls, billed calls, leases, media-workers |
//! | [`spans`] | spans of calls, for OpenTelemetry |
//! | [`settings`] | settings that several services have |
//! | [`views`] | read models: a call folded from its facts, its timeline, stored facts, changes of streams and buckets |
//!
//! No service has a subject, a stream name or a payload of its own. Services depend on this crate; this crate depends on no service.

pub mod wire;

pub mod jetstream;

pub mod buckets;

pub mod views;

pub mod settings;

pub mod spans;

pub mod metrics;

#[cfg(any(test, feature = "samples"))]
#[doc(hidden)]
pub mod samples;

pub use jetstream::connection::{Nats, NatsSettings};
pub use jetstream::fact_store::{FactError, FactStore, Outcome, PublishCondition};
pub use settings::CallSettings;
pub use wire::envelope::{Source, TraceParent};
pub use wire::fact::{EndReason, Fact, FactKind};
pub use wire::id::{CallId, GrantId, NodeId, OtomoId, UserId, WorkerId};
pub use wire::party::{Parties, Party, Role};
pub use wire::time::Timestamp;
