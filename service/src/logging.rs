//! Logging: tracing events on stderr, as text or as JSON.

use std::io::IsTerminal;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use tracing_subscriber::EnvFilter;

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

/// Sends the process's logs, and its panics, to stderr. A second call in one process changes nothing.
pub fn init(settings: &LogSettings) {
    let filter = EnvFilter::builder().parse_lossy(&settings.filter);
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let first = match settings.format {
        LogFormat::Text => subscriber.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => subscriber
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
    if first.is_ok() {
        std::panic::set_hook(Box::new(|panic| {
            metrics::counter!("callpulse_panics_total").increment(1);
            tracing::error!(%panic, "panicked; report this bug");
        }));
    }
}

fn directives<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    match EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(D::Error::custom(format!("not log directives: {error}"))),
    }
}
