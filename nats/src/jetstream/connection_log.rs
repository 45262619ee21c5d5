//! Log lines about a connection that does not come about: which server, the cause, and what to do. The same line appears at most once
//! in [`REPEAT_INTERVAL`], although the client tries again every second.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use async_nats::Server;
use parking_lot::Mutex;

/// The shortest time between two identical lines.
const REPEAT_INTERVAL: Duration = Duration::from_secs(60);
/// Different lines that are remembered.
const MAX_LINES: usize = 64;

/// What was logged, and when; and why the last attempts failed.
#[derive(Debug, Default)]
pub(crate) struct ConnectionLog {
    logged: Mutex<HashMap<String, Instant>>,
    cause: Mutex<Option<String>>,
}

impl ConnectionLog {
    /// Logs why the servers could not be reached, from the state of the client before its next attempt.
    pub(crate) fn attempt(&self, servers: &[Server]) {
        let failed = servers.iter().filter_map(|server| {
            let error = server.last_error.as_ref()?;
            Some(format!("{}:{}: {error}", server.addr.host(), server.addr.port()))
        });
        let causes: Vec<_> = failed.collect();
        if causes.is_empty() {
            return;
        }
        let cause = causes.join("; ");
        if self.is_due(&cause, Instant::now()) {
            tracing::warn!(%cause, "cannot connect to NATS: retrying; {}", advice(&cause));
        }
        *self.cause.lock() = Some(cause);
    }

    /// Forgets the cause: the connection is up.
    pub(crate) fn connected(&self) {
        *self.cause.lock() = None;
        self.logged.lock().clear();
    }

    /// Why the last attempts failed and what to do, if they did.
    pub(crate) fn cause(&self) -> Option<String> {
        let cause = self.cause.lock().clone()?;
        Some(format!("{cause}; {}", advice(&cause)))
    }

    /// Whether a line was not logged for a while. Notes it as logged if so.
    pub(crate) fn is_due(&self, line: &str, now: Instant) -> bool {
        let mut logged = self.logged.lock();
        let recent = logged
            .get(line)
            .is_some_and(|at| now.saturating_duration_since(*at) < REPEAT_INTERVAL);
        if recent {
            return false;
        }
        if logged.len() >= MAX_LINES {
            logged.clear();
        }
        logged.insert(line.to_owned(), now);
        true
    }
}

/// What to do about an error of the client.
fn advice(error: &str) -> &'static str {
    const ADVICE: [(&str, &str); 14] = [
        (
            "unknownissuer",
            "set nats.ca_file to the authority of the server's certificate, or add it to the system's",
        ),
        (
            "badsignature",
            "set nats.ca_file to the authority of the server's certificate, not to another of the same name",
        ),
        (
            "notvalidforname",
            "use a name or address in nats.url that is in the server's certificate",
        ),
        (
            "not valid for name",
            "use a name or address in nats.url that is in the server's certificate",
        ),
        ("expired", "renew the certificate"),
        (
            "certificaterequired",
            "set nats.certificate_file and nats.key_file: the server verifies its clients",
        ),
        (
            "alert",
            "the server rejects this client's certificate: check nats.certificate_file, and its authority at the server",
        ),
        ("certificate", "check the server's certificate, and nats.ca_file"),
        (
            "authorization",
            "check nats.user and its password, nats.nkey_seed_file or nats.credentials_file against the server's users",
        ),
        ("tls", "check whether nats.url and the server agree on TLS (tls://)"),
        ("dns", "check the host names in nats.url"),
        ("lookup", "check the host names in nats.url"),
        ("refused", "check that nats-server runs at nats.url"),
        ("timed out", "check the network between this service and nats.url"),
    ];
    let error = error.to_lowercase();
    let found = ADVICE.iter().find(|(part, _)| error.contains(part));
    found.map_or("check nats.url and the log of nats-server", |(_, advice)| advice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_line_is_logged_once_a_minute() {
        let (log, start) = (ConnectionLog::default(), Instant::now());
        assert!(log.is_due("a", start));
        assert!(!log.is_due("a", start + REPEAT_INTERVAL / 2));
        assert!(log.is_due("b", start));
        assert!(log.is_due("a", start + REPEAT_INTERVAL));
        for line in 0..1_000 {
            assert!(log.is_due(&line.to_string(), start));
        }
        assert!(log.logged.lock().len() <= MAX_LINES);
    }

    #[test]
    fn an_error_has_its_advice() {
        for (error, says) in [
            ("IO error: invalid peer certificate: UnknownIssuer", "nats.ca_file"),
            (
                "IO error: received fatal alert: CertificateRequired",
                "nats.certificate_file",
            ),
            ("authorization violation", "nats.nkey_seed_file"),
            ("IO error: Connection refused (os error 111)", "runs at nats.url"),
            ("DNS error: failed to lookup address information", "host names"),
            ("timed out", "network"),
            ("something else", "log of nats-server"),
        ] {
            assert!(advice(error).contains(says), "{error}: {}", advice(error));
        }
    }
}
