//! Tests that cannot run on this machine.

use std::env;
use std::io::{Write, stderr};
use std::sync::Once;

static REPORTED: Once = Once::new();
static REPORTED_OPTIONAL: Once = Once::new();

/// Says once in a process that tests are skipped because something is missing. CI requires it (`CI_REQUIRE_BROWSER=1`), and fails instead.
pub fn skipped(missing: &str) {
    let required = env::var("CI_REQUIRE_BROWSER").is_ok_and(|required| required == "1");
    assert!(!required, "{missing}, but CI_REQUIRE_BROWSER=1 requires it");
    // Bypasses the test runner, which hides the output of passing tests.
    REPORTED.call_once(|| drop(writeln!(stderr(), "skipped: {missing}")));
}

/// Like [`skipped`], for what CI need not have.
pub fn skipped_optionally(missing: &str) {
    REPORTED_OPTIONAL.call_once(|| drop(writeln!(stderr(), "skipped: {missing}")));
}
