//! The ticker: one task that drives the ledger, and the bounded work that it hands out.
//!
//! The wall clock decides what is due; the monotonic timer only wakes. If the wall clock is set forward, what it then says
//! to be due is ticked within [`LONGEST_NAP`]; if it is set back, nothing is ticked until it gets there. Instances and
//! media-workers must keep their clocks together (NTP): a worker's clock that is ahead makes its calls' ticks that much late.

use std::time::{Duration, Instant};

use contract::Timestamp;
use contract::jetstream::batch::MAX_BATCH;
use contract::jetstream::clock::Clock;
use contract::jetstream::fact_store::FactError;
use contract::wire::notice::Notice;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::BoxError;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::batch::{self, Written};
use crate::book::{NEWS_CAPACITY, News};
use crate::closing::{self, Closed};
use crate::domain::ledger::Ledger;
use crate::domain::partition::Holding;
use crate::domain::shelf::Shelf;
use crate::domain::terms::Terms;
use crate::domain::work::{NotWritten, Position, Ticket};
use crate::position::Standing;
use crate::world::World;
use crate::{metrics, overdue, position};

/// Positions read at a time.
const MAX_READS: usize = 64;
/// Batches of ticks in flight. The server allows 50 a stream; what becomes due meanwhile makes the next ones fuller.
const MAX_BATCHES: usize = 4;
/// Calls being settled at a time.
const MAX_CLOSINGS: usize = 64;
/// Calls being asked to end at a time.
const MAX_ASKS: usize = 16;
/// The wall clock is looked at this often, whatever the timer says.
const LONGEST_NAP: Duration = Duration::from_secs(1);
/// A position that could not be read is tried again after this long …
const REREAD_DELAY: Duration = Duration::from_millis(500);
/// … and after this long if what is stored cannot be understood.
const UNREADABLE_DELAY: Duration = Duration::from_secs(60);

/// What the ticker needs.
#[derive(Debug)]
pub(crate) struct Ticker {
    pub(crate) world: World,
    pub(crate) terms: Terms,
    pub(crate) news: mpsc::Receiver<News>,
    pub(crate) holding: watch::Receiver<Holding>,
}

type InFlight<T> = FuturesUnordered<BoxFuture<'static, T>>;

#[derive(Default)]
struct Work {
    reads: InFlight<(Ticket, Result<Position, FactError>)>,
    batches: InFlight<Written>,
    closings: InFlight<(Ticket, Closed)>,
    asks: InFlight<Ticket>,
}

/// When the next batch may be sent, after one that was not answered.
#[derive(Default)]
struct Pace {
    unanswered: Backoff,
    not_before: Option<Instant>,
}

impl Pace {
    /// A server that does not answer is spared all batches; one that refuses some calls' ticks shall have the others' at once.
    fn slow_down(&mut self, why: NotWritten, clock: &dyn Clock) {
        if why == NotWritten::Unanswered {
            self.unanswered.fail();
            self.not_before = Some(clock.instant() + self.unanswered.delay(clock));
        }
    }

    /// How long to wait, if at all.
    fn pause(&self, now: Instant) -> Option<Duration> {
        self.not_before.filter(|at| *at > now).map(|at| at - now)
    }
}

