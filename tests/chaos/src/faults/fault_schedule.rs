//! The fault schedule: kinds, targets, times and durations, drawn before the run begins.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::rng::Rng;

/// Separates the random numbers of faults from those of calls.
const PURPOSE: u64 = 2;
/// How often two faults are active together, in per cent.
const TOGETHER_PER_CENT: u64 = 15;
/// How far a stepped clock is off.
const CLOCK_OFFSETS_MS: [i64; 6] = [20_000, -20_000, 40_000, -40_000, 3_600_000, -3_600_000];
/// The limit of faults.
const MOST_FAULTS: usize = 10_000;

/// A part of the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// ws-edge
    Edge,
    /// media-worker
    Worker,
    /// billing-timer
    Timer,
    /// One nats-server.
    Server,
    /// The nats-server that leads the stream of facts.
    Leader,
    /// All nats-servers.
    Cluster,
}

/// The action of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultAction {
    /// SIGKILL, then a restart.
    Kill,
    /// SIGTERM, then a restart.
    Term,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// Its connections to NATS are reset, and new ones too.
    Cut,
    /// Its connections to NATS carry nothing.
    Stall,
    /// The same, for longer than most granted calls have left: their media must stop on time all the same.
    Isolate,
    /// Its wall clock steps, and back at the end. It must change nothing, so there is nothing to recover from.
    ClockStep,
}

/// A kind of fault, such as `timer-kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultKind {
    /// The target.
    pub part: Part,
    /// The action.
    pub action: FaultAction,
}

/// A fault of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// The time of injection, from the beginning of the run.
    pub at: Duration,
    /// The kind.
    pub kind: FaultKind,
    /// The index of the process.
    pub index: usize,
    /// The time until the repair.
    pub lasts: Duration,
    /// How far a stepped clock is ahead; negative: behind.
    pub clock_offset_ms: i64,
}

/// The options of a schedule.
#[derive(Debug, Clone)]
pub struct ScheduleOptions {
    /// The kinds to choose from.
    pub kinds: Vec<FaultKind>,
    /// Processes of a part.
    pub edges: usize,
    /// Processes of a part.
    pub workers: usize,
    /// Processes of a part.
    pub timers: usize,
    /// Processes of a part.
    pub nodes: usize,
    /// The time of the first injection.
    pub first: Duration,
    /// The latest time of the last repair.
    pub last: Duration,
    /// The approximate time between injections.
    pub gap: Duration,
    /// The longest freeze, cut and stall.
    pub longest: Duration,
    /// The longest time without any nats-server.
    pub longest_outage: Duration,
    /// The pause after a repair, so that each recovery is measured separately. After a fault of a nats-server, twice as long.
    pub rest: Duration,
    /// The pause between faults of nats-servers, for elections and replication.
    pub nats_rest: Duration,
}

impl FaultKind {
    /// Every kind.
    pub fn all() -> Vec<Self> {
        use FaultAction::{ClockStep, Cut, Freeze, Isolate, Kill, Stall, Term};
        let services = [Part::Edge, Part::Worker, Part::Timer].into_iter();
        let services =
            services.flat_map(|part| [Kill, Term, Freeze, Cut, Stall, ClockStep].map(|action| Self { part, action }));
        let nodes = [
            (Part::Server, Kill),
            (Part::Server, Freeze),
            (Part::Leader, Kill),
            (Part::Cluster, Kill),
        ];
        let isolated = Self {
            part: Part::Worker,
            action: Isolate,
        };
        services
            .chain([isolated])
            .chain(nodes.map(|(part, action)| Self { part, action }))
            .collect()
    }

    /// The kinds with a name: one (`timer-kill`), all of a part (`timer`), or all of an action (`kill`).
    pub fn named(text: &str) -> Vec<Self> {
        let named =
            |kind: &Self| kind.to_string() == text || kind.part.to_string() == text || kind.action.to_string() == text;
        Self::all().into_iter().filter(named).collect()
    }

