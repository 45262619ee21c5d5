//! The parts that every service shares: settings, logs, health, the operations port, shutdown and exit codes.
//!
//! A service is a library with `Settings` and `run(settings, context)`, and a `main.rs` without logic:
//!
//! ```no_run
//! use clap::Parser;
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use service::{App, BoxError, CommonSettings, ServiceArgs, ServiceContext, ServiceSettings, Validate};
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct Settings {
//!     listen: std::net::SocketAddr,
//!     #[serde(flatten)] // the keys `log.*`, `ops.*`, `traces.*`, `drain_timeout_ms`
//!     common: CommonSettings,
//! }
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { listen: ([127, 0, 0, 1], 4001).into(), common: CommonSettings::with_ops_port(4002) }
//!     }
//! }
//! impl Validate for Settings {}
//! impl ServiceSettings for Settings {
//!     fn common(&self) -> &CommonSettings { &self.common }
//! }
//!
//! async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
//!     let nats_is_up = context.health.condition("nats"); // not ready until set
//!     let listener = tokio::net::TcpListener::bind(settings.listen).await?;
//!     nats_is_up.set(true);
//!     context.announce([("ws", listener.local_addr()?.to_string())]);
//!     let mut tasks = context.tasks();
//!     let stop = context.stop.clone();
//!     tasks.spawn("sockets", async move { stop.cancelled().await; drop(listener); Ok::<_, BoxError>(()) });
//!     tasks.join().await?; // until a signal or the first task's end, then drained
//!     context.drain("nats", async { /* flush */ }).await;
//!     Ok(())
//! }
//!
//! #[derive(Parser)]
//! #[command(version = service::VERSION)]
//! struct Cli { #[command(flatten)] service: ServiceArgs }
//!
//! fn main() -> std::process::ExitCode {
//!     service::serve(App::new("ws-edge", service::VERSION), &Cli::parse().service, run)
//! }
//! ```
//!
//! A subcommand (`ws-edge token`) is an arm of the service's own `Cli` and calls [`command`] where the service itself
//! calls [`serve`]. Tests start a [`ServiceContext`] with [`ServiceContext::start`] and call `run` without signals.
//!
//! Logs go to stderr. Stdout carries one JSON line, once everything is bound: see [`ServiceContext::announce`].

pub mod accept;
pub mod app;
pub mod context;
pub mod descriptors;
pub mod exit;
pub mod health;
pub mod http;
pub mod logging;
pub mod operations_port;
pub mod run;
mod service_manager;
pub mod settings;
pub mod shutdown;
pub mod tasks;
pub mod traces;

pub use accept::Acceptor;
pub use app::App;
pub use context::{CommonSettings, ServiceContext};
pub use descriptors::DescriptorNeed;
pub use health::{Condition, Health};
pub use logging::LogSettings;
pub use operations_port::OpsSettings;
pub use run::{ServiceArgs, ServiceSettings, command, serve};
pub use settings::{Secret, SettingsErrors, Validate, load};
pub use tasks::{TaskError, Tasks};
pub use traces::TraceSettings;

/// The version of all services. A release has its commit in it.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), env!("CALLPULSE_BUILD"));

/// The error of a service's `run`. It is logged with its causes, and the process exits with 1.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
