//! What every callpulse service wears: settings, logs, health, the operations port, shutdown and exit codes.
//!
//! A service is a library with `Settings` and `run(settings, shell)`, and a `main.rs` without logic:
//!
//! ```no_run
//! use clap::Parser;
//! use serde::{Deserialize, Serialize};
//! use service::{App, BoxError, ServiceArgs, ServiceSettings, Shell, ShellSettings, Validate};
//!
//! #[derive(Serialize, Deserialize)]
//! struct Settings {
//!     listen: std::net::SocketAddr,
//!     #[serde(flatten)] // the keys `log.*`, `ops.*`, `drain_timeout_ms`
//!     shell: ShellSettings,
//! }
//! impl Default for Settings {
//!     fn default() -> Self {
//!         Self { listen: ([127, 0, 0, 1], 4001).into(), shell: ShellSettings::with_ops_port(4002) }
//!     }
//! }
//! impl Validate for Settings {}
//! impl ServiceSettings for Settings {
//!     fn shell(&self) -> &ShellSettings { &self.shell }
//! }
//!
//! async fn run(settings: Settings, shell: Shell) -> Result<(), BoxError> {
//!     let nats_is_up = shell.health.condition("nats"); // not ready until set
//!     let listener = tokio::net::TcpListener::bind(settings.listen).await?;
//!     nats_is_up.set(true);
//!     shell.announce([("ws", listener.local_addr()?.to_string())]);
//!     let mut tasks = shell.tasks();
//!     let stop = shell.stop.clone();
//!     tasks.spawn("sockets", async move { stop.cancelled().await; drop(listener); Ok::<_, BoxError>(()) });
//!     tasks.join().await?; // until a signal or the first task's end, then drained
//!     shell.drain("nats", async { /* flush */ }).await;
//!     Ok(())
//! }
//!
//! #[derive(Parser)]
//! #[command(version)]
//! struct Cli { #[command(flatten)] service: ServiceArgs }
//!
//! fn main() -> std::process::ExitCode {
//!     service::serve(App::new("ws-edge", env!("CARGO_PKG_VERSION")), &Cli::parse().service, run)
//! }
//! ```
//!
//! A subcommand (`ws-edge token`) is an arm of the service's own `Cli` and calls [`command`] where the service itself
//! calls [`serve`]. Tests start a [`Shell`] with [`Shell::start`] and call `run` without signals.
//!
//! Logs go to stderr. Stdout carries one JSON line, once everything is bound: see [`Shell::announce`].

pub mod exit;
pub mod health;
pub mod ops;
pub mod run;
pub mod settings;
pub mod shell;
pub mod shutdown;
pub mod tasks;
pub mod telemetry;

pub use health::{Condition, Health};
pub use ops::OpsSettings;
pub use run::{App, ServiceArgs, ServiceSettings, command, serve};
pub use settings::{Secret, SettingsErrors, Validate, load};
pub use shell::{Shell, ShellSettings};
pub use tasks::{TaskError, Tasks};
pub use telemetry::LogSettings;

/// Any error that a service's `run` ends with: it is logged with its causes, and the process exits with 1.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
