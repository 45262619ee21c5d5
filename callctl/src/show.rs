//! `callctl show`

use std::io::Write;

use anyhow::{Result, bail};
use clap::Args;
use contract::views::timeline::{Entry, Timeline};
use contract::{CallId, Timestamp};

use crate::connection::Connection;
use crate::out;

/// The options of `show`.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// ID of the call
    call: CallId,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

impl Show {
    /// Prints the facts of the call in stored order.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let page = connection.history.of_call(&self.call).await?;
        if page.facts.is_empty() {
            bail!("no facts of {}", self.call);
        }
        let timeline = Timeline::new(&page, Timestamp::now());
        out::unknown(timeline.unknown);
        let mut stdout = out::standard();
        if self.json {
            out::json_line(&mut stdout, &timeline)?;
        } else {
            print(&mut stdout, &timeline)?;
        }
        Ok(stdout.flush()?)
    }
}

fn print(stdout: &mut impl Write, timeline: &Timeline) -> Result<()> {
    if let Some(call) = &timeline.call {
        let parties = &call.parties;
        let state = timeline
            .state
            .map_or("-", contract::views::call_view::CallState::as_str);
        writeln!(stdout, "{}: {state}", parties.call_id)?;
        writeln!(stdout, "  {} called {}", parties.user_id, parties.otomo_id)?;
        if let Some(worker) = &call.worker_id {
            writeln!(stdout, "  on {worker}")?;
        }
        writeln!(stdout, "  trace {}", call.traceparent)?;
    }
    writeln!(stdout)?;
    let mut table = out::table(["SEQUENCE", "AT", "STORED AFTER", "FACT", "BY", "PAYLOAD"]);
    for entry in &timeline.entries {
        table.add_row(row(entry));
    }
    out::write_table(stdout, &table)?;
    if timeline.truncated {
        writeln!(stdout, "… and more facts, which were not read")?;
    }
    minutes(stdout, timeline)
}

fn row(entry: &Entry) -> [String; 6] {
    let payload = match &entry.error {
        Some(error) => format!("not decoded: {error}"),
        None => entry.payload.to_string(),
    };
    [
        entry.sequence.to_string(),
        out::time(entry.at.or(Some(entry.stored_at))),
        entry.lag_ms.map_or_else(|| "-".to_owned(), out::duration),
        entry.fact.clone(),
        entry.source.clone().unwrap_or_else(|| "-".to_owned()),
        payload,
    ]
}

fn minutes(stdout: &mut impl Write, timeline: &Timeline) -> Result<()> {
    let minutes = &timeline.minutes;
    let Some(due) = minutes.due else { return Ok(()) };
    let interval = minutes.interval_ms.map_or_else(|| "-".to_owned(), out::duration);
    write!(stdout, "\nminutes of {interval}: {due} due, {} stored", minutes.stored)?;
    if let Some(billed) = minutes.billed {
        write!(stdout, ", {billed} billed")?;
    }
    if !minutes.missing.is_empty() {
        write!(stdout, ", MISSING {:?}", minutes.missing)?;
    }
    Ok(writeln!(stdout)?)
}
