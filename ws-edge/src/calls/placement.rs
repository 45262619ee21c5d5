//! Which media-worker hosts a call: the less loaded of two random ones that have room (the power of two choices).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use contract::buckets::media_workers::{WorkerChange, WorkerStatus};
use contract::jetstream::storage::WORKER_TTL;
use contract::wire::fact::Accepted;
use contract::{Timestamp, WorkerId};
use parking_lot::{Mutex, MutexGuard};
use rand::seq::IndexedRandom;

use crate::calls::server_time::ServerTime;
use crate::calls::storage::Connection;

/// The media-workers, by their last heartbeats. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct KnownWorkers {
    statuses: Arc<Mutex<HashMap<WorkerId, WorkerStatus>>>,
    server_time: Arc<Mutex<ServerTime>>,
    watching_since: Arc<Mutex<Option<Timestamp>>>,
}

impl KnownWorkers {
    /// Applies a change.
    pub fn apply(&self, change: &WorkerChange) {
        match change {
            WorkerChange::Alive(status) => {
                if let Some(stored_at) = status.stored_at {
                    self.server_time.lock().stored(stored_at, Instant::now());
                }
                self.lock().insert(status.worker_id.clone(), status.clone());
            }
            WorkerChange::Gone(worker) => {
                self.lock().remove(worker);
            }
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

    /// NATS is connected again, or the watch of heartbeats was renewed: the workers may have been cut off, too.
    pub fn watch_restored(&self) {
        let now = self.server_now();
        *self.watching_since.lock() = Some(now);
    }

    /// Whether the process that accepted a call runs.
    pub fn runs(&self, accepted: &Accepted) -> bool {
        self.status_of(accepted).is_some()
    }

    /// The last heartbeat of the process that accepted a call, if it runs.
    pub(super) fn status_of(&self, accepted: &Accepted) -> Option<WorkerStatus> {
        let statuses = self.lock();
        let status = statuses.get(&accepted.worker_id);
        status
            .filter(|status| accepted.is_by(&status.worker_id, status.started_at))
            .cloned()
    }

    /// Whether the process that accepted a call could have stored a heartbeat after its last one if it were alive.
    pub fn could_be_heard(&self, accepted: &Accepted) -> bool {
        let Some(since) = *self.watching_since.lock() else {
            return false;
        };
        let heartbeat = self.status_of(accepted).map(|status| status.at_on_server());
        heartbeat.is_some_and(|at| at > since) || self.server_now().until(since) >= WORKER_TTL
    }

    /// When another process than the one that accepted a call was started under its worker's name, by the server's clock, if it runs.
    pub fn replaced_at(&self, accepted: &Accepted) -> Option<Timestamp> {
        let statuses = self.lock();
        let other = statuses.get(&accepted.worker_id);
        let other = other.filter(|status| !accepted.is_by(&status.worker_id, status.started_at))?;
        Some(other.started_on_server())
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

/// When a heartbeat of the worker of a call was sent, by the server's clock: as long after the connection as by the worker's clock. The
/// server may store it seconds later, while a leader is elected, but not later than it would have expired.
///
/// The worker's clock may have been set between its start, the connection and the heartbeat. The time of a heartbeat by the clock of the
/// start then differs from the one by the clock of its sending. One of them is right, and the other is earlier, or later than the
/// server's time stamp unless that is late by more than the step.
pub(super) fn sent_at(status: &WorkerStatus, connection: Option<&Connection>) -> Timestamp {
    let stored_at = status.at_on_server();
    let Some(connection) = connection else {
        return stored_at;
    };
    let on_server = |at: Timestamp| {
        if at < connection.connected_at {
            connection.on_server.minus(connection.connected_at.until(at))
        } else {
            connection.on_server.plus(at.until(connection.connected_at))
        }
    };
    let candidates = [Some(status.at), status.wall].into_iter().flatten().map(on_server);
    let possible = candidates.filter(|sent_at| *sent_at <= stored_at && stored_at.until(*sent_at) < WORKER_TTL);
    possible.max().unwrap_or(stored_at)
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
    use std::time::Duration;

    use contract::samples;

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
            wall: None,
            stored_at: None,
        }
    }

    fn accepted_by(worker: &str, started: i64) -> Accepted {
        let at = Timestamp::from_millis(started).unwrap();
        Accepted {
            worker_id: worker.parse().unwrap(),
            worker_started_at: Some(at),
            ..samples::accepted("c", at)
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
        let last = workers.status_of(&accepted_by("mw", 0)).unwrap();
        assert_eq!(sent_at(&last, None), at(3_610_000));
        assert_eq!(workers.replaced_at(&accepted_by("mw", 7)), Some(at(3_600_000)));
        let now = workers.server_now();
        assert!((at(3_610_000)..at(3_670_000)).contains(&now), "{now}");
    }

    #[test]
    fn a_heartbeat_that_is_stored_late_counts_from_when_it_was_sent() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let sent_at = |sent, stored, connected| {
            let status = WorkerStatus {
                at: at(sent),
                stored_at: Some(at(stored)),
                ..worker("mw", 0, 5, false)
            };
            // The server's clock is 100 s ahead.
            let connection = Connection {
                connected_at: at(connected),
                on_server: at(110_000),
            };
            sent_at(&status, Some(&connection)).as_millis()
        };
        assert_eq!(sent_at(15_000, 115_003, 10_000), 115_000);
        assert_eq!(sent_at(15_000, 119_500, 10_000), 115_000, "a leader was elected");
        assert_eq!(sent_at(9_000, 109_002, 10_000), 109_000, "before the connection");
        // The worker's clock had been put forward and back by an hour before the connection.
        assert_eq!(sent_at(15_000, 115_003, 3_610_000), 115_003);
        assert_eq!(sent_at(3_615_000, 115_003, 10_000), 115_003);
    }

    #[test]
    fn a_step_of_the_clock_of_a_worker_does_not_change_when_its_heartbeat_was_sent() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        // Started at 0, connected at 10 s, the heartbeat sent at 15 s, by a clock that is set once by `step` ms.
        let sent_at = |step: i64, is_set_before_connection: bool| {
            let status = WorkerStatus {
                at: at(15_000),
                wall: Some(at(15_000 + step)),
                stored_at: Some(at(115_003)),
                ..worker("mw", 0, 5, false)
            };
            let connected_at = if is_set_before_connection {
                10_000 + step
            } else {
                10_000
            };
            let connection = Connection {
                connected_at: at(connected_at),
                on_server: at(110_000),
            };
            sent_at(&status, Some(&connection)).as_millis()
        };
        for step in [-9_000, -4_000, -100, 0, 100, 4_000, 3_600_000] {
            for is_set_before_connection in [true, false] {
                let sent_at = sent_at(step, is_set_before_connection);
                assert_eq!(sent_at, 115_000, "{step}, {is_set_before_connection}");
            }
        }
    }

    #[test]
    fn processes_under_one_name_differ_in_their_start() {
        let at = |millis| Timestamp::from_millis(millis).unwrap();
        let heartbeat = |started: i64, stored: i64| {
            WorkerChange::Alive(WorkerStatus {
                started_at: at(started),
                at: at(stored),
                stored_at: Some(at(stored)),
                ..worker("mw", 0, 5, false)
            })
        };
        let workers = KnownWorkers::default();
        // The clock of the second one is an hour behind, and the third one replaces an expired entry.
        workers.apply(&heartbeat(5_000_000, 5_002_000));
        assert!(workers.runs(&accepted_by("mw", 5_000_000)));
        workers.apply(&heartbeat(1_400_000, 5_009_000));
        assert!(workers.runs(&accepted_by("mw", 1_400_000)) && !workers.runs(&accepted_by("mw", 5_000_000)));
        workers.apply(&WorkerChange::Gone("mw".parse().unwrap()));
        assert!(!workers.runs(&accepted_by("mw", 1_400_000)));
        workers.apply(&heartbeat(5_020_000, 5_021_000));
        let replaced = |started| workers.replaced_at(&accepted_by("mw", started)).is_some();
        assert_eq!((replaced(5_000_000), replaced(5_020_000)), (true, false));
        assert_eq!(workers.replaced_at(&accepted_by("other", 0)), None);
        assert!(workers.runs(&accepted_by("mw", 5_020_000)) && !workers.runs(&accepted_by("mw", 5_000_000)));
    }

    #[test]
    fn after_an_outage_a_worker_is_given_time_for_a_heartbeat() {
        let now = Timestamp::now();
        let heartbeat = |stored_at| {
            WorkerChange::Alive(WorkerStatus {
                stored_at: Some(stored_at),
                ..worker("mw", 0, 5, false)
            })
        };
        let (workers, call) = (KnownWorkers::default(), accepted_by("mw", 0));
        assert!(!workers.could_be_heard(&call), "nothing is watched");
        workers.apply(&heartbeat(now));
        workers.watch_restored();
        assert!(!workers.could_be_heard(&call), "the server may have been away since");
        workers.apply(&heartbeat(now.plus(Duration::from_secs(2))));
        assert!(workers.could_be_heard(&call));
        workers.watch_restored();
        assert!(!workers.could_be_heard(&call));
        let other = WorkerStatus {
            stored_at: Some(now.plus(WORKER_TTL * 2)),
            ..worker("other", 0, 5, false)
        };
        workers.apply(&WorkerChange::Alive(other));
        assert!(workers.could_be_heard(&call), "a TTL has passed");
    }

    #[test]
    fn a_worker_that_is_gone_is_not_chosen() {
        let gone = worker("gone", 0, 5, false);
        let workers = fleet_of(std::slice::from_ref(&gone));
        workers.apply(&WorkerChange::Gone(gone.worker_id));
        assert_eq!(workers.choose(&[]), None);
    }
}
