//! Prints the differences as they are found and then the summary to stdout, and logs the progress.

use std::io::{self, Write};

use contract::Timestamp;
use contract::wire::unknown::Unknown;
use serde::Serialize;
use serde_json::json;
use tokio::time::{Duration, Instant};

use super::audit::Summary;
use super::difference::Difference;
use super::window::Window;

/// The interval between progress lines in the log.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(5);

/// Discards what follows once the reader has closed the pipe: the exit code still says whether there are differences.
pub(crate) struct PipeWriter<W> {
    out: W,
    closed: bool,
}

impl<W> PipeWriter<W> {
    pub(crate) fn new(out: W) -> Self {
        Self { out, closed: false }
    }

    fn unless_closed<T>(&mut self, otherwise: T, action: impl FnOnce(&mut W) -> io::Result<T>) -> io::Result<T> {
        if self.closed {
            return Ok(otherwise);
        }
        match action(&mut self.out) {
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                self.closed = true;
                Ok(otherwise)
            }
            result => result,
        }
    }
}

impl<W: Write> Write for PipeWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.unless_closed(bytes.len(), |out| out.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.unless_closed((), Write::flush)
    }
}

/// Writes differences and the summary.
pub(crate) struct Report<W> {
    out: W,
    json: bool,
}

impl<W: Write> Report<W> {
    pub(crate) fn new(out: W, json: bool) -> Self {
        Self { out, json }
    }

    pub(crate) fn differences(&mut self, differences: &[Difference]) -> io::Result<()> {
        for difference in differences {
            if self.json {
                self.line(difference)?;
            } else {
                writeln!(self.out, "{difference}")?;
            }
        }
        self.out.flush()
    }

    pub(crate) fn summary(&mut self, window: &Window, facts: u64, summary: &Summary) -> io::Result<()> {
        if self.json {
            let mut line = json!({ "from": window.from, "to": window.to, "facts": facts });
            if let (Some(line), Ok(serde_json::Value::Object(rest))) =
                (line.as_object_mut(), serde_json::to_value(summary))
            {
                line.extend(rest);
            }
            self.line(&json!({ "summary": line }))?;
            return self.out.flush();
        }
        let Summary {
            calls,
            connected,
            settled,
            running,
            billed_minutes,
            ticks_due,
            ticks_stored,
            unknown,
            differences,
            findings,
            omitted,
        } = summary;
        writeln!(
            self.out,
            "window       {} to {}, {facts} facts read",
            window.from, window.to
        )?;
        writeln!(
            self.out,
            "calls        {calls}: {connected} connected, {settled} settled, {running} still running"
        )?;
        writeln!(
            self.out,
            "minutes      {billed_minutes} billed; {ticks_due} ticks due, {ticks_stored} stored"
        )?;
        if !unknown.is_empty() {
            let Unknown { kinds, fields, reasons } = unknown;
            writeln!(
                self.out,
                "unknown      {kinds} facts of later versions, {fields} fields, {reasons} reasons"
            )?;
        }
        let found: Vec<String> = findings.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
        if !found.is_empty() {
            writeln!(self.out, "findings     {}", found.join(", "))?;
        }
        let all: u64 = differences.values().sum();
        let kinds: Vec<String> = differences
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        match (all, omitted) {
            (0, _) => writeln!(self.out, "differences  none")?,
            (all, 0) => writeln!(self.out, "differences  {all}: {}", kinds.join(", "))?,
            (all, omitted) => writeln!(
                self.out,
                "differences  {all}: {}; {omitted} more of calls with too many",
                kinds.join(", ")
            )?,
        }
        self.out.flush()
    }

    fn line(&mut self, value: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.out, value)?;
        writeln!(self.out)
    }
}

/// Logs the progress of reading.
pub(crate) struct Progress {
    window_end: Timestamp,
    first_at: Option<Timestamp>,
    started: Instant,
    logged_at: Instant,
    logged_facts: u64,
    pub(crate) facts: u64,
}

impl Progress {
    pub(crate) fn new(window: &Window) -> Self {
        let now = Instant::now();
        Self {
            window_end: window.reading_to(),
            first_at: None,
            started: now,
            logged_at: now,
            logged_facts: 0,
            facts: 0,
        }
    }

    pub(crate) fn note(&mut self, facts: usize, at: Timestamp, open_calls: usize) {
        let first_at = *self.first_at.get_or_insert(at);
        self.facts += facts as u64;
        let since = self.logged_at.elapsed();
        if since < PROGRESS_INTERVAL {
            return;
        }
        let share = 100 * at.millis_since(first_at) / self.window_end.millis_since(first_at).max(1);
        let per_second = u128::from(self.facts - self.logged_facts) * 1_000 / since.as_millis().max(1);
        tracing::info!(facts = self.facts, per_second, percent = share, open_calls, %at, "reading");
        self.logged_at = Instant::now();
        self.logged_facts = self.facts;
    }

    pub(crate) fn end(&self) {
        let took = self.started.elapsed();
        let per_second = u128::from(self.facts) * 1_000 / took.as_millis().max(1);
        tracing::info!(facts = self.facts, took_ms = took.as_millis(), per_second, "read");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reconcile::difference::Kind;

    struct Closed;

    impl Write for Closed {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::BrokenPipe.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Err(io::ErrorKind::BrokenPipe.into())
        }
    }

    #[test]
    fn a_closed_pipe_is_no_failure_of_the_check() {
        let mut report = Report::new(PipeWriter::new(Closed), true);
        report.line(&json!({})).unwrap();
        report.differences(&[]).unwrap();
    }

    fn printed(json: bool) -> String {
        let at = |text| super::super::window::time(text).unwrap();
        let window = Window {
            from: at("2026-03-01T00:00:00Z"),
            to: at("2026-03-02T00:00:00Z"),
            grace: Duration::ZERO,
        };
        let mut summary = Summary {
            calls: 3,
            billed_minutes: 14,
            ..Summary::default()
        };
        let difference = Difference {
            kind: Kind::TickMissing,
            call_id: None,
            sequences: vec![],
            expected: "tick 3".to_owned(),
            found: "none".to_owned(),
        };
        summary.differences.insert(Kind::TickMissing.as_str(), 1);
        let mut out = Vec::new();
        let mut report = Report::new(&mut out, json);
        report.differences(&[difference]).unwrap();
        report.summary(&window, 99, &summary).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_output_has_one_line_per_difference_and_a_summary() {
        let text = printed(false);
        assert!(
            text.starts_with("no call: tick_missing: expected tick 3, found none\n"),
            "{text}"
        );
        assert!(text.contains("calls        3: 0 connected"), "{text}");
        assert!(text.ends_with("differences  1: tick_missing 1\n"), "{text}");
    }

    #[test]
    fn json_output_has_one_object_per_line() {
        let text = printed(true);
        let lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0]["difference"], "tick_missing");
        let summary = &lines[1]["summary"];
        assert_eq!((&summary["facts"], &summary["billedMinutes"]), (&json!(99), &json!(14)));
        assert_eq!(summary["differences"]["tick_missing"], 1);
    }
}
