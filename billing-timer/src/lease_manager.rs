//! Sends the heartbeat of this instance to the bucket `billing_leases`, and holds its share of the partitions.
//!
//! The heartbeat is renewed at a third of its TTL. If renewal fails, [`HeldPartitions`] expires by the monotonic clock no
//! later than other instances can take over. The ticker checks the expiry itself, so a wait in this task cannot delay it.

use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use contract::NodeId;
use contract::buckets::billing_active::PROBE_INTERVAL;
use contract::buckets::billing_leases::{Lease, LeaseChange, Process};
use contract::jetstream::bucket::{BucketError, Revised};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::{BoxError, Condition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::domain::lease::{LeaseMove, LeaseView, Trigger};
use crate::domain::partition::{HeldPartitions, PartitionSet};
use crate::{metrics, nats_state};

/// Renewals within one TTL.
const RENEWALS_PER_TTL: u32 = 3;
/// Heartbeats of an earlier process with the same ID after which this one exits. A dead process leaves fewer behind: those
/// that were on their way to the server.
const DUPLICATE_HEARTBEATS: u32 = 3;

/// Holds leases.
#[derive(Debug)]
pub(crate) struct LeaseManager {
    pub(crate) deps: Deps,
    pub(crate) instance: NodeId,
    pub(crate) process: Process,
    pub(crate) ttl: Duration,
    /// Holds while the bucket is watched and the heartbeat of this instance is stored.
    pub(crate) heartbeat_valid: Condition,
    pub(crate) held: watch::Sender<HeldPartitions>,
    /// Whether `billing_active` accepted the last probe; the heartbeat reports it to the edges.
    pub(crate) can_bill: AtomicBool,
}

/// Another process has this instance's ID, and is the earlier one.
#[derive(Debug, thiserror::Error)]
#[error(
    "instance_id {instance} is used by another billing-timer, started at {}: give each its own instance_id, or none",
    process.started_at
)]
struct DuplicateId {
    instance: NodeId,
    process: Process,
}

/// Why a watch has ended.
enum WatchEnd {
    Lost(String),
    DuplicateId(DuplicateId),
}

fn lost(reason: impl ToString) -> WatchEnd {
    WatchEnd::Lost(reason.to_string())
}

enum WriteResult {
    /// The heartbeat, with the time at which it was sent.
    HeartbeatSent(Instant, Result<u64, BucketError>),
    Probed(Result<(), BucketError>),
    Moved(LeaseMove, Result<Revised<Lease>, BucketError>),
}

/// The state of one watch and its writes.
#[derive(Default)]
struct Session {
    view: LeaseView,
    /// The revision of the first heartbeat since the watch was opened. The view is complete once the watch has returned it.
    first_heartbeat: Option<u64>,
    heartbeat_in_flight: bool,
    probed_at: Option<Instant>,
    /// Partitions with a write in flight: at most one each, which bounds the writes.
    moving: PartitionSet,
    /// Heartbeats of other processes with this instance's ID, since its own first one.
    duplicate_heartbeats: u32,
    writes: FuturesUnordered<BoxFuture<'static, WriteResult>>,
}

