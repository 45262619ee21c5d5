//! The trace of a log line: `trace_id` and `span_id` at its end, as OpenTelemetry names them in logs of other formats.

use std::fmt;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, TraceContextExt as _};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Formats a line as `F` does, and adds the trace of the span in which it is logged.
pub(crate) struct WithTrace<F>(pub(crate) F);

impl<S, N, F> FormatEvent<S, N> for WithTrace<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let span = Context::map_current(|context| context.span().span_context().clone());
        if !span.is_valid() {
            return self.0.format_event(context, writer, event);
        }
        let mut line = String::new();
        self.0.format_event(context, Writer::new(&mut line), event)?;
        with_trace(&mut writer, line.trim_end_matches('\n'), &span)
    }
}

fn with_trace(writer: &mut impl fmt::Write, line: &str, span: &SpanContext) -> fmt::Result {
    let (trace_id, span_id) = (span.trace_id(), span.span_id());
    match line.strip_suffix('}').filter(|_| line.starts_with('{')) {
        Some(json) => writeln!(writer, r#"{json},"trace_id":"{trace_id}","span_id":"{span_id}"}}"#),
        None => writeln!(writer, "{line} trace_id={trace_id} span_id={span_id}"),
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanId, TraceFlags, TraceId, TraceState};

    use super::*;

    #[test]
    fn both_formats_have_the_trace_at_the_end_of_a_line() {
        let span = SpanContext::new(
            TraceId::from(0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736),
            SpanId::from(0x00f0_67aa_0ba9_02b7),
            TraceFlags::SAMPLED,
            true,
            TraceState::default(),
        );
        let line = |text: &str| {
            let mut line = String::new();
            with_trace(&mut line, text, &span).unwrap();
            line
        };
        assert_eq!(
            line("INFO accepted call_id=c {}"),
            "INFO accepted call_id=c {} trace_id=4bf92f3577b34da6a3ce929d0e0e4736 span_id=00f067aa0ba902b7\n"
        );
        let json: serde_json::Value = serde_json::from_str(&line(r#"{"message":"accepted","fields":{}}"#)).unwrap();
        assert_eq!(json["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(
            (&json["span_id"], &json["message"]),
            (&"00f067aa0ba902b7".into(), &"accepted".into())
        );
    }
}
