//! Accepting connections: one loop for every port, which survives the lack of descriptors and logs it once.
//!
//! A process that has used all its descriptors cannot reconnect to NATS, and answers no probe, as long as its public ports take every
//! descriptor that becomes free. Public ports therefore accept only while the process holds a [reserve](SPARE) of open descriptors.
//! At the limit it is closed, for NATS and probes to use, until there is room for all of it again.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep_until};

/// Pause after a failure. A process without free descriptors gains nothing from a fast retry.
const PAUSE: Duration = Duration::from_millis(100);

/// Descriptors that are held for NATS, probes and files. They belong to [`RESERVED`](crate::descriptors::RESERVED).
#[cfg(unix)]
const SPARE: usize = 16;

/// A bound port that accepts.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    /// For logs.
    port: &'static str,
    is_public: bool,
    /// Set after a failure.
    retry_at: Option<Instant>,
    failing: bool,
}

impl Acceptor {
    /// A port of clients.
    pub fn public(listener: TcpListener, port: &'static str) -> Self {
        Self::new(listener, port, true)
    }

    /// A port of the operators, which needs no reserve to accept. Bound the number of its connections.
    pub fn operations(listener: TcpListener, port: &'static str) -> Self {
        Self::new(listener, port, false)
    }

    fn new(listener: TcpListener, port: &'static str, is_public: bool) -> Self {
        Self {
            listener,
            port,
            is_public,
            retry_at: None,
            failing: false,
        }
    }

    /// The next connection. Failures are retried without limit: race it against the stop signal. Dropping it loses no connection.
    pub async fn accept(&mut self) -> (TcpStream, SocketAddr) {
        loop {
            if let Some(retry_at) = self.retry_at {
                sleep_until(retry_at).await;
                self.retry_at = None;
            }
            if self.is_public && !reserve::hold() {
                self.failed(&io::Error::other("no descriptors are left but a reserve"));
                continue;
            }
            match self.listener.accept().await {
                Ok(accepted) => {
                    if std::mem::take(&mut self.failing) {
                        tracing::info!(port = self.port, "accepting connections again");
                    }
                    return accepted;
                }
                Err(error) if is_of_the_connection(&error) => {}
                Err(error) => self.failed(&error),
            }
        }
    }

    fn failed(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.failing, true) {
            let port = self.port;
            tracing::warn!(%error, port, "accept failed: retrying; check the limit of open files");
        }
        if self.is_public {
            reserve::release();
        }
        self.retry_at = Some(Instant::now() + PAUSE);
    }
}

/// The client has closed it meanwhile, or its network has failed (accept(2)): the next one may be fine.
fn is_of_the_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::HostUnreachable
            | io::ErrorKind::NetworkUnreachable
            | io::ErrorKind::NetworkDown
            | io::ErrorKind::Interrupted
    )
}

#[cfg(unix)]
mod reserve {
    use std::fs::File;

    use parking_lot::Mutex;

    use super::SPARE;

    static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());

    /// Whether the whole reserve is held, or could be opened now. Otherwise none of it is held.
    pub(super) fn hold() -> bool {
        let mut held = HELD.lock();
        while held.len() < SPARE {
            match File::open("/dev/null") {
                Ok(file) => held.push(file),
                Err(_) => {
                    held.clear();
                    return false;
                }
            }
        }
        true
    }

    pub(super) fn release() {
        HELD.lock().clear();
    }
}

#[cfg(not(unix))]
mod reserve {
    pub(super) fn hold() -> bool {
        true
    }

    pub(super) fn release() {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_failure_is_retried_and_the_reserve_is_held_again() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut acceptor = Acceptor::public(listener, "test");
        acceptor.failed(&io::Error::other("as tested"));
        assert!(acceptor.failing);
        let client = TcpStream::connect(address).await.unwrap();
        let (_, peer) = acceptor.accept().await;
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(!acceptor.failing && acceptor.retry_at.is_none());
    }
}
