//! Readiness: a set of named conditions, each owned by the part of the service that knows it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The conditions under which a service is ready, and whether it is draining. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    // Names are `&'static str`, so the set is bounded by the program's text.
    conditions: Mutex<BTreeMap<&'static str, Arc<AtomicBool>>>,
}

/// One named condition. Clones share it.
#[derive(Debug, Clone)]
pub struct Condition {
    holds: Arc<AtomicBool>,
}

/// What `/readyz` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Every condition holds and the service is not draining.
    pub ready: bool,
    /// The service was asked to stop: it finishes what it has and takes nothing new.
    pub draining: bool,
    /// Each condition by name.
    pub conditions: BTreeMap<&'static str, bool>,
}

impl Health {
    /// The condition of this name; it does not hold until it is set. Asking twice gives the same condition.
    pub fn condition(&self, name: &'static str) -> Condition {
        Condition {
            holds: Arc::clone(self.conditions().entry(name).or_default()),
        }
    }

    /// From now on the service is not ready, whatever its conditions. There is no way back.
    pub fn drain(&self) {
        self.state.draining.store(true, Ordering::Release);
    }

    /// Whether [`Health::drain`] was called.
    pub fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::Acquire)
    }

    /// Whether every condition holds and the service is not draining.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.missing().is_empty()
    }

    /// The names of the conditions that do not hold, in alphabetical order.
    pub fn missing(&self) -> Vec<&'static str> {
        self.conditions()
            .iter()
            .filter(|(_, holds)| !holds.load(Ordering::Acquire))
            .map(|(name, _)| *name)
            .collect()
    }

    /// All of it, at one moment.
    pub fn readiness(&self) -> Readiness {
        let draining = self.is_draining();
        let conditions: BTreeMap<_, _> = self
            .conditions()
            .iter()
            .map(|(name, holds)| (*name, holds.load(Ordering::Acquire)))
            .collect();
        Readiness {
            ready: !draining && conditions.values().all(|holds| *holds),
            draining,
            conditions,
        }
    }

    fn conditions(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<AtomicBool>>> {
        // Nothing can be left half-done under this lock, so a poisoned one is as good.
        self.state.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    /// Says whether the condition holds now.
    pub fn set(&self, holds: bool) {
        self.holds.store(holds, Ordering::Release);
    }

    /// Whether it holds.
    pub fn holds(&self) -> bool {
        self.holds.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_ready_only_while_every_condition_holds() {
        let health = Health::default();
        let (nats, media) = (health.condition("nats"), health.condition("media"));
        assert_eq!(health.missing(), ["media", "nats"]);
        nats.set(true);
        assert!(!health.is_ready());
        media.set(true);
        assert!(health.is_ready());
        nats.set(false);
        assert_eq!(health.missing(), ["nats"]);
    }

    #[test]
    fn asking_twice_gives_the_same_condition() {
        let health = Health::default();
        health.condition("nats").set(true);
        assert!(health.condition("nats").holds());
        assert_eq!(health.readiness().conditions.len(), 1);
    }

    #[test]
    fn draining_is_not_ready_and_says_so() {
        let health = Health::default();
        health.condition("nats").set(true);
        health.clone().drain();
        let readiness = health.readiness();
        assert!(!readiness.ready && readiness.draining && !health.is_ready());
        assert!(health.missing().is_empty());
    }
}
