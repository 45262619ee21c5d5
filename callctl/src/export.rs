//! `callctl export`

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use contract::views::history::{History, MAX_ANSWER, Recorded, Start};
use contract::wire::fact::Settled;
use contract::{CallId, EndReason, Fact, FactKind, OtomoId, Timestamp, UserId};
use serde::Serialize;

use crate::link::Link;
use crate::out;
use crate::period::Period;

/// Which calls, and how.
///
/// A call belongs to the period in which its settlement was stored, which is shortly after its end. That time only ever
/// grows, so periods that follow each other hold every settled call exactly once, whenever they are exported.
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    period: Period,
    /// How it is written
    #[arg(long, value_enum, default_value = "csv")]
    format: Format,
    /// The same as --format jsonl
    #[arg(long)]
    json: bool,
    /// Go on behind this sequence, the last column of an export that broke off
    #[arg(long, value_name = "SEQUENCE")]
    after: Option<u64>,
    /// The file to write, which must not exist; standard output if left out
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Comma-separated values with a head (RFC 4180)
    Csv,
    /// One JSON object a line
    Jsonl,
}

/// A settled call. The columns are frozen: new ones come last.
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
}

impl Record {
    fn new(settled: &Settled, recorded: &Recorded) -> Self {
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
        }
    }
}

/// What was read.
#[derive(Debug, Default)]
struct Count {
    exported: u64,
    minutes: u64,
    unreadable: u64,
}

impl Export {
    /// Writes the settled calls of the period in the order in which they were settled, a page at a time.
    pub(crate) async fn run(self, link: &Link) -> Result<()> {
        let (from, to) = self.period.bounds()?;
        let start = self.after.map_or(Start::Time(from), |after| Start::Sequence(after + 1));
        let format = if self.json { Format::Jsonl } else { self.format };
        let mut writer = Writer::new(format, self.target()?);
        let count = export(&link.history, start, to, &mut writer).await?;
        writer.finish()?;
        out::complain(&format!(
            "{} calls settled from {from} to {to}, {} minutes billed",
            count.exported, count.minutes
        ));
        if count.unreadable > 0 {
            bail!(
                "{} settlements could not be read and are not in this record",
                count.unreadable
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

async fn export(history: &History, mut start: Start, to: Timestamp, writer: &mut Writer) -> Result<Count> {
    let mut count = Count::default();
    loop {
        let page = history.page(Some(FactKind::Settled), start, MAX_ANSWER).await?;
        for recorded in &page.facts {
            if recorded.stored_at >= to {
                return Ok(count);
            }
            match &recorded.fact {
                Ok(Fact::Settled(settled)) => {
                    writer.write(&Record::new(settled, recorded))?;
                    count.exported += 1;
                    count.minutes += u64::from(settled.billed_minutes);
                }
                Ok(_) => {}
                Err(error) => {
                    count.unreadable += 1;
                    out::complain(&format!("{} ({}): {error}", recorded.subject, recorded.sequence));
                }
            }
        }
        match page.facts.last() {
            Some(last) if page.more => start = Start::Sequence(last.sequence + 1),
            _ => return Ok(count),
        }
    }
}

enum Writer {
    Csv(Box<csv::Writer<Box<dyn Write>>>),
    Jsonl(Box<dyn Write>),
}

impl Writer {
    fn new(format: Format, target: Box<dyn Write>) -> Self {
        match format {
            Format::Csv => Self::Csv(Box::new(csv::Writer::from_writer(target))),
            Format::Jsonl => Self::Jsonl(target),
        }
    }

    fn write(&mut self, record: &Record) -> Result<()> {
        match self {
            Self::Csv(writer) => Ok(writer.serialize(record)?),
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
