//! The table and the chart, from `target/bench/*.json`.

mod chart;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use callpulse_tests::terminal::screen::{LineKind, Screen};

use crate::benchmarks::{GOALS, NAMES};
use crate::figures::{Against, Figures, Goal, OURS};

/// Around the table in the page of the book.
const BEGIN: &str = "<!-- BEGIN of the table: `make bench` writes it -->\n";
const END: &str = "<!-- END of the table -->\n";

/// A row of the table.
#[derive(Debug)]
struct Row {
    goal: Goal,
    ours: f64,
    other: Option<f64>,
    measured: f64,
}

impl Row {
    fn other_name(&self) -> &'static str {
        match self.goal.against {
            Against::Peer(name) | Against::Case(name) => name,
            Against::Itself => "",
        }
    }

    fn is_ratio(&self) -> bool {
        self.goal.against != Against::Itself
    }

    fn verdict(&self) -> &'static str {
        match self.goal.is_met(self.measured) {
            Some(true) => "met",
            Some(false) => "**missed**",
            None => "",
        }
    }

    fn goal_text(&self) -> String {
        let sign = if self.goal.is_rate() { '≥' } else { '≤' };
        self.goal
            .limit
            .map_or_else(String::new, |limit| format!("{sign} {limit}"))
    }

    /// The columns of the table.
    fn cells(&self) -> [String; 9] {
        let Goal {
            benchmark,
            case,
            metric,
            ..
        } = self.goal;
        let ratio = self.is_ratio().then(|| number(self.measured));
        [
            benchmark.to_owned(),
            case.to_owned(),
            metric.to_owned(),
            number(self.ours),
            self.other_name().to_owned(),
            self.other.map(number).unwrap_or_default(),
            ratio.unwrap_or_default(),
            self.goal_text(),
            self.verdict().to_owned(),
        ]
    }
}

/// Prints the table; with `write`, also renews the page and the chart of the book.
pub fn run(screen: &Screen, write: bool) -> Result<()> {
    let measured = NAMES
        .iter()
        .map(|name| Figures::load(name))
        .collect::<Result<Vec<_>>>()?;
    let measured: Vec<Figures> = measured.into_iter().flatten().collect();
    let rows = rows(&measured);
    screen.heading("callpulse beside its peers: medians; below 1 is better for callpulse, except for rates");
    for row in &rows {
        let kind = match row.goal.is_met(row.measured) {
            Some(true) => LineKind::Good,
            Some(false) => LineKind::Bad,
            None => LineKind::Quiet,
        };
        screen.plain(kind, &terminal_line(row));
    }
    if write {
        let book = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src");
        write_page(&book.join("performance.md"), &table(&rows, &measured))?;
        let bars: Vec<chart::Bar> = rows.iter().filter(|row| row.is_ratio()).map(bar).collect();
        fs::write(book.join("images/performance.svg"), chart::draw(&bars))?;
    }
    Ok(())
}

fn rows(measured: &[Figures]) -> Vec<Row> {
    let row = |goal: &Goal| {
        let figures = measured.iter().find(|figures| figures.benchmark == goal.benchmark)?;
        let other = match goal.against {
            Against::Peer(peer) => figures.median(goal.case, goal.metric, peer),
            Against::Case(case) => figures.median(case, goal.metric, OURS),
            Against::Itself => None,
        };
        Some(Row {
            goal: *goal,
            ours: figures.median(goal.case, goal.metric, OURS)?,
            other,
            measured: goal.measured(figures)?,
        })
    };
    GOALS.iter().filter_map(row).collect()
}

fn terminal_line(row: &Row) -> String {
    let [benchmark, case, metric, ours, beside, other, ratio, goal, verdict] = row.cells();
    let verdict = verdict.trim_matches('*');
    format!(
        "{benchmark:<9} {case:<14} {metric:<18} {ours:>10}   {beside:<22} {other:>10} {ratio:>8} {goal:>7}  {verdict}"
    )
}

fn table(rows: &[Row], measured: &[Figures]) -> String {
    let mut text = String::from(
        "| benchmark | case | figure | callpulse | compared with | its figure | ratio | goal | |\n\
         | --- | --- | --- | ---: | --- | ---: | ---: | ---: | --- |\n",
    );
    for row in rows {
        let _ = writeln!(text, "| {} |", row.cells().join(" | "));
    }
    for figures in measured {
        let Figures {
            benchmark,
            repeats,
            machine,
            ..
        } = figures;
        let short = if figures.short { ", short windows" } else { "" };
        let _ = writeln!(text, "\n`{benchmark}`: {repeats} repeats{short}, {machine}.");
    }
    text
}

fn write_page(page: &PathBuf, table: &str) -> Result<()> {
    let text = fs::read_to_string(page).with_context(|| format!("reading {}", page.display()))?;
    let (before, rest) = text.split_once(BEGIN).context("the page has no place for the table")?;
    let (_, after) = rest.split_once(END).context("the place for the table has no end")?;
    fs::write(page, format!("{before}{BEGIN}\n{table}\n{END}{after}"))?;
    Ok(())
}

fn bar(row: &Row) -> chart::Bar {
    let Goal {
        benchmark,
        case,
        metric,
        ..
    } = row.goal;
    chart::Bar {
        label: format!("{benchmark}, {case}, {metric} ÷ {}", row.other_name()),
        ratio: row.measured,
        goal: row.goal.limit,
        is_met: row.goal.is_met(row.measured),
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.095.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_follow_from_figures_and_goals() {
        let mut figures = Figures::new("storm", 1, false);
        figures.add("10000 sockets", "welcomed after ms", OURS, 1_000.0);
        figures.add("10000 sockets", "welcomed after ms", "Node ws", 5_000.0);
        let rows = rows(&[figures.clone()]);
        let [row] = &rows[..] else {
            panic!("one goal has a peer: {rows:?}")
        };
        assert_eq!((number(row.measured).as_str(), row.verdict()), ("0.20", "met"));
        let table = table(&rows, &[figures]);
        assert!(
            table.contains("| 1000 | Node ws | 5000 | 0.20 | ≤ 0.25 | met |"),
            "{table}"
        );
        let svg = chart::draw(&rows.iter().map(bar).collect::<Vec<_>>());
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"), "{svg}");
    }
}
