//! What is on the wire, frozen: every fact, notice, command, reply and stored value against a file in `golden/`, both ways.
//!
//! A change here changes what other versions and other teams read. Where it is meant, run the tests with
//! `CALLPULSE_REWRITE_GOLDEN=1` and look at the difference before committing it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "tests may")]

mod golden;
mod values;

mod commands;
mod declarations;
mod facts;
mod notices;
mod reading;
mod stored;
