//! Output: results to standard output, everything else to standard error.

use std::borrow::Cow;
use std::io::{self, BufWriter, StdoutLock, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Result;
use comfy_table::{Table, presets};
use contract::Timestamp;
use contract::wire::unknown::Unknown;
use serde::Serialize;

static READER_IS_GONE: AtomicBool = AtomicBool::new(false);

/// Standard output, which notes that its reader has closed the pipe. Formats wrap errors, and some lose their cause.
pub(crate) struct Standard(StdoutLock<'static>);

impl Standard {
    fn note<T>(result: io::Result<T>) -> io::Result<T> {
        if result
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            READER_IS_GONE.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Standard {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Self::note(self.0.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Self::note(self.0.flush())
    }
}

/// Buffered standard output. The caller handles errors.
pub(crate) fn standard() -> BufWriter<Standard> {
    BufWriter::new(Standard(io::stdout().lock()))
}

/// Whether the reader of standard output has closed the pipe, which is no failure.
pub(crate) fn reader_is_gone() -> bool {
    READER_IS_GONE.load(Ordering::Relaxed)
}

/// Writes a JSON value and a line break.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

/// An aligned table without borders, for people and for `cut`.
pub(crate) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// Writes a table without trailing spaces.
pub(crate) fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", printable(line.trim_end()))?;
    }
    Ok(())
}

/// The text without control characters, which a terminal would execute.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    if text.contains(char::is_control) {
        text.replace(char::is_control, "\u{fffd}").into()
    } else {
        text.into()
    }
}

/// A time, or a dash.
pub(crate) fn time(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// A duration for people: `7 ms`, `3.2 s`, `4:05`, `1:02:03`.
pub(crate) fn duration(millis: u64) -> String {
    let seconds = millis / 1_000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

/// Writes a message to standard error. A failure to write is ignored.
pub(crate) fn message(text: &str) {
    let lines: Vec<_> = text.lines().map(printable).collect();
    let _ = writeln!(io::stderr(), "callctl: {}", lines.join("\n"));
}

/// Says what this version does not know of what it has read.
pub(crate) fn unknown(unknown: Unknown) {
    let Unknown { kinds, fields, reasons } = unknown;
    if !unknown.is_empty() {
        message(&format!(
            "from a later version: {kinds} facts of unknown kinds, {fields} unknown fields, {reasons} unknown reasons"
        ));
    }
}

/// An error with its causes, each once: many texts end with that of their cause.
pub(crate) fn with_causes(error: &anyhow::Error) -> String {
    let mut causes: Vec<_> = error.chain().map(ToString::to_string).collect();
    causes.dedup_by(|cause, before| before.ends_with(cause.as_str()));
    causes.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_the_unit_of_their_size() {
        let durations = [7, 3_250, 59_999, 60_000, 245_000, 3_723_000].map(duration);
        assert_eq!(durations, ["7 ms", "3.2 s", "59.9 s", "1:00", "4:05", "1:02:03"]);
    }

    #[test]
    fn control_characters_do_not_reach_a_terminal() {
        assert_eq!(printable("\u{1b}[2Jx\u{9b}"), "\u{fffd}[2Jx\u{fffd}");
        assert!(matches!(printable("x → y"), Cow::Borrowed(_)));
    }

    #[test]
    fn tables_are_aligned_without_trailing_spaces() {
        let mut table = table(["A", "LONGER"]);
        table.add_row(["wide cell", "x"]);
        let mut out = Vec::new();
        write_table(&mut out, &table).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "A          LONGER\nwide cell  x\n");
    }
}
