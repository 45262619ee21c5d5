//! `callctl export`

use std::borrow::Cow;
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use contract::jetstream::storage::CALLS;
use contract::jetstream::stored_messages::{Start, StoredMessages};
use contract::views::history::Recorded;
use contract::wire::fact::Settled;
use contract::wire::id::TermsId;
use contract::wire::subject;
use contract::wire::terms::{Charge, Silence};
use contract::wire::unknown::Unknown;
use contract::{CallId, EndReason, Fact, FactKind, OtomoId, Timestamp, UserId};
use serde::Serialize;

use crate::connection::Connection;
use crate::csv_text::cell;
use crate::out;
use crate::period::Period;

/// The options of `export`.
///
/// A call belongs to the period in which its settlement was stored, shortly after its end. Adjacent periods therefore contain every
/// settled call once.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    period: Period,
    /// Format of the output
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// Like --format jsonl
    #[arg(long, conflicts_with = "format")]
    json: bool,
    /// Resume after this sequence: the last column of an incomplete export
    #[arg(long, value_name = "SEQUENCE", value_parser = clap::value_parser!(u64).range(..u64::MAX))]
    after: Option<u64>,
    /// File to write, which must not exist; default: standard output
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a header (RFC 4180)
    Csv,
    /// One JSON object per line
    Jsonl,
}

/// The columns of CSV. They are frozen: new ones come last.
const COLUMNS: [&str; 22] = [
    "callId",
    "userId",
    "otomoId",
    "connectedAt",
    "endedAt",
    "durationMs",
    "ticks",
    "overTicks",
    "billedMinutes",
    "reason",
    "settledAt",
    "sequence",
    "billedMs",
    "userSilentMs",
    "otomoSilentMs",
    "untilMs",
    "termsId",
    "intervalMs",
    "charge",
    "freeMs",
    "minimumMs",
    "silence",
];

/// A settled call.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    call_id: CallId,
    user_id: UserId,
    otomo_id: OtomoId,
    connected_at: Option<Timestamp>,
    ended_at: Timestamp,
    duration_ms: u64,
    ticks: u32,
    over_ticks: u32,
    billed_minutes: u32,
    reason: EndReason,
    settled_at: Timestamp,
    sequence: u64,
    billed_ms: Option<u64>,
    user_silent_ms: Option<u64>,
    otomo_silent_ms: Option<u64>,
    until_ms: Option<u64>,
    terms_id: Option<TermsId>,
    interval_ms: Option<u64>,
    charge: Option<Charge>,
    free_ms: Option<u64>,
    minimum_ms: Option<u64>,
    silence: Option<Silence>,
}

impl Record {
    fn new(settled: &Settled, recorded: &Recorded) -> Self {
        let terms = settled.terms.as_ref();
        Self {
            call_id: settled.parties.call_id.clone(),
            user_id: settled.parties.user_id.clone(),
            otomo_id: settled.parties.otomo_id.clone(),
            connected_at: settled.connected_at,
            ended_at: settled.ended_at,
            duration_ms: settled.duration_ms,
            ticks: settled.ticks,
            over_ticks: settled.over_ticks,
            billed_minutes: settled.billed_minutes,
            reason: settled.reason,
            settled_at: recorded.stored_at,
            sequence: recorded.sequence,
            billed_ms: settled.billed_ms,
            user_silent_ms: settled.silent_ms.map(|silent| silent.user),
            otomo_silent_ms: settled.silent_ms.map(|silent| silent.otomo),
            until_ms: settled.until_ms,
            terms_id: terms.map(|terms| terms.terms_id.clone()),
            interval_ms: terms.map(|terms| terms.interval_ms),
            charge: terms.map(|terms| terms.charge),
            free_ms: terms.map(|terms| terms.free_ms),
            minimum_ms: terms.map(|terms| terms.minimum_ms),
            silence: terms.map(|terms| terms.silence),
        }
    }

    /// The cells of [`COLUMNS`].
    fn cells(&self) -> [Cow<'_, str>; COLUMNS.len()] {
        let number = |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string()).into();
        [
            cell(self.call_id.as_str()),
            cell(self.user_id.as_str()),
            cell(self.otomo_id.as_str()),
            self.connected_at.map_or_else(String::new, |at| at.to_string()).into(),
            self.ended_at.to_string().into(),
            self.duration_ms.to_string().into(),
            self.ticks.to_string().into(),
            self.over_ticks.to_string().into(),
            self.billed_minutes.to_string().into(),
            cell(self.reason.as_str()),
            self.settled_at.to_string().into(),
            self.sequence.to_string().into(),
            number(self.billed_ms),
            number(self.user_silent_ms),
            number(self.otomo_silent_ms),
            number(self.until_ms),
            self.terms_id.as_ref().map_or("".into(), |id| cell(id.as_str())),
            number(self.interval_ms),
            Cow::Borrowed(self.charge.map_or("", Into::into)),
            number(self.free_ms),
            number(self.minimum_ms),
            Cow::Borrowed(self.silence.map_or("", Into::into)),
        ]
    }
}

