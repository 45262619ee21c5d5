//! The parties that are connected to this node: one NATS subscription per party, its notices forwarded to each of the party's
//! sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::metrics::Counter;
use async_nats::{Client, Message, Subscriber};
use contract::Party;
use contract::wire::subject;
use futures::StreamExt;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio_tungstenite::tungstenite::{Bytes, Utf8Bytes};
use tokio_util::task::AbortOnDropHandle;

use super::send_queue::{CloseReason, SendQueue};
use crate::metrics;

/// Wait between two attempts to subscribe.
const SUBSCRIBE_DELAY: Duration = Duration::from_millis(100);

/// The parties that are connected here. Clones share them.
#[derive(Clone)]
pub struct ConnectionRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    client: Client,
    max_sockets_per_party: usize,
    /// The longest notice, in bytes; no message of the protocol is longer.
    max_notice_bytes: usize,
    subscriptions: Mutex<HashMap<Party, Subscription>>,
    /// Source of socket numbers and call state versions, each unique.
    next_number: AtomicU64,
}

impl Shared {
    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// One party's subscription to its notices, and the sockets that receive them.
struct Subscription {
    sockets: Arc<Sockets>,
    is_subscribed: watch::Receiver<bool>,
    _forwarding: AbortOnDropHandle<()>,
}

struct Sockets(Mutex<SocketList>);

struct SocketList {
    queues: Vec<(u64, SendQueue)>,
    version: CallStateVersion,
}

/// Changes whenever a party learns something about the state of its call: by a notice, or because its request was granted. A
/// snapshot that was read under an earlier version may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallStateVersion(u64);

impl Sockets {
    fn new(version: u64) -> Self {
        Self(Mutex::new(SocketList {
            queues: Vec::new(),
            version: CallStateVersion(version),
        }))
    }

    fn lock(&self) -> MutexGuard<'_, SocketList> {
        self.0.lock()
    }

    fn set_version(&self, version: u64) {
        self.lock().version = CallStateVersion(version);
    }

    /// Sends a notice, and sets the version if the notice changes the state of the call.
    fn send(&self, notice: &Utf8Bytes, version: Option<u64>) {
        let mut sockets = self.lock();
        if let Some(version) = version {
            sockets.version = CallStateVersion(version);
        }
        sockets.send_to_all(notice);
    }

    fn send_if_unchanged(&self, since: CallStateVersion, message: &Utf8Bytes) -> bool {
        let sockets = self.lock();
        let is_unchanged = sockets.version == since;
        if is_unchanged {
            sockets.send_to_all(message);
        }
        is_unchanged
    }
}

impl SocketList {
    fn send_to_all(&self, message: &Utf8Bytes) {
        for (_, queue) in &self.queues {
            queue.send(message.clone());
        }
    }
}

/// A socket's entry in the registry; dropping it removes the entry.
pub struct Registration {
    registry: ConnectionRegistry,
    party: Party,
    number: u64,
}

