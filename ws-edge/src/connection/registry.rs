//! Which parties are connected to this node: one NATS subscription a party, its notices handed to each of its sockets.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_nats::{Client, Message, Subscriber};
use contract::Party;
use contract::wire::subject;
use futures::StreamExt;
use metrics::Counter;
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::task::AbortOnDropHandle;

use crate::connection::send_queue::{Closing, Outbox};

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
    /// Of seats, and of changes: none is given twice.
    next_number: AtomicU64,
}

impl Shared {
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

struct Entry {
    sockets: Arc<Sockets>,
    subscribed: watch::Receiver<bool>,
    _forwarding: AbortOnDropHandle<()>,
}

/// The sockets of one party.
struct Sockets(Mutex<Seated>);

struct Seated {
    outboxes: Vec<(u64, Outbox)>,
    last_change: Change,
}

/// The last thing that a party was told of where its call stands: a notice, or that its request was granted. What was read before
/// that may be old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change(u64);

impl Sockets {
    fn new(first: u64) -> Self {
        Self(Mutex::new(Seated {
            outboxes: Vec::new(),
            last_change: Change(first),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, Seated> {
        // Nothing is left half-done under this lock, so a poisoned one is as good.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, number: u64) {
        self.lock().last_change = Change(number);
    }

    /// Hands a notice out; with a number if it says where the call stands.
    fn tell(&self, notice: &Utf8Bytes, change: Option<u64>) {
        let mut seated = self.lock();
        if let Some(number) = change {
            seated.last_change = Change(number);
        }
        seated.hand_out(notice);
    }

    fn tell_unless_changed(&self, since: Change, message: &Utf8Bytes) -> bool {
        let seated = self.lock();
        let is_new = seated.last_change == since;
        if is_new {
            seated.hand_out(message);
        }
        is_new
    }
}

impl Seated {
    fn hand_out(&self, message: &Utf8Bytes) {
        for (_, outbox) in &self.outboxes {
            outbox.send(message.clone());
        }
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
            next_number: AtomicU64::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds a socket, and returns once its party's notices are subscribed to: what is read afterwards, and what comes as a
    /// notice, leave no hole between them.
    pub async fn join(&self, party: &Party, outbox: Outbox) -> Seat {
        let number = self.shared.number();
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
        let mut seated = entry.sockets.lock();
        seated.outboxes.push((number, outbox));
        if seated.outboxes.len() > self.shared.most_sockets {
            // The newest stay: the oldest is likelier to be a connection that is dead without knowing it.
            let (_, oldest) = seated.outboxes.remove(0);
            oldest.close(Closing::Replaced);
        }
        drop(seated);
        entry.subscribed.clone()
    }

    fn entry(&self, party: &Party) -> Entry {
        let sockets = Arc::new(Sockets::new(self.shared.number()));
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
        self.parties()
            .values()
            .map(|entry| entry.sockets.lock().outboxes.len())
            .sum()
    }

    /// What a party was last told of. None if it is not connected here.
    pub fn last_change(&self, party: &Party) -> Option<Change> {
        self.parties().get(party).map(|entry| entry.sockets.lock().last_change)
    }

    /// A party's request about a call was granted; say so before it is answered.
    pub fn granted(&self, party: &Party) {
        if let Some(entry) = self.parties().get(party) {
            entry.sockets.change(self.shared.number());
        }
    }

    /// Sends a message to every socket of a party, unless the party was told of something else `since`. True if there is
    /// nothing left to do: it was sent, or nobody is there.
    pub fn tell_unless_changed(&self, party: &Party, since: Change, message: &Utf8Bytes) -> bool {
        let parties = self.parties();
        let entry = parties.get(party);
        entry.is_none_or(|entry| entry.sockets.tell_unless_changed(since, message))
    }

    fn parties(&self) -> MutexGuard<'_, HashMap<Party, Entry>> {
        self.shared.parties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut parties = self.directory.parties();
        if let Some(entry) = parties.get(&self.party) {
            let mut seated = entry.sockets.lock();
            seated.outboxes.retain(|(number, _)| *number != self.number);
            if seated.outboxes.is_empty() {
                drop(seated);
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

/// Minutes and media come and go in a call that stands as it stood. If they counted, a party with a call that is ticked would
/// hardly ever be told where it stands while reading that takes long, and be looked up again and again.
fn is_about_the_call(subject: &str) -> bool {
    let name = subject.rsplit('.').next().unwrap_or_default();
    name.starts_with("call_") || name == "incoming_call"
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
            let change = is_about_the_call(&notice.subject).then(|| shared.number());
            sockets.tell(&message, change);
        }
        Err(_) => {
            metrics::counter!("callpulse_ws_notices_refused_total", "reason" => "not_utf8").increment(1);
            tracing::warn!(subject = %notice.subject, "a notice is no UTF-8");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::send_queue::outbox;

    #[test]
    fn what_was_read_before_a_party_was_told_something_is_not_told_after_it() {
        let (outbox, mut mail) = outbox(8);
        let sockets = Sockets::new(0);
        sockets.lock().outboxes.push((1, outbox));
        let told = |text: &str| Utf8Bytes::from(text.to_owned());
        let last_change = || sockets.lock().last_change;
        let before = last_change();
        sockets.tell(&told("notice"), Some(2));
        assert!(!sockets.tell_unless_changed(before, &told("old")));
        let before = last_change();
        // Granted, and about to be answered.
        sockets.change(3);
        assert!(!sockets.tell_unless_changed(before, &told("old")));
        let before = last_change();
        sockets.tell(&told("minute"), None);
        assert!(sockets.tell_unless_changed(before, &told("new")));
        let heard: Vec<_> = std::iter::from_fn(|| mail.try_take()).collect();
        assert_eq!(heard, ["notice", "minute", "new"]);
    }

    #[test]
    fn minutes_and_media_change_nothing() {
        for (subject, is_change) in [
            ("user.u.call_connected", true),
            ("otomo.o.incoming_call", true),
            ("user.u.tick", false),
            ("user.call_1.media_lost", false),
        ] {
            assert_eq!(is_about_the_call(subject), is_change, "{subject}");
        }
    }
}