/// The result so far.
#[derive(Debug, Default)]
struct Count {
    exported: u64,
    minutes: u64,
    undecodable: u64,
    unknown: Unknown,
    last_sequence: Option<u64>,
}

impl Export {
    /// Writes the settled calls of the period in the order in which they were settled.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let (from, to) = self.period.bounds()?;
        let start = self
            .after
            .map_or(Start::Time(from), |after| Start::Sequence(after.saturating_add(1)));
        let format = if self.json { Format::Jsonl } else { self.format };
        let filter = subject::facts_of_kind(FactKind::Settled);
        let messages = StoredMessages::open(&connection.client, &connection.api_prefix, CALLS, &filter, start).await;
        let messages = messages.with_context(|| incomplete(self.after))?;
        let mut writer = Writer::new(format, self.target()?)?;
        let mut count = Count {
            last_sequence: self.after,
            ..Count::default()
        };
        let outcome = export(messages, to, &mut writer, &mut count).await;
        // Also after an error: the records up to the reported sequence must be in the file.
        writer.finish()?;
        outcome?;
        out::message(&format!(
            "{} calls settled from {from} to {to}, {} minutes billed",
            count.exported, count.minutes
        ));
        out::unknown(count.unknown);
        if count.undecodable > 0 {
            bail!(
                "{} settlements could not be decoded and are missing from this export",
                count.undecodable
            );
        }
        Ok(())
    }

    fn target(&self) -> Result<Box<dyn Write>> {
        let Some(path) = &self.output else {
            return Ok(Box::new(out::standard()));
        };
        let file = File::create_new(path).with_context(|| format!("creating {}", path.display()))?;
        Ok(Box::new(std::io::BufWriter::new(file)))
    }
}

fn incomplete(last_sequence: Option<u64>) -> String {
    match last_sequence {
        Some(sequence) => format!("the export is incomplete: resume it with --after {sequence}"),
        None => "the export is incomplete and has no records: run it again".to_owned(),
    }
}

async fn export(mut messages: StoredMessages, to: Timestamp, writer: &mut Writer, count: &mut Count) -> Result<()> {
    loop {
        let page = messages.next_page().await;
        let page = page.with_context(|| incomplete(count.last_sequence))?;
        if page.is_empty() {
            return Ok(());
        }
        for recorded in page.into_iter().map(Recorded::from_stored) {
            if recorded.stored_at >= to {
                return Ok(());
            }
            count.unknown += recorded.unknown();
            match &recorded.fact {
                Ok(Fact::Settled(settled)) => {
                    writer.write(&Record::new(settled, &recorded))?;
                    count.exported += 1;
                    count.minutes += u64::from(settled.billed_minutes);
                }
                Ok(_) => {}
                Err(error) => {
                    count.undecodable += 1;
                    out::message(&format!("{} ({}): {error}", recorded.subject, recorded.sequence));
                }
            }
            count.last_sequence = Some(recorded.sequence);
        }
    }
}

enum Writer {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Jsonl(Box<dyn Write>),
}

impl Writer {
    /// CSV begins with its header, also if no record follows.
    fn new(format: Format, target: Box<dyn Write>) -> Result<Self> {
        Ok(match format {
            Format::Csv => {
                let mut writer = csv::Writer::from_writer(target);
                writer.write_record(COLUMNS)?;
                Self::Csv(Box::new(writer))
            }
            Format::Jsonl => Self::Jsonl(target),
        })
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        match self {
            Self::Csv(writer) => Ok(writer.write_record(record.cells().iter().map(|cell| cell.as_bytes()))?),
            Self::Jsonl(writer) => out::json_line(writer, record),
        }
    }

    fn finish(self) -> Result<()> {
        match self {
            Self::Csv(mut writer) => Ok(writer.flush()?),
            Self::Jsonl(mut writer) => Ok(writer.flush()?),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn csv_and_json_have_the_same_fields() {
        let at = Timestamp::from_millis(1_700_000_000_000).unwrap();
        let record = Record {
            call_id: "call_1".parse().unwrap(),
            user_id: "u".parse().unwrap(),
            otomo_id: "o".parse().unwrap(),
            connected_at: None,
            ended_at: at,
            duration_ms: 2,
            ticks: 3,
            over_ticks: 4,
            billed_minutes: 5,
            reason: EndReason::Hangup,
            settled_at: at,
            sequence: 6,
            billed_ms: Some(7),
            user_silent_ms: Some(8),
            otomo_silent_ms: None,
            until_ms: Some(9),
            terms_id: Some("t".parse().unwrap()),
            interval_ms: Some(10),
            charge: Some(Charge::Start),
            free_ms: Some(11),
            minimum_ms: None,
            silence: Some(Silence::DeductOtomo),
        };
        let json = serde_json::to_value(&record).unwrap();
        assert_eq!(json.as_object().unwrap().len(), COLUMNS.len());
        for (column, cell) in COLUMNS.iter().zip(record.cells()) {
            let text = match &json[column] {
                Value::Null => String::new(),
                Value::String(text) => text.clone(),
                other => other.to_string(),
            };
            assert_eq!(cell, text, "{column}");
        }
    }
}
