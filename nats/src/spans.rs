//! The spans of calls, for OpenTelemetry: [`call_span!`](crate::call_span) opens one.
//!
//! A fact and a command carry the context of the span that published them, in the header [`TRACEPARENT`], and their consumers open
//! child spans. A notice has the header only while spans are exported. Whether they are is up to the process's subscriber: without a
//! layer that wants the target [`TARGET`], a span costs one load of an atomic, and contexts have random IDs.

use async_nats::HeaderMap;
use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags, TraceId, TraceState};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt as _;

use crate::wire::envelope::{TRACEPARENT, TraceParent};

/// Target of the spans of calls. No other span or event has it.
pub const TARGET: &str = "callpulse::span";

/// Opens a span of a call: `call_span!("settle", "internal", callpulse.call_id = %call)`. Its second argument is the `SpanKind` of
/// OpenTelemetry. Its parent is the current span, unless [`child_of`] names another one.
#[macro_export]
macro_rules! call_span {
    ($name:literal, $kind:literal $(, $($fields:tt)*)?) => {
        ::tracing::info_span!(target: $crate::spans::TARGET, $name, otel.kind = $kind, $($($fields)*)?)
    };
}

/// The context of `span`, after making it a child of the current span, or else of `parent`. A span that is not exported has an ID all
/// the same. Call it before the span is entered.
pub fn child_of(span: &Span, parent: TraceParent) -> TraceParent {
    if span.is_disabled() {
        return parent.child();
    }
    if current().is_none() {
        // It fails for a span that was entered before, which has its parent.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent.into()));
    }
    context(&span.context()).unwrap_or_else(|| parent.child())
}

/// The context of `span`, after making it a child of the message with these headers. Without a valid header it starts a trace.
pub fn child_of_message(span: &Span, headers: Option<&HeaderMap>) -> TraceParent {
    match TraceParent::find(headers) {
        Some(parent) => child_of(span, parent),
        None if span.is_disabled() => TraceParent::generate(),
        None => context(&span.context()).unwrap_or_else(TraceParent::generate),
    }
}

/// The context of the current span; `None` if none is exported.
pub fn current() -> Option<TraceParent> {
    if !tracing::span_enabled!(target: TARGET, tracing::Level::INFO) {
        return None;
    }
    Context::map_current(context)
}

/// The headers of a message without a fact, from the current span.
pub(crate) fn headers() -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    headers.insert(TRACEPARENT, current()?.to_string());
    Some(headers)
}

fn context(context: &Context) -> Option<TraceParent> {
    let span = context.span();
    let span = span.span_context();
    span.is_valid().then(|| {
        let trace_id = u128::from_be_bytes(span.trace_id().to_bytes());
        TraceParent::new(trace_id, u64::from_be_bytes(span.span_id().to_bytes()))
    })
}

impl From<TraceParent> for SpanContext {
    fn from(trace: TraceParent) -> Self {
        let (trace_id, span_id) = trace.ids();
        // Each service decides by the trace ID which calls it exports.
        let flags = TraceFlags::SAMPLED;
        Self::new(
            TraceId::from(trace_id),
            SpanId::from(span_id),
            flags,
            true,
            TraceState::default(),
        )
    }
}
