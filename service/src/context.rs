//! The context of a running service: stop signal, health, operations port and drain.

use std::future::Future;
use std::io::{self, Write as _};
use std::net::SocketAddr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::app::App;
use crate::health::{Condition, Health};
use crate::logging::LogSettings;
use crate::operations_port::{self, OpsSettings};
use crate::shutdown::Drain;
use crate::tasks::Tasks;
use crate::traces::TraceSettings;

/// The keys that every service has. Flatten it into the service's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommonSettings {
    /// The keys `log.*`.
    pub log: LogSettings,
    /// The keys `ops.*`.
    pub ops: OpsSettings,
    /// The keys `traces.*`.
    pub traces: TraceSettings,
    /// Longest time from SIGTERM to the end of the process. Unfinished work is then abandoned, with a warning.
    pub drain_timeout_ms: u64,
}

impl Default for CommonSettings {
    fn default() -> Self {
        Self {
            log: LogSettings::default(),
            ops: OpsSettings::default(),
            traces: TraceSettings::default(),
            drain_timeout_ms: 10_000,
        }
    }
}

impl CommonSettings {
    /// The defaults, with the operations port on loopback at `port`.
    pub fn with_ops_port(port: u16) -> Self {
        Self {
            ops: OpsSettings {
                listen: SocketAddr::from(([127, 0, 0, 1], port)),
            },
            ..Self::default()
        }
    }
}

/// Shared by a service's tasks. Clones share one state; the operations port closes with the last clone.
#[derive(Debug, Clone)]
pub struct ServiceContext {
    /// Cancelled when the service is to stop. Cancel it to stop the service from inside.
    pub stop: CancellationToken,
    /// The service's readiness. The condition `started` is set by [`ServiceContext::announce`].
    pub health: Health,
    app: App,
    ops: SocketAddr,
    drain: Drain,
    started: Condition,
    announced: watch::Sender<Option<Map<String, Value>>>,
    _ops_guard: std::sync::Arc<DropGuard>,
}

impl ServiceContext {
    /// Binds and serves the operations port. Installs no signal handlers, so that tests may run several.
    ///
    /// # Errors
    /// The port could not be bound, or another metrics recorder is installed.
    pub async fn start(app: App, settings: &CommonSettings) -> io::Result<Self> {
        let recorder = operations_port::recorder().map_err(io::Error::other)?;
        let listener = TcpListener::bind(settings.ops.listen).await?;
        let ops = listener.local_addr()?;
        let (stop, health, end) = (CancellationToken::new(), Health::default(), CancellationToken::new());
        let started = health.condition("started");
        // The operations port outlives `stop`, so that draining can be observed.
        tokio::spawn(end.clone().run_until_cancelled_owned(operations_port::serve(
            listener,
            app,
            recorder,
            health.clone(),
        )));
        let (draining, stopping) = (health.clone(), stop.clone());
        tokio::spawn(end.clone().run_until_cancelled_owned(async move {
            stopping.cancelled().await;
            draining.drain();
        }));
        let drain = Drain::new(Duration::from_millis(settings.drain_timeout_ms));
        let announced = watch::Sender::new(None);
        Ok(Self {
            stop,
            health,
            app,
            ops,
            drain,
            started,
            announced,
            _ops_guard: std::sync::Arc::new(end.drop_guard()),
        })
    }

    /// An empty set for the service's top-level tasks.
    pub fn tasks(&self) -> Tasks {
        Tasks::new(self.stop.clone(), self.drain.clone())
    }

    /// Runs `future` until the drain deadline, which it shares with [`Tasks::join`]; `None` if it overruns.
    pub async fn drain<F: Future>(&self, what: &str, future: F) -> Option<F::Output> {
        self.drain.run(what, future).await
    }

    /// Announces that everything is bound: one JSON line on stdout, such as
    /// `{"ops":"127.0.0.1:4002","service":"ws-edge","ws":"127.0.0.1:4001"}`, and the condition `started`.
    pub fn announce<K: Into<String>, V: Into<Value>>(&self, bound: impl IntoIterator<Item = (K, V)>) {
        let mut line: Map<String, Value> = bound
            .into_iter()
            .map(|(key, value)| (key.into(), value.into()))
            .collect();
        line.insert("service".to_owned(), self.app.name().into());
        line.insert("ops".to_owned(), self.ops.to_string().into());
        let text = Value::Object(line.clone()).to_string();
        let mut stdout = io::stdout().lock();
        if let Err(error) = writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
            tracing::warn!(%error, "cannot write the bound addresses to stdout");
        }
        tracing::info!(version = self.app.version(), bound = text, "started");
        self.announced.send_replace(Some(line));
        self.started.set(true);
    }

    /// The announcement, once it is made. Tests in the same process read the ports from it.
    pub fn announced(&self) -> watch::Receiver<Option<Map<String, Value>>> {
        self.announced.subscribe()
    }

    pub(crate) fn drain_limit(&self) -> Drain {
        self.drain.clone()
    }
}