    /// Faults of one group never overlap. A process whose clock has stepped may also be killed.
    fn group(self) -> (Part, bool) {
        match self.part {
            Part::Leader | Part::Cluster => (Part::Server, false),
            part => (part, self.is_clock_step()),
        }
    }

    /// Whether it is a step of a clock.
    pub fn is_clock_step(self) -> bool {
        self.action == FaultAction::ClockStep
    }
}

impl ScheduleOptions {
    /// The schedule of a seed. Each kind occurs once before any occurs again.
    pub fn schedule(&self, seed: u64) -> Vec<PlannedFault> {
        let mut rng = Rng::new(seed, &[PURPOSE]);
        let mut planned: Vec<PlannedFault> = Vec::new();
        let mut busy: BTreeMap<(Part, bool), Duration> = BTreeMap::new();
        let (mut deck, mut at) = (Vec::new(), self.first);
        while planned.len() < MOST_FAULTS && !self.kinds.is_empty() {
            if deck.is_empty() {
                deck.clone_from(&self.kinds);
                rng.shuffle(&mut deck);
            }
            let Some(kind) = deck.pop() else { break };
            let free_at = |group| busy.get(&group).copied().unwrap_or_default();
            let parts = busy.iter().filter(|((_, is_clock_step), _)| !is_clock_step);
            let everything_free_at = parts.map(|(_, at)| *at).max().unwrap_or_default();
            let total = kind.part == Part::Cluster;
            at = at.max(if total {
                everything_free_at
            } else {
                free_at(kind.group())
            });
            let mut lasts = self.lasts(kind, &mut rng);
            if kind.is_clock_step() {
                lasts = lasts.min(self.last.saturating_sub(at));
            }
            let repaired = at + lasts;
            if repaired > self.last {
                break;
            }
            let index = rng.below(self.count(kind.part) as u64) as usize;
            let clock_offset_ms = if kind.is_clock_step() {
                let number = rng.below(CLOCK_OFFSETS_MS.len() as u64) as usize;
                CLOCK_OFFSETS_MS.get(number).copied().unwrap_or(0)
            } else {
                0
            };
            planned.push(PlannedFault {
                at,
                kind,
                index,
                lasts,
                clock_offset_ms,
            });
            let is_node = kind.group().0 == Part::Server;
            let (own_rest, rest) = match is_node {
                true => (self.nats_rest, self.rest * 2),
                false => (self.rest, self.rest),
            };
            busy.insert(kind.group(), repaired + own_rest);
            let pause = rng.between(self.gap.mul_f64(0.8), self.gap.mul_f64(1.2));
            at = match rng.chance(TOGETHER_PER_CENT) {
                _ if total => repaired + own_rest,
                // Others happen meanwhile.
                _ if kind.is_clock_step() => at + self.gap / 4,
                true => at + rng.between(Duration::ZERO, self.gap / 4),
                false => (at + pause).max(repaired + rest),
            };
        }
        planned
    }

    fn lasts(&self, kind: FaultKind, rng: &mut Rng) -> Duration {
        let second = Duration::from_secs(1);
        match (kind.part, kind.action) {
            (Part::Cluster, _) => rng.between((5 * second).min(self.longest_outage), self.longest_outage),
            (_, FaultAction::Kill | FaultAction::Term) => rng.between(second, (5 * second).min(self.longest)),
            (_, FaultAction::Isolate) => rng.between(self.longest * 2, self.longest * 3),
            (_, FaultAction::ClockStep) => rng.between(self.longest / 2, self.longest * 3),
            _ => rng.between(second, self.longest),
        }
    }

    fn count(&self, part: Part) -> usize {
        match part {
            Part::Edge => self.edges,
            Part::Worker => self.workers,
            Part::Timer => self.timers,
            Part::Server | Part::Leader | Part::Cluster => self.nodes,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Edge => "edge",
            Self::Worker => "worker",
            Self::Timer => "timer",
            Self::Server => "server",
            Self::Leader => "leader",
            Self::Cluster => "cluster",
        })
    }
}

