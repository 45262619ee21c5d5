//! A service's name and version, and the priority of its runtime.

/// A service's name and version, and the priority of its runtime.
#[derive(Debug, Clone, Copy)]
pub struct App {
    name: &'static str,
    version: &'static str,
    nice: i32,
}

impl App {
    /// For example `App::new("ws-edge", service::VERSION)`.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version, nice: 0 }
    }

    /// With a nice value for the threads of the runtime that is higher by this (0 to 19), for a service that has a thread of its own which
    /// must not wait for them.
    #[must_use]
    pub const fn with_nice_runtime(self, nice: i32) -> Self {
        Self { nice, ..self }
    }

    /// How much higher the nice value of the runtime's threads is than that of the process.
    pub(crate) const fn nice(&self) -> i32 {
        self.nice
    }

    /// The service's name, as in `ws-edge`.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Its version.
    pub const fn version(&self) -> &'static str {
        self.version
    }

    /// The prefix of its environment variables: `WS_EDGE` (before `__NATS__URL`).
    pub fn prefix(&self) -> String {
        self.name.to_uppercase().replace('-', "_")
    }
}
