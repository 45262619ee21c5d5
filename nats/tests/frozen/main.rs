//! Serialised forms are frozen: every fact, notice, command, reply and stored value is compared with a file in `golden/`, and the
//! file is decoded.
//!
//! A change here affects other versions and other teams. To make one on purpose, run the tests with `UPDATE_EXPECT=1` and review
//! the difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

mod golden;
mod sample;
mod values;

mod asyncapi;
mod commands;
mod declarations;
mod facts;
mod notices;
mod reading;
mod stored;
