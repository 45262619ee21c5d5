//! A clean run with one violation at a time, which must be the only finding.

mod run;

mod bill;

mod minutes;

mod facts;

mod notices;

mod server;

use crate::report::Check;
use run::Run;

/// A name, the expected findings, and the change to the clean run.
type Case = (&'static str, &'static [Check], fn(&mut Run));

/// Checks each case, and lists the ones with other findings.
fn assert_found(cases: &[Case]) {
    let mut wrong = Vec::new();
    for (name, expected, change) in cases {
        let mut run = Run::clean();
        change(&mut run);
        let report = run.check();
        let found: Vec<Check> = report.counts.keys().copied().collect();
        let mut expected = expected.to_vec();
        expected.sort_unstable();
        if found != expected {
            wrong.push(format!("{name}: expected {expected:?}\n{report}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}
