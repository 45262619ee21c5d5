//! The WebSocket edge: authentication, signalling, and the delivery of notices.
//!
//! Modules stand in the order in which a connection and then a call are processed: [`http`] accepts connections and serves the
//! pages, [`handshake`] authenticates a request and upgrades it, [`connection`] serves the socket and delivers notices to it,
//! [`protocol`] decodes requests and encodes answers, [`calls`] carries the requests out and ends calls that are overdue.
//! [`ops`] shows operators every call of the fleet. [`run`] puts all of it together.

pub mod addresses;
pub mod settings;
pub mod shared_stream;
pub mod tls;
pub mod turn;

pub mod http;

pub mod handshake;

pub mod connection;

pub mod protocol;

pub mod calls;

pub mod ops;

pub mod metrics;

pub mod run;
#[cfg(test)]
mod schema_file;

pub use run::{RUNTIME_NICE, run};
pub use settings::Settings;
