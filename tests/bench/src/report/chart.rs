//! The ratios as bars on a logarithmic axis, with a mark at each goal.

use std::fmt::Write as _;

/// A bar.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) ratio: f64,
    pub(super) goal: Option<f64>,
    pub(super) is_met: Option<bool>,
}

const ROW: usize = 18;
const TOP: usize = 30;
const LABELS: f64 = 400.0;
const WIDTH: f64 = 900.0;
/// The ends of the axis.
const LEAST: f64 = 0.01;
const MOST: f64 = 10.0;
const TICKS: [f64; 7] = [0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0];

fn x(ratio: f64) -> f64 {
    let share = (ratio.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
    LABELS + share * (WIDTH - LABELS - 50.0)
}

fn colour(is_met: Option<bool>) -> &'static str {
    match is_met {
        Some(true) => "#2e7d32",
        Some(false) => "#c62828",
        None => "#78909c",
    }
}

pub(super) fn draw(bars: &[Bar]) -> String {
    let height = TOP + bars.len() * ROW + 10;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"11\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for tick in TICKS {
        let (x, end) = (x(tick), height - 10);
        let stroke = if tick == 1.0 { "#000" } else { "#ddd" };
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{}\" y2=\"{end}\" stroke=\"{stroke}\"/>",
            TOP - 6
        );
        let _ = writeln!(
            svg,
            "<text x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{tick}</text>",
            TOP - 12
        );
    }
    for (number, bar) in bars.iter().enumerate() {
        let y = TOP + number * ROW;
        let (from, to) = (x(1.0).min(x(bar.ratio)), x(1.0).max(x(bar.ratio)));
        let _ = writeln!(svg, "<text x=\"4\" y=\"{}\">{}</text>", y + 11, bar.label);
        let _ = writeln!(
            svg,
            "<rect x=\"{from:.1}\" y=\"{}\" width=\"{:.1}\" height=\"11\" fill=\"{}\"/>",
            y + 2,
            (to - from).max(1.0),
            colour(bar.is_met)
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\">{:.2}</text>",
            to + 4.0,
            y + 11,
            bar.ratio
        );
        if let Some(goal) = bar.goal {
            let x = x(goal);
            let _ = writeln!(
                svg,
                "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{y}\" y2=\"{}\" stroke=\"#f9a825\" stroke-width=\"2\"/>",
                y + 15
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}
