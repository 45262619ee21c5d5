//! The contract between callpulse's parts: what is said on NATS, where, and with which guarantees.
//!
//! In reading order: names ([`id`], [`party`], [`time`], [`clock`], [`subject`]), what is said ([`fact`], [`notice`], [`command`], [`request`]) and in which
//! envelope ([`event`]), where it is kept ([`connection`], [`storage`]), how a fact is stored once ([`facts`], [`batch`], [`log`]),
//! the shared state that is derived from facts ([`fleet`], [`active_calls`], [`billing_book`], [`leases`]), and how calls are
//! looked at from outside ([`call_view`], [`timeline`], [`history`], [`tail`]).
//!
//! No service writes a subject, a stream name or a payload of its own. Dependencies run one way: services know this
//! crate, and this crate knows no service.

pub mod id;
pub mod party;
pub mod time;

pub mod clock;

pub mod subject;

pub mod fact;
pub mod notice;

pub mod command;
pub mod request;

pub mod event;

pub mod connection;
pub mod herald;
pub mod storage;

pub mod batch;
pub mod facts;
pub mod log;
pub mod parking;

pub mod bucket;
pub mod key_value;

pub mod active_calls;
pub mod billing_book;
pub mod fleet;
pub mod leases;

pub mod call_view;
pub mod timeline;

mod direct;
pub mod history;
mod last;
pub mod tail;

pub use connection::{Nats, NatsSettings};
pub use event::{Source, TraceParent};
pub use fact::{EndReason, Fact, FactKind};
pub use facts::{FactStore, Guard, Outcome};
pub use id::{CallId, NodeId, OtomoId, UserId, WorkerId};
pub use party::{Parties, Party, Role};
pub use time::Timestamp;
