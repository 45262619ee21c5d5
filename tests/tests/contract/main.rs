//! The contract crate against a real nats-server: what it says the server does, the server does.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod rig;

mod guards;

mod notices;

mod batches;

mod buckets;

mod storage;

mod reading;
