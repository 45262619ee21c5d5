//! Which fault strikes when, whom, and for how long: thrown before the run begins.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::rng::Rng;

/// Keeps the throws of faults apart from those of calls.
const PURPOSE: u64 = 2;
/// Two faults at once, so many times in a hundred.
const TOGETHER_PER_CENT: u64 = 15;
/// Faults of a schedule at most.
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
    Node,
    /// The nats-server that leads the stream of facts.
    Leader,
    /// All nats-servers.
    Nats,
}

/// What is done to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultAction {
    /// SIGKILL, and another start.
    Kill,
    /// SIGTERM, and another start.
    Term,
    /// SIGSTOP, then SIGCONT.
    Freeze,
    /// Its connections to NATS are closed, and no new ones come about.
    Cut,
    /// Its connections to NATS stand, and carry nothing.
    Stall,
}

/// A kind of fault, such as `timer-kill`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct FaultKind {
    /// To whom.
    pub part: Part,
    /// What.
    pub action: FaultAction,
}

/// A fault of the schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedFault {
    /// From the beginning of the run.
    pub at: Duration,
    /// What, and to which part.
    pub kind: FaultKind,
    /// Which process of that part; 0 is the first.
    pub index: usize,
    /// Until it is undone.
    pub lasts: Duration,
}

/// What a schedule is thrown from.
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
    /// When the first one strikes.
    pub first: Duration,
    /// When the last one is mended, at the latest.
    pub last: Duration,
    /// From one strike to the next, about.
    pub gap: Duration,
    /// The longest freeze, cut and stall.
    pub longest: Duration,
    /// How long all nats-servers are gone, at most.
    pub longest_outage: Duration,
    /// After a fault is mended, before anything else is broken: to see by itself how long recovery takes. After one of a
    /// nats-server, twice as long.
    pub rest: Duration,
    /// After a fault of a nats-server, before the next of one: they elect their leaders anew, and catch up.
    pub nats_rest: Duration,
}

impl FaultKind {
    /// Every kind.
    #[must_use]
    pub fn all() -> Vec<Self> {
        use FaultAction::{Cut, Freeze, Kill, Stall, Term};
        let services = [Part::Edge, Part::Worker, Part::Timer].into_iter();
        let services = services.flat_map(|part| [Kill, Term, Freeze, Cut, Stall].map(|action| Self { part, action }));
        let nodes = [
            (Part::Node, Kill),
            (Part::Node, Freeze),
            (Part::Leader, Kill),
            (Part::Nats, Kill),
        ];
        services
            .chain(nodes.map(|(part, action)| Self { part, action }))
            .collect()
    }

    /// The kinds that a text names: one of them (`timer-kill`), all of a part (`timer`), or all of a action (`kill`).
    #[must_use]
    pub fn named(text: &str) -> Vec<Self> {
        let named = |kind: &Self| {
            let name = kind.to_string();
            name == text || name.split('-').any(|word| word == text)
        };
        Self::all().into_iter().filter(named).collect()
    }

    fn group(self) -> Part {
        match self.part {
            Part::Leader | Part::Nats => Part::Node,
            part => part,
        }
    }
}

impl ScheduleOptions {
    /// The schedule of a seed. Each kind comes once before any comes again.
    #[must_use]
    pub fn schedule(&self, seed: u64) -> Vec<PlannedFault> {
        let mut rng = Rng::new(seed, &[PURPOSE]);
        let mut planned: Vec<PlannedFault> = Vec::new();
        let mut busy: BTreeMap<Part, Duration> = BTreeMap::new();
        let (mut deck, mut at) = (Vec::new(), self.first);
        while planned.len() < MOST_FAULTS && !self.kinds.is_empty() {
            if deck.is_empty() {
                deck.clone_from(&self.kinds);
                rng.shuffle(&mut deck);
            }
            let Some(kind) = deck.pop() else { break };
            let free_at = |part| busy.get(&part).copied().unwrap_or_default();
            let everything_free_at = busy.values().max().copied().unwrap_or_default();
            let total = kind.part == Part::Nats;
            at = at.max(if total {
                everything_free_at
            } else {
                free_at(kind.group())
            });
            let lasts = self.lasts(kind, &mut rng);
            let mended = at + lasts;
            if mended > self.last {
                break;
            }
            let index = rng.below(self.count(kind.part) as u64) as usize;
            planned.push(PlannedFault { at, kind, index, lasts });
            let is_node = kind.group() == Part::Node;
            let (own_rest, rest) = match is_node {
                true => (self.nats_rest, self.rest * 2),
                false => (self.rest, self.rest),
            };
            busy.insert(kind.group(), mended + own_rest);
            let pause = rng.between(self.gap.mul_f64(0.8), self.gap.mul_f64(1.2));
            at = match rng.chance(TOGETHER_PER_CENT) {
                _ if total => mended + own_rest,
                true => at + rng.between(Duration::ZERO, self.gap / 4),
                false => (at + pause).max(mended + rest),
            };
        }
        planned
    }

