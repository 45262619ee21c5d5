//! Which parties are connected to this node: one NATS subscription a party, its notices handed to each of its sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use metrics::Counter;
use nats::{Party, subject};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::outbox::{Closing, Outbox};

/// Wait between two attempts to subscribe.
const SUBSCRIBE_DELAY: Duration = Duration::from_millis(100);

/// The parties that are connected here. Clones share them.
#[derive(Clone)]
pub struct Directory {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    /// Sockets of one party.
    most_sockets: usize,
    /// Bytes of one notice: what is longer than any message of the protocol is none.
    longest_notice: usize,
    parties: Mutex<HashMap<Party, Entry>>,
    next_seat: AtomicU64,
}

struct Entry {
    sockets: Arc<Sockets>,
    subscribed: watch::Receiver<bool>,
    _forwarding: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct Sockets(Mutex<Vec<(u64, Outbox)>>);

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, Vec<(u64, Outbox)>> {
        // Nothing is left half-done under this lock, so a poisoned one is as good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A socket's place in the directory; dropping it gives the place back.
pub struct Seat {
    directory: Directory,
    party: Party,
    number: u64,
}

impl Directory {
    /// An empty one.
    pub fn new(client: Client, most_sockets: usize, longest_notice: usize) -> Self {
        let shared = Shared {
            client,
            most_sockets,
            longest_notice,
            parties: Mutex::default(),
            next_seat: AtomicU64::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds a socket, and returns once its party's notices are subscribed to: what is read afterwards, and what comes as a
    /// notice, leave no hole between them.
    pub async fn join(&self, party: &Party, outbox: Outbox) -> Seat {
        let number = self.shared.next_seat.fetch_add(1, Ordering::Relaxed);
        let seat = Seat {
            directory: self.clone(),
            party: party.clone(),
            number,
        };
        let mut subscribed = self.seat(party, number, outbox);
        // The sender goes away only with the entry, which this very seat keeps.
        let _ = subscribed.wait_for(|subscribed| *subscribed).await;
        seat
    }

    fn seat(&self, party: &Party, number: u64, outbox: Outbox) -> watch::Receiver<bool> {
        let mut parties = self.parties();
        let entry = parties.entry(party.clone()).or_insert_with(|| self.entry(party));
        let mut sockets = entry.sockets.lock();
        sockets.push((number, outbox));
        if sockets.len() > self.shared.most_sockets {
            // The newest stay: the oldest is likelier to be a connection that is dead without knowing it.
            let (_, oldest) = sockets.remove(0);
            oldest.close(Closing::Replaced);
        }
        drop(sockets);
        entry.subscribed.clone()
    }

    fn entry(&self, party: &Party) -> Entry {
        let sockets = Arc::<Sockets>::default();
        let (ready, subscribed) = watch::channel(false);
        let forwarding = forward(Arc::clone(&self.shared), party.clone(), Arc::clone(&sockets), ready);
        Entry {
            sockets,
            subscribed,
            _forwarding: AbortOnDropHandle::new(tokio::spawn(forwarding)),
        }
    }

    /// Everybody who is connected here.
    pub fn connected(&self) -> Vec<Party> {
        self.parties().keys().cloned().collect()
    }

    /// How many sockets of parties are open here.
    pub fn sockets(&self) -> usize {
        self.parties().values().map(|entry| entry.sockets.lock().len()).sum()
    }

    /// Sends a message to every socket of a party that is connected here.
    pub fn tell(&self, party: &Party, message: &Utf8Bytes) {
        if let Some(entry) = self.parties().get(party) {
            hand_out(&entry.sockets, message);
        }
    }

    fn parties(&self) -> MutexGuard<'_, HashMap<Party, Entry>> {
        self.shared.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut parties = self.directory.parties();
        if let Some(entry) = parties.get(&self.party) {
            let mut sockets = entry.sockets.lock();
            sockets.retain(|(number, _)| *number != self.number);
            if sockets.is_empty() {
                drop(sockets);
                parties.remove(&self.party);
            }
        }
    }
}

async fn forward(shared: Arc<Shared>, party: Party, sockets: Arc<Sockets>, ready: watch::Sender<bool>) {
    let mut notices = subscribe(&shared.client, &party).await;
    ready.send_replace(true);
    let forwarded = metrics::counter!("callpulse_ws_notices_total");
    while let Some(notice) = notices.next().await {
        forward_one(&shared, &sockets, notice, &forwarded);
    }
}

async fn subscribe(client: &Client, party: &Party) -> Subscriber {
    loop {
        match client.subscribe(subject::notices_to(party)).await {
            Ok(subscriber) => return subscriber,
            Err(error) => tracing::warn!(%party, %error, "cannot subscribe to a party's notices yet"),
        }
        tokio::time::sleep(SUBSCRIBE_DELAY).await;
    }
}

fn forward_one(shared: &Shared, sockets: &Sockets, notice: Message, forwarded: &Counter) {
    if notice.payload.len() > shared.longest_notice {
        metrics::counter!("callpulse_ws_notices_refused_total", "reason" => "too_big").increment(1);
        tracing::warn!(subject = %notice.subject, bytes = notice.payload.len(), "a notice is too long to be one");
        return;
    }
    // Checked once for all sockets, and not copied: what goes out is what came in.
    match Utf8Bytes::try_from(notice.payload) {
        Ok(message) => {
            forwarded.increment(1);
            hand_out(sockets, &message);
        }
        Err(_) => {
            metrics::counter!("callpulse_ws_notices_refused_total", "reason" => "not_utf8").increment(1);
            tracing::warn!(subject = %notice.subject, "a notice is no UTF-8");
        }
    }
}

fn hand_out(sockets: &Sockets, message: &Utf8Bytes) {
    for (_, outbox) in sockets.lock().iter() {
        outbox.send(message.clone());
    }
}
