//! The parties that are connected to this node: one NATS subscription per party, its notices forwarded to each of the party's
//! sockets.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ::metrics::Counter;
use async_nats::{HeaderMap, Message};
use contract::{Party, call_span, spans};
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tracing::Span;

use super::notice_subscriber::{NoticeSink, NoticeSubscriber, NoticeSubscription};
use super::send_queue::{CloseReason, SendQueue};
use crate::metrics;

/// A call that is billed by the minute has a notice in each, so that without one for this long no call is live.
const LIVE: Duration = Duration::from_secs(60);
/// How long a socket waits for its party's subscription.
const SUBSCRIBED_WITHIN: Duration = Duration::from_secs(5);

/// The parties that are connected here. Clones share them.
#[derive(Clone)]
pub struct ConnectionRegistry {
    shared: Arc<Shared>,
}

struct Shared {
    notices: NoticeSubscriber,
    max_sockets_per_party: usize,
    forwarding: Arc<Forwarding>,
    subscriptions: Mutex<HashMap<Party, Subscription>>,
}

/// What forwarding a notice needs besides the sockets.
struct Forwarding {
    /// The longest notice, in bytes; no message of the protocol is longer.
    max_notice_bytes: usize,
    /// Source of socket numbers and call state versions, each unique.
    next_number: AtomicU64,
    forwarded: Counter,
    started: Instant,
    /// When the last notice was forwarded, in milliseconds since `started`; 0 before the first.
    last_notice_ms: AtomicU64,
}

impl Forwarding {
    fn new(max_notice_bytes: usize) -> Self {
        Self {
            max_notice_bytes,
            next_number: AtomicU64::default(),
            forwarded: metrics::notices(),
            started: Instant::now(),
            last_notice_ms: AtomicU64::default(),
        }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn count(&self) {
        self.forwarded.increment(1);
        self.last_notice_ms.store(self.elapsed_ms().max(1), Ordering::Relaxed);
    }

    fn number(&self) -> u64 {
        self.next_number.fetch_add(1, Ordering::Relaxed)
    }
}

/// One party's subscription to its notices, and the sockets that receive them.
struct Subscription {
    sockets: Arc<Sockets>,
    notices: NoticeSubscription,
}

struct Sockets {
    list: Mutex<SocketList>,
    forwarding: Arc<Forwarding>,
}

struct SocketList {
    queues: Vec<(u64, SendQueue)>,
    version: CallStateVersion,
}

/// Changes whenever a party learns something about the state of its call: by a notice, or because its request was granted. A
/// snapshot that was read under an earlier version may be out of date.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallStateVersion(u64);

impl Sockets {
    fn new(forwarding: Arc<Forwarding>) -> Self {
        let list = SocketList {
            queues: Vec::new(),
            version: CallStateVersion(forwarding.number()),
        };
        Self {
            list: Mutex::new(list),
            forwarding,
        }
    }

    fn lock(&self) -> MutexGuard<'_, SocketList> {
        self.list.lock()
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
    pub fn new(notices: NoticeSubscriber, max_sockets_per_party: usize, max_notice_bytes: usize) -> Self {
        let shared = Shared {
            notices,
            max_sockets_per_party,
            forwarding: Arc::new(Forwarding::new(max_notice_bytes)),
            subscriptions: Mutex::default(),
        };
        Self {
            shared: Arc::new(shared),
        }
    }

    /// Adds a socket, and returns once its party's notices are subscribed to. A snapshot that is read afterwards together with
    /// the notices that follow has no gap. `None` if NATS does not confirm the subscription in time.
    pub async fn join(&self, party: &Party, queue: SendQueue) -> Option<Registration> {
        let number = self.shared.forwarding.number();
        let registration = Registration {
            registry: self.clone(),
            party: party.clone(),
            number,
        };
        let mut is_subscribed = self.add(party, number, queue);
        let confirmed = timeout(
            SUBSCRIBED_WITHIN,
            is_subscribed.wait_for(|is_subscribed| *is_subscribed),
        )
        .await;
        matches!(confirmed, Ok(Ok(_))).then_some(registration)
    }

    /// Whether parties can be subscribed to now.
    pub fn is_connected(&self) -> bool {
        self.shared.notices.is_connected()
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
        subscription.notices.is_confirmed()
    }

    fn subscription(&self, party: &Party) -> Subscription {
        let sockets = Arc::new(Sockets::new(Arc::clone(&self.shared.forwarding)));
        let sink: Arc<dyn NoticeSink> = Arc::<Sockets>::clone(&sockets);
        Subscription {
            notices: self.shared.notices.subscribe(party, sink),
            sockets,
        }
    }

    /// The parties that are connected here.
    pub fn connected(&self) -> Vec<Party> {
        self.subscriptions().keys().cloned().collect()
    }

    /// Whether notices are forwarded: calls are live here.
    pub fn has_live_notices(&self) -> bool {
        let forwarding = &self.shared.forwarding;
        match forwarding.last_notice_ms.load(Ordering::Relaxed) {
            0 => false,
            last => Duration::from_millis(forwarding.elapsed_ms().saturating_sub(last)) < LIVE,
        }
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
            subscription.sockets.set_version(self.shared.forwarding.number());
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

fn push_span(subject: &str, headers: &HeaderMap) -> Span {
    let span = call_span!(
        "push",
        "consumer",
        otel.name = %format_args!("push {}", name_of(subject)),
        messaging.system = "nats",
        messaging.destination.name = subject,
    );
    if !span.is_disabled() {
        spans::child_of_message(&span, Some(headers));
    }
    span
}

fn name_of(subject: &str) -> &str {
    subject.rsplit('.').next().unwrap_or_default()
}

/// Whether a notice changes the state of the party's call. Minutes and media do not: if they counted, reading the snapshot of a
/// call that is ticked could be out of date for ever while storage is slow, and would be repeated again and again.
fn changes_call_state(subject: &str) -> bool {
    let name = name_of(subject);
    name.starts_with("call_") || name == "incoming_call"
}

impl NoticeSink for Sockets {
    fn forward(&self, notice: Message) {
        let forwarding = &self.forwarding;
        if notice.payload.len() > forwarding.max_notice_bytes {
            metrics::notice_refused("too_big");
            tracing::warn!(subject = %notice.subject, bytes = notice.payload.len(), "notice dropped: it is too long");
            return;
        }
        // Until it is written to idle sockets, and queued for the others.
        let _pushing = notice
            .headers
            .as_ref()
            .map(|headers| push_span(&notice.subject, headers));
        // Validated once for all sockets, and forwarded without a copy.
        match Utf8Bytes::try_from(notice.payload) {
            Ok(message) => {
                forwarding.count();
                let version = changes_call_state(&notice.subject).then(|| forwarding.number());
                self.send(&message, version);
            }
            Err(_) => {
                metrics::notice_refused("not_utf8");
                tracing::warn!(subject = %notice.subject, "notice dropped: it is not UTF-8");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::send_queue::send_queue;

    #[test]
    fn a_snapshot_read_before_a_change_is_not_sent_after_it() {
        let (queue, mut receiver) = send_queue(8, None);
        let sockets = Sockets::new(Arc::new(Forwarding::new(1_000)));
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
