//! A clean run, and one thing wrong in it at a time: each must be found, and nothing else.

mod run;

mod minutes;

mod facts;

mod notices;

mod server;

use crate::report::Check;
use run::Run;

/// What is done to the clean run, and exactly what must be found then.
type Case = (&'static str, &'static [Check], fn(&mut Run));

/// Judges each case, and tells of all that are judged otherwise.
fn assert_found(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, expected, spoil) in cases {
        let mut run = Run::clean();
        spoil(&mut run);
        let report = run.judge();
        let found: Vec<Check> = report.counts.keys().copied().collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{name}: expected {expected:?}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
