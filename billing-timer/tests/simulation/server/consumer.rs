//! The durable consumer that all instances share: each fact to one of those that ask, again if it is not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use billing_timer::intake::feed::{Deliveries, Delivery, Feed};
use billing_timer::settings::IntakeSettings;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use service::BoxError;

use super::Flaw;
use super::stream::Stored;
use crate::core::{Core, micros};
use crate::network::{Inbox, Sender};

const PATIENCE: Duration = Duration::from_secs(2);
/// How long a client's request for facts stands before the next one takes its place: less than in truth, as runs are short.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// The filter of the consumer.
const KINDS: [&str; 2] = [".rtp_detected", ".ended"];

#[derive(Debug, Default)]
pub(crate) struct Consumer {
    exists: bool,
    ack_wait: Duration,
    /// The last sequence that was looked at.
    seen: u64,
    /// Delivered and not acknowledged, with the delivery's number.
    pending: BTreeMap<u64, u64>,
    /// To be delivered again.
    backlog: VecDeque<u64>,
    deliveries: u64,
    pullers: Vec<Puller>,
}

#[derive(Debug)]
struct Puller {
    id: u64,
    sender: Sender,
    inbox: Inbox<Result<Box<dyn Delivery>, BoxError>>,
    /// Asked for and not used up.
    credit: usize,
}

impl Core {
    /// Delivers what there is to those that ask.
    pub(crate) fn deliver(&mut self) {
        while self.server.consumer.exists {
            let askers: Vec<usize> = {
                let pullers = self.server.consumer.pullers.iter().enumerate();
                pullers
                    .filter(|(_, puller)| puller.credit > 0)
                    .map(|(index, _)| index)
                    .collect()
            };
            if askers.is_empty() {
                return;
            }
            let Some(sequence) = self.next_delivery() else { return };
            let chosen = self.dice.index(askers.len());
            self.deliver_to(askers[chosen], sequence);
            if self.dice.per_mille(self.plan.weather.mangled) {
                let chosen = self.dice.index(askers.len());
                self.deliver_to(askers[chosen], sequence);
            }
        }
    }

    fn next_delivery(&mut self) -> Option<u64> {
        let (consumer, stream) = (&mut self.server.consumer, &self.server.stream);
        if let Some(again) = consumer.backlog.pop_front() {
            return Some(again);
        }
        loop {
            let stored = stream.messages.get(usize::try_from(consumer.seen).unwrap())?;
            consumer.seen += 1;
            if KINDS.iter().any(|kind| stored.subject.ends_with(kind)) {
                return Some(consumer.seen);
            }
        }
    }

    fn deliver_to(&mut self, puller: usize, sequence: u64) {
        let consumer = &mut self.server.consumer;
        consumer.deliveries += 1;
        let number = consumer.deliveries;
        consumer.pending.insert(sequence, number);
        let ack_wait = consumer.ack_wait;
        let puller = &mut consumer.pullers[puller];
        puller.credit = puller.credit.saturating_sub(1);
        let (inbox, sender) = (puller.inbox.clone(), puller.sender.clone());
        let index = usize::try_from(sequence).unwrap() - 1;
        let stored = self.server.stream.messages[index].clone();
        let (site, subject) = (sender.site, stored.subject.clone());
        self.note("delivered", sequence, || format!("{subject} to site {site}"));
        self.run_after(ack_wait, move |core| core.take_back(sequence, number));
        if self.dice.per_mille(self.plan.weather.mangled) {
            return;
        }
        let delivery = SimulatedDelivery {
            sender,
            stored,
            sequence,
        };
        let latency = self.latency();
        self.run_after(latency, move |core| {
            if core.sites[site].is_up() {
                inbox.push(Ok(Box::new(delivery)));
            }
        });
    }

    /// What has not been acknowledged since that delivery is delivered again.
    fn take_back(&mut self, sequence: u64, number: u64) {
        let flaw = self.server.flaw;
        let consumer = &mut self.server.consumer;
        if consumer.pending.get(&sequence) == Some(&number) && flaw != Some(Flaw::NoRedelivery) {
            consumer.pending.remove(&sequence);
            consumer.backlog.push_back(sequence);
            self.deliver();
        }
    }

    /// Its pulls end, those of all instances: by a new leader, or because somebody has deleted it.
    pub(crate) fn lose_consumer(&mut self, deleted: bool) {
        self.note("consumer", deleted.into(), || {
            format!("the consumer is lost, deleted: {deleted}")
        });
        for puller in std::mem::take(&mut self.server.consumer.pullers) {
            puller.inbox.push(Err("the consumer is lost".into()));
        }
        if deleted {
            let deliveries = self.server.consumer.deliveries;
            self.server.consumer = Consumer {
                deliveries,
                ..Consumer::default()
            };
        }
    }

    /// An instance pulls no more. What was delivered to it comes again when its time is up.
    fn unsubscribe(&mut self, id: u64) {
        self.server.consumer.pullers.retain(|puller| puller.id != id);
    }
}

#[derive(Debug)]
pub(crate) struct SimulatedFeed(pub(crate) Sender);

