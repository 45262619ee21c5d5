//! Output: one line per event, in colour on a terminal, plain in a pipe.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};

/// The kind of a line, which decides its colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LineKind {
    /// The user's WebSocket.
    User,
    /// The otomo's WebSocket.
    Otomo,
    /// A stored fact.
    Fact,
    /// A heading.
    Heading,
    /// The program itself.
    Info,
    /// A detail.
    Quiet,
    /// As expected.
    Good,
    /// Not as expected.
    Bad,
}

/// Standard output, with a clock that starts with it.
#[derive(Debug, Clone, Copy)]
pub struct Screen {
    colour: bool,
    started: Instant,
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

impl Screen {
    /// Colour on a terminal, unless `NO_COLOR` is set to anything (see no-color.org) or `TERM` is `dumb`.
    pub fn new() -> Self {
        let wanted = !anstyle_query::no_color() && anstyle_query::term_supports_color();
        Self {
            colour: std::io::stdout().is_terminal() && wanted,
            started: Instant::now(),
        }
    }

    /// The time since the start.
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// One line with its time.
    pub fn line(&self, kind: LineKind, text: &str) {
        let seconds = self.elapsed().as_secs_f64();
        self.print(&format!(
            "{}{seconds:8.3}{} {}",
            self.on(LineKind::Quiet),
            self.off(LineKind::Quiet),
            self.styled(kind, text)
        ));
    }

    /// A line without a time.
    pub fn plain(&self, kind: LineKind, text: &str) {
        self.print(&self.styled(kind, text));
    }

    /// A heading.
    pub fn heading(&self, title: &str) {
        self.print("");
        self.line(LineKind::Heading, &format!("── {title}"));
    }

    /// The text with the colour codes of its kind.
    pub fn styled(&self, kind: LineKind, text: &str) -> String {
        format!("{}{text}{}", self.on(kind), self.off(kind))
    }

    fn on(&self, kind: LineKind) -> String {
        if self.colour {
            style(kind).render().to_string()
        } else {
            String::new()
        }
    }

    fn off(&self, kind: LineKind) -> String {
        if self.colour {
            style(kind).render_reset().to_string()
        } else {
            String::new()
        }
    }

    fn print(&self, line: &str) {
        // The reader may have closed the pipe; the exit code still counts.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

fn style(kind: LineKind) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match kind {
        LineKind::User => colour(AnsiColor::Cyan),
        LineKind::Otomo => colour(AnsiColor::Magenta),
        LineKind::Fact => colour(AnsiColor::Yellow),
        LineKind::Heading => Style::new().bold(),
        LineKind::Info => Style::new().italic(),
        LineKind::Quiet => Style::new().dimmed(),
        LineKind::Good => colour(AnsiColor::Green),
        LineKind::Bad => colour(AnsiColor::Red).bold(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_are_reset_and_can_be_absent() {
        let screen = |colour| Screen {
            colour,
            started: Instant::now(),
        };
        assert_eq!(screen(false).styled(LineKind::Bad, "no"), "no");
        let styled = screen(true).styled(LineKind::Bad, "no");
        assert!(
            styled.starts_with('\u{1b}') && styled.contains("no") && styled.ends_with("\u{1b}[0m"),
            "{styled:?}"
        );
    }
}
