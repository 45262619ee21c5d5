//! Seconds to recover, per fault.
//!
//! A disturbance is a time in which something was overdue; a fault's recovery ends with the last of its disturbances. It begins
//! with the strike where others must take over (a kill), and with the mending where what is held up comes back by itself.
//! A fault that disturbed nothing took no time.

mod attribution;
mod statistics;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::Serialize;

use crate::records::run_log::{Fault, Since};
use crate::records::timestamp::Timestamp;
pub use statistics::Percentiles;

/// 99 of 100 faults must be over after this many seconds.
pub const P99_SECONDS: f64 = 10.0;
/// The same for faults that were on together with another, of which each may hold up the recovery from the other.
pub const TOGETHER_P99_SECONDS: f64 = 2.0 * P99_SECONDS;
/// Of fewer faults, the slowest is all that a p99 says.
const ENOUGH_FOR_P99: usize = 100;

/// A time in which something was overdue.
#[derive(Debug, Clone)]
pub struct Disturbance {
    /// What was.
    pub what: String,
    /// The process that is to blame, where that is known.
    pub target: Option<String>,
    /// Since when it should have been.
    pub since: Timestamp,
    /// When it failed, if it was an attempt: all that struck until then may have been the cause.
    pub failed_at: Option<Timestamp>,
    /// When it was. None: not until the end.
    pub until: Option<Timestamp>,
}

/// How long one fault was felt.
#[derive(Debug, Clone, Serialize)]
pub struct FaultRecovery {
    /// What was done, and to whom.
    pub what: String,
    /// To whom.
    pub target: String,
    /// When, as text.
    pub struck_at: String,
    /// Whether anything was left that could have taken over.
    pub total: bool,
    /// Whether another fault was on at the same time.
    pub together: bool,
    /// Whether the machine gave its processors to others before it was over.
    pub starved: bool,
    /// Seconds until all was well, as this kind of fault is counted.
    pub seconds: f64,
    /// Seconds from the strike.
    pub from_strike: f64,
    /// How many disturbances it made.
    pub disturbances: usize,
    /// The last of them.
    pub last: Option<String>,
    /// Something was not well until the end.
    pub open: bool,
}

/// The recoveries of a run, or of several.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// In the order of striking.
    pub faults: Vec<FaultRecovery>,
    /// Over all of them.
    pub all: Percentiles,
    /// Over those that were on alone, on a machine that was there.
    pub alone: Percentiles,
    /// Over those that were on together with another, on a machine that was there.
    pub together: Percentiles,
    /// Over those for which the machine was not there: no measure of the services.
    pub starved: Percentiles,
    /// By what was done.
    pub by_kind: BTreeMap<String, Percentiles>,
    /// What was overdue with no fault to blame.
    pub without_fault: Vec<Unexplained>,
}

/// Something was overdue, and nothing had been struck.
#[derive(Debug, Clone, Serialize)]
pub struct Unexplained {
    /// What was.
    pub what: String,
    /// For how long, at most until the end.
    pub seconds: f64,
    /// Until the end.
    pub open: bool,
}

/// Measures all faults of a run that was over at `over_at`.
#[must_use]
pub fn measure(
    faults: &[Fault],
    disturbances: &[Disturbance],
    starved: &[(SystemTime, SystemTime)],
    over_at: Timestamp,
) -> Recovery {
    let mut felt: Vec<Vec<&Disturbance>> = faults.iter().map(|_| Vec::new()).collect();
    let mut without_fault = Vec::new();
    for disturbance in disturbances {
        match attribution::cause(faults, disturbance).and_then(|cause| felt.get_mut(cause)) {
            Some(felt) => felt.push(disturbance),
            None => without_fault.push(Unexplained {
                what: disturbance.what.clone(),
                seconds: disturbance.until.unwrap_or(over_at).seconds_since(disturbance.since),
                open: disturbance.until.is_none(),
            }),
        }
    }
    let recovered = faults.iter().zip(&felt).enumerate();
    let faults: Vec<FaultRecovery> = recovered
        .map(|(place, (fault, felt))| recovery(fault, attribution::is_together(faults, place), felt, starved, over_at))
        .collect();
    Recovery::over(faults, without_fault)
}

impl Recovery {
    fn over(faults: Vec<FaultRecovery>, without_fault: Vec<Unexplained>) -> Self {
        let those = |is_one: &dyn Fn(&FaultRecovery) -> bool| {
            let those = faults.iter().filter(|fault| is_one(fault));
            Percentiles::of(those.map(|fault| fault.seconds))
        };
        let mut kinds: BTreeMap<String, Vec<f64>> = BTreeMap::new();
        for fault in &faults {
            kinds.entry(fault.what.clone()).or_default().push(fault.seconds);
        }
        Self {
            all: those(&|_| true),
            alone: those(&|fault| !fault.starved && !fault.together),
            together: those(&|fault| !fault.starved && fault.together),
            starved: those(&|fault| fault.starved),
            by_kind: kinds
                .into_iter()
                .map(|(kind, seconds)| (kind, Percentiles::of(seconds)))
                .collect(),
            faults,
            without_fault,
        }
    }

    /// Those of several runs, as one.
    #[must_use]
    pub fn of_runs(runs: impl IntoIterator<Item = Self>) -> Self {
        let (mut faults, mut without_fault) = (Vec::new(), Vec::new());
        for run in runs {
            faults.extend(run.faults);
            without_fault.extend(run.without_fault);
        }
        Self::over(faults, without_fault)
    }

    /// Why it is too slow, or cannot be judged, for people.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let bounds = [
            ("alone", self.alone.p99, P99_SECONDS),
            ("together", self.together.p99, TOGETHER_P99_SECONDS),
        ];
        let slow = bounds.iter().filter(|(_, p99, bound)| p99 >= bound);
        let mut complaints: Vec<String> = slow
            .map(|(which, p99, _)| format!("p99 of faults {which} is {p99:.1} s"))
            .collect();
        let (starved, all) = (self.starved.faults, self.all.faults);
        if starved * 2 > all && all - starved < ENOUGH_FOR_P99 {
            complaints.push(format!(
                "in {starved} of {all} faults the machine gave its processors to others: run it elsewhere, or later"
            ));
        }
        complaints
    }
}

fn recovery(
    fault: &Fault,
    together: bool,
    felt: &[&Disturbance],
    starved: &[(SystemTime, SystemTime)],
    over_at: Timestamp,
) -> FaultRecovery {
    let end = |disturbance: &&&Disturbance| disturbance.until.unwrap_or(over_at);
    let last = felt.iter().max_by_key(end);
    let struck_at = Timestamp::from(fault.struck_at);
    let mended_at = fault.mended_at.map_or(over_at, Timestamp::from);
    let base = match fault.since {
        Since::Strike if !fault.total => struck_at,
        Since::Strike | Since::Mending => mended_at,
    };
    let over = last.map_or(mended_at, |last| end(&last).max(mended_at));
    let seconds_from = |base| last.map_or(0.0, |last| end(&last).seconds_since(base));
    FaultRecovery {
        what: fault.what.clone(),
        target: fault.target.clone(),
        struck_at: struck_at.to_string(),
        total: fault.total,
        together,
        starved: starved
            .iter()
            .any(|(from, until)| Timestamp::from(*from) <= over && struck_at <= Timestamp::from(*until)),
        seconds: seconds_from(base),
        from_strike: seconds_from(struck_at),
        disturbances: felt.len(),
        last: last.map(|last| last.what.clone()),
        open: felt.iter().any(|disturbance| disturbance.until.is_none()),
    }
}
