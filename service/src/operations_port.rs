//! The operations port: `/livez`, `/readyz` and `/metrics`, separate from the public port.

mod descriptions;
mod process;

#[cfg(test)]
mod tests;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::{BuildError, PrometheusBuilder, PrometheusHandle};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{interval, timeout};

use crate::accept::Acceptor;
use crate::app::App;
use crate::health::Health;
use crate::{http, traces};

/// The keys `ops.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct OpsSettings {
    /// Address of the operations port, which serves `/livez`, `/readyz` and `/metrics`. Port 0 takes any free port. It has no
    /// authentication: do not expose it to the public.
    pub listen: SocketAddr,
}

impl Default for OpsSettings {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        }
    }
}

/// Upper bounds of every histogram, in seconds: from 0.1 ms (one notice) to a minute (the set-up of a call).
const BUCKETS: [f64; 15] = [
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0,
];

/// Interval at which recorded samples are moved into their buckets. This bounds their memory between scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Limit of a request head, in bytes: the smallest that hyper accepts.
const HEAD_BYTES: usize = 8 * 1024;

#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    header: Duration,
    connection: Duration,
}

const LIMITS: Limits = Limits {
    connections: 32,
    header: Duration::from_secs(5),
    connection: Duration::from_secs(10),
};

/// The metrics recorder of the process. The first call installs it.
///
/// # Errors
/// Another recorder is installed.
pub fn recorder() -> Result<PrometheusHandle, Arc<BuildError>> {
    static RECORDER: OnceLock<Result<PrometheusHandle, Arc<BuildError>>> = OnceLock::new();
    let install = || -> Result<PrometheusHandle, BuildError> {
        let handle = PrometheusBuilder::new().set_buckets(&BUCKETS)?.install_recorder()?;
        descriptions::describe();
        Ok(handle)
    };
    RECORDER.get_or_init(|| install().map_err(Arc::new)).clone()
}

/// Serves the operations port until the future is dropped.
pub async fn serve(listener: TcpListener, app: App, recorder: PrometheusHandle, health: Health) {
    serve_within(LIMITS, listener, Endpoints::new(app, recorder, health)).await;
}

async fn serve_within(limits: Limits, listener: TcpListener, endpoints: Endpoints) {
    let mut acceptor = Acceptor::operations(listener, "operations");
    let endpoints = Arc::new(endpoints);
    let permits = Arc::new(Semaphore::new(limits.connections));
    let mut upkeep = interval(UPKEEP_INTERVAL);
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = upkeep.tick() => endpoints.recorder.run_upkeep(),
            Some(_) = connections.join_next() => {}
            // At the limit, connections wait in the kernel's backlog instead of being refused: a refused liveness probe restarts
            // the service. Every connection ends within its time limit, so the wait is bounded.
            (permit, (stream, _)) = async {
                (Arc::clone(&permits).acquire_owned().await, acceptor.accept().await)
            } => {
                let endpoints = Arc::clone(&endpoints);
                connections.spawn(async move {
                    connection(limits, stream, endpoints).await;
                    drop(permit);
                });
            }
        }
    }
}

async fn connection(limits: Limits, stream: TcpStream, endpoints: Arc<Endpoints>) {
    let answer = service_fn(move |request: Request<Incoming>| {
        let response = match http::authority(&request) {
            Ok(_) => endpoints.answer(request.method(), request.uri().path()),
            Err(problem) => reply(StatusCode::BAD_REQUEST, TEXT, format!("{problem}\n")),
        };
        async move { Ok::<_, Infallible>(response) }
    });
    // One request per connection, so that one deadline bounds it. hyper's header timeout alone would wait for the first byte
    // without a limit.
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header)
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    match timeout(limits.connection, served).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "operations connection ended early"),
        Err(_) => tracing::debug!("operations connection exceeded its time limit"),
    }
}

struct Endpoints {
    app: App,
    recorder: PrometheusHandle,
    health: Health,
    since: Instant,
    /// Unix time, in seconds.
    started: f64,
}

impl Endpoints {
    fn new(app: App, recorder: PrometheusHandle, health: Health) -> Self {
        descriptions::create_counters(app);
        traces::create_counters();
        metrics::gauge!("callpulse_build_info", "service" => app.name(), "version" => app.version()).set(1.0);
        let started = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let started = started.as_secs_f64();
        metrics::gauge!("callpulse_start_time_seconds").set(started);
        Self {
            app,
            recorder,
            health,
            since: Instant::now(),
            started,
        }
    }

    fn answer(&self, method: &Method, path: &str) -> Response<Full<Bytes>> {
        let known = matches!(path, "/livez" | "/readyz" | "/metrics");
        if known && !matches!(*method, Method::GET | Method::HEAD) {
            let mut rejection = reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET and HEAD\n".to_owned());
            rejection
                .headers_mut()
                .insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
            return rejection;
        }
        match path {
            "/livez" => reply(StatusCode::OK, TEXT, "alive\n".to_owned()),
            "/readyz" => self.readiness(),
            "/metrics" => self.metrics(),
            _ => reply(
                StatusCode::NOT_FOUND,
                TEXT,
                "this port has /livez, /readyz and /metrics\n".to_owned(),
            ),
        }
    }

    fn readiness(&self) -> Response<Full<Bytes>> {
        let readiness = self.health.readiness();
        let status = if readiness.ready {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        reply(
            status,
            "application/json",
            serde_json::to_string(&readiness).unwrap_or_default(),
        )
    }

    fn metrics(&self) -> Response<Full<Bytes>> {
        metrics::gauge!("callpulse_uptime_seconds").set(self.since.elapsed().as_secs_f64());
        let ready = if self.health.is_ready() { 1.0 } else { 0.0 };
        metrics::gauge!("callpulse_ready", "service" => self.app.name()).set(ready);
        reply(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            self.recorder.render() + &process::render(self.started),
        )
    }
}

const TEXT: &str = "text/plain; charset=utf-8";

fn reply(status: StatusCode, content_type: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(CACHE_CONTROL, hyper::header::HeaderValue::from_static("no-store"));
    response
}
