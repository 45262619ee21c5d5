//! Logging: tracing events on stderr, as text or as JSON.
//!
//! A thread of its own writes the lines, and a line that cannot be written is counted. A full disk, a closed pipe or a reader that
//! stalls therefore never affects the service. Each place in the code has a share of the log: an outage, or a client, can cause the
//! same line at any rate.

use std::collections::HashMap;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::{FilterExt as _, LevelFilter, filter_fn};
use tracing_subscriber::fmt::format::{Format, Writer};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::{Layer as _, SubscriberExt as _};
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::app::App;
use crate::traces::{self, SPAN_TARGET, TraceSettings, WithTrace};

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// Plain text, coloured on a terminal.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// The keys `log.*`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LogSettings {
    /// Format of the log lines on stderr.
    pub format: LogFormat,
    /// Filter directives of `tracing-subscriber`, such as `info` or `info,ws_edge=debug`.
    #[serde(deserialize_with = "directives")]
    pub filter: String,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            format: LogFormat::default(),
            filter: "info".to_owned(),
        }
    }
}

/// Lines that wait to be written. At the limit, new lines are dropped and counted.
const QUEUED_LINES_MAX: usize = 8 * 1024;
/// The time in which a place in the code has its share of lines.
const SHARE_INTERVAL: Duration = Duration::from_secs(10);
/// Its share of warnings.
const WARNINGS_MAX: u32 = 50;
/// Its share of other lines. Those of `debug` and `trace` have no limit: they are off by default.
const LINES_MAX: u32 = 1_000;
/// The log target of the client of NATS.
const NATS_CLIENT: &str = "async_nats";
/// Limit of [`flush`].
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

static QUEUE: OnceLock<SyncSender<Message>> = OnceLock::new();

enum Message {
    Line(Vec<u8>),
    /// Replies when the lines before it are written.
    Flush(SyncSender<()>),
}

/// Sends the process's logs, and its panics, to stderr, and its spans where the settings say. A second call in one process changes
/// nothing. Call [`flush`] at the end.
///
/// # Errors
/// A thread cannot be started.
pub fn init(app: App, settings: &LogSettings, traces: &TraceSettings) -> io::Result<()> {
    let filter = EnvFilter::builder().parse_lossy(without_client(&settings.filter));
    let is_no_span = filter_fn(|metadata| metadata.target() != SPAN_TARGET).with_max_level_hint(LevelFilter::TRACE);
    let (queue, messages) = mpsc::sync_channel(QUEUED_LINES_MAX);
    let writer = LineWriter(queue.clone());
    let lines = tracing_subscriber::fmt::layer().with_writer(move || writer.clone());
    let lines = match settings.format {
        LogFormat::Text => {
            let format = Format::default().with_ansi(wants_colour());
            lines
                .with_ansi(wants_colour())
                .event_format(Limited(WithTrace(format), Shares::default()))
                .boxed()
        }
        LogFormat::Json => {
            let format = Format::default().json().flatten_event(true).with_current_span(false);
            lines
                .json()
                .event_format(Limited(WithTrace(format), Shares::default()))
                .boxed()
        }
    };
    // A layer without a filter, even `None`, would enable spans for nobody.
    let mut layers = vec![lines.with_filter(is_no_span.and(filter)).boxed()];
    if let Some(spans) = traces::layer(app, traces)? {
        let is_span = filter_fn(|metadata| metadata.target() == SPAN_TARGET).with_max_level_hint(LevelFilter::INFO);
        layers.push(spans.with_filter(is_span).boxed());
    }
    let subscriber = tracing_subscriber::registry().with(layers);
    // A log on a terminal that only its foreground may use (`stty tostop`) would suspend the service. Blocked in this thread and those
    // that it starts, the signal has no effect, and the line is written.
    let of_terminal: SigSet = [Signal::SIGTTOU, Signal::SIGTTIN].into_iter().collect();
    of_terminal.thread_block()?;
    if subscriber.try_init().is_ok() {
        thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_lines(&messages))?;
        let _ = QUEUE.set(queue);
        std::panic::set_hook(Box::new(|panic| {
            metrics::counter!("callpulse_panics_total").increment(1);
            tracing::error!(%panic, "panicked: report this bug");
        }));
    }
    Ok(())
}

/// The client of NATS logs every attempt to connect. Its events are logged once, in words, by the contract crate; its own lines are
/// shown only to those who ask for them.
fn without_client(filter: &str) -> String {
    if filter.contains(NATS_CLIENT) {
        filter.to_owned()
    } else {
        format!("{filter},{NATS_CLIENT}=off")
    }
}

/// Waits until the lines so far are written, within a limit.
pub fn flush() {
    let (done, flushed) = mpsc::sync_channel(1);
    if let Some(queue) = QUEUE.get()
        && queue.try_send(Message::Flush(done)).is_ok()
    {
        let _ = flushed.recv_timeout(FLUSH_TIMEOUT);
    }
}

fn write_lines(messages: &Receiver<Message>) {
    while let Ok(message) = messages.recv() {
        match message {
            Message::Line(line) => {
                if io::stderr().write_all(&line).is_err() {
                    metrics::counter!("callpulse_log_lines_lost_total", "reason" => "write_failed").increment(1);
                }
            }
            Message::Flush(done) => {
                let _ = done.try_send(());
            }
        }
    }
}

/// See no-color.org. A terminal of the type `dumb` shows no colours.
fn wants_colour() -> bool {
    io::stderr().is_terminal() && !anstyle_query::no_color() && anstyle_query::term_supports_color()
}

/// The lines of each place in the code, since the start of its interval.
#[derive(Default)]
struct Shares(Mutex<HashMap<Identifier, (Instant, u32)>>);

impl Shares {
    fn admit(&self, place: Identifier, most: u32, now: Instant) -> bool {
        // Code has a bounded number of places.
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (start, lines) = places.entry(place).or_insert((now, 0));
        if now.saturating_duration_since(*start) >= SHARE_INTERVAL {
            (*start, *lines) = (now, 0);
        }
        *lines = lines.saturating_add(1);
        *lines <= most
    }
}

/// Formats a line as `F` does, unless its place in the code has had its share. No filter: tracing-subscriber's filters of layers
/// lose count of their passes when one of them decides about an event.
struct Limited<F>(F, Shares);

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
    N: for<'writer> FormatFields<'writer> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let most = match *event.metadata().level() {
            Level::WARN => WARNINGS_MAX,
            Level::ERROR | Level::INFO => LINES_MAX,
            _ => u32::MAX,
        };
        if !self.1.admit(event.metadata().callsite(), most, Instant::now()) {
            metrics::counter!("callpulse_log_lines_repeated_total").increment(1);
            return Ok(());
        }
        self.0.format_event(context, writer, event)
    }
}

/// Queues one line per write, and never fails.
#[derive(Clone)]
struct LineWriter(SyncSender<Message>);

impl Write for LineWriter {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.0.try_send(Message::Line(line.to_vec())).is_err() {
            metrics::counter!("callpulse_log_lines_lost_total", "reason" => "queue_full").increment(1);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn directives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(format!("not log directives: {error}"))),
    }
}