impl LeaseManager {
    /// Holds leases until `stop`, then gives them up.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        while let Some(end) = stop.run_until_cancelled(self.watch(&mut backoff)).await {
            self.heartbeat_valid.set(false);
            let reason = match end {
                WatchEnd::Lost(reason) => reason,
                WatchEnd::DuplicateId(duplicate) => {
                    // The heartbeat is the other's: it is not withdrawn.
                    self.held.send_replace(HeldPartitions::default());
                    return Err(duplicate.into());
                }
            };
            metrics::lost("billing_leases");
            tracing::warn!(reason, "watch of billing_leases lost: reopening");
            if stop
                .run_until_cancelled(backoff.pause(&*self.deps.clock))
                .await
                .is_none()
            {
                break;
            }
        }
        self.held.send_replace(HeldPartitions::default());
        // While NATS is unreachable, the heartbeat expires by itself.
        if self.deps.is_up()
            && let Err(error) = self.deps.leases.withdraw(&self.instance).await
        {
            tracing::warn!(%error, "leases not given up at shutdown: they will expire");
        }
        Ok(())
    }

    /// Watches until the watch is lost, or the instance's ID is another's.
    async fn watch(&self, backoff: &mut Backoff) -> WatchEnd {
        let mut reconnected = pin!(nats_state::until_reconnect(&self.deps.nats_state).await);
        let changes = match self.deps.leases.watch().await {
            Ok(changes) => changes,
            Err(error) => return lost(error),
        };
        let mut changes = pin!(changes);
        backoff.reset();
        let mut session = Session::default();
        let mut renew_at = self.deps.clock.instant();
        loop {
            let expiry = self.held.borrow().until;
            let trigger = tokio::select! {
                biased;
                () = &mut reconnected => return lost("NATS was reconnected"),
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        if matches!(&change, LeaseChange::Gone(instance) if *instance == self.instance) {
                            renew_at = self.deps.clock.instant();
                        }
                        if let Some(duplicate) = self.duplicate_id(&mut session, &change) {
                            return WatchEnd::DuplicateId(duplicate);
                        }
                        if let LeaseChange::Unreadable(partition, _) = &change {
                            tracing::warn!(partition = partition.number(), "lease not decoded, it counts as given up: check its writer's version");
                        }
                        session.view.apply(change);
                        Trigger::Change
                    }
                    Some(Err(error)) => return lost(error),
                    None => return lost("the stream of changes ended"),
                },
                () = self.sleep_until(Some(renew_at)) => {
                    renew_at = self.deps.clock.instant() + self.ttl / RENEWALS_PER_TTL;
                    self.renew(&mut session);
                    continue;
                }
                Some(result) = session.writes.next() => self.on_write(&mut session, result),
                () = self.sleep_until(expiry), if self.heartbeat_valid.holds() => {
                    self.heartbeat_valid.set(false);
                    tracing::warn!("leases expired before they were renewed, ticks stopped: check the connection to NATS");
                    continue;
                }
            };
            let complete = session
                .first_heartbeat
                .is_some_and(|revision| session.view.has_seen(&self.instance, revision));
            if complete {
                self.update(&mut session, trigger);
            }
        }
    }

    /// Whether a living process that started earlier has this instance's ID. Both would tick the same calls.
    fn duplicate_id(&self, session: &mut Session, change: &LeaseChange) -> Option<DuplicateId> {
        let LeaseChange::Alive(instance, revision, Some(process)) = change else {
            return None;
        };
        let is_later = session.first_heartbeat.is_some_and(|first| *revision > first);
        if *instance != self.instance || *process == self.process || !is_later {
            return None;
        }
        session.duplicate_heartbeats += 1;
        if *process > self.process {
            tracing::warn!(started_at = %process.started_at, "duplicate instance_id: the other process exits; give each its own");
            return None;
        }
        (session.duplicate_heartbeats >= DUPLICATE_HEARTBEATS).then(|| DuplicateId {
            instance: self.instance.clone(),
            process: process.clone(),
        })
    }

    fn renew(&self, session: &mut Session) {
        let now = self.deps.clock.instant();
        if session.probed_at.is_none_or(|at| now >= at + PROBE_INTERVAL) {
            session.probed_at = Some(now);
            let (deps, instance) = (self.deps.clone(), self.instance.clone());
            let probe = async move { WriteResult::Probed(deps.active_billing.probe(&instance).await) };
            session.writes.push(probe.boxed());
        }
        if session.heartbeat_in_flight {
            return;
        }
        session.heartbeat_in_flight = true;
        let (deps, instance, ttl) = (self.deps.clone(), self.instance.clone(), self.ttl);
        let (process, can_bill) = (self.process.clone(), self.can_bill.load(Ordering::Relaxed));
        session.writes.push(
            async move {
                // Taken before sending: the server may start the TTL at any moment afterwards.
                let sent_at = deps.clock.instant();
                let stored = deps.leases.put_heartbeat(&instance, &process, can_bill, ttl).await;
                WriteResult::HeartbeatSent(sent_at, stored)
            }
            .boxed(),
        );
    }

    fn on_write(&self, session: &mut Session, result: WriteResult) -> Trigger {
        match result {
            WriteResult::HeartbeatSent(sent_at, outcome) => {
                session.heartbeat_in_flight = false;
                match outcome {
                    Ok(revision) => {
                        session.first_heartbeat.get_or_insert(revision);
                        let until = Some(sent_at + self.ttl);
                        self.held.send_modify(|held| held.until = until);
                        return Trigger::Renewal;
                    }
                    Err(error) => tracing::warn!(%error, "leases not renewed: retrying"),
                }
            }
            WriteResult::Probed(outcome) => {
                let could = self.can_bill.swap(outcome.is_ok(), Ordering::Relaxed);
                match outcome {
                    Err(error) if could => {
                        tracing::warn!(%error, "billing_active accepts no writes: calls that begin have no ticks until it does, and ws-edge soon accepts none; check the disk and the limits of NATS");
                    }
                    Ok(()) if !could => tracing::info!("billing_active accepts writes again"),
                    _ => {}
                }
            }
            WriteResult::Moved(lease_move, outcome) => {
                session.moving = session.moving.without([lease_move.partition].into_iter().collect());
                match outcome {
                    Ok(lease) => {
                        metrics::lease_moved(lease_move.kind);
                        session.view.apply(LeaseChange::Held(lease_move.partition, lease));
                    }
                    Err(BucketError::Conflict { .. }) => {}
                    Err(error) => tracing::warn!(%error, "lease not moved: retrying"),
                }
            }
        }
        Trigger::Change
    }

    /// Publishes the held partitions and starts the moves that are due.
    fn update(&self, session: &mut Session, trigger: Trigger) {
        let partitions = session.view.held_by(&self.instance);
        self.held.send_if_modified(|held| {
            let changed = held.partitions != partitions;
            held.partitions = partitions;
            changed
        });
        let alive = session.view.is_alive(&self.instance);
        let expired = self
            .held
            .borrow()
            .until
            .is_none_or(|until| until <= self.deps.clock.instant());
        self.heartbeat_valid.set(alive && !expired);
        if expired {
            return;
        }
        for lease_move in session.view.moves(&self.instance, trigger) {
            if session.moving.contains(lease_move.partition) {
                continue;
            }
            session.moving = session.moving.with(lease_move.partition);
            let leases = self.deps.leases.clone();
            session.writes.push(
                async move {
                    let given = leases
                        .assign(lease_move.partition, &lease_move.to, lease_move.revision)
                        .await;
                    WriteResult::Moved(lease_move, given)
                }
                .boxed(),
            );
        }
        if trigger == Trigger::Renewal {
            tracing::debug!(held = partitions.len(), "leases renewed");
        }
    }

    /// Never completes if there is no deadline.
    async fn sleep_until(&self, deadline: Option<Instant>) {
        match deadline {
            Some(deadline) => {
                let now = self.deps.clock.instant();
                self.deps.clock.sleep(deadline.saturating_duration_since(now)).await;
            }
            None => std::future::pending().await,
        }
    }
}
