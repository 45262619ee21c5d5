//! Seconds to recover, per fault.
//!
//! A disturbance is a time in which something was overdue. The recovery from a fault ends with its last disturbance. It begins
//! with the injection if others must take over (a kill), and with the repair if the target recovers by itself (a freeze). A fault
//! without disturbances has a recovery time of 0.

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

/// The bound of the 99th percentile, in seconds.
pub const P99_SECONDS: f64 = 10.0;
/// The same for faults that were active together, which may delay each other's recovery.
pub const TOGETHER_P99_SECONDS: f64 = 2.0 * P99_SECONDS;
/// With fewer faults, the p99 is the slowest.
const ENOUGH_FOR_P99: usize = 100;

/// A time in which something was overdue.
#[derive(Debug, Clone)]
pub struct Disturbance {
    /// What was overdue.
    pub what: String,
    /// The process that caused it, where that is known.
    pub target: Option<String>,
    /// When it was due.
    pub since: Timestamp,
    /// When it failed, if it was an attempt: any fault until then may be the cause.
    pub failed_at: Option<Timestamp>,
    /// When it happened. None: not until the end.
    pub until: Option<Timestamp>,
}

/// The recovery from one fault.
#[derive(Debug, Clone, Serialize)]
pub struct FaultRecovery {
    /// The kind of fault.
    pub what: String,
    /// Its target.
    pub target: String,
    /// The time of its injection.
    pub injected_at: String,
    /// Whether no other process could take over.
    pub total: bool,
    /// Whether another fault was active at the same time.
    pub together: bool,
    /// Whether the hypervisor gave the processors to others during the recovery.
    pub starved: bool,
    /// Seconds until the end of the last disturbance, from the start for this kind of fault.
    pub seconds: f64,
    /// Seconds from the injection.
    pub from_injection: f64,
    /// The number of its disturbances.
    pub disturbances: usize,
    /// The last disturbance.
    pub last: Option<String>,
    /// A disturbance lasted until the end.
    pub open: bool,
}

/// The recovery from the faults of one or several runs.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Recovery {
    /// In order of injection.
    pub faults: Vec<FaultRecovery>,
    /// Over all faults.
    pub all: Percentiles,
    /// Over faults that were active alone, without CPU starvation.
    pub alone: Percentiles,
    /// Over faults that were active together with another, without CPU starvation.
    pub together: Percentiles,
    /// Over faults with CPU starvation, which do not measure the services.
    pub starved: Percentiles,
    /// By kind of fault.
    pub by_kind: BTreeMap<String, Percentiles>,
    /// Disturbances without a fault.
    pub without_fault: Vec<Unexplained>,
}

/// A disturbance without a fault.
#[derive(Debug, Clone, Serialize)]
pub struct Unexplained {
    /// What was overdue.
    pub what: String,
    /// Its duration, at most until the end.
    pub seconds: f64,
    /// Whether it lasted until the end.
    pub open: bool,
}

/// Measures the faults of a run that ended at `over_at`.
pub fn measure(
    faults: &[Fault],
    disturbances: &[Disturbance],
    starved: &[(SystemTime, SystemTime)],
    over_at: Timestamp,
) -> Recovery {
    let mut by_fault: Vec<Vec<&Disturbance>> = faults.iter().map(|_| Vec::new()).collect();
    let mut without_fault = Vec::new();
    for disturbance in disturbances {
        match attribution::cause(faults, disturbance).and_then(|cause| by_fault.get_mut(cause)) {
            Some(of_fault) => of_fault.push(disturbance),
            None => without_fault.push(Unexplained {
                what: disturbance.what.clone(),
                seconds: disturbance.until.unwrap_or(over_at).seconds_since(disturbance.since),
                open: disturbance.until.is_none(),
            }),
        }
    }
    let recovered = faults.iter().zip(&by_fault).enumerate();
    let faults: Vec<FaultRecovery> = recovered
        .map(|(place, (fault, disturbances))| {
            recovery(
                fault,
                attribution::is_together(faults, place),
                disturbances,
                starved,
                over_at,
            )
        })
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

    /// The recoveries of several runs as one.
    pub fn of_runs(runs: impl IntoIterator<Item = Self>) -> Self {
        let (mut faults, mut without_fault) = (Vec::new(), Vec::new());
        for run in runs {
            faults.extend(run.faults);
            without_fault.extend(run.without_fault);
        }
        Self::over(faults, without_fault)
    }

    /// The reasons why it is too slow, or cannot be measured.
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
                "the CPU was starved in {starved} of {all} faults: repeat the run on a machine without other load"
            ));
        }
        complaints
    }
}

fn recovery(
    fault: &Fault,
    together: bool,
    disturbances: &[&Disturbance],
    starved: &[(SystemTime, SystemTime)],
    over_at: Timestamp,
) -> FaultRecovery {
    let end = |disturbance: &&&Disturbance| disturbance.until.unwrap_or(over_at);
    let last = disturbances.iter().max_by_key(end);
    let injected_at = Timestamp::from(fault.injected_at);
    let repaired_at = fault.repaired_at.map_or(over_at, Timestamp::from);
    let base = match fault.since {
        Since::Injection if !fault.total => injected_at,
        Since::Injection | Since::Repair => repaired_at,
    };
    let over = last.map_or(repaired_at, |last| end(&last).max(repaired_at));
    let seconds_from = |base| last.map_or(0.0, |last| end(&last).seconds_since(base));
    FaultRecovery {
        what: fault.what.clone(),
        target: fault.target.clone(),
        injected_at: injected_at.to_string(),
        total: fault.total,
        together,
        starved: starved
            .iter()
            .any(|(from, until)| Timestamp::from(*from) <= over && injected_at <= Timestamp::from(*until)),
        seconds: seconds_from(base),
        from_injection: seconds_from(injected_at),
        disturbances: disturbances.len(),
        last: last.map(|last| last.what.clone()),
        open: disturbances.iter().any(|disturbance| disturbance.until.is_none()),
    }
}
