//! Who must be looked at when: calls and workers as they were seen, and `now`, in; what is due, out. No clock, no NATS.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use contract::buckets::active_calls::ActiveCall;
use contract::buckets::fleet::{FleetChange, WorkerStatus};
use contract::jetstream::storage::WORKER_TTL;
use contract::{CallId, NodeId, Timestamp, WorkerId};

/// How long until something that was tried is tried again, if the call is still there.
const RETRY: Duration = Duration::from_secs(5);
/// How often the node that took a call's request looks whether it is over: its end may have been missed.
const OWN_CHECK: Duration = Duration::from_secs(60);
/// How often every other node does.
const OTHERS_CHECK: Duration = Duration::from_secs(300);
/// Workers of which the last sign of life is remembered after they are gone.
const MOST_DEPARTED: usize = 1024;

/// What is due for a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// It has rung for long enough.
    RingOver,
    /// Whether it is over, or should be: its media deadline has passed.
    Check,
    /// Its worker is gone; when it was last heard of, if that is known.
    WorkerLost {
        /// By the worker's own clock.
        last_sign: Option<Timestamp>,
    },
}

/// What came out of doing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learnt {
    /// The call is over, and its entry gone.
    Over,
    /// The call's worker was asked, and has it.
    WorkerAnswers,
    /// The call goes on.
    GoesOn,
    /// It could not be done.
    Failed,
}

/// The calls that are not over, and the workers that are there.
#[derive(Debug)]
pub struct Watchlist {
    node: NodeId,
    grace: Duration,
    calls: HashMap<CallId, Watched>,
    queue: BTreeSet<(Timestamp, CallId)>,
    present: HashMap<WorkerId, WorkerStatus>,
    departed: HashMap<WorkerId, Departed>,
    departures: VecDeque<WorkerId>,
    /// Since when nothing was missed: the link is up, and both watches run.
    sighted_since: Timestamp,
}

#[derive(Debug)]
struct Watched {
    call: ActiveCall,
    first_seen: Timestamp,
    not_before: Timestamp,
    next_check: Timestamp,
    queued_at: Timestamp,
    /// Something is being done for it; it is not in the queue.
    in_hand: bool,
    /// Its worker was started anew under the same name.
    orphaned: Option<Departed>,
    /// Its worker was asked, and has it, however its clock and the accepting node's differ.
    vouched_for: bool,
}

impl Watched {
    fn is_hosted_by(&self, worker: &WorkerId) -> bool {
        self.call
            .accepted
            .as_ref()
            .is_some_and(|acceptance| acceptance.worker_id == *worker)
    }
}

#[derive(Debug, Clone, Copy)]
struct Departed {
    noticed: Timestamp,
    last_sign: Option<Timestamp>,
    started_at: Option<Timestamp>,
}

impl Watchlist {
    /// An empty one. `node` is this node; `grace` is how long other nodes' duties are left to them.
    pub fn new(node: NodeId, grace: Duration, now: Timestamp) -> Self {
        Self {
            node,
            grace,
            calls: HashMap::new(),
            queue: BTreeSet::new(),
            present: HashMap::new(),
            departed: HashMap::new(),
            departures: VecDeque::new(),
            sighted_since: now,
        }
    }

    /// The link is back, or a watch was renewed. Workers could not be heard meanwhile, so none counts as lost before each
    /// had the time to say that it lives.
    pub fn sight_regained(&mut self, now: Timestamp) {
        self.sighted_since = now;
        self.requeue_all();
    }

    /// A call is there, or has changed.
    pub fn call(&mut self, call: ActiveCall, now: Timestamp) {
        let id = call.parties.call_id.clone();
        let accepted = call.accepted.as_ref().map(|acceptance| acceptance.media_deadline);
        let patience = self.grace + self.delay(&call);
        match self.calls.get_mut(&id) {
            Some(watched) => {
                if watched.call.accepted.is_none()
                    && let Some(deadline) = accepted
                {
                    watched.next_check = deadline.plus(patience);
                    watched.not_before = now;
                }
                watched.call = call;
            }
            None => {
                let next_check = accepted.unwrap_or(now).plus(patience);
                let watched = Watched {
                    call,
                    first_seen: now,
                    not_before: now,
                    next_check,
                    queued_at: now,
                    in_hand: false,
                    orphaned: None,
                    vouched_for: false,
                };
                self.calls.insert(id.clone(), watched);
            }
        }
        self.requeue(&id);
    }

    /// A call is over.
    pub fn call_gone(&mut self, call: &CallId) {
        if let Some(watched) = self.calls.remove(call) {
            self.queue.remove(&(watched.queued_at, call.clone()));
        }
    }

