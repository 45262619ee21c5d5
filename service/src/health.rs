//! Readiness: a set of named conditions, each set by one part of the service.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::{Mutex, MutexGuard};
use serde::Serialize;

/// The conditions under which a service is ready, and whether it is draining. Clones share one state.
#[derive(Debug, Clone, Default)]
pub struct Health {
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    draining: AtomicBool,
    // Names are string literals, so the set is bounded.
    conditions: Mutex<BTreeMap<&'static str, Arc<AtomicBool>>>,
}

/// One named condition. Clones share it.
#[derive(Debug, Clone)]
pub struct Condition {
    holds: Arc<AtomicBool>,
}

/// The answer of `/readyz`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Readiness {
    /// Every condition holds and the service is not draining.
    pub ready: bool,
    /// The service is stopping: it finishes its work and accepts no more.
    pub draining: bool,
    /// Each condition by name.
    pub conditions: BTreeMap<&'static str, bool>,
}

impl Health {
    /// The condition with this name, which does not hold until it is set. The same name gives the same condition.
    pub fn condition(&self, name: &'static str) -> Condition {
        Condition {
            holds: Arc::clone(self.conditions().entry(name).or_default()),
        }
    }

    /// Makes the service permanently unready, whatever its conditions.
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

    /// A snapshot.
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
        self.state.conditions.lock()
    }
}

impl Condition {
    /// Sets whether the condition holds.
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
    fn the_same_name_gives_the_same_condition() {
        let health = Health::default();
        health.condition("nats").set(true);
        assert!(health.condition("nats").holds());
        assert_eq!(health.readiness().conditions.len(), 1);
    }

    #[test]
    fn a_draining_service_is_not_ready() {
        let health = Health::default();
        health.condition("nats").set(true);
        health.clone().drain();
        let readiness = health.readiness();
        assert!(!readiness.ready && readiness.draining && !health.is_ready());
        assert!(health.missing().is_empty());
    }
}
