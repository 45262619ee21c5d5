//! The tenant: keeps this instance announced, and its share of the partitions in its hand.
//!
//! The word that it lives is renewed at a third of its life. If that does not succeed any more, the holding lapses by the
//! monotonic clock no later than others can take it over; that is the ticker's to observe, whatever this task waits for.

use std::pin::pin;
use std::time::{Duration, Instant};

use contract::NodeId;
use contract::buckets::leases::{Lease, LeaseChange};
use contract::jetstream::bucket::{BucketError, Revised};
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::{BoxError, Condition};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::domain::lease::{Move, Occasion, View};
use crate::domain::partition::{Holding, Partitions};
use crate::world::World;
use crate::{link, metrics};

/// How often the word is renewed within its life.
const RENEWALS: u32 = 3;

/// Holds leases.
#[derive(Debug)]
pub(crate) struct Tenant {
    pub(crate) world: World,
    pub(crate) instance: NodeId,
    pub(crate) ttl: Duration,
    /// Holds while the bucket is watched and this instance is announced.
    pub(crate) announced: Condition,
    pub(crate) holding: watch::Sender<Holding>,
}

enum Done {
    /// Announced, as of this moment.
    Announced(Instant, Result<u64, BucketError>),
    Moved(Move, Result<Revised<Lease>, BucketError>),
}

/// What a watcher and its writes have come to.
#[derive(Default)]
struct Session {
    view: View,
    /// The revision of our first word since the watcher was made: once it has come back, the view is complete.
    first_word: Option<u64>,
    announcing: bool,
    /// Partitions with a write on its way: never two of one, which bounds them.
    moving: Partitions,
    writes: FuturesUnordered<BoxFuture<'static, Done>>,
}

impl Tenant {
    /// Holds leases until `stop`, then gives them up.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        while let Some(reason) = stop.run_until_cancelled(self.hold(&mut backoff)).await {
            self.announced.set(false);
            metrics::lost("leases");
            tracing::warn!(reason, "the leases' watcher is lost and will be made anew");
            if stop
                .run_until_cancelled(backoff.pause(&*self.world.clock))
                .await
                .is_none()
            {
                break;
            }
        }
        self.holding.send_replace(Holding::default());
        // If NATS is away, the word expires by itself.
        if self.world.is_up()
            && let Err(error) = self.world.leases.withdraw(&self.instance).await
        {
            tracing::warn!(%error, "the leases could not be given up, and will expire");
        }
        Ok(())
    }

    /// The reason for which the watcher is lost.
    async fn hold(&self, backoff: &mut Backoff) -> String {
        let mut gap = pin!(link::until_gap(&self.world.link).await);
        let changes = match self.world.leases.watch().await {
            Ok(changes) => changes,
            Err(error) => return error.to_string(),
        };
        let mut changes = pin!(changes);
        backoff.reset();
        let mut session = Session::default();
        let mut renew_at = self.world.clock.instant();
        loop {
            let lapse = self.holding.borrow().until;
            let occasion = tokio::select! {
                biased;
                () = &mut gap => return "the link had a gap".to_owned(),
                change = changes.next() => match change {
                    Some(Ok(change)) => {
                        if matches!(&change, LeaseChange::Gone(instance) if *instance == self.instance) {
                            renew_at = self.world.clock.instant();
                        }
                        session.view.learn(change);
                        Occasion::Change
                    }
                    Some(Err(error @ BucketError::Unreadable { .. })) => {
                        tracing::error!(%error, "a lease cannot be read, its calls may not be ticked: somebody must look");
                        continue;
                    }
                    Some(Err(error)) => return error.to_string(),
                    None => return "the stream of changes ended".to_owned(),
                },
                () = self.until(Some(renew_at)) => {
                    renew_at = self.world.clock.instant() + self.ttl / RENEWALS;
                    self.renew(&mut session);
                    continue;
                }
                Some(done) = session.writes.next() => self.note(&mut session, done),
                () = self.until(lapse), if self.announced.holds() => {
                    self.announced.set(false);
                    tracing::warn!("the leases could not be renewed in time, nothing is ticked");
                    continue;
                }
            };
            let complete = session
                .first_word
                .is_some_and(|revision| session.view.has_seen(&self.instance, revision));
            if complete {
                self.settle(&mut session, occasion);
            }
        }
    }

    fn renew(&self, session: &mut Session) {
        if session.announcing {
            return;
        }
        session.announcing = true;
        let (world, instance, ttl) = (self.world.clone(), self.instance.clone(), self.ttl);
        session.writes.push(
            async move {
                // Before it is sent, since the server may count from any moment after.
                let sent_at = world.clock.instant();
                Done::Announced(sent_at, world.leases.announce(&instance, ttl).await)
            }
            .boxed(),
        );
    }

    fn note(&self, session: &mut Session, done: Done) -> Occasion {
        match done {
            Done::Announced(sent_at, outcome) => {
                session.announcing = false;
                match outcome {
                    Ok(revision) => {
                        session.first_word.get_or_insert(revision);
                        let until = Some(sent_at + self.ttl);
                        self.holding.send_modify(|holding| holding.until = until);
                        return Occasion::Renewal;
                    }
                    Err(error) => tracing::warn!(%error, "the leases are not renewed yet"),
                }
            }
            Done::Moved(step, outcome) => {
                session.moving = session.moving.without([step.partition].into_iter().collect());
                match outcome {
                    Ok(lease) => {
                        metrics::lease_moved(step.kind);
                        session.view.learn(LeaseChange::Held(step.partition, lease));
                    }
                    Err(BucketError::Conflict { .. }) => {}
                    Err(error) => tracing::warn!(%error, "a lease could not be given yet"),
                }
            }
        }
        Occasion::Change
    }

    /// Tells what is held by the view, and does what is to be done.
    fn settle(&self, session: &mut Session, occasion: Occasion) {
        let partitions = session.view.held_by(&self.instance);
        self.holding.send_if_modified(|holding| {
            let changed = holding.partitions != partitions;
            holding.partitions = partitions;
            changed
        });
        let lives = session.view.is_alive(&self.instance);
        let lapsed = self
            .holding
            .borrow()
            .until
            .is_none_or(|until| until <= self.world.clock.instant());
        self.announced.set(lives && !lapsed);
        if lapsed {
            return;
        }
        for step in session.view.moves(&self.instance, occasion) {
            if session.moving.contains(step.partition) {
                continue;
            }
            session.moving = session.moving.with(step.partition);
            let leases = self.world.leases.clone();
            session.writes.push(
                async move {
                    let given = leases.give(step.partition, &step.to, step.revision).await;
                    Done::Moved(step, given)
                }
                .boxed(),
            );
        }
        if occasion == Occasion::Renewal {
            tracing::debug!(held = partitions.len(), "the leases are renewed");
        }
    }

    /// Until a moment; for ever if there is none.
    async fn until(&self, at: Option<Instant>) {
        match at {
            Some(at) => {
                let now = self.world.clock.instant();
                self.world.clock.sleep(at.saturating_duration_since(now)).await;
            }
            None => std::future::pending().await,
        }
    }
}
