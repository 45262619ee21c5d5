//! As `tests/tests/fuzz`, for what needs mediasoup: only this package links it.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::panic, reason = "tests may")]

mod parameters;
mod settings;
