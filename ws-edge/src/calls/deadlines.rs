//! Ends the calls that nothing else ends: calls past their ringing or media deadline, calls of lost workers, and stale entries
//! of `active_calls`. Every edge watches all calls; the stream accepts one `ended`.

mod checks;
pub mod schedule;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use async_nats::Subscriber;
use contract::buckets::active_calls::{ActiveCalls, CallChange};
use contract::buckets::media_workers::{MediaWorkers, WorkerChange};
use contract::jetstream::bucket::BucketError;
use contract::jetstream::connection_state::ConnectionState;
use contract::jetstream::storage::Storage;
use contract::wire::subject;
use contract::{CallId, FactKind, Nats, Timestamp};
use futures::StreamExt;
use service::{BoxError, Condition};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::command_server::QUEUE_GROUP;
use crate::metrics;

pub use checks::CallChecks;
use schedule::{CallSchedule, CheckResult};

/// Calls that are ended or checked at once; the others wait.
const MAX_CONCURRENT: usize = 64;
/// Ended calls that wait to be looked up. A later check releases those that exceed it.
const MAX_ENDED: usize = 100_000;
/// Ends that are taken from the subscription at once.
const ENDS_AT_ONCE: usize = 1_024;
/// Between losing a watch and renewing it.
const RENEW_DELAY: Duration = Duration::from_millis(500);
/// The longest sleep between two looks at the schedule.
const LONGEST_SLEEP: Duration = Duration::from_secs(1);

/// The monotonic clock, counted from the wall clock at the start: setting the wall clock moves no deadline.
#[derive(Debug, Clone, Copy)]
struct SteadyClock {
    started: Instant,
    wall: Timestamp,
}

impl SteadyClock {
    fn start() -> Self {
        Self {
            started: Instant::now(),
            wall: Timestamp::now(),
        }
    }

    fn now(self) -> Timestamp {
        self.wall.plus(self.started.elapsed())
    }
}

/// Watches calls and workers, and runs due checks.
pub struct Deadlines {
    nats: Nats,
    clock: SteadyClock,
    active: ActiveCalls,
    media_workers: MediaWorkers,
    checks: CallChecks,
    list: CallSchedule,
    watching: Condition,
    /// The checks that run, each of another call.
    running: JoinSet<(CallId, CheckResult)>,
    /// Calls of which an end was published. They are taken from the subscription at once, so that no burst of ends overflows it.
    ended: VecDeque<CallId>,
    /// Ends that are being looked up.
    releasing: JoinSet<()>,
}

impl Deadlines {
    /// Nothing is scheduled before [`Deadlines::run`]; `watching` is set while everything is.
    pub fn new(nats: Nats, storage: &Storage, checks: CallChecks, grace: Duration, watching: Condition) -> Self {
        let clock = SteadyClock::start();
        Self {
            nats,
            clock,
            active: checks.storage.active.clone(),
            media_workers: MediaWorkers::new(storage),
            list: CallSchedule::new(checks.node_id.clone(), grace, clock.now()),
            checks,
            watching,
            running: JoinSet::new(),
            ended: VecDeque::new(),
            releasing: JoinSet::new(),
        }
    }