impl Ticker {
    /// Ticks until `stop`, then finishes the batches and settlements that are in flight.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut ledger = Ledger::new(self.terms, MAX_BATCH);
        let mut shelf = Shelf::default();
        let mut work = Work::default();
        let mut pace = Pace::default();
        let mut link = self.world.link.clone();
        let mut news = Vec::with_capacity(NEWS_CAPACITY);
        loop {
            let now = self.world.clock.now();
            let lapse = self.hold(&mut ledger, &mut shelf, now);
            ledger.wake(now);
            let pause = pace.pause(self.world.clock.instant());
            self.start(&mut ledger, &mut work, pause, now);
            metrics::active_calls(ledger.len());
            let nap = ledger
                .next_wake()
                .map_or(LONGEST_NAP, |wake| wake.until(now).min(LONGEST_NAP))
                .min(lapse)
                .min(pause.unwrap_or(LONGEST_NAP));
            // In this order: what comes back is bounded by what is out, so it leaves its turn to the news.
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(written) = work.batches.next() => self.note_batch(&mut ledger, &mut pace, written),
                Some((ticket, position)) = work.reads.next() => self.note_position(&mut ledger, &ticket, position).await,
                Some((ticket, closed)) = work.closings.next() => note_closing(&mut ledger, &ticket, closed, self.world.clock.now()),
                Some(ticket) = work.asks.next() => ledger.asked_to_end(&ticket, self.world.clock.now()),
                Ok(()) = self.holding.changed() => {}
                Ok(()) = link.changed() => {}
                received = self.news.recv_many(&mut news, NEWS_CAPACITY) => {
                    if received == 0 {
                        break;
                    }
                    let now = self.world.clock.now();
                    news.drain(..).for_each(|news| learn(&mut ledger, &mut shelf, news, now));
                }
                () = self.world.clock.sleep(nap) => {}
            }
        }
        // Under the drain's deadline. What is not finished then will be, by whoever comes next.
        while work.batches.next().await.is_some() {}
        while work.closings.next().await.is_some() {}
        Ok(())
    }

    /// Ticks what is held at this moment, and says for how long that is so.
    fn hold(&mut self, ledger: &mut Ledger, shelf: &mut Shelf, now: Timestamp) -> Duration {
        let (holding, instant) = (*self.holding.borrow_and_update(), self.world.clock.instant());
        let partitions = holding.at(instant);
        if partitions != shelf.held() {
            tracing::info!(held = partitions.len(), "ticking other partitions now");
            shelf.hold(ledger, partitions, now);
            metrics::leases_held(partitions.len());
        }
        match holding.until {
            Some(until) if until > instant => until - instant,
            _ => LONGEST_NAP,
        }
    }

    /// Hands out what there is to do. Ticks are taken from the ledger in the moment in which they can be sent, not before.
    fn start(&self, ledger: &mut Ledger, work: &mut Work, pause: Option<Duration>, now: Timestamp) {
        while work.reads.len() < MAX_READS
            && let Some(ticket) = ledger.next_read()
        {
            let facts = self.world.facts.clone();
            work.reads.push(
                async move {
                    let position = position::read(&facts, &ticket.call).await;
                    (ticket, position)
                }
                .boxed(),
            );
        }
        while pause.is_none() && self.world.is_up() && work.batches.len() < MAX_BATCHES {
            let mut due = ledger.next_batch(now);
            if due.is_empty() {
                due = ledger.next_suspects(now);
            }
            if due.is_empty() {
                break;
            }
            work.batches.push(batch::store(self.world.clone(), due).boxed());
        }
        while work.closings.len() < MAX_CLOSINGS
            && let Some(closing) = ledger.next_closing(now)
        {
            work.closings.push(closing::close(self.world.clone(), closing).boxed());
        }
        while work.asks.len() < MAX_ASKS
            && let Some(ticket) = ledger.next_overdue(now)
        {
            work.asks.push(overdue::ask_to_end(self.world.clone(), ticket).boxed());
        }
    }

    async fn note_position(&self, ledger: &mut Ledger, ticket: &Ticket, position: Result<Position, FactError>) {
        let now = self.world.clock.now();
        match position {
            Ok(position) => {
                let reading = ledger.read(ticket, position, now);
                if let Some(tick) = reading.confirmed {
                    self.world.voice.tell_both(&tick.parties, &Notice::tick(&tick)).await;
                }
                if let Some(contradiction) = reading.contradiction {
                    metrics::call_stuck("contradiction");
                    tracing::error!(call_id = %ticket.call, %contradiction, "a call's ticks contradict the book, it gets no more: somebody must look");
                }
            }
            Err(error @ FactError::Read { .. }) => {
                tracing::warn!(call_id = %ticket.call, %error, "a call's position could not be read yet");
                ledger.not_read(ticket, now.plus(REREAD_DELAY));
            }
            Err(error) => {
                metrics::call_stuck("unreadable_fact");
                tracing::error!(call_id = %ticket.call, %error, "a call's position cannot be read, it is not ticked: somebody must look");
                ledger.not_read(ticket, now.plus(UNREADABLE_DELAY));
            }
        }
    }

    fn note_batch(&self, ledger: &mut Ledger, pace: &mut Pace, written: Written) {
        let now = self.world.clock.now();
        match written.outcome {
            Ok(sequences) => {
                *pace = Pace::default();
                written
                    .tickets
                    .iter()
                    .zip(sequences)
                    .for_each(|(ticket, sequence)| ledger.written(ticket, sequence, now));
            }
            Err(why) => {
                pace.slow_down(why, &*self.world.clock);
                written
                    .tickets
                    .iter()
                    .for_each(|ticket| ledger.not_written(ticket, why, now));
            }
        }
    }
}

fn learn(ledger: &mut Ledger, shelf: &mut Shelf, news: News, now: Timestamp) {
    match news {
        News::Anew => shelf.forget(ledger),
        News::Open(call, entry) => shelf.open(ledger, call, entry, now),
        News::Closed(call) => shelf.close(ledger, &call),
    }
}

fn note_closing(ledger: &mut Ledger, ticket: &Ticket, closed: Closed, now: Timestamp) {
    match closed {
        Closed::Removed(revision) => ledger.closed(ticket, revision),
        Closed::Outdated(Standing { connected_at, position }) => ledger.outdated(ticket, connected_at, position, now),
        Closed::Changed(entry) => ledger.changed(ticket, entry, now),
        Closed::Stuck => {}
    }
}

#[cfg(test)]
mod tests {
    use contract::jetstream::clock::SystemClock;

    use super::*;

    #[test]
    fn only_a_server_that_does_not_answer_is_spared() {
        let mut pace = Pace::default();
        (0..100).for_each(|_| pace.slow_down(NotWritten::Refused, &SystemClock));
        assert!(pace.pause(SystemClock.instant()).is_none());
        pace.slow_down(NotWritten::Unanswered, &SystemClock);
        assert!(pace.pause(SystemClock.instant()).is_some());
    }
}
