//! The WebSocket protocol: text messages parsed into requests, and messages of the server.

mod envelope;
mod parse;
mod problem;
mod snapshot;

pub use envelope::{RequestId, error, message, payload, response};
pub(crate) use parse::{Envelope, id_of, read, unknown_type};
pub use parse::{Unread, parse};
pub use problem::{Code, Problem};
pub use snapshot::{CallSnapshot, LastTick, Snapshot, SnapshotState, Welcome};

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