impl ConnectionRegistry {
    /// An empty registry.
    pub fn new(client: Client, max_sockets_per_party: usize, max_notice_bytes: usize) -> Self {
        let shared = Shared {
            client,
            max_sockets_per_party,
            max_notice_bytes,
            subscriptions: Mutex::default(),
            next_number: AtomicU64::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds a socket, and returns once its party's notices are subscribed to. A snapshot that is read afterwards together with
    /// the notices that follow has no gap.
    pub async fn join(&self, party: &Party, queue: SendQueue) -> Registration {
        let number = self.shared.number();
        let registration = Registration {
            registry: self.clone(),
            party: party.clone(),
            number,
        };
        let mut is_subscribed = self.add(party, number, queue);
        // The sender lives as long as the subscription, which this registration keeps.
        let _ = is_subscribed.wait_for(|is_subscribed| *is_subscribed).await;
        registration
    }

    fn add(&self, party: &Party, number: u64, queue: SendQueue) -> watch::Receiver<bool> {
        let mut subscriptions = self.subscriptions();
        let subscription = subscriptions
            .entry(party.clone())
            .or_insert_with(|| self.subscription(party));
        let mut sockets = subscription.sockets.lock();
        sockets.queues.push((number, queue));
        if sockets.queues.len() > self.shared.max_sockets_per_party {
            // The oldest is the likeliest to be a dead connection that has not timed out yet.
            let (_, oldest) = sockets.queues.remove(0);
            oldest.close(CloseReason::Replaced);
        }
        drop(sockets);
        subscription.is_subscribed.clone()
    }

    fn subscription(&self, party: &Party) -> Subscription {
        let sockets = Arc::new(Sockets::new(self.shared.number()));
        let (subscribed, is_subscribed) = watch::channel(false);
        let forwarding = forward(
            Arc::clone(&self.shared),
            party.clone(),
            Arc::clone(&sockets),
            subscribed,
        );
        Subscription {
            sockets,
            is_subscribed,
            _forwarding: AbortOnDropHandle::new(tokio::spawn(forwarding)),
        }
    }

    /// The parties that are connected here.
    pub fn connected(&self) -> Vec<Party> {
        self.subscriptions().keys().cloned().collect()
    }

    /// The number of open sockets of parties.
    pub fn socket_count(&self) -> usize {
        self.subscriptions()
            .values()
            .map(|subscription| subscription.sockets.lock().queues.len())
            .sum()
    }

    /// The current version of a party's call state; `None` if the party is not connected here.
    pub fn call_state_version(&self, party: &Party) -> Option<CallStateVersion> {
        let subscriptions = self.subscriptions();
        subscriptions
            .get(party)
            .map(|subscription| subscription.sockets.lock().version)
    }

    /// Records that a party's request about its call was granted. Call this before answering the request.
    pub fn call_state_changed(&self, party: &Party) {
        if let Some(subscription) = self.subscriptions().get(party) {
            subscription.sockets.set_version(self.shared.number());
        }
    }

    /// Sends a message to every socket of a party unless its call state has changed `since`. Returns true if nothing is left
    /// to do: the message was sent, or the party is no longer connected here.
    pub fn send_if_unchanged(&self, party: &Party, since: CallStateVersion, message: &Utf8Bytes) -> bool {
        let subscriptions = self.subscriptions();
        let subscription = subscriptions.get(party);
        subscription.is_none_or(|subscription| subscription.sockets.send_if_unchanged(since, message))
    }

    fn subscriptions(&self) -> MutexGuard<'_, HashMap<Party, Subscription>> {
        self.shared.subscriptions.lock()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut subscriptions = self.registry.subscriptions();
        if let Some(subscription) = subscriptions.get(&self.party) {
            let mut sockets = subscription.sockets.lock();
            sockets.queues.retain(|(number, _)| *number != self.number);
            if sockets.queues.is_empty() {
                drop(sockets);
                subscriptions.remove(&self.party);
            }
        }
    }
}

async fn forward(shared: Arc<Shared>, party: Party, sockets: Arc<Sockets>, subscribed: watch::Sender<bool>) {
    let mut notices = subscribe(&shared.client, &party).await;
    subscribed.send_replace(true);
    let forwarded = metrics::notices();
    while let Some(notice) = notices.next().await {
        if subject::is_presence(&notice.subject) {
            confirm_presence(&shared.client, notice).await;
        } else {
            forward_one(&shared, &sockets, notice, &forwarded);
        }
    }
}

/// The party is connected here.
async fn confirm_presence(client: &Client, request: Message) {
    if let Some(reply) = request.reply
        && let Err(error) = client.publish(reply, Bytes::new()).await
    {
        tracing::warn!(subject = %request.subject, %error, "a reply was not sent");
    }
}

async fn subscribe(client: &Client, party: &Party) -> Subscriber {
    loop {
        match client.subscribe(subject::notices_to(party)).await {
            Ok(subscriber) => return subscriber,
            Err(error) => tracing::warn!(%party, %error, "cannot subscribe to a party's notices: retrying"),
        }
        tokio::time::sleep(SUBSCRIBE_DELAY).await;
    }
}

/// Whether a notice changes the state of the party's call. Minutes and media do not: if they counted, reading the snapshot of a
/// call that is ticked could be out of date for ever while storage is slow, and would be repeated again and again.
fn changes_call_state(subject: &str) -> bool {
    let name = subject.rsplit('.').next().unwrap_or_default();
    name.starts_with("call_") || name == "incoming_call"
}

fn forward_one(shared: &Shared, sockets: &Sockets, notice: Message, forwarded: &Counter) {
    if notice.payload.len() > shared.max_notice_bytes {
        metrics::notice_refused("too_big");
        tracing::warn!(subject = %notice.subject, bytes = notice.payload.len(), "notice dropped: it is too long");
        return;
    }
    // Validated once for all sockets, and forwarded without a copy.
    match Utf8Bytes::try_from(notice.payload) {
        Ok(message) => {
            forwarded.increment(1);
            let version = changes_call_state(&notice.subject).then(|| shared.number());
            sockets.send(&message, version);
        }
        Err(_) => {
            metrics::notice_refused("not_utf8");
            tracing::warn!(subject = %notice.subject, "notice dropped: it is not UTF-8");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::send_queue::send_queue;

    #[test]
    fn a_snapshot_read_before_a_change_is_not_sent_after_it() {
        let (queue, mut receiver) = send_queue(8);
        let sockets = Sockets::new(0);
        sockets.lock().queues.push((1, queue));
        let message = |text: &str| Utf8Bytes::from(text.to_owned());
        let version = || sockets.lock().version;
        let before = version();
        sockets.send(&message("notice"), Some(2));
        assert!(!sockets.send_if_unchanged(before, &message("old")));
        let before = version();
        // A request was granted and is about to be answered.
        sockets.set_version(3);
        assert!(!sockets.send_if_unchanged(before, &message("old")));
        let before = version();
        sockets.send(&message("minute"), None);
        assert!(sockets.send_if_unchanged(before, &message("new")));
        let received: Vec<_> = std::iter::from_fn(|| receiver.try_recv()).collect();
        assert_eq!(received, ["notice", "minute", "new"]);
    }

    #[test]
    fn minutes_and_media_do_not_change_the_call_state() {
        for (subject, is_change) in [
            ("user.u.call_connected", true),
            ("otomo.o.incoming_call", true),
            ("user.u.tick", false),
            ("user.call_1.media_lost", false),
        ] {
            assert_eq!(changes_call_state(subject), is_change, "{subject}");
        }
    }
}
