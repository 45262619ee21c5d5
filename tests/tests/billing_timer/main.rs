//! billing-timer as its own process against a real nats-server: the tests publish facts as media-workers and edges do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod bench;

mod ticks;

mod settlements;

mod faults;

mod leases;

mod reconcile;

mod crowd;
