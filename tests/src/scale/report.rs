//! The figures as a table beside their goals.

use crate::percentile::percentile;
use crate::terminal::screen::{LineKind, Screen};

use super::run::Figures;

/// A column: its heading, its unit, the figure, and the goal for this number of calls, if there is one.
struct Column {
    heading: &'static str,
    unit: &'static str,
    figure: fn(&Figures) -> f64,
    goal: Option<Goal>,
}

enum Goal {
    AtLeast(f64),
    AtMost(fn(usize) -> f64),
}

const COLUMNS: [Column; 8] = [
    Column {
        heading: "facts consumed",
        unit: "facts/s",
        figure: |figures| figures.consumed_per_second,
        goal: Some(Goal::AtLeast(10_000.0)),
    },
    Column {
        heading: "memory",
        unit: "B/call",
        figure: |figures| figures.bytes_per_call,
        goal: Some(Goal::AtMost(|_| 600.0)),
    },
    Column {
        heading: "late p50",
        unit: "ms",
        figure: |figures| figures.late_ms[0] as f64,
        goal: None,
    },
    Column {
        heading: "late p99",
        unit: "ms",
        figure: |figures| figures.late_ms[1] as f64,
        goal: Some(Goal::AtMost(|_| 50.0)),
    },
    Column {
        heading: "late max",
        unit: "ms",
        figure: |figures| figures.late_ms[2] as f64,
        goal: None,
    },
    Column {
        heading: "on time after",
        unit: "s",
        figure: |figures| figures.on_time_after.as_secs_f64(),
        goal: Some(Goal::AtMost(|calls| match calls {
            0..=10_000 => 6.0,
            10_001..=30_000 => 7.0,
            _ => 10.0,
        })),
    },
    Column {
        heading: "all settled",
        unit: "s",
        figure: |figures| figures.settled_after.as_secs_f64(),
        goal: None,
    },
    Column {
        heading: "repeated notices",
        unit: "%",
        figure: |figures| 100.0 * figures.notices.repeated as f64 / figures.notices.notices.max(1) as f64,
        goal: None,
    },
];

/// A table of runs.
#[derive(Debug)]
pub struct Report {
    lines: Vec<(LineKind, String)>,
}

impl Report {
    /// A line for every run, and for every number of calls the medians and the goals.
    pub fn new(figures: &[Figures]) -> Self {
        let mut lines = vec![
            (
                LineKind::Heading,
                line("calls", "", COLUMNS.map(|column| column.heading.to_owned())),
            ),
            (
                LineKind::Quiet,
                line("", "", COLUMNS.map(|column| column.unit.to_owned())),
            ),
        ];
        for runs in figures.chunk_by(|a, b| a.calls == b.calls) {
            let calls = runs.first().map_or(0, |run| run.calls);
            for run in runs {
                let values = COLUMNS.map(|column| number((column.figure)(run)));
                lines.push((LineKind::Info, line(&calls.to_string(), "run", values)));
            }
            let mut missed = false;
            let values = COLUMNS.map(|column| {
                let median = percentile(runs.iter().map(column.figure), 50).unwrap_or_default();
                let is_missed = column.goal.is_some_and(|goal| !goal.is_met(median, calls));
                missed |= is_missed;
                format!("{}{}", if is_missed { "! " } else { "" }, number(median))
            });
            let tone = if missed { LineKind::Bad } else { LineKind::Good };
            lines.push((tone, line(&calls.to_string(), "median", values)));
            let goals = COLUMNS.map(|column| column.goal.map_or(String::new(), |goal| goal.text(calls)));
            lines.push((LineKind::Quiet, line(&calls.to_string(), "goal", goals)));
        }
        Self { lines }
    }

    /// Prints the table.
    pub fn print(&self, screen: &Screen) {
        screen.heading("Every tick and settlement follows from the facts");
        for (tone, line) in &self.lines {
            screen.plain(*tone, line);
        }
    }
}

impl Goal {
    fn is_met(&self, figure: f64, calls: usize) -> bool {
        match self {
            Self::AtLeast(least) => figure >= *least,
            Self::AtMost(most) => figure <= most(calls),
        }
    }

    fn text(&self, calls: usize) -> String {
        match self {
            Self::AtLeast(least) => format!("≥ {}", number(*least)),
            Self::AtMost(most) => format!("≤ {}", number(most(calls))),
        }
    }
}

fn line(calls: &str, what: &str, cells: [String; COLUMNS.len()]) -> String {
    let mut line = format!("{calls:>8}  {what:<6}");
    for (column, cell) in COLUMNS.iter().zip(cells) {
        let width = column.heading.len().max(10) + 2;
        line.push_str(&format!("{cell:>width$}"));
    }
    line
}

fn number(figure: f64) -> String {
    if figure >= 100.0 || figure.fract() == 0.0 {
        format!("{figure:.0}")
    } else {
        format!("{figure:.1}")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::scale::notices::NoticeCounts;

    fn run(calls: usize, seconds: u64) -> Figures {
        Figures {
            calls,
            consumed_per_second: 12_345.0,
            bytes_per_call: 599.5,
            late_ms: [1, 20, 300],
            on_time_after: Duration::from_secs(seconds),
            settled_after: Duration::from_secs(9),
            notices: NoticeCounts {
                notices: 200,
                repeated: 1,
                most: 2,
            },
        }
    }

    #[test]
    fn medians_are_compared_with_the_goals() {
        let report = Report::new(&[run(10_000, 5), run(10_000, 9), run(10_000, 6), run(100_000, 11)]);
        let of = |what: &str| -> Vec<(LineKind, &str)> {
            let lines = report.lines.iter().filter(|(_, line)| line.contains(what));
            lines.map(|(tone, line)| (*tone, line.as_str())).collect()
        };
        let [(met, _), (missed, line)] = of("median")[..] else {
            panic!("two numbers of calls: {report:?}")
        };
        assert_eq!((met, missed), (LineKind::Good, LineKind::Bad));
        assert!(line.contains("! 11"), "{line}");
        assert_eq!((of("run").len(), of("goal").len()), (4, 2));
    }
}
