//! Learns what is stored and what workers and edges say of themselves, for as long as somebody watches.

use std::sync::Arc;
use std::time::Duration;

use contract::buckets::active_calls::CallChange;
use contract::buckets::fleet::FleetChange;
use contract::buckets::leases::LeaseChange;
use contract::views::history::{ReadError, Recorded, Start};
use contract::views::tail::{self, BucketChange, Tail};
use contract::{CallId, Nats, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use super::Shared;
use super::model::Model;
use super::reports::{self, Reports};

/// How often it is asked what is new, and viewers are told.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often workers and edges are asked.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Between an outage and the next attempt.
const RENEW_DELAY: Duration = Duration::from_millis(500);
/// Each question may be answered by another copy of the stream, and one may be behind another by so much.
const LAG_MS: i64 = 10_000;
/// Calls whose last facts are read with one question.
const CALLS_A_READ: usize = 128;
/// Such questions at once.
const READS_AT_ONCE: usize = 4;

/// What is followed.
struct Tails {
    facts: Tail<Recorded>,
    calls: Tail<BucketChange<CallChange>>,
    workers: Tail<BucketChange<FleetChange>>,
    leases: Tail<BucketChange<LeaseChange>>,
}

/// What was learnt from them.
struct News {
    facts: Vec<Recorded>,
    calls: Vec<BucketChange<CallChange>>,
    workers: Vec<BucketChange<FleetChange>>,
    leases: Vec<BucketChange<LeaseChange>>,
}

/// Watches, and begins anew after every outage, until it is aborted.
pub(super) async fn run(shared: Arc<Shared>) {
    loop {
        shared.nats.connected().await;
        if let Err(error) = watch(&shared).await {
            tracing::warn!(%error, "operators are shown nothing new");
        }
        shared.away(Timestamp::now());
        tokio::time::sleep(RENEW_DELAY).await;
    }
}

/// Until the link is lost, or was: what is shown then is made anew, from what is stored.
async fn watch(shared: &Arc<Shared>) -> Result<(), ReadError> {
    let mut link = shared.nats.link();
    let since = *link.borrow_and_update();
    // Facts from a moment ago on first, then what there is: no fact falls between the two.
    let mut tails = Tails::new(&shared.nats, a_moment_ago(shared).await?);
    let mut model = Model::default();
    loop {
        tails.poll().await?.tell(&mut model, Timestamp::now());
        let facts = facts_of(shared, model.take_unread()).await?;
        model.learnt(&facts, Timestamp::now());
        if !tails.is_behind() {
            break;
        }
    }
    // All of it is told as a snapshot.
    model.take_changes(Timestamp::now());
    shared.replace(model, Timestamp::now());

    let (mut looks, mut asks) = (interval(LOOK_INTERVAL), interval(REPORT_INTERVAL));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    asks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut asking = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            changed = link.changed() => {
                let now = *link.borrow_and_update();
                if changed.is_err() || !now.up || now.gaps != since.gaps {
                    return Ok(());
                }
            }
            _ = looks.tick() => {
                let news = tails.poll().await?;
                let unread = shared.change(|model| {
                    news.tell(model, Timestamp::now());
                    model.take_unread()
                });
                let facts = facts_of(shared, unread).await?;
                shared.change(|model| model.learnt(&facts, Timestamp::now()));
                shared.publish(Timestamp::now());
            }
            // One round at a time: who answers slowly is not asked again meanwhile.
            _ = asks.tick(), if asking.is_empty() => {
                let workers = shared.change(|model| model.workers());
                asking.spawn(reports::ask(shared.nats.clone(), workers));
            }
            Some(answers) = asking.join_next() => {
                // A panic is a bug, and was logged by the hook.
                if let Ok(Reports { workers, edges }) = answers {
                    let now = Timestamp::now();
                    shared.change(|model| {
                        for (worker, calls) in workers {
                            model.reported(&worker, calls);
                        }
                        model.edges(edges, now);
                    });
                }
            }
        }
    }
}

/// The last fact that every copy of the stream has.
async fn a_moment_ago(shared: &Shared) -> Result<u64, ReadError> {
    let then = Timestamp::from_millis(Timestamp::now().as_millis() - LAG_MS).unwrap_or(Timestamp::now());
    let since = shared.history.page(None, Start::Time(then), 1).await?;
    match since.facts.first() {
        Some(first) => Ok(first.sequence - 1),
        None => shared.history.last_sequence().await,
    }
}

/// The last facts of each of these calls.
async fn facts_of(shared: &Arc<Shared>, calls: Vec<CallId>) -> Result<Vec<Recorded>, ReadError> {
    let reads: Vec<_> = calls.chunks(CALLS_A_READ).map(<[CallId]>::to_vec).collect();
    let reads = reads.into_iter().map(|calls| {
        let shared = Arc::clone(shared);
        async move { shared.history.last_of_calls(&calls).await }
    });
    let answers: Vec<_> = stream::iter(reads).buffered(READS_AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
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

    async fn poll(&mut self) -> Result<News, ReadError> {
        let (facts, calls, workers, leases) = tokio::try_join!(
            self.facts.poll(),
            self.calls.poll(),
            self.workers.poll(),
            self.leases.poll()
        )?;
        Ok(News {
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

impl News {
    fn tell(self, model: &mut Model, now: Timestamp) {
        for change in readable(self.workers) {
            model.worker(change);
        }
        for change in readable(self.leases) {
            model.lease(change, now);
        }
        for fact in &self.facts {
            model.fact(fact, now);
        }
        for change in readable(self.calls) {
            model.active(change, now);
        }
    }
}

fn readable<T>(changes: Vec<BucketChange<T>>) -> impl Iterator<Item = T> {
    changes.into_iter().filter_map(|change| match change {
        Ok(change) => Some(change),
        Err(error) => {
            metrics::counter!("callpulse_ws_undecodable_total", "what" => "bucket").increment(1);
            tracing::error!(%error, "an entry cannot be read: somebody must look");
            None
        }
    })
}
