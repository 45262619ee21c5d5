//! The ticker: one task that drives the scheduler and runs the bounded work that the scheduler hands out.
//!
//! The server's clock decides what is due, see [`crate::server_clock`]: the wall clocks of this machine and of media-workers may step or
//! be off. The monotonic timer only wakes the task, at the latest after [`MAX_SLEEP`].

mod last_stored;

mod settlement;
mod tick_batch;

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use contract::Timestamp;
use contract::jetstream::batch::MAX_BATCH;
use contract::jetstream::clock::Clock;
use contract::jetstream::fact_store::{FactError, MAX_CALLS_PER_READ};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::BoxError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use self::settlement::{SettleOutcome, SettledBatch};
use self::tick_batch::{FailedBatch, StoredBatch, StoredTicks};
use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::domain::partition::{HeldPartitions, PartitionSet};
use crate::domain::partitioned_index::PartitionedIndex;
use crate::domain::scheduler::Scheduler;
use crate::domain::terms::DefaultTerms;
use crate::domain::work::{DueSettlement, LastStored, TickFailure, WorkToken};
use crate::index_watcher::{INDEX_CHANGE_CAPACITY, IndexChange};
use crate::{metrics, termination};

/// Concurrent reads of the last stored messages of one call, from the leader.
const MAX_READS: usize = 64;
/// Concurrent reads of the last stored messages of [`MAX_CALLS_PER_READ`] calls, from any replica.
const MAX_BATCH_READS: usize = 8;
/// Concurrent batches of ticks, sent or waiting to be sent; the server allows 50 uncommitted ones per stream. In a burst it was seen to
/// acknowledge several together: with too few in flight, it waits for the next ones. Ticks that become due meanwhile fill the next batches.
const MAX_BATCHES: usize = 12;
/// No further batch is started while the notices of so many stored ones wait: the notices of a burst do not delay its batches.
const MAX_BATCHES_WITH_PENDING_NOTICES: usize = 32;
/// Concurrent batches of settlements, of up to [`MAX_CALLS_PER_READ`] calls.
const MAX_SETTLEMENT_BATCHES: usize = 4;
/// No further batch is settled while so many calls are settled by themselves.
const MAX_SINGLE_SETTLEMENTS: usize = 64;
/// Concurrent requests to end a call.
const MAX_TERMINATIONS: usize = 16;
/// The longest sleep, after which the server's clock is checked again.
const MAX_SLEEP: Duration = Duration::from_secs(1);
/// Delay before a failed read is repeated …
const REREAD_DELAY: Duration = Duration::from_millis(500);
/// … and before a read is repeated whose messages cannot be decoded.
const UNREADABLE_DELAY: Duration = Duration::from_secs(60);

/// Ticks and settles calls.
#[derive(Debug)]
pub(crate) struct Ticker {
    pub(crate) deps: Deps,
    pub(crate) terms: DefaultTerms,
    pub(crate) changes: mpsc::Receiver<IndexChange>,
    pub(crate) held: watch::Receiver<HeldPartitions>,
}

type BatchRead = Result<Vec<(WorkToken, Result<LastStored, FactError>)>, (Vec<WorkToken>, FactError)>;
type InFlight<T> = FuturesUnordered<BoxFuture<'static, T>>;

#[derive(Default)]
struct Work {
    reads: InFlight<(WorkToken, Result<LastStored, FactError>)>,
    batch_reads: InFlight<BatchRead>,
    batches: InFlight<Result<StoredBatch, FailedBatch>>,
    /// Stored batches whose notices wait. Their calls get no other work before, unless their leases or entries are lost meanwhile.
    pending_notices: VecDeque<StoredBatch>,
    /// At most one, so that the notices of a call keep their order.
    notices: InFlight<StoredTicks>,
    settlement_batches: InFlight<SettledBatch>,
    settlements: InFlight<(WorkToken, SettleOutcome)>,
    terminations: InFlight<WorkToken>,
}

/// Delays batches after one that was not acknowledged.
#[derive(Default)]
struct BatchPacing {
    backoff: Backoff,
    not_before: Option<Instant>,
}

impl BatchPacing {
    /// A server that does not answer gets no batches for a while. After a rejection the other calls' ticks go out at once.
    fn failed(&mut self, why: TickFailure, clock: &dyn Clock) {
        if why == TickFailure::Unacknowledged {
            self.backoff.fail();
            self.not_before = Some(clock.instant() + self.backoff.delay(clock));
        }
    }

    /// The remaining delay, if any.
    fn pause(&self, now: Instant) -> Option<Duration> {
        self.not_before.filter(|at| *at > now).map(|at| at - now)
    }
}