impl Feed for SimulatedFeed {
    fn open(&self, settings: IntakeSettings) -> BoxFuture<'_, Result<Deliveries, BoxError>> {
        async move {
            let create = move |core: &mut Core| {
                let consumer = &mut core.server.consumer;
                consumer.exists = true;
                consumer.ack_wait = Duration::from_millis(settings.ack_wait_ms);
            };
            let created = self.0.request("the consumer", PATIENCE, create).await;
            created.map_err(|no_answer| format!("{no_answer:?}"))?;
            let inbox = Inbox::default();
            let pull = Pull {
                id: self.0.shared.lock().server.next_subscription(),
                sender: self.0.clone(),
                over: Arc::default(),
            };
            let over = Arc::clone(&pull.over);
            let puller = Puller {
                id: pull.id,
                sender: self.0.clone(),
                inbox: inbox.clone(),
                credit: settings.concurrency,
            };
            let mut core = self.0.shared.lock();
            // If this is lost, the client hears no heartbeat, and gives up.
            let (unheard, heard) = (inbox.clone(), Arc::new(AtomicBool::new(false)));
            let asked = Arc::clone(&heard);
            self.0.say(&mut core, "a pull", move |core| {
                asked.store(true, Ordering::Relaxed);
                // A server delivers nothing where nobody listens any more.
                if !over.load(Ordering::Relaxed) {
                    core.server.consumer.pullers.push(puller);
                    core.deliver();
                }
            });
            core.run_after(Duration::from_secs(10), move |_| {
                if !heard.load(Ordering::Relaxed) {
                    unheard.push(Err("missed heartbeats".into()));
                }
            });
            drop(core);
            let deliveries = inbox.map(move |delivery| {
                pull.ask_for_more();
                delivery
            });
            Ok(deliveries.boxed())
        }
        .boxed()
    }
}

struct Pull {
    id: u64,
    sender: Sender,
    over: Arc<AtomicBool>,
}

impl Pull {
    fn ask_for_more(&self) {
        ask_for_more(&self.sender, &mut self.sender.shared.lock(), self.id);
    }
}

/// Asks for one more. What the server never hears of is asked for again when the client's request expires.
fn ask_for_more(sender: &Sender, core: &mut Core, id: u64) {
    let heard = Arc::new(AtomicBool::new(false));
    let asked = Arc::clone(&heard);
    sender.say(core, "a pull", move |core| {
        asked.store(true, Ordering::Relaxed);
        let pullers = &mut core.server.consumer.pullers;
        if let Some(puller) = pullers.iter_mut().find(|puller| puller.id == id) {
            puller.credit += 1;
            core.deliver();
        }
    });
    let sender = sender.clone();
    core.run_after(PULL_EXPIRES, move |core| {
        let pullers = &core.server.consumer.pullers;
        if !heard.load(Ordering::Relaxed) && pullers.iter().any(|puller| puller.id == id) {
            ask_for_more(&sender, core, id);
        }
    });
}

impl Drop for Pull {
    fn drop(&mut self) {
        let (id, mut core) = (self.id, self.sender.shared.lock());
        // A server may take its time to notice.
        let after = if core.dice.per_mille(300) {
            core.dice.span(Duration::from_millis(10), Duration::from_secs(10))
        } else {
            core.latency()
        };
        let over = Arc::clone(&self.over);
        core.run_after(after, move |core| {
            over.store(true, Ordering::Relaxed);
            core.unsubscribe(id);
        });
    }
}

#[derive(Debug)]
struct SimulatedDelivery {
    sender: Sender,
    stored: Stored,
    sequence: u64,
}

impl Delivery for SimulatedDelivery {
    fn subject(&self) -> &str {
        &self.stored.subject
    }

    fn payload(&self) -> &[u8] {
        &self.stored.payload
    }

    fn headers(&self) -> Option<&HeaderMap> {
        Some(&self.stored.headers)
    }

    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        let sequence = self.sequence;
        async move {
            let acknowledge = move |core: &mut Core| {
                core.note("acked", sequence, || format!("{sequence}"));
                core.server.consumer.pending.remove(&sequence);
                core.server.consumer.backlog.retain(|waiting| *waiting != sequence);
            };
            let acknowledged = self.sender.request("an acknowledgement", PATIENCE, acknowledge).await;
            acknowledged.map_err(|no_answer| format!("{no_answer:?}").into())
        }
        .boxed()
    }

    fn give_back(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>> {
        let sequence = self.sequence;
        let mut core = self.sender.shared.lock();
        self.sender.say(&mut core, "a fact given back", move |core| {
            if let Some(number) = core.server.consumer.pending.get(&sequence).copied() {
                let at = core.now + micros(delay.unwrap_or_default());
                core.run_at(at, move |core| core.take_back(sequence, number));
            }
        });
        std::future::ready(Ok(())).boxed()
    }

    fn park<'a>(&'a self, reason: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        let mut core = self.sender.shared.lock();
        core.violation(format!("{} is parked: {reason}", self.stored.subject));
        std::future::ready(Ok(())).boxed()
    }
}
