//! The thread that sends spans: batches, each within a time limit, and no retry.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender};
use std::time::{Duration, Instant};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{CONTENT_TYPE, HOST};
use hyper::{Request, Uri};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_proto::transform::trace::tonic::group_spans_by_resource_and_scope;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SpanData;
use prost::Message as _;
use tokio::net::TcpStream;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::{Message, count};
use crate::BoxError;

/// Spans of one request.
const BATCH_MAX: usize = 512;
/// How long the first span of a batch waits for others.
const BATCH_DELAY: Duration = Duration::from_secs(1);
/// How long the collector may take for a request.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(3);

/// Sends spans to a collector.
pub(super) struct Exporter {
    url: Uri,
    resource: ResourceAttributesWithSchema,
    runtime: Runtime,
    has_failed: AtomicBool,
}

impl Exporter {
    /// # Errors
    /// No runtime for the thread.
    pub(super) fn new(url: Uri, resource: &Resource) -> io::Result<Self> {
        Ok(Self {
            url,
            resource: resource.into(),
            runtime: Builder::new_current_thread().enable_all().build()?,
            has_failed: AtomicBool::new(false),
        })
    }

    /// Sends until the queue is dropped.
    pub(super) fn run(&self, messages: &Receiver<Message>) {
        while let Ok(first) = messages.recv() {
            let mut batch = Vec::new();
            let flushed = collect(first, messages, &mut batch);
            if !batch.is_empty() {
                self.send(batch);
            }
            if let Some(flushed) = flushed {
                let _ = flushed.try_send(());
            }
        }
    }

    fn send(&self, batch: Vec<SpanData>) {
        let spans = batch.len();
        let request = ExportTraceServiceRequest {
            resource_spans: group_spans_by_resource_and_scope(batch, &self.resource),
        };
        let body = Bytes::from(request.encode_to_vec());
        let sent = self
            .runtime
            .block_on(async { timeout(EXPORT_TIMEOUT, post(&self.url, body)).await });
        let error = match sent {
            Ok(Ok(())) => return count("exported", spans),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "no answer in time".to_owned(),
        };
        count("failed", spans);
        if !self.has_failed.swap(true, Ordering::Relaxed) {
            tracing::warn!(url = %self.url, error, "spans not exported: check traces.endpoint and the collector; further failures are counted in callpulse_trace_spans_total");
        }
    }
}

/// Adds spans to a batch until it is full, its time is over, or a flush is requested, which is returned.
fn collect(first: Message, messages: &Receiver<Message>, batch: &mut Vec<SpanData>) -> Option<SyncSender<()>> {
    let deadline = Instant::now() + BATCH_DELAY;
    let mut next = first;
    loop {
        match next {
            Message::Span(span) => batch.push(*span),
            Message::Flush(done) => return Some(done),
        }
        if batch.len() >= BATCH_MAX {
            return None;
        }
        match messages.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(message) => next = message,
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return None,
        }
    }
}

/// A connection for each request: there is at most one a second unless many spans wait.
async fn post(url: &Uri, body: Bytes) -> Result<(), BoxError> {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(80))).await?;
    let (mut client, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::post(url.path())
        .header(HOST, url.authority().map_or("", |authority| authority.as_str()))
        .header(CONTENT_TYPE, "application/x-protobuf")
        .body(Full::new(body))?;
    let mut exchange = pin!(async {
        let status = client.send_request(request).await?.status();
        if status.is_success() {
            Ok(())
        } else {
            Err(format!("HTTP status {status}").into())
        }
    });
    tokio::select! {
        biased;
        answered = &mut exchange => answered,
        // The answer may have come with the end of the connection.
        _ = connection => exchange.await,
    }
}
