//! Saves the facts and the run log of a failed run, one JSON object per line.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use async_nats::jetstream::{
    self,
    consumer::{AckPolicy, pull},
};
use chrono::{DateTime, Utc};
use contract::jetstream::storage;
use futures::StreamExt;
use serde_json::{Value, json};

use crate::records::run_log::RunLog;

/// Facts fetched at once.
const BATCH: usize = 1_000;
/// The deadline for a batch of facts.
const QUIET: Duration = Duration::from_secs(5);

/// Writes the stored facts and the run log below `folder`.
pub async fn save(client: &async_nats::Client, run_log: &RunLog, folder: &Path) -> Result<()> {
    let mut facts = writer(folder, "facts.jsonl")?;
    let stream = jetstream::new(client.clone()).get_stream(storage::CALLS).await?;
    let config = pull::Config {
        ack_policy: AckPolicy::None,
        memory_storage: true,
        inactive_threshold: QUIET,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut left = consumer.cached_info().num_pending;
    while left > 0 {
        let mut batch = consumer.fetch().max_messages(BATCH).expires(QUIET).messages().await?;
        let before = left;
        while let Some(message) = batch.next().await {
            let message = message.map_err(anyhow::Error::from_boxed)?;
            let info = message.info().map_err(anyhow::Error::from_boxed)?;
            left = info.pending;
            let payload: Value = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
            let line = json!({
                "sequence": info.stream_sequence, "stored": text(info.published), "subject": message.subject.as_str(), "payload": payload,
            });
            writeln!(facts, "{line}")?;
        }
        anyhow::ensure!(left < before, "{left} facts were not delivered");
    }
    facts.flush()?;
    save_run_log(run_log, folder)
}

fn save_run_log(run_log: &RunLog, folder: &Path) -> Result<()> {
    let mut file = writer(folder, "run_log.jsonl")?;
    let mut lines: Vec<(SystemTime, Value)> = Vec::new();
    let at = |time: SystemTime| text(time.into());
    run_log.read(|entries| {
        lines.extend(entries.received.iter().map(|received| {
            (
                received.at,
                json!({ "received_by": received.party, "message": received.message }),
            )
        }));
        lines.extend(entries.attempts.iter().map(|attempt| {
            let (began, failed) = (at(attempt.began), &attempt.failed);
            (
                attempt.at,
                json!({ "attempt": attempt.step, "party": attempt.party, "began": began, "failed": failed }),
            )
        }));
        lines.extend(entries.faults.iter().map(|fault| {
            let repaired = fault.repaired_at.map(at);
            (
                fault.injected_at,
                json!({ "fault": fault.what, "target": fault.target, "repaired": repaired }),
            )
        }));
        lines.extend(
            entries
                .clock_steps
                .iter()
                .map(|step| (step.at, json!({ "clock_of": step.process, "ahead_ms": step.offset_ms }))),
        );
        lines.extend(entries.heard.iter().map(|heard| {
            let last = json!({ "last_heard_in": heard.call, "party": heard.party });
            (heard.sent_at, last)
        }));
        lines.extend(entries.grants.iter().map(|grant| {
            let sent = json!({ "granted_in": grant.call, "until_ms": grant.until_ms });
            (grant.at, sent)
        }));
        let starved = entries.starved.iter();
        lines.extend(starved.map(|(from, until)| (*from, json!({ "starved": at(*until) }))));
        lines.extend(entries.outages.iter().enumerate().map(|(place, outage)| {
            let (until, chosen) = (outage.until.map(at), entries.chosen.contains(&place));
            (
                outage.from,
                json!({ "outage": outage.party, "until": until, "chosen": chosen }),
            )
        }));
    });
    lines.sort_by_key(|(at, _)| *at);
    for (time, mut line) in lines {
        if let Some(line) = line.as_object_mut() {
            line.insert("at".to_owned(), at(time).into());
        }
        writeln!(file, "{line}")?;
    }
    Ok(file.flush()?)
}

fn writer(folder: &Path, name: &str) -> Result<BufWriter<File>> {
    let path = folder.join(name);
    let file = File::create(&path).with_context(|| format!("writing {}", path.display()))?;
    Ok(BufWriter::new(file))
}

fn text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()
}
