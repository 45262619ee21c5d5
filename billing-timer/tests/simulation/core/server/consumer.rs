//! The durable consumer shared by all instances: each fact goes to one pull request, and is redelivered if not acknowledged.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_nats::HeaderMap;
use billing_timer::fact_source::{DeliveredMessage, DeliveredMessages, FactSource};
use billing_timer::settings::ConsumerSettings;
use contract::Timestamp;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use service::BoxError;

use super::ServerBug;
use super::stream::Stored;
use crate::core::Core;
use crate::core::network::{Inbox, Sender};
use crate::time::micros;

const TIMEOUT: Duration = Duration::from_secs(2);
/// Expiry of a pull request. Shorter than the real one, because runs are short.
const PULL_EXPIRES: Duration = Duration::from_secs(10);
/// The consumer's filter.
const KINDS: [&str; 2] = [".rtp_detected", ".ended"];

#[derive(Debug, Default)]
pub(crate) struct Consumer {
    exists: bool,
    ack_wait: Duration,
    /// The last sequence considered for delivery.
    seen: u64,
    /// Unacknowledged sequences, each with the number of its delivery.
    pending: BTreeMap<u64, u64>,
    /// Sequences to redeliver.
    backlog: VecDeque<u64>,
    deliveries: u64,
    pull_requests: Vec<PullRequest>,
}

#[derive(Debug)]
struct PullRequest {
    id: u64,
    sender: Sender,
    inbox: Inbox<Result<Box<dyn DeliveredMessage>, BoxError>>,
    /// Messages requested and not delivered yet.
    credit: usize,
}

impl Core {
    /// Delivers available messages to pull requests.
    pub(crate) fn deliver(&mut self) {
        while self.server.consumer.exists {
            let waiting: Vec<usize> = {
                let pull_requests = self.server.consumer.pull_requests.iter().enumerate();
                pull_requests
                    .filter(|(_, pull_request)| pull_request.credit > 0)
                    .map(|(index, _)| index)
                    .collect()
            };
            if waiting.is_empty() {
                return;
            }
            let Some(sequence) = self.next_delivery() else { return };
            let chosen = self.rng.index(waiting.len());
            self.deliver_to(waiting[chosen], sequence);
            if self.rng.per_mille(self.plan.network_conditions.disturbed) {
                let chosen = self.rng.index(waiting.len());
                self.deliver_to(waiting[chosen], sequence);
            }
        }
    }

    fn next_delivery(&mut self) -> Option<u64> {
        let (consumer, stream) = (&mut self.server.consumer, &self.server.stream);
        if let Some(sequence) = consumer.backlog.pop_front() {
            return Some(sequence);
        }
        loop {
            let stored = stream.messages.get(usize::try_from(consumer.seen).unwrap())?;
            consumer.seen += 1;
            if KINDS.iter().any(|kind| stored.subject.ends_with(kind)) {
                return Some(consumer.seen);
            }
        }
    }

    fn deliver_to(&mut self, pull_request: usize, sequence: u64) {
        let consumer = &mut self.server.consumer;
        consumer.deliveries += 1;
        let number = consumer.deliveries;
        consumer.pending.insert(sequence, number);
        let ack_wait = consumer.ack_wait;
        let pull_request = &mut consumer.pull_requests[pull_request];
        pull_request.credit = pull_request.credit.saturating_sub(1);
        let (inbox, sender) = (pull_request.inbox.clone(), pull_request.sender.clone());
        let index = usize::try_from(sequence).unwrap() - 1;
        let stored = self.server.stream.messages[index].clone();
        let (host, subject) = (sender.host, stored.subject.clone());
        self.note("delivered", sequence, || format!("{subject} to host {host}"));
        self.run_after(ack_wait, move |core| core.redeliver(sequence, number));
        if self.rng.per_mille(self.plan.network_conditions.disturbed) {
            return;
        }
        let delivery = SimulatedMessage {
            sender,
            stored,
            sequence,
        };
        let latency = self.latency();
        self.run_after(latency, move |core| {
            if core.hosts[host].is_up() {
                inbox.push(Ok(Box::new(delivery)));
            }
        });
    }

    fn acknowledged(&mut self, sequence: u64) {
        self.note("acked", sequence, || format!("{sequence}"));
        self.server.consumer.pending.remove(&sequence);
        self.server.consumer.backlog.retain(|waiting| *waiting != sequence);
    }

    /// Redelivers a message that was not acknowledged since this delivery.
    fn redeliver(&mut self, sequence: u64, number: u64) {
        let bug = self.server.bug;
        let consumer = &mut self.server.consumer;
        if consumer.pending.get(&sequence) == Some(&number) && bug != Some(ServerBug::NoRedelivery) {
            consumer.pending.remove(&sequence);
            consumer.backlog.push_back(sequence);
            self.deliver();
        }
    }

    /// Ends the pull requests of all instances, as a leader change or a deletion does.
    pub(crate) fn lose_consumer(&mut self, deleted: bool) {
        self.note("consumer", deleted.into(), || {
            format!("the consumer is lost, deleted: {deleted}")
        });
        for pull_request in std::mem::take(&mut self.server.consumer.pull_requests) {
            pull_request.inbox.push(Err("the consumer is lost".into()));
        }
        if deleted {
            let deliveries = self.server.consumer.deliveries;
            self.server.consumer = Consumer {
                deliveries,
                ..Consumer::default()
            };
        }
    }

