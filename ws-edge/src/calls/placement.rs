//! Which media-worker hosts a call: the less loaded of two random ones that have room (the power of two choices).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use contract::buckets::media_workers::{WorkerChange, WorkerStatus};
use contract::{Timestamp, WorkerId};
use parking_lot::{Mutex, MutexGuard};
use rand::seq::IndexedRandom;

/// How long a heartbeat bounds the server's time, at least. A server's clock that was set back is followed after twice that.
const BOUND_WINDOW: Duration = Duration::from_secs(30);

/// The media-workers, by their last heartbeats. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownWorkers {
    statuses: Arc<Mutex<HashMap<WorkerId, WorkerStatus>>>,
    server_time: Arc<Mutex<ServerTime>>,
}

/// The time by the server's clock, from the times at which it stored heartbeats. Each is a lower bound, because a heartbeat may arrive
/// late: after an outage of NATS by all of it. The latest bound of this window and of the one before counts.
#[derive(Debug, Default)]
struct ServerTime {
    opened: Option<Instant>,
    latest: Option<Bound>,
    latest_before: Option<Bound>,
}

/// The server's time was at least this at an instant of this machine.
#[derive(Debug, Clone, Copy)]
struct Bound {
    at: Timestamp,
    arrived: Instant,
}

impl Bound {
    fn at(&self, instant: Instant) -> Timestamp {
        self.at.plus(instant.saturating_duration_since(self.arrived))
    }
}

impl ServerTime {
    fn heard(&mut self, at: Timestamp, arrived: Instant) {
        if self
            .opened
            .is_none_or(|opened| arrived.saturating_duration_since(opened) >= BOUND_WINDOW)
        {
            self.opened = Some(arrived);
            self.latest_before = self.latest.take();
        }
        if self.latest.is_none_or(|latest| latest.at(arrived) < at) {
            self.latest = Some(Bound { at, arrived });
        }
    }

    /// None before the first heartbeat.
    fn at(&self, instant: Instant) -> Option<Timestamp> {
        let bounds = [self.latest, self.latest_before].into_iter().flatten();
        bounds.map(|bound| bound.at(instant)).max()
    }
}

impl KnownWorkers {
    /// Applies a change.
    pub fn apply(&self, change: &WorkerChange) {
        match change {
            WorkerChange::Alive(status) => {
                if let Some(stored_at) = status.stored_at {
                    self.server_time.lock().heard(stored_at, Instant::now());
                }
                drop(self.lock().insert(status.worker_id.clone(), status.clone()));
            }
            WorkerChange::Gone(worker) => drop(self.lock().remove(worker)),
        }
    }

    /// A worker with room that is none of `tried`. It counts as loaded with the call at once, until its next
    /// heartbeat: calls between two heartbeats do not all go to the same worker.
    pub fn choose(&self, tried: &[WorkerId]) -> Option<WorkerId> {
        let mut statuses = self.lock();
        let chosen = {
            let roomy: Vec<&WorkerStatus> = statuses
                .values()
                .filter(|status| has_room(status) && !tried.contains(&status.worker_id))
                .collect();
            less_loaded(&roomy.sample(&mut rand::rng(), 2).copied().collect::<Vec<_>>())?
                .worker_id
                .clone()
        };
        if let Some(status) = statuses.get_mut(&chosen) {
            status.calls = status.calls.saturating_add(1);
        }
        Some(chosen)
    }

    /// Whether any worker has room.
    pub fn has_room(&self) -> bool {
        self.lock().values().any(has_room)
    }

    /// Whether a worker of that name runs, and was started after `time`.
    pub fn started_after(&self, worker: &WorkerId, time: Timestamp) -> bool {
        self.lock().get(worker).is_some_and(|status| status.started_at > time)
    }

    /// When the worker of that name was started, and its last heartbeat, by the server's clock, if one runs.
    pub fn on_server(&self, worker: &WorkerId) -> Option<(Timestamp, Timestamp)> {
        let statuses = self.lock();
        let status = statuses.get(worker)?;
        Some((status.started_on_server(), status.at_on_server()))
    }

