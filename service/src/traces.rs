//! Traces: the spans of calls, exported to a collector with OTLP over HTTP. Off by default.
//!
//! Spans wait in a bounded queue for a thread of its own, which sends them in batches. A collector that is away or does not answer
//! costs spans, which are counted, and nothing else.
//!
//! Sources: OpenTelemetry protocol (OTLP) 1, section OTLP/HTTP; W3C Trace Context.

mod export;
mod log_lines;

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{self, SyncSender, TrySendError};
use std::thread;
use std::time::Duration;

use hyper::Uri;
use opentelemetry::KeyValue;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{
    IdGenerator, RandomIdGenerator, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData, SpanProcessor,
};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tracing_opentelemetry::OpenTelemetryLayer;
use tracing_subscriber::registry::LookupSpan;

use crate::app::App;
use export::Exporter;
pub(crate) use log_lines::WithTrace;

/// Target of the spans that are exported: `spans::TARGET` of the contract. They are not for log lines, whose fields they would repeat.
pub(crate) const SPAN_TARGET: &str = "callpulse::span";

/// Spans that wait to be sent. At the limit, new ones are dropped and counted.
const QUEUED_SPANS_MAX: usize = 4 * 1024;
/// How long the end of the process may wait for the last spans.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// The keys `traces.*`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TraceSettings {
    /// URL of an OpenTelemetry collector that receives OTLP over HTTP, such as `http://127.0.0.1:4318`; `/v1/traces` is appended to a
    /// URL without a path. Null exports no traces. `https` is not supported: run a collector beside the service.
    #[serde(deserialize_with = "endpoint")]
    pub endpoint: Option<String>,
    /// Share of calls whose spans are exported, from 0 to 1. It depends on the trace ID alone: services with the same value export
    /// the same calls.
    #[serde(deserialize_with = "ratio")]
    pub sample_ratio: f64,
}

// No value is NaN.
impl Eq for TraceSettings {}

impl Default for TraceSettings {
    fn default() -> Self {
        Self {
            endpoint: None,
            sample_ratio: 1.0,
        }
    }
}

static EXPORT: OnceLock<(SdkTracerProvider, Queue)> = OnceLock::new();

/// The layer that exports spans; `None` if the settings have no endpoint.
///
/// # Errors
/// The thread cannot be started.
pub(crate) fn layer<S>(app: App, settings: &TraceSettings) -> io::Result<Option<OpenTelemetryLayer<S, SdkTracer>>>
where
    S: tracing::Subscriber + for<'span> LookupSpan<'span>,
{
    let Some(url) = settings.endpoint.as_deref().map(parse_endpoint) else {
        return Ok(None);
    };
    let resource = resource(app);
    let exporter = Exporter::new(url.map_err(io::Error::other)?, &resource)?;
    let (queue, messages) = mpsc::sync_channel(QUEUED_SPANS_MAX);
    thread::Builder::new()
        .name("traces".to_owned())
        .spawn(move || exporter.run(&messages))?;
    let queue = Queue(queue);
    let provider = SdkTracerProvider::builder()
        .with_resource(resource)
        .with_sampler(Sampler::TraceIdRatioBased(settings.sample_ratio))
        .with_span_processor(queue.clone())
        .build();
    let tracer = provider.tracer("callpulse");
    let _ = EXPORT.set((provider, queue));
    let layer = tracing_opentelemetry::layer().with_tracer(tracer);
    Ok(Some(
        layer
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_tracked_inactivity(false),
    ))
}

/// Sends the spans so far, within a limit.
pub(crate) fn flush() {
    if let Some((_, queue)) = EXPORT.get() {
        queue.flush(FLUSH_TIMEOUT);
    }
}

/// The service, its version and its process. `OTEL_RESOURCE_ATTRIBUTES` adds others, such as the name of a pod.
fn resource(app: App) -> Resource {
    Resource::builder()
        .with_service_name(app.name())
        .with_attributes([
            KeyValue::new("service.version", app.version()),
            KeyValue::new(
                "service.instance.id",
                RandomIdGenerator::default().new_trace_id().to_string(),
            ),
        ])
        .build()
}

enum Message {
    Span(Box<SpanData>),
    /// Replies when the spans before it are sent or lost.
    Flush(SyncSender<()>),
}

/// Queues spans without waiting.
#[derive(Debug, Clone)]
struct Queue(SyncSender<Message>);

impl Queue {
    fn flush(&self, timeout: Duration) {
        let (done, flushed) = mpsc::sync_channel(1);
        // If the queue is full, the collector is away.
        if self.0.try_send(Message::Flush(done)).is_ok() {
            let _ = flushed.recv_timeout(timeout);
        }
    }
}

impl SpanProcessor for Queue {
    fn on_start(&self, _: &mut Span, _: &opentelemetry::Context) {}

    fn on_end(&self, span: SpanData) {
        if !span.span_context.is_sampled() {
            return;
        }
        if let Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) =
            self.0.try_send(Message::Span(Box::new(span)))
        {
            count("queue_full", 1);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        Ok(())
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.flush(timeout);
        Ok(())
    }
}

/// Creates the counters of spans at 0.
pub(crate) fn create_counters() {
    for outcome in ["exported", "failed", "queue_full"] {
        count(outcome, 0);
    }
}

/// Counts spans; `outcome` is `exported`, `failed` or `queue_full`.
fn count(outcome: &'static str, spans: usize) {
    metrics::counter!("callpulse_trace_spans_total", "outcome" => outcome).increment(spans as u64);
}

/// The URL to which spans are posted.
fn parse_endpoint(text: &str) -> Result<Uri, String> {
    let url: Uri = text.parse().map_err(|_| "is not a URL")?;
    let authority = url.authority().ok_or("is not a URL with a host")?;
    match url.scheme_str() {
        Some("http") => {}
        Some("https") => return Err("https is not supported: run a collector beside the service".to_owned()),
        _ => return Err("is not a URL with http".to_owned()),
    }
    if authority.as_str().contains('@') {
        return Err("user names and passwords are not supported".to_owned());
    }
    let path = match url.path() {
        "" | "/" => "/v1/traces",
        path => path,
    };
    Uri::builder()
        .scheme("http")
        .authority(authority.clone())
        .path_and_query(path)
        .build()
        .map_err(|_| "is not a URL".to_owned())
}

fn endpoint<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let url = Option::<String>::deserialize(deserializer)?;
    match url.as_deref().map(parse_endpoint) {
        Some(Err(error)) => Err(D::Error::custom(error)),
        _ => Ok(url),
    }
}

fn ratio<'de, D: Deserializer<'de>>(deserializer: D) -> Result<f64, D::Error> {
    let ratio = f64::deserialize(deserializer)?;
    if (0.0..=1.0).contains(&ratio) {
        Ok(ratio)
    } else {
        Err(D::Error::custom("must be a share from 0 to 1"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_an_http_url_without_a_password() {
        let parsed = |text| parse_endpoint(text).map(|url| url.to_string());
        for (text, url) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("http://collector/", "http://collector/v1/traces"),
            (
                "http://collector:4318/otlp/v1/traces",
                "http://collector:4318/otlp/v1/traces",
            ),
        ] {
            assert_eq!(parsed(text), Ok(url.to_owned()));
        }
        for bad in [
            "",
            "collector:4318",
            "https://collector",
            "grpc://collector",
            "http://a:b@collector",
            "/v1/traces",
        ] {
            assert!(parsed(bad).is_err(), "{bad}");
        }
    }
}