    /// Removes a pull request. Messages delivered to it are redelivered after the ack wait.
    fn unsubscribe(&mut self, id: u64) {
        self.server
            .consumer
            .pull_requests
            .retain(|pull_request| pull_request.id != id);
    }
}

#[derive(Debug)]
pub(crate) struct SimulatedFactSource(pub(crate) Sender);

impl FactSource for SimulatedFactSource {
    fn open(&self, settings: ConsumerSettings) -> BoxFuture<'_, Result<DeliveredMessages, BoxError>> {
        async move {
            let create = move |core: &mut Core| {
                let consumer = &mut core.server.consumer;
                consumer.exists = true;
                consumer.ack_wait = Duration::from_millis(settings.ack_wait_ms);
            };
            let created = self.0.request("the consumer", TIMEOUT, create).await;
            created.map_err(|no_answer| format!("{no_answer:?}"))?;
            let inbox = Inbox::default();
            let pull = Pull {
                id: self.0.shared.lock().server.next_subscription(),
                sender: self.0.clone(),
                ended: Arc::default(),
            };
            let ended = Arc::clone(&pull.ended);
            let pull_request = PullRequest {
                id: pull.id,
                sender: self.0.clone(),
                inbox: inbox.clone(),
                credit: settings.concurrency,
            };
            let mut core = self.0.shared.lock();
            // If this is lost, the client misses the heartbeats and reports an error.
            let (error_inbox, arrived) = (inbox.clone(), Arc::new(AtomicBool::new(false)));
            let delivered = Arc::clone(&arrived);
            self.0.send_one_way(&mut core, "a pull", move |core| {
                delivered.store(true, Ordering::Relaxed);
                // The server delivers nothing without a subscriber.
                if !ended.load(Ordering::Relaxed) {
                    core.server.consumer.pull_requests.push(pull_request);
                    core.deliver();
                }
            });
            core.run_after(Duration::from_secs(10), move |_| {
                if !arrived.load(Ordering::Relaxed) {
                    error_inbox.push(Err("missed heartbeats".into()));
                }
            });
            drop(core);
            let deliveries = inbox.map(move |delivery| {
                pull.request_more();
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
    ended: Arc<AtomicBool>,
}

impl Pull {
    fn request_more(&self) {
        request_more(&self.sender, &mut self.sender.shared.lock(), self.id);
    }
}

/// Requests one more message. The client repeats a lost request when it expires.
fn request_more(sender: &Sender, core: &mut Core, id: u64) {
    let arrived = Arc::new(AtomicBool::new(false));
    let delivered = Arc::clone(&arrived);
    sender.send_one_way(core, "a pull", move |core| {
        delivered.store(true, Ordering::Relaxed);
        let pull_requests = &mut core.server.consumer.pull_requests;
        if let Some(pull_request) = pull_requests.iter_mut().find(|pull_request| pull_request.id == id) {
            pull_request.credit += 1;
            core.deliver();
        }
    });
    let sender = sender.clone();
    core.run_after(PULL_EXPIRES, move |core| {
        let pull_requests = &core.server.consumer.pull_requests;
        if !arrived.load(Ordering::Relaxed) && pull_requests.iter().any(|pull_request| pull_request.id == id) {
            request_more(&sender, core, id);
        }
    });
}

impl Drop for Pull {
    fn drop(&mut self) {
        let (id, mut core) = (self.id, self.sender.shared.lock());
        // The server may notice late.
        let after = if core.rng.per_mille(300) {
            core.rng.span(Duration::from_millis(10), Duration::from_secs(10))
        } else {
            core.latency()
        };
        let ended = Arc::clone(&self.ended);
        core.run_after(after, move |core| {
            ended.store(true, Ordering::Relaxed);
            core.unsubscribe(id);
        });
    }
}

#[derive(Debug)]
struct SimulatedMessage {
    sender: Sender,
    stored: Stored,
    sequence: u64,
}

impl DeliveredMessage for SimulatedMessage {
    fn subject(&self) -> &str {
        &self.stored.subject
    }

    fn payload(&self) -> &[u8] {
        &self.stored.payload
    }

    fn headers(&self) -> Option<&HeaderMap> {
        Some(&self.stored.headers)
    }

    fn stored_at(&self) -> Option<Timestamp> {
        Some(self.stored.at)
    }

    fn pending(&self) -> Option<u64> {
        None
    }

    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        let sequence = self.sequence;
        async move {
            let acknowledge = move |core: &mut Core| core.acknowledged(sequence);
            let acknowledged = self.sender.request("an acknowledgement", TIMEOUT, acknowledge).await;
            acknowledged.map_err(|no_answer| format!("{no_answer:?}").into())
        }
        .boxed()
    }

    fn send_acknowledgement(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        let sequence = self.sequence;
        let mut core = self.sender.shared.lock();
        self.sender
            .send_one_way(&mut core, "an unconfirmed acknowledgement", move |core| {
                core.acknowledged(sequence);
            });
        std::future::ready(Ok(())).boxed()
    }

    fn nak(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>> {
        let sequence = self.sequence;
        let mut core = self.sender.shared.lock();
        self.sender.send_one_way(&mut core, "a fact given back", move |core| {
            if let Some(number) = core.server.consumer.pending.get(&sequence).copied() {
                let at = core.now + micros(delay.unwrap_or_default());
                core.run_at(at, move |core| core.redeliver(sequence, number));
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