    /// The time by the server's clock; the wall clock of this machine before the first heartbeat.
    pub fn server_now(&self) -> Timestamp {
        let now = self.server_time.lock().at(Instant::now());
        now.unwrap_or_else(Timestamp::now)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<WorkerId, WorkerStatus>> {
        self.statuses.lock()
    }
}

fn has_room(status: &WorkerStatus) -> bool {
    !status.draining && !status.cordoned && status.calls < status.capacity
}

/// By share of capacity: workers may be of different sizes.
fn less_loaded<'a>(candidates: &[&'a WorkerStatus]) -> Option<&'a WorkerStatus> {
    let share = |status: &WorkerStatus| f64::from(status.calls) / f64::from(status.capacity.max(1));
    candidates.iter().copied().min_by(|a, b| share(a).total_cmp(&share(b)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(name: &str, calls: u32, capacity: u32, draining: bool) -> WorkerStatus {
        let at = Timestamp::from_millis(0).unwrap();
        WorkerStatus {
            worker_id: name.parse().unwrap(),
            calls,
            capacity,
            draining,
            cordoned: false,
            at,
            started_at: at,
            stored_at: None,
        }
    }

    fn fleet_of(statuses: &[WorkerStatus]) -> KnownWorkers {
        let workers = KnownWorkers::default();
        for status in statuses {
            workers.apply(&WorkerChange::Alive(status.clone()));
        }
        workers
    }

    #[test]
    fn the_full_the_draining_and_the_tried_are_skipped() {
        let (full, draining, good) = (
            worker("full", 5, 5, false),
            worker("going", 0, 5, true),
            worker("good", 4, 5, false),
        );
        let workers = fleet_of(&[full, draining, good.clone()]);
        assert_eq!(workers.choose(std::slice::from_ref(&good.worker_id)), None);
        assert_eq!(workers.choose(&[]), Some(good.worker_id));
        assert_eq!(workers.choose(&[]), None, "it counts as full now");
    }

    #[test]
    fn a_cordoned_worker_is_skipped_until_it_is_uncordoned() {
        let mut only = worker("only", 0, 5, false);
        only.cordoned = true;
        let workers = fleet_of(std::slice::from_ref(&only));
        assert!(!workers.has_room());
        assert_eq!(workers.choose(&[]), None);
        only.cordoned = false;
        workers.apply(&WorkerChange::Alive(only.clone()));
        assert_eq!(workers.choose(&[]), Some(only.worker_id));
    }

    #[test]
    fn of_two_the_less_loaded_by_share_is_chosen() {
        let (big, small) = (worker("big", 10, 100, false), worker("small", 2, 10, false));
        assert_eq!(fleet_of(&[big.clone(), small]).choose(&[]), Some(big.worker_id));
    }

    #[test]
    fn calls_spread_between_two_heartbeats() {
        let workers = fleet_of(&[worker("a", 0, 100, false), worker("b", 0, 100, false)]);
        let chosen: Vec<_> = (0..50).filter_map(|_| workers.choose(&[])).collect();
        let to_a = chosen.iter().filter(|worker| worker.as_str() == "a").count();
        assert_eq!((chosen.len(), to_a), (50, 25));
    }

    #[test]
    fn times_are_of_the_server_whatever_the_clocks_of_workers_and_of_this_machine_show() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let workers = fleet_of(&[WorkerStatus {
            // An hour behind, and started 10 s before.
            started_at: at(0),
            at: at(10_000),
            stored_at: Some(at(3_610_000)),
            ..worker("mw", 0, 5, false)
        }]);
        let name = "mw".parse().unwrap();
        assert_eq!(workers.on_server(&name), Some((at(3_600_000), at(3_610_000))));
        let now = workers.server_now();
        assert!((at(3_610_000)..at(3_670_000)).contains(&now), "{now}");
    }

    #[test]
    fn a_heartbeat_that_arrives_late_does_not_put_the_time_back() {
        let (zero, mut time) = (Instant::now(), ServerTime::default());
        let after = |seconds| zero + Duration::from_secs(seconds);
        let at = |seconds: i64| Timestamp::from_millis(seconds * 1_000).unwrap();
        assert_eq!(time.at(zero), None);
        time.heard(at(100), after(0));
        // Stored a second later, and told after an outage of a minute.
        time.heard(at(101), after(60));
        assert_eq!(time.at(after(61)), Some(at(161)));
        // The server's clock is 10 s behind from now on.
        for heartbeat in 61..=130u32 {
            time.heard(at(i64::from(heartbeat) + 90), after(heartbeat.into()));
        }
        assert_eq!(time.at(after(130)), Some(at(220)));
    }

    #[test]
    fn a_worker_that_is_gone_is_not_chosen() {
        let gone = worker("gone", 0, 5, false);
        let workers = fleet_of(std::slice::from_ref(&gone));
        workers.apply(&WorkerChange::Gone(gone.worker_id));
        assert_eq!(workers.choose(&[]), None);
    }
}
