//! `callctl`, as people and scripts use it: the built program, beside a real server.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may")]

mod fixture;
mod lossy;

mod conventions;
mod export;
mod forward_compatibility;
mod incomplete;
mod live;
mod refusal;
mod team;
mod workers;
