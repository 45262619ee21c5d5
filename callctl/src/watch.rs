//! `callctl watch`

use std::io::Write;
use std::time::Duration;

use anyhow::Result;
use clap::Args;
use contract::views::history::Recorded;
use contract::views::tail;
use contract::{CallId, Timestamp};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{MissedTickBehavior, interval};

use crate::connection::Connection;
use crate::out;

/// Time between two reads; a person does not notice it.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// The options of `watch`.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// Only facts of this call
    #[arg(long)]
    call: Option<CallId>,
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Watched<'a> {
    sequence: u64,
    stored_at: Timestamp,
    subject: &'a str,
    source: Option<&'a str>,
    traceparent: String,
    payload: Value,
    error: Option<String>,
}

impl Watch {
    /// Prints facts as they are stored. A subscription would also receive facts that the stream rejects.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let last = connection.history.last_sequence().await?;
        let mut facts = tail::facts_at(connection.client.clone(), &connection.api_prefix, last);
        let mut stdout = out::standard();
        let mut failing = false;
        let mut poll = interval(POLL_INTERVAL);
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            poll.tick().await;
            match facts.poll().await {
                Ok(new) => {
                    failing = false;
                    for recorded in new.iter().filter(|recorded| self.wants(recorded)) {
                        self.print(&mut stdout, recorded)?;
                    }
                    stdout.flush()?;
                }
                // The next read continues where the last one ended, so nothing is skipped.
                Err(error) if !failing => {
                    failing = true;
                    out::message(&format!("{error}; continuing when it answers"));
                }
                Err(_) => {}
            }
        }
    }

    fn wants(&self, recorded: &Recorded) -> bool {
        self.call
            .as_ref()
            .is_none_or(|call| contract::wire::subject::call_of_fact(&recorded.subject).is_some_and(|of| of == *call))
    }

    fn print(&self, stdout: &mut impl Write, recorded: &Recorded) -> Result<()> {
        let at = recorded
            .fact
            .as_ref()
            .map_or(recorded.stored_at, contract::Fact::occurred_at);
        let (payload, error) = (recorded.json(), recorded.error().map(ToString::to_string));
        if !self.json {
            let text = error.unwrap_or_else(|| payload.to_string());
            let line = format!("{at}  {}  {text}", recorded.subject);
            return Ok(writeln!(stdout, "{}", out::printable(&line))?);
        }
        let watched = Watched {
            sequence: recorded.sequence,
            stored_at: recorded.stored_at,
            subject: &recorded.subject,
            source: recorded.source.as_deref(),
            traceparent: recorded.trace.to_string(),
            payload,
            error,
        };
        out::json_line(stdout, &watched)
    }
}
