//! The WebSocket protocol: envelopes read into typed requests, and answers written.

mod answer;
mod field;
mod problem;
mod reading;
mod request;
mod writing;

pub use answer::{CallOver, CallRequested, CallTaken, payload};
pub use problem::{Code, Problem};
pub use reading::{Unread, parse};
pub use request::{CallAction, CallRequest, MediaOperation, MediaRequest, Request, RequestId};
pub use writing::{error, message, response};

#[cfg(test)]
mod schema;
#[cfg(test)]
mod tests;