impl fmt::Display for FaultAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Term => "term",
            Self::Freeze => "freeze",
            Self::Cut => "cut",
            Self::Stall => "stall",
            Self::Isolate => "isolate",
            Self::ClockStep => "clock-step",
        })
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.part, self.action)
    }
}

/// The kinds of one name on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultKinds(pub Vec<FaultKind>);

impl FromStr for FaultKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = FaultKind::named(text);
        if kinds.is_empty() {
            let all: Vec<String> = FaultKind::all().iter().map(FaultKind::to_string).collect();
            return Err(format!("not one of {}, nor a part or action of these", all.join(" ")));
        }
        Ok(Self(kinds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(kinds: Vec<FaultKind>) -> ScheduleOptions {
        let seconds = Duration::from_secs;
        ScheduleOptions {
            kinds,
            edges: 2,
            workers: 2,
            timers: 3,
            nodes: 3,
            first: seconds(10),
            last: seconds(3600),
            gap: seconds(10),
            longest: seconds(12),
            longest_outage: seconds(30),
            rest: seconds(6),
            nats_rest: seconds(12),
        }
    }

    #[test]
    fn the_schedule_of_a_seed_is_deterministic() {
        let options = options(FaultKind::all());
        assert_eq!(options.schedule(4), options.schedule(4));
        assert_ne!(options.schedule(4), options.schedule(5));
    }

    #[test]
    fn kinds_are_found_by_name_part_and_action() {
        assert_eq!(FaultKind::named("timer-kill").len(), 1);
        assert_eq!(FaultKind::named("timer").len(), 6);
        assert_eq!(FaultKind::named("clock-step").len(), 3);
        assert_eq!(FaultKind::named("kill").len(), 6);
        assert_eq!(FaultKind::named("cluster").len(), 1);
        assert!("earthquake".parse::<FaultKinds>().is_err());
    }

    #[test]
    fn faults_of_one_part_never_overlap_and_a_total_outage_is_alone() {
        for seed in 0..50 {
            let schedule = options(FaultKind::all()).schedule(seed);
            assert!(schedule.len() > 150, "{} in an hour", schedule.len());
            let mut together = 0;
            for (number, fault) in schedule.iter().enumerate() {
                for other in &schedule[number + 1..] {
                    if other.at >= fault.at + fault.lasts {
                        continue;
                    }
                    together += 1;
                    assert_ne!(fault.kind.group(), other.kind.group(), "{fault:?} {other:?}");
                    if fault.kind.is_clock_step() || other.kind.is_clock_step() {
                        continue;
                    }
                    let nats = |fault: &PlannedFault| fault.kind.part == Part::Cluster;
                    assert!(!nats(fault) && !nats(other), "{fault:?} {other:?}");
                }
            }
            assert!(together > 0);
        }
    }

    #[test]
    fn every_kind_fits_into_100_seconds_with_short_pauses() {
        let seconds = Duration::from_secs;
        let hurried = ScheduleOptions {
            gap: seconds(1),
            longest: seconds(2),
            longest_outage: seconds(5),
            rest: seconds(0),
            nats_rest: seconds(8),
            last: seconds(100),
            ..options(FaultKind::all())
        };
        for seed in 0..50 {
            let schedule = hurried.schedule(seed);
            for kind in FaultKind::all() {
                assert!(
                    schedule.iter().any(|fault| fault.kind == kind),
                    "seed {seed}: no {kind}"
                );
            }
        }
    }

    #[test]
    fn every_kind_and_every_process_occurs() {
        let schedule = options(FaultKind::all()).schedule(1);
        for kind in FaultKind::all() {
            assert!(schedule.iter().any(|fault| fault.kind == kind), "{kind}");
        }
        for index in 0..3 {
            let is_target = |fault: &&PlannedFault| fault.kind.part == Part::Timer && fault.index == index;
            assert!(schedule.iter().any(|fault| is_target(&fault)));
        }
        assert!(options(Vec::new()).schedule(1).is_empty());
    }
}
