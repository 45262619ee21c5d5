//! The contract crate against a real nats-server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod fixture;

mod publish_conditions;

mod notices;

mod batches;

mod buckets;

mod storage;

mod forward_compatibility;
mod reading;
