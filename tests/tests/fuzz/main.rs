//! Readers of everything that comes from outside, on mutated input: nothing panics, and no memory grows. `make fuzz` gives each
//! target ten minutes; see `callpulse_tests::fuzz`.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "tests may")]

mod commands;
mod facts;
mod requests;
mod settings;
mod tokens;
