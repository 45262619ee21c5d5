//! Credit control across the system: a wallet in its own account, calls over WebSocket and RTP, the bill from the stream.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

mod answers;
mod bills;
mod fixture;
mod wallet;
