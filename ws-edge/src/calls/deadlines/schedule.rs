//! When each call must be checked. Input: changes of calls and workers, and `now`; output: due checks. No clock, no NATS.
//!
//! Entries have times of the clocks of other machines, which may be wrong. Only the differences of two times of one clock are
//! used: a deadline is that long after this node has seen the entry, on its own monotonic clock.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use contract::buckets::active_calls::ActiveCall;
use contract::buckets::media_workers::WorkerChange;
use contract::jetstream::storage::WORKER_TTL;
use contract::{CallId, NodeId, Timestamp, WorkerId};

/// Wait before a check that has run is repeated, if the call is still active.
const RETRY: Duration = Duration::from_secs(5);
/// How often the node that received a call's request checks whether it is over: its end may have been missed.
const OWN_CHECK: Duration = Duration::from_secs(60);
/// How often every other node checks it.
const OTHERS_CHECK: Duration = Duration::from_secs(300);
/// Lost workers that are remembered.
const MAX_LOST_WORKERS: usize = 1024;

/// The check that is due for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Its ringing deadline has passed.
    RingTimeout,
    /// Its end may have been missed.
    Check,
    /// Its media deadline has passed.
    MediaTimeout,
    /// Its worker is lost, or another process has the worker's name.
    WorkerLost,
}

/// The result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CheckResult {
    /// The call is over, and its entry gone.
    Ended,
    /// The call goes on.
    Continues,
    /// The check failed.
    Failed,
}

/// The calls in progress, and the known workers.
#[derive(Debug)]
pub struct CallSchedule {
    node: NodeId,
    grace: Duration,
    calls: HashMap<CallId, ScheduledCall>,
    queue: BTreeSet<(Timestamp, CallId)>,
    present: HashMap<WorkerId, Process>,
    lost_workers: HashMap<WorkerId, LostWorker>,
    lost_order: VecDeque<WorkerId>,
    /// Since when no change was missed: NATS is connected, and both watches run.
    watching_since: Timestamp,
}

#[derive(Debug)]
struct ScheduledCall {
    call: ActiveCall,
    first_seen: Timestamp,
    ring_deadline: Timestamp,
    media_deadline: Option<Timestamp>,
    not_before: Timestamp,
    next_check: Timestamp,
    queued_at: Timestamp,
    /// A check is running; the call is not in the queue.
    in_progress: bool,
}

impl ScheduledCall {
    fn is_hosted_by(&self, worker: &WorkerId) -> bool {
        self.call
            .accepted
            .as_ref()
            .is_some_and(|acceptance| acceptance.worker_id == *worker)
    }
}

/// A process that runs under a worker's name. Processes are told apart by their start, and no two clocks are compared.
#[derive(Debug, Clone, Copy)]
struct Process {
    started_at: Timestamp,
    /// When this node noticed that a former process is gone, or saw this one first.
    since: Timestamp,
}

#[derive(Debug, Clone, Copy)]
struct LostWorker {
    noticed: Timestamp,
    started_at: Option<Timestamp>,
}

impl CallSchedule {
    /// An empty schedule. `node` is this node; `grace` is how long a check is left to the node responsible for it.
    pub fn new(node: NodeId, grace: Duration, now: Timestamp) -> Self {
        Self {
            node,
            grace,
            calls: HashMap::new(),
            queue: BTreeSet::new(),
            present: HashMap::new(),
            lost_workers: HashMap::new(),
            lost_order: VecDeque::new(),
            watching_since: now,
        }
    }

    /// NATS is connected again, or a watch was renewed. Heartbeats may have been missed meanwhile: no worker counts as lost
    /// before each had time for another one.
    pub fn watch_restored(&mut self, now: Timestamp) {
        self.watching_since = now;
        self.requeue_all();
    }

    /// A call was added or changed.
    pub fn call(&mut self, call: ActiveCall, now: Timestamp) {
        let id = call.parties.call_id.clone();
        let accepted = call.accepted.as_ref().map(|acceptance| {
            let media_timeout = acceptance.media_deadline.until(acceptance.accepted_at);
            now.plus(media_timeout)
        });
        let delay = self.grace + self.delay(&call);
        match self.calls.get_mut(&id) {
            Some(scheduled) => {
                if scheduled.call.accepted.is_none()
                    && let Some(deadline) = accepted
                {
                    scheduled.media_deadline = Some(deadline);
                    scheduled.next_check = deadline.plus(delay);
                    scheduled.not_before = now;
                }
                scheduled.call = call;
            }
            None => {
                let next_check = accepted.unwrap_or(now).plus(delay);
                let scheduled = ScheduledCall {
                    ring_deadline: now.plus(call.ring_deadline.until(call.requested_at)),
                    media_deadline: accepted,
                    call,
                    first_seen: now,
                    not_before: now,
                    next_check,
                    queued_at: now,
                    in_progress: false,
                };
                self.calls.insert(id.clone(), scheduled);
            }
        }
        self.requeue(&id);
    }

    /// A call is over.
    pub fn remove_call(&mut self, call: &CallId) {
        if let Some(scheduled) = self.calls.remove(call) {
            self.queue.remove(&(scheduled.queued_at, call.clone()));
        }
    }