    fn lasts(&self, kind: FaultKind, rng: &mut Rng) -> Duration {
        let second = Duration::from_secs(1);
        match (kind.part, kind.action) {
            (Part::Nats, _) => rng.between((5 * second).min(self.longest_outage), self.longest_outage),
            (_, FaultAction::Kill | FaultAction::Term) => rng.between(second, (5 * second).min(self.longest)),
            _ => rng.between(second, self.longest),
        }
    }

    fn count(&self, part: Part) -> usize {
        match part {
            Part::Edge => self.edges,
            Part::Worker => self.workers,
            Part::Timer => self.timers,
            Part::Node | Part::Leader | Part::Nats => self.nodes,
        }
    }
}

impl fmt::Display for FaultKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = match self.part {
            Part::Edge => "edge",
            Part::Worker => "worker",
            Part::Timer => "timer",
            Part::Node => "node",
            Part::Leader => "leader",
            Part::Nats => "nats",
        };
        let action = match self.action {
            FaultAction::Kill => "kill",
            FaultAction::Term => "term",
            FaultAction::Freeze => "freeze",
            FaultAction::Cut => "cut",
            FaultAction::Stall => "stall",
        };
        write!(f, "{part}-{action}")
    }
}

/// What stands on the command line between two commas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FaultKinds(pub Vec<FaultKind>);

impl FromStr for FaultKinds {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kinds = FaultKind::named(text);
        if kinds.is_empty() {
            let all: Vec<String> = FaultKind::all().iter().map(FaultKind::to_string).collect();
            return Err(format!("none of {}, nor a word of these", all.join(" ")));
        }
        Ok(Self(kinds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(kinds: Vec<FaultKind>) -> ScheduleOptions {
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
    fn a_seed_gives_the_same_schedule() {
        let terms = terms(FaultKind::all());
        assert_eq!(terms.schedule(4), terms.schedule(4));
        assert_ne!(terms.schedule(4), terms.schedule(5));
    }

    #[test]
    fn words_name_kinds() {
        assert_eq!(FaultKind::named("timer-kill").len(), 1);
        assert_eq!(FaultKind::named("timer").len(), 5);
        assert_eq!(FaultKind::named("kill").len(), 6);
        assert_eq!(FaultKind::named("nats").len(), 1);
        assert!("earthquake".parse::<FaultKinds>().is_err());
    }

    #[test]
    fn never_two_of_one_part_at_once_and_nothing_beside_the_end_of_all_nats() {
        for seed in 0..50 {
            let schedule = terms(FaultKind::all()).schedule(seed);
            assert!(schedule.len() > 150, "{} in an hour", schedule.len());
            let mut together = 0;
            for (number, fault) in schedule.iter().enumerate() {
                for other in &schedule[number + 1..] {
                    if other.at >= fault.at + fault.lasts {
                        continue;
                    }
                    together += 1;
                    assert_ne!(fault.kind.group(), other.kind.group(), "{fault:?} {other:?}");
                    let nats = |fault: &PlannedFault| fault.kind.part == Part::Nats;
                    assert!(!nats(fault) && !nats(other), "{fault:?} {other:?}");
                }
            }
            assert!(together > 0);
        }
    }

    #[test]
    fn short_pauses_fit_every_kind_into_a_hundred_seconds() {
        let seconds = Duration::from_secs;
        let hurried = ScheduleOptions {
            gap: seconds(1),
            longest: seconds(2),
            longest_outage: seconds(5),
            rest: seconds(0),
            nats_rest: seconds(8),
            last: seconds(100),
            ..terms(FaultKind::all())
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
    fn every_kind_comes_and_every_process_is_struck() {
        let schedule = terms(FaultKind::all()).schedule(1);
        for kind in FaultKind::all() {
            assert!(schedule.iter().any(|fault| fault.kind == kind), "{kind}");
        }
        for index in 0..3 {
            let struck = |fault: &&PlannedFault| fault.kind.part == Part::Timer && fault.index == index;
            assert!(schedule.iter().any(|fault| struck(&fault)));
        }
        assert!(terms(Vec::new()).schedule(1).is_empty());
    }
}
