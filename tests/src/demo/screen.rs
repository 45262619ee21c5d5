//! Where the demo is seen: one line an event, in colour on a terminal, plain in a pipe.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use anstyle::{AnsiColor, Style};

/// Whose line it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// The user's WebSocket.
    User,
    /// The otomo's WebSocket.
    Otomo,
    /// A stored fact.
    Fact,
    /// A chapter's title.
    Heading,
    /// What the demo itself says.
    Narrator,
    /// What may be overlooked.
    Quiet,
    /// As expected.
    Good,
    /// Not as expected.
    Bad,
}

/// Standard output. Its clock starts with it.
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
    /// Colour on a terminal, unless `NO_COLOR` is set to anything (see no-color.org).
    #[must_use]
    pub fn new() -> Self {
        let unwanted = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            colour: std::io::stdout().is_terminal() && !unwanted,
            started: Instant::now(),
        }
    }

    /// Since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.started.elapsed()
    }

    /// One line with its time.
    pub fn line(&self, tone: Tone, text: &str) {
        let seconds = self.elapsed().as_secs_f64();
        self.print(&format!(
            "{}{seconds:8.3}{} {}",
            self.on(Tone::Quiet),
            self.off(Tone::Quiet),
            self.dye(tone, text)
        ));
    }

    /// A line without a time.
    pub fn plain(&self, tone: Tone, text: &str) {
        self.print(&self.dye(tone, text));
    }

    /// A chapter's title.
    pub fn heading(&self, title: &str) {
        self.print("");
        self.line(Tone::Heading, &format!("── {title}"));
    }

    /// The text as it will be printed in that tone.
    #[must_use]
    pub fn dye(&self, tone: Tone, text: &str) -> String {
        format!("{}{text}{}", self.on(tone), self.off(tone))
    }

    fn on(&self, tone: Tone) -> String {
        if self.colour {
            style(tone).render().to_string()
        } else {
            String::new()
        }
    }

    fn off(&self, tone: Tone) -> String {
        if self.colour {
            style(tone).render_reset().to_string()
        } else {
            String::new()
        }
    }

    fn print(&self, line: &str) {
        // Whoever reads may have closed the pipe; the demo's exit code still counts.
        let _ = writeln!(std::io::stdout().lock(), "{line}");
    }
}

fn style(tone: Tone) -> Style {
    let colour = |colour: AnsiColor| Style::new().fg_color(Some(colour.into()));
    match tone {
        Tone::User => colour(AnsiColor::Cyan),
        Tone::Otomo => colour(AnsiColor::Magenta),
        Tone::Fact => colour(AnsiColor::Yellow),
        Tone::Heading => Style::new().bold(),
        Tone::Narrator => Style::new().italic(),
        Tone::Quiet => Style::new().dimmed(),
        Tone::Good => colour(AnsiColor::Green),
        Tone::Bad => colour(AnsiColor::Red).bold(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_without_colour_and_reset_with_it() {
        let screen = |colour| Screen {
            colour,
            started: Instant::now(),
        };
        assert_eq!(screen(false).dye(Tone::Bad, "no"), "no");
        let dyed = screen(true).dye(Tone::Bad, "no");
        assert!(
            dyed.starts_with('\u{1b}') && dyed.contains("no") && dyed.ends_with("\u{1b}[0m"),
            "{dyed:?}"
        );
    }
}
