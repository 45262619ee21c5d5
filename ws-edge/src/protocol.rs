//! The WebSocket protocol: text messages parsed into requests, and what the server sends.

mod envelope;
mod parse;
mod problem;

pub use envelope::{RequestId, error, message, payload, response};
pub use parse::{Unread, parse};
pub use problem::{Code, Problem};

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