impl Ticker {
    /// Ticks until `stop`, then finishes the batches and settlements in flight.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut scheduler = Scheduler::new(self.terms, MAX_BATCH);
        let mut index = PartitionedIndex::default();
        let mut work = Work::default();
        let mut pacing = BatchPacing::default();
        let mut nats_state = self.deps.nats_state.clone();
        let mut changes = Vec::with_capacity(INDEX_CHANGE_CAPACITY);
        loop {
            let now = self.deps.server_now();
            let lease_expiry = self.apply_leases(&mut scheduler, &mut index, now);
            scheduler.wake(now);
            let pause = pacing.pause(self.deps.clock.instant());
            self.start(&mut scheduler, &mut work, pause, now);
            metrics::active_calls(scheduler.len(), scheduler.due());
            let sleep = scheduler
                .next_wake()
                .map_or(MAX_SLEEP, |wake| wake.until(now).min(MAX_SLEEP))
                .min(lease_expiry)
                .min(pause.unwrap_or(MAX_SLEEP));
            // In this order: the results are bounded by the work in flight, so they cannot starve the changes.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(published) = work.batches.next() => self.on_batch(&mut scheduler, &mut work, &mut pacing, published),
                Some(stored) = work.notices.next() => self.on_notices_sent(&mut scheduler, &stored),
                Some(read) = work.batch_reads.next() => self.on_batch_read(&mut scheduler, read).await,
                Some((token, stored)) = work.reads.next() => self.on_read(&mut scheduler, &token, stored).await,
                Some(SettledBatch { done, remaining }) = work.settlement_batches.next() => {
                    let now = self.deps.server_now();
                    done.into_iter().for_each(|(token, outcome)| on_settlement(&mut scheduler, &token, outcome, now));
                    work.settlements.extend(remaining);
                }
                Some((token, outcome)) = work.settlements.next() => on_settlement(&mut scheduler, &token, outcome, self.deps.server_now()),
                Some(token) = work.terminations.next() => scheduler.termination_requested(&token, self.deps.server_now()),
                Ok(()) = self.held.changed() => {}
                Ok(()) = nats_state.changed() => {}
                received = self.changes.recv_many(&mut changes, INDEX_CHANGE_CAPACITY) => {
                    if received == 0 {
                        break;
                    }
                    let now = self.deps.server_now();
                    changes.drain(..).for_each(|change| on_change(&mut scheduler, &mut index, change, now));
                }
                () = self.deps.clock.sleep(sleep) => {}
            }
        }
        // The drain has a deadline. The next holder of the leases finishes what remains.
        loop {
            self.start_pending_notices(&mut work);
            tokio::select! {
                Some(published) = work.batches.next() => work.pending_notices.extend(published),
                Some(_) = work.notices.next() => {}
                Some(batch) = work.settlement_batches.next() => work.settlements.extend(batch.remaining),
                Some(_) = work.settlements.next() => {}
                else => break,
            }
        }
        Ok(())
    }

    /// Schedules the calls of the partitions held at this moment, and returns how long the leases last.
    fn apply_leases(&mut self, scheduler: &mut Scheduler, index: &mut PartitionedIndex, now: Timestamp) -> Duration {
        let (held, instant) = (*self.held.borrow_and_update(), self.deps.clock.instant());
        // Without the server's clock, nothing is known to be due.
        let is_clock_known = self.deps.server_clock.at(instant).is_some();
        let partitions = if is_clock_known {
            held.at(instant)
        } else {
            PartitionSet::NONE
        };
        if partitions != index.held() {
            tracing::info!(held = partitions.len(), "held partitions changed");
            index.hold(scheduler, partitions, now);
            metrics::leases_held(partitions.len());
        }
        match held.until {
            Some(until) if until > instant => until - instant,
            _ => MAX_SLEEP,
        }
    }

    /// Starts work.
    fn start(&self, scheduler: &mut Scheduler, work: &mut Work, pause: Option<Duration>, now: Timestamp) {
        while work.batch_reads.len() < MAX_BATCH_READS {
            let tokens = scheduler.next_reads(MAX_CALLS_PER_READ, now);
            if tokens.is_empty() {
                break;
            }
            let facts = self.deps.facts.clone();
            work.batch_reads
                .push(async move { last_stored::read_many(&facts, tokens).await }.boxed());
        }
        while work.reads.len() < MAX_READS
            && let Some(token) = scheduler.next_leader_read()
        {
            let facts = self.deps.facts.clone();
            work.reads.push(
                async move {
                    let stored = last_stored::read(&facts, &token.call).await;
                    (token, stored)
                }
                .boxed(),
            );
        }
        while pause.is_none()
            && self.deps.is_up()
            && work.batches.len() < MAX_BATCHES
            && work.pending_notices.len() < MAX_BATCHES_WITH_PENDING_NOTICES
        {
            let mut due = scheduler.next_batch(now);
            if due.is_empty() {
                due = scheduler.next_retry_batch(now);
            }
            if due.is_empty() {
                break;
            }
            work.batches.push(tick_batch::publish(self.deps.clone(), due).boxed());
        }
        self.start_pending_notices(work);
        while work.settlement_batches.len() < MAX_SETTLEMENT_BATCHES && work.settlements.len() < MAX_SINGLE_SETTLEMENTS
        {
            let due = std::iter::from_fn(|| scheduler.next_settlement(now));
            let due: Vec<DueSettlement> = due.take(MAX_CALLS_PER_READ).collect();
            if due.is_empty() {
                break;
            }
            work.settlement_batches
                .push(settlement::settle_batch(self.deps.clone(), self.terms, due).boxed());
        }
        while work.terminations.len() < MAX_TERMINATIONS
            && let Some(token) = scheduler.next_termination(now)
        {
            let terminations = self.deps.terminations.clone();
            work.terminations
                .push(async move { termination::request_end(&*terminations, token).await }.boxed());
        }
    }

    fn start_pending_notices(&self, work: &mut Work) {
        if work.notices.is_empty()
            && let Some(batch) = work.pending_notices.pop_front()
        {
            work.notices.push(batch.send_notices(self.deps.clone()).boxed());
        }
    }

    async fn on_batch_read(&self, scheduler: &mut Scheduler, read: BatchRead) {
        match read {
            Ok(read) => {
                for (token, stored) in read {
                    self.on_read(scheduler, &token, stored).await;
                }
            }
            Err((tokens, error)) => {
                tracing::warn!(%error, calls = tokens.len(), "last stored messages of several calls not read: reading each from the leader");
                tokens.iter().for_each(|token| scheduler.batch_read_failed(token));
            }
        }
    }

    async fn on_read(&self, scheduler: &mut Scheduler, token: &WorkToken, stored: Result<LastStored, FactError>) {
        let now = self.deps.server_now();
        match stored {
            Ok(stored) => {
                let result = scheduler.read_done(token, stored, now);
                for tick in result.confirmed {
                    if let Some(notice) = tick.notice() {
                        self.deps.notices.send_to_both(&tick.parties, &notice).await;
                    }
                }
                if let Some(contradiction) = result.contradiction {
                    metrics::call_stuck("contradiction");
                    tracing::error!(call_id = %token.call, %contradiction, "stored ticks contradict billing_active, the call is no longer ticked: check the call's facts");
                }
            }
            Err(error @ FactError::Read { .. }) => {
                tracing::warn!(call_id = %token.call, %error, "last stored messages of a call not read: retrying");
                scheduler.read_failed(token, now.plus(REREAD_DELAY));
            }
            Err(error) => {
                metrics::call_stuck("unreadable_fact");
                tracing::error!(call_id = %token.call, %error, "stored fact not decoded, the call is not ticked: check its writer's version");
                scheduler.read_failed(token, now.plus(UNREADABLE_DELAY));
            }
        }
    }

    fn on_batch(
        &self,
        scheduler: &mut Scheduler,
        work: &mut Work,
        pacing: &mut BatchPacing,
        published: Result<StoredBatch, FailedBatch>,
    ) {
        match published {
            Ok(stored) => {
                *pacing = BatchPacing::default();
                work.pending_notices.push_back(stored);
            }
            Err(FailedBatch { tokens, why }) => {
                pacing.failed(why, &*self.deps.clock);
                let now = self.deps.server_now();
                tokens.iter().for_each(|token| scheduler.ticks_failed(token, why, now));
            }
        }
    }

    fn on_notices_sent(&self, scheduler: &mut Scheduler, stored: &StoredTicks) {
        let now = self.deps.server_now();
        stored
            .last()
            .for_each(|(token, sequence)| scheduler.ticks_stored(token, sequence, now));
    }
}