    /// Watches until `stop` is cancelled, and renews a lost watch.
    ///
    /// # Errors
    /// None: failures are retried.
    pub async fn run(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                scheduled = self.watch() => match scheduled {
                    Ok(()) => tracing::info!("watch of calls and workers lost: reopening"),
                    Err(error) => tracing::warn!(%error, "cannot watch calls and workers: retrying"),
                }
            }
            self.watching.set(false);
            tokio::select! {
                () = stop.cancelled() => break,
                () = tokio::time::sleep(RENEW_DELAY) => {}
            }
        }
        // Finish running checks: no other node would notify the parties.
        while self.running.join_next().await.is_some() {}
        Ok(())
    }

    /// Runs until a watch ends or the connection was interrupted; the caller then schedules everything again.
    async fn watch(&mut self) -> Result<(), BoxError> {
        self.nats.connected().await;
        let mut nats_state = self.nats.state();
        let since = *nats_state.borrow_and_update();
        let mut calls = Box::pin(self.active.watch().await?);
        let mut workers = Box::pin(self.media_workers.watch().await?);
        let mut ends = self.ends().await?.ready_chunks(ENDS_AT_ONCE);
        self.list.watch_restored(self.clock.now());
        self.checks.known_workers.watch_restored();
        self.watching.set(true);
        loop {
            let pause = self.pause(*nats_state.borrow());
            tokio::select! {
                change = calls.next() => match change {
                    Some(Err(error)) if is_lost(&error) => return Err(error.into()),
                    Some(change) => self.note_call(change),
                    None => return Ok(()),
                },
                change = workers.next() => match change {
                    Some(Err(error)) if is_lost(&error) => return Err(error.into()),
                    Some(change) => self.note_worker(change),
                    None => return Ok(()),
                },
                ends = ends.next() => match ends {
                    Some(ends) => self.note_ends(&ends),
                    None => return Ok(()),
                },
                Some(_) = self.releasing.join_next() => self.start_releases(),
                Some(done) = self.running.join_next() => {
                    // A panic is a bug, and was logged; the call comes up again after a restart, or at another node.
                    if let Ok((call, result)) = done {
                        self.list.done(&call, result, self.clock.now());
                    }
                }
                changed = nats_state.changed() => {
                    changed?;
                    let now = *nats_state.borrow();
                    // An overflow of `ends` needs no new watch: a later check releases the call.
                    if now.connected && now.connections != since.connections {
                        return Ok(());
                    }
                }
                () = tokio::time::sleep(pause) => {
                    // While NATS is disconnected no heartbeat arrives, and nothing can be stored.
                    if nats_state.borrow().connected {
                        self.start_checks();
                    }
                }
            }
        }
    }

    /// The stored ends of calls, one edge each: a call that its worker ended is taken out of `active_calls` at once.
    async fn ends(&self) -> Result<Subscriber, BoxError> {
        let subject = subject::facts_of_kind(FactKind::Ended);
        Ok(self
            .nats
            .client
            .queue_subscribe(subject, QUEUE_GROUP.to_owned())
            .await?)
    }

    fn pause(&self, nats_state: ConnectionState) -> Duration {
        match self.list.next() {
            Some(next) if nats_state.connected && self.running.len() < MAX_CONCURRENT => {
                next.until(self.clock.now()).min(LONGEST_SLEEP)
            }
            _ => LONGEST_SLEEP,
        }
    }

    fn note_call(&mut self, change: Result<CallChange, BucketError>) {
        match change {
            Ok(CallChange::Active(call)) => self.list.call(call.value, self.clock.now()),
            Ok(CallChange::Gone(call)) => self.list.remove_call(&call),
            Err(error) => unreadable(&error),
        }
    }

    fn note_worker(&mut self, change: Result<WorkerChange, BucketError>) {
        match change {
            Ok(change) => {
                self.checks.known_workers.apply(&change);
                if let WorkerChange::Gone(worker) = &change {
                    tracing::info!(worker_id = %worker, "media-worker lost: its calls will be ended");
                }
                self.list.worker(change, self.clock.now());
            }
            Err(error) => unreadable(&error),
        }
    }

    fn start_checks(&mut self) {
        let room = MAX_CONCURRENT.saturating_sub(self.running.len());
        for (call, due) in self.list.due(self.clock.now(), room) {
            let checks = self.checks.clone();
            self.running.spawn(async move { checks.run(call, due).await });
        }
    }

    fn note_ends(&mut self, messages: &[async_nats::Message]) {
        for message in messages {
            // The subject is enough: the check reads what is stored.
            if let Some((call, FactKind::Ended)) = subject::parse_fact(&message.subject)
                && self.ended.len() < MAX_ENDED
            {
                self.ended.push_back(call);
            }
        }
        self.start_releases();
    }

    fn start_releases(&mut self) {
        while self.releasing.len() < MAX_CONCURRENT
            && let Some(call) = self.ended.pop_front()
        {
            let checks = self.checks.clone();
            self.releasing.spawn(async move { checks.release_if_over(&call).await });
        }
    }
}

/// Whether the watch itself failed, and not one entry: a new watch shows what it has missed.
fn is_lost(error: &BucketError) -> bool {
    !matches!(error, BucketError::Unreadable { .. })
}

fn unreadable(error: &BucketError) {
    metrics::undecodable("bucket");
    tracing::error!(%error, "bucket entry not decoded: check its writer's version");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_entry_is_unreadable_and_a_watch_is_lost() {
        let unreadable = BucketError::Unreadable {
            key: "call.c".to_owned(),
            revision: None,
            error: serde_json::from_str::<u8>("{").unwrap_err(),
        };
        // As the bucket's watcher reports a heartbeat that did not come.
        let missed = BucketError::Unavailable {
            key: "call.c".to_owned(),
            reason: "missed idle heartbeat".to_owned(),
        };
        assert!(!is_lost(&unreadable));
        assert!(is_lost(&missed));
    }
}
