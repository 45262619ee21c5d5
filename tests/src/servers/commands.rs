//! Commands of the built programs, each run to its end.

use std::process::{Command, Output, Stdio};

use anyhow::Result;

use super::nats_server::NatsServer;
use super::process::{built, variable};

/// `callctl` as a user of the server, and with nothing of the developer's environment.
pub fn callctl(nats: &NatsServer, user: &str, arguments: &[&str]) -> Result<Command> {
    let mut command = Command::new(built("callctl")?);
    command
        .env_clear()
        .env("CALLCTL_NATS_URL", nats.url())
        .env("CALLCTL_NATS_USER", user)
        .env("CALLCTL_NATS_PASSWORD", nats.password(user)?)
        .env("CALLCTL_API_PREFIX", "CALLPULSE.API")
        .args(arguments)
        .stdin(Stdio::null());
    Ok(command)
}

/// A service's program with these settings alone.
pub fn with_settings<K: AsRef<str>>(program: &str, settings: impl IntoIterator<Item = (K, String)>) -> Result<Command> {
    let variables = settings.into_iter();
    let variables = variables.map(|(key, value)| (variable(program, key.as_ref()), value));
    let mut command = Command::new(built(program)?);
    command.env_clear().envs(variables).stdin(Stdio::null());
    Ok(command)
}

/// `billing-timer reconcile` with its account, and with more settings.
pub fn reconcile(
    nats: &NatsServer,
    grace: &str,
    settings: impl IntoIterator<Item = (&'static str, String)>,
) -> Result<Command> {
    let settings = nats.settings_of("billing-timer")?.into_iter().chain(settings);
    let mut command = with_settings("billing-timer", settings)?;
    command.args(["reconcile", "--json", "--grace", grace]);
    Ok(command)
}

/// Runs a command without blocking the test's runtime.
pub async fn output(mut command: Command) -> Result<Output> {
    Ok(tokio::task::spawn_blocking(move || command.output()).await??)
}
