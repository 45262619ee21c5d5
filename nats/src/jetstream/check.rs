//! Tries a connection to NATS without changing anything, for `--check-config --connect`.

use std::time::Duration;

use tokio::time::timeout;

use crate::jetstream::connection::{Nats, NatsSettings};
use crate::jetstream::storage;

/// Longer than one attempt to connect to each server of a cluster.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(7);

/// A line for each part that works, or what is wrong with it and what to do.
pub async fn check(settings: &NatsSettings, password: &str, name: &str) -> Vec<Result<String, String>> {
    let nats = match Nats::connect(settings, password, name).await {
        Ok(nats) => nats,
        Err(error) => return vec![Err(error.to_string())],
    };
    if timeout(CONNECT_TIMEOUT, nats.connected()).await.is_err() {
        let cause = nats.connection_error();
        let cause = cause.unwrap_or_else(|| "it does not answer; check the network to nats.url".to_owned());
        return vec![Err(format!(
            "no connection to NATS at {} as {}: {cause}",
            settings.hosts(),
            settings.identity()
        ))];
    }
    let server = nats.client.server_info();
    let encrypted = settings.requires_tls() || server.tls_required;
    let connected = format!(
        "connected to NATS at {} as {}: nats-server {} {}, {}",
        settings.hosts(),
        settings.identity(),
        server.version,
        server.server_name,
        if encrypted { "with TLS" } else { "without TLS" }
    );
    let mut outcomes = vec![Ok(connected)];
    outcomes.extend(storage::inspect(&nats).await);
    outcomes
}
