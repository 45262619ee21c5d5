//! The whole system on three nats-servers, with real RTP callers: what holds while servers die and cables are cut.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

mod scene;

mod servers;
mod starts;

mod reads;
mod underway;

mod doubt;
mod leaders;
mod outage;
mod takeover;

mod cables;
