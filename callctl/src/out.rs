//! What is written, and to where: answers to standard output, everything else to standard error.

use std::io::{self, BufWriter, StdoutLock, Write};

use anyhow::Result;
use comfy_table::{Table, presets};
use contract::Timestamp;
use serde::Serialize;

/// Standard output in larger pieces. Errors are the caller's, so that a closed pipe ends the program in silence.
pub(crate) fn standard() -> BufWriter<StdoutLock<'static>> {
    BufWriter::new(io::stdout().lock())
}

/// One JSON value a line.
pub(crate) fn json_line(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(out.write_all(b"\n")?)
}

/// Rows under a head, aligned, without lines: to be read and to be cut.
pub(crate) fn table<const N: usize>(head: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(head);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table
}

/// A table, without the blanks at its lines' ends.
pub(crate) fn write_table(out: &mut impl Write, table: &Table) -> io::Result<()> {
    for line in table.lines() {
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// A moment, or a dash where there is none.
pub(crate) fn moment(at: Option<Timestamp>) -> String {
    at.map_or_else(|| "-".to_owned(), |at| at.to_string())
}

/// Milliseconds as people say them: `7 ms`, `3.2 s`, `4:05`, `1:02:03`.
pub(crate) fn span(millis: u64) -> String {
    let seconds = millis / 1_000;
    match millis {
        0..1_000 => format!("{millis} ms"),
        1_000..60_000 => format!("{}.{} s", seconds, millis % 1_000 / 100),
        60_000..3_600_000 => format!("{}:{:02}", seconds / 60, seconds % 60),
        _ => format!("{}:{:02}:{:02}", seconds / 3_600, seconds / 60 % 60, seconds % 60),
    }
}

/// Says what went wrong, or could not be read. If nobody can be told, there is nobody to tell.
pub(crate) fn complain(what: &str) {
    let _ = writeln!(io::stderr(), "callctl: {what}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_as_people_say_them() {
        let spans = [7, 3_250, 59_999, 60_000, 245_000, 3_723_000].map(span);
        assert_eq!(spans, ["7 ms", "3.2 s", "59.9 s", "1:00", "4:05", "1:02:03"]);
    }

    #[test]
    fn tables_are_aligned_and_have_no_blanks_around_them() {
        let mut table = table(["A", "LONGER"]);
        table.add_row(["wide cell", "x"]);
        let mut out = Vec::new();
        write_table(&mut out, &table).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text, "A          LONGER\nwide cell  x\n");
    }
}
