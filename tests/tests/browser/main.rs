//! The pages in a real browser: Chromium with its fake microphone, driven as a person would. Each scenario has a script in
//! `ws-edge/web/e2e`; the tests compare what it reads on the screen with the stored facts.
//!
//! Without Chromium the scenarios are skipped with a message; `CI_REQUIRE_BROWSER=1` makes that a failure.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share is test code too"
)]

mod fixture;
mod prerequisites;
mod script;

mod call;
mod credit;
mod reload;

mod microphone;
mod network;
mod worker;

mod operations;

mod screenshots;
