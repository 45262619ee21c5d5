//! billing-timer as a process against a real nats-server. The tests publish facts as media-workers and edges do.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod fixture;

mod ticks;

mod settlements;

mod faults;

mod leases;

mod forward_compatibility;
mod reconcile;

mod crashes;

mod scale;