    /// A worker has sent a heartbeat, or its entry has expired.
    pub fn worker(&mut self, change: WorkerChange, now: Timestamp) {
        let known = match change {
            WorkerChange::Alive(status) => {
                let started_at = status.started_at;
                let lost = self.lost_workers.remove(&status.worker_id);
                if self
                    .present
                    .get(&status.worker_id)
                    .is_some_and(|known| known.started_at == started_at)
                {
                    return;
                }
                // The entry expired in between: a process with another start does not have the calls of the lost one.
                let replaced = lost.filter(|lost| lost.started_at.is_some_and(|before| before != started_at));
                let since = replaced.map_or(now, |lost| lost.noticed);
                self.present
                    .insert(status.worker_id.clone(), Process { started_at, since });
                status.worker_id
            }
            WorkerChange::Gone(worker) => {
                let process = self.present.remove(&worker);
                if process.is_none() && self.lost_workers.contains_key(&worker) {
                    return;
                }
                let started_at = process.map(|process| process.started_at);
                self.remember_lost(
                    &worker,
                    LostWorker {
                        noticed: now,
                        started_at,
                    },
                );
                worker
            }
        };
        let hosted = self
            .calls
            .iter()
            .filter(|(_, scheduled)| scheduled.is_hosted_by(&known));
        for call in hosted.map(|(call, _)| call.clone()).collect::<Vec<_>>() {
            self.requeue(&call);
        }
    }

    fn remember_lost(&mut self, worker: &WorkerId, lost: LostWorker) {
        if self.lost_workers.insert(worker.clone(), lost).is_none() {
            self.lost_order.push_back(worker.clone());
        }
        while self.lost_order.len() > MAX_LOST_WORKERS {
            if let Some(oldest) = self.lost_order.pop_front() {
                self.lost_workers.remove(&oldest);
            }
        }
    }

    /// When the next check is due.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// The due checks of at most `most` calls. None of these calls is due again before [`CallSchedule::done`].
    pub fn due(&mut self, now: Timestamp, most: usize) -> Vec<(ActiveCall, Due)> {
        let mut due = Vec::new();
        while due.len() < most
            && self.queue.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, call)) = self.queue.pop_first()
        {
            let Some(check) = self.calls.get(&call).map(|scheduled| self.next_due(scheduled).1) else {
                continue;
            };
            if let Some(scheduled) = self.calls.get_mut(&call) {
                scheduled.in_progress = true;
                let overdue = scheduled.media_deadline.is_some_and(|deadline| deadline <= now);
                let check = if check == Due::Check && overdue {
                    Due::MediaTimeout
                } else {
                    check
                };
                scheduled.next_check = now.plus(if scheduled.call.node_id == self.node {
                    OWN_CHECK
                } else {
                    OTHERS_CHECK
                });
                due.push((scheduled.call.clone(), check));
            }
        }
        due
    }

    /// A check has run; the next one is scheduled unless the call is over.
    pub fn done(&mut self, call: &CallId, result: CheckResult, now: Timestamp) {
        if result == CheckResult::Ended {
            return self.remove_call(call);
        }
        if let Some(scheduled) = self.calls.get_mut(call) {
            scheduled.in_progress = false;
            scheduled.not_before = now.plus(RETRY);
            if result == CheckResult::Failed {
                scheduled.next_check = now;
            }
        }
        self.requeue(call);
    }

    fn requeue_all(&mut self) {
        let calls: Vec<CallId> = self.calls.keys().cloned().collect();
        for call in calls {
            self.requeue(&call);
        }
    }

    fn requeue(&mut self, call: &CallId) {
        let Some(scheduled) = self.calls.get(call).filter(|scheduled| !scheduled.in_progress) else {
            return;
        };
        let at = self.next_due(scheduled).0.max(scheduled.not_before);
        if let Some(scheduled) = self.calls.get_mut(call) {
            self.queue.remove(&(scheduled.queued_at, call.clone()));
            scheduled.queued_at = at;
            self.queue.insert((at, call.clone()));
        }
    }

    fn next_due(&self, scheduled: &ScheduledCall) -> (Timestamp, Due) {
        let call = &scheduled.call;
        let delay = self.delay(call);
        let Some(acceptance) = &call.accepted else {
            return (scheduled.ring_deadline.plus(delay), Due::RingTimeout);
        };
        let check = (scheduled.next_check, Due::Check);
        let noticed = match (
            self.lost_workers.get(&acceptance.worker_id),
            self.present.get(&acceptance.worker_id),
        ) {
            // A worker whose entry expired because the bucket's server was away shows itself again within the grace.
            (Some(lost), _) => lost.noticed.plus(self.grace),
            (None, Some(process)) if acceptance.worker_started_at.is_some_and(|at| at != process.started_at) => {
                process.since.max(scheduled.first_seen).plus(self.grace)
            }
            (None, Some(_)) => return check,
            (None, None) => scheduled.first_seen.plus(WORKER_TTL),
        };
        let lost_at = noticed.max(self.watching_since.plus(WORKER_TTL)).plus(delay);
        if lost_at <= check.0 {
            (lost_at, Due::WorkerLost)
        } else {
            check
        }
    }

    /// Zero for this node's own calls. For others' the grace, plus a share that differs between nodes, so that they do not
    /// all act at once.
    fn delay(&self, call: &ActiveCall) -> Duration {
        if call.node_id == self.node {
            return Duration::ZERO;
        }
        let mut hasher = DefaultHasher::new();
        (&self.node, &call.parties.call_id).hash(&mut hasher);
        let share = u32::try_from(hasher.finish() % 1000).unwrap_or_default();
        self.grace + self.grace * share / 1000
    }
}

#[cfg(test)]
mod tests;
