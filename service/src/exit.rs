//! Exit codes, for supervisors.

/// The service stopped on request, or the command succeeded.
pub const CLEAN: u8 = 0;

/// Failure: a task ended, a port was in use, NATS rejected the service. A restart may help.
pub const FAILURE: u8 = 1;

/// The settings or the command line are invalid. A restart does not help. clap uses the same code.
pub const BAD_SETTINGS: u8 = 2;