fn on_change(scheduler: &mut Scheduler, index: &mut PartitionedIndex, change: IndexChange, now: Timestamp) {
    match change {
        IndexChange::Reset => index.clear(scheduler),
        IndexChange::Put(call, entry) => index.upsert(scheduler, call, entry, now),
        IndexChange::Removed(call) => index.remove(scheduler, &call),
    }
}

fn on_settlement(scheduler: &mut Scheduler, token: &WorkToken, outcome: SettleOutcome, now: Timestamp) {
    match outcome {
        SettleOutcome::Removed(revision) => scheduler.entry_removed(token, revision),
        SettleOutcome::Outdated(facts) => scheduler.settlement_outdated(token, *facts, now),
        SettleOutcome::Changed(entry) => scheduler.entry_conflicted(token, entry, now),
        SettleOutcome::Stuck => {}
    }
}

#[cfg(test)]
mod tests {
    use contract::jetstream::clock::SystemClock;

    use super::*;

    #[test]
    fn only_an_unacknowledged_batch_delays_the_next_ones() {
        let mut pacing = BatchPacing::default();
        (0..100).for_each(|_| pacing.failed(TickFailure::Rejected, &SystemClock));
        assert!(pacing.pause(SystemClock.instant()).is_none());
        pacing.failed(TickFailure::Unacknowledged, &SystemClock);
        assert!(pacing.pause(SystemClock.instant()).is_some());
    }
}
