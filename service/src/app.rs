//! A service's name and version.

/// A service's name and version.
#[derive(Debug, Clone, Copy)]
pub struct App {
    name: &'static str,
    version: &'static str,
}

impl App {
    /// For example `App::new("ws-edge", service::VERSION)`.
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self { name, version }
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
