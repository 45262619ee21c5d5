//! The pages in a real browser: Debian's Chromium with its fake microphone, driven as a person would. Each scenario has a
//! script in `ws-edge/web/e2e`; what it saw on the screen is compared here with what is stored.
//!
//! Where there is no Chromium, the scenarios are skipped and say so; `CI_REQUIRE_BROWSER=1` makes that a failure.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "what tests share is test code too"
)]

mod ground;
mod scene;
mod script;

mod call;
mod reload;

mod microphone;
mod network;
mod worker;

mod watching;

mod screenshots;