    /// A worker has shown itself, or is gone.
    pub fn worker(&mut self, change: FleetChange, now: Timestamp) {
        let known = match change {
            FleetChange::Alive(status) => {
                let departed = self.departed.remove(&status.worker_id);
                let (worker, started_at) = (status.worker_id.clone(), status.started_at);
                match self.present.insert(worker.clone(), status) {
                    Some(before) if before.started_at != started_at => {
                        self.orphan(
                            &worker,
                            Departed {
                                noticed: now,
                                last_sign: Some(before.at),
                                started_at: Some(before.started_at),
                            },
                        );
                    }
                    Some(_) => return,
                    // Whoever is back is another process: the one that is gone has taken its calls along.
                    None => match departed {
                        Some(departed) if departed.started_at.is_some_and(|before| before != started_at) => {
                            self.orphan(&worker, departed);
                        }
                        _ => {}
                    },
                }
                worker
            }
            FleetChange::Gone(worker) => {
                let status = self.present.remove(&worker);
                if status.is_none() && self.departed.contains_key(&worker) {
                    return;
                }
                self.remember_departed(
                    &worker,
                    Departed {
                        noticed: now,
                        last_sign: status.as_ref().map(|status| status.at),
                        started_at: status.map(|status| status.started_at),
                    },
                );
                worker
            }
        };
        let hosted = self.calls.iter().filter(|(_, watched)| watched.is_hosted_by(&known));
        for call in hosted.map(|(call, _)| call.clone()).collect::<Vec<_>>() {
            self.requeue(&call);
        }
    }

    fn orphan(&mut self, worker: &WorkerId, departed: Departed) {
        for watched in self.calls.values_mut().filter(|watched| watched.is_hosted_by(worker)) {
            watched.orphaned = Some(departed);
            watched.vouched_for = false;
        }
    }

    fn remember_departed(&mut self, worker: &WorkerId, departed: Departed) {
        if self.departed.insert(worker.clone(), departed).is_none() {
            self.departures.push_back(worker.clone());
        }
        while self.departures.len() > MOST_DEPARTED {
            if let Some(oldest) = self.departures.pop_front() {
                self.departed.remove(&oldest);
            }
        }
    }

    /// When something will be due.
    pub fn next(&self) -> Option<Timestamp> {
        self.queue.first().map(|(at, _)| *at)
    }

    /// What is due, for at most `most` calls. None of them comes up again before [`Watchlist::done`].
    pub fn due(&mut self, now: Timestamp, most: usize) -> Vec<(ActiveCall, Due)> {
        let mut due = Vec::new();
        while due.len() < most
            && self.queue.first().is_some_and(|(at, _)| *at <= now)
            && let Some((_, call)) = self.queue.pop_first()
        {
            let Some(what) = self.calls.get(&call).map(|watched| self.next_due(watched).1) else {
                continue;
            };
            if let Some(watched) = self.calls.get_mut(&call) {
                watched.in_hand = true;
                watched.next_check = now.plus(if watched.call.node_id == self.node {
                    OWN_CHECK
                } else {
                    OTHERS_CHECK
                });
                due.push((watched.call.clone(), what));
            }
        }
        due
    }

    /// What was due for a call is done; unless the call is over, it comes up again.
    pub fn done(&mut self, call: &CallId, learnt: Learnt, now: Timestamp) {
        if learnt == Learnt::Over {
            return self.call_gone(call);
        }
        if let Some(watched) = self.calls.get_mut(call) {
            watched.in_hand = false;
            watched.not_before = now.plus(RETRY);
            match learnt {
                Learnt::WorkerAnswers => {
                    watched.orphaned = None;
                    watched.vouched_for = true;
                }
                Learnt::Failed => watched.next_check = now,
                Learnt::GoesOn | Learnt::Over => {}
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
        let Some(watched) = self.calls.get(call).filter(|watched| !watched.in_hand) else {
            return;
        };
        let at = self.next_due(watched).0.max(watched.not_before);
        if let Some(watched) = self.calls.get_mut(call) {
            self.queue.remove(&(watched.queued_at, call.clone()));
            watched.queued_at = at;
            self.queue.insert((at, call.clone()));
        }
    }

    fn next_due(&self, watched: &Watched) -> (Timestamp, Due) {
        let call = &watched.call;
        let delay = self.delay(call);
        let Some(acceptance) = &call.accepted else {
            return (call.ring_deadline.plus(delay), Due::RingOver);
        };
        let check = (watched.next_check, Due::Check);
        let departed = watched
            .orphaned
            .as_ref()
            .or_else(|| self.departed.get(&acceptance.worker_id));
        let (noticed, last_sign) = match departed {
            // A worker whose entry expired because the bucket's server was away shows itself again within the grace.
            Some(departed) => (departed.noticed.plus(self.grace), departed.last_sign),
            None => match self.present.get(&acceptance.worker_id) {
                // Another process under the name; what was before it, this node has not seen.
                Some(status) if status.started_at > acceptance.accepted_at && !watched.vouched_for => {
                    (watched.first_seen.plus(self.grace), None)
                }
                Some(_) => return check,
                None => (watched.first_seen.plus(WORKER_TTL), None),
            },
        };
        let lost_at = noticed.max(self.sighted_since.plus(WORKER_TTL)).plus(delay);
        if lost_at <= check.0 {
            (lost_at, Due::WorkerLost { last_sign })
        } else {
            check
        }
    }

    /// Nothing for this node's own calls; for others' the grace, and more for some nodes than for others, so that not
    /// all of them do it at once.
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
