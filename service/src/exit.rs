//! Exit codes: what a supervisor may branch on.

/// The service was asked to stop and did, or a command did what it was asked.
pub const CLEAN: u8 = 0;

/// Something failed: a task ended, a port was taken, NATS refused. Starting again may help.
pub const FAILURE: u8 = 1;

/// The settings or the command line are wrong. Starting again does not help; clap uses the same code.
pub const BAD_SETTINGS: u8 = 2;
