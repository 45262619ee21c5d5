//! Feeds the read model while there are viewers: follows the stream and the buckets, and collects reports.

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::CallChange;
use contract::buckets::billing_leases::LeaseChange;
use contract::buckets::media_workers::WorkerChange;
use contract::views::history::{ReadError, Recorded, Start};
use contract::views::tail::{self, BucketChange, Tail};
use contract::{Nats, Timestamp};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::metrics;

use super::Shared;
use super::read_model::ReadModel;
use super::reports::{self, Reports};

/// How often new messages are read, and viewers are updated.
const POLL_INTERVAL: Duration = Duration::from_millis(250);
/// How often reports are collected.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Delay between an outage and the next attempt.
const RETRY_DELAY: Duration = Duration::from_millis(500);
/// Each request may be answered by another replica of the stream, and replicas may lag behind each other by this much.
const MAX_REPLICA_LAG_MS: i64 = 10_000;

/// Positions in the stream and the buckets.
struct Tails {
    facts: Tail<Recorded>,
    calls: Tail<BucketChange<CallChange>>,
    workers: Tail<BucketChange<WorkerChange>>,
    leases: Tail<BucketChange<LeaseChange>>,
}

/// The result of one poll of the tails.
struct Polled {
    facts: Vec<Recorded>,
    calls: Vec<BucketChange<CallChange>>,
    workers: Vec<BucketChange<WorkerChange>>,
    leases: Vec<BucketChange<LeaseChange>>,
}

/// Watches until it is aborted, and starts over after every outage.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.nats.connected().await;
        if let Err(error) = watch(&shared).await {
            tracing::warn!(%error, "operations feed interrupted: retrying");
        }
        shared.away(Timestamp::now());
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Runs until the connection is, or was, interrupted: the read model must then be rebuilt from what is stored.
async fn watch(shared: &Arc<Shared>) -> Result<(), ReadError> {
    let mut nats_state = shared.nats.state();
    let since = *nats_state.borrow_and_update();
    // The tail of facts starts before the last facts are read: no fact falls in between.
    let mut tails = Tails::new(&shared.nats, replicated_sequence(shared).await?);
    let mut read_model = ReadModel::default();
    loop {
        tails.poll().await?.apply_to(&mut read_model, Timestamp::now());
        let facts = shared.history.last_of_calls(&read_model.take_unread()).await?;
        read_model.apply_read_facts(&facts, Timestamp::now());
        if !tails.is_behind() {
            break;
        }
    }
    // Viewers receive all of it as a snapshot.
    read_model.take_changes(Timestamp::now());
    shared.replace(read_model, Timestamp::now());

    let (mut polls, mut reports_due) = (interval(POLL_INTERVAL), interval(REPORT_INTERVAL));
    polls.set_missed_tick_behavior(MissedTickBehavior::Delay);
    reports_due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut collecting = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = nats_state.changed() => {
                let now = *nats_state.borrow_and_update();
                if changed.is_err() || !now.connected || now.connections != since.connections {
                    return Ok(());
                }
            }
            _ = polls.tick() => {
                let polled = tails.poll().await?;
                let unread = shared.change(|model| {
                    polled.apply_to(model, Timestamp::now());
                    model.take_unread()
                });
                let facts = shared.history.last_of_calls(&unread).await?;
                shared.change(|model| model.apply_read_facts(&facts, Timestamp::now()));
                shared.publish(Timestamp::now());
            }
            // One round at a time: a slow worker is not asked again while its answer is outstanding.
            _ = reports_due.tick(), if collecting.is_empty() => {
                let workers = shared.change(|model| model.workers());
                collecting.spawn(reports::collect(shared.nats.clone(), workers));
            }
            Some(answers) = collecting.join_next() => {
                // A panic is a bug, and was logged by the hook.
                if let Ok(Reports { workers, edges }) = answers {
                    let now = Timestamp::now();
                    shared.change(|model| {
                        for (worker, calls) in workers {
                            model.apply_worker_report(&worker, calls);
                        }
                        model.apply_edge_reports(edges, now);
                    });
                }
            }
        }
    }
}

/// The sequence up to which every replica of the stream has the facts.
async fn replicated_sequence(shared: &Shared) -> Result<u64, ReadError> {
    let then = Timestamp::from_millis(Timestamp::now().as_millis() - MAX_REPLICA_LAG_MS).unwrap_or(Timestamp::now());
    let since = shared.history.page(None, Start::Time(then), 1).await?;
    match since.facts.first() {
        Some(first) => Ok(first.sequence - 1),
        None => shared.history.last_sequence().await,
    }
}

impl Tails {
    fn new(nats: &Nats, after: u64) -> Self {
        Self {
            facts: tail::facts(nats, after),
            calls: tail::active_calls(nats),
            workers: tail::workers(nats),
            leases: tail::leases(nats),
        }
    }

    async fn poll(&mut self) -> Result<Polled, ReadError> {
        let (facts, calls, workers, leases) = tokio::try_join!(
            self.facts.poll(),
            self.calls.poll(),
            self.workers.poll(),
            self.leases.poll()
        )?;
        Ok(Polled {
            facts,
            calls,
            workers,
            leases,
        })
    }

    fn is_behind(&self) -> bool {
        self.facts.is_behind() || self.calls.is_behind() || self.workers.is_behind() || self.leases.is_behind()
    }
}

impl Polled {
    fn apply_to(self, model: &mut ReadModel, now: Timestamp) {
        for change in decoded(self.workers) {
            model.apply_worker(change);
        }
        for change in decoded(self.leases) {
            model.apply_lease(change, now);
        }
        for fact in &self.facts {
            model.apply_fact(fact, now);
        }
        for change in decoded(self.calls) {
            model.apply_call_entry(change, now);
        }
    }
}

fn decoded<T>(changes: Vec<BucketChange<T>>) -> impl Iterator<Item = T> {
    changes.into_iter().filter_map(|change| match change {
        Ok(change) => Some(change),
        Err(error) => {
            metrics::undecodable("bucket");
            tracing::error!(%error, "bucket entry not decoded: check its writer's version");
            None
        }
    })
}
