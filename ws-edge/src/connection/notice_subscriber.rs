//! The subscriptions to parties' notices: a connection to NATS of their own, in a thread of its own.
//!
//! One thread reads a notice, finds its sockets and writes to them, so that a notice wakes nothing else. The runtime of the service
//! has several threads, which wake each other for every message; and whatever it is busy with, such as thousands of handshakes, the
//! notices do not wait behind it.

use std::pin::Pin;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use async_nats::{Client, Message, Request, RequestErrorKind, Subscriber};
use contract::jetstream::connection_state::ConnectionState;
use contract::jetstream::request;
use contract::wire::command::OtomoPresent;
use contract::wire::subject;
use contract::{Nats, NatsSettings, Party};
use futures::future::{AbortHandle, AbortRegistration};
use futures::stream::{Abortable, SelectAll};
use futures::{Stream, StreamExt};
use service::BoxError;
use tokio::runtime::Builder;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_tungstenite::tungstenite::Bytes;
use tokio_util::sync::CancellationToken;

/// Wait between two attempts to subscribe.
const RETRY_DELAY: Duration = Duration::from_millis(100);
/// How long the server may take to confirm subscriptions; then it is asked again.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(2);
/// Subscriptions that one confirmation covers.
const MAX_BATCH: usize = 1_000;

/// Receives the notices to one party.
pub(super) trait NoticeSink: Send + Sync {
    /// Must not block: all notices of the node wait for it.
    fn forward(&self, notice: Message);
}

/// Subscribes to parties' notices. Clones share the connection.
#[derive(Clone)]
pub struct NoticeSubscriber {
    nats: Nats,
    added: mpsc::Sender<Added>,
    ended: mpsc::Sender<AbortHandle>,
}

/// The thread's end, to be awaited.
pub struct NoticeThread(oneshot::Receiver<()>);

/// A party's subscription; dropping it ends it.
pub(super) struct NoticeSubscription {
    is_confirmed: watch::Receiver<bool>,
    abort: AbortHandle,
    ended: mpsc::Sender<AbortHandle>,
}

struct Added {
    party: Party,
    sink: Arc<dyn NoticeSink>,
    confirmed: watch::Sender<bool>,
    until: AbortRegistration,
}

type Notices = Pin<Box<dyn Stream<Item = (Arc<dyn NoticeSink>, Message)> + Send>>;

impl NoticeSubscriber {
    /// Starts the thread and its connection. At most `max_waiting` parties wait for their subscription.
    ///
    /// # Errors
    /// When the settings cannot be used, or no thread can be started.
    pub async fn start(
        settings: &NatsSettings,
        password: &str,
        name: &str,
        max_waiting: usize,
    ) -> Result<(Self, NoticeThread), BoxError> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (settings, password, name) = (settings.clone(), password.to_owned(), format!("{name} notices"));
        let (connected, connection) = oneshot::channel();
        let (thread_ended, end) = oneshot::channel();
        let (added, to_add) = mpsc::channel(max_waiting);
        let (ended, to_end) = mpsc::channel(max_waiting);
        thread::Builder::new().name("notices".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let nats = Nats::connect(&settings, &password, &name).await;
                let subscribed = nats.as_ref().ok().cloned();
                let _ = connected.send(nats);
                if let Some(nats) = subscribed {
                    let (subscribed, to_forward) = mpsc::channel(MAX_BATCH);
                    // Either ends alone only by a panic, or when nothing uses the subscriber any more.
                    tokio::select! {
                        _ = tokio::spawn(forward(nats.client.clone(), to_forward, to_end)) => {}
                        () = subscribe_all(nats, to_add, subscribed) => {}
                    }
                }
            });
            drop(thread_ended);
        })?;
        let nats = connection.await??;
        Ok((Self { nats, added, ended }, NoticeThread(end)))
    }

    /// The state of the connection.
    pub(crate) fn state(&self) -> watch::Receiver<ConnectionState> {
        self.nats.state()
    }

    /// Whether the connection is up.
    pub(crate) fn is_connected(&self) -> bool {
        self.nats.state().borrow().connected
    }

    /// Subscribes; the subscription is never confirmed if too many parties wait for theirs.
    pub(super) fn subscribe(&self, party: &Party, sink: Arc<dyn NoticeSink>) -> NoticeSubscription {
        let (confirmed, is_confirmed) = watch::channel(false);
        let (abort, until) = AbortHandle::new_pair();
        let added = Added {
            party: party.clone(),
            sink,
            confirmed,
            until,
        };
        // The sockets learn it at once, because the sender of the confirmation is dropped.
        if self.added.try_send(added).is_err() {
            tracing::debug!(%party, "too many parties wait for their subscription");
        }
        NoticeSubscription {
            is_confirmed,
            abort,
            ended: self.ended.clone(),
        }
    }

    /// Waits until the server has processed every subscription that was sent to it.
    pub(super) async fn confirmed(&self) {
        confirmed(&self.nats).await;
    }
}

impl NoticeThread {
    /// Waits until `stop` is cancelled.
    ///
    /// # Errors
    /// When the thread ends before.
    pub async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        match stop.run_until_cancelled(self.0).await {
            None => Ok(()),
            // It ends when the last user of the subscriber does.
            Some(_) if stop.is_cancelled() => Ok(()),
            Some(_) => Err("the thread of notices has ended".into()),
        }
    }
}

impl NoticeSubscription {
    /// Becomes true once the server has processed the subscription.
    pub(super) fn is_confirmed(&self) -> watch::Receiver<bool> {
        self.is_confirmed.clone()
    }
}

impl Drop for NoticeSubscription {
    fn drop(&mut self) {
        // Thousands of subscriptions that end at once must not all wake the thread before the next notice.
        if self.ended.try_send(self.abort.clone()).is_err() {
            self.abort.abort();
        }
    }
}

/// Subscribes, and confirms the subscriptions that came together by one request.
async fn subscribe_all(nats: Nats, mut to_add: mpsc::Receiver<Added>, subscribed: mpsc::Sender<Notices>) {
    let mut batch = Vec::new();
    while to_add.recv_many(&mut batch, MAX_BATCH).await > 0 {
        let mut unconfirmed = Vec::with_capacity(batch.len());
        for added in batch.drain(..) {
            let sink = added.sink;
            let notices = subscribe(&nats.client, &added.party).await;
            let notices = notices.map(move |notice| (Arc::clone(&sink), notice));
            let _ = subscribed.send(Box::pin(Abortable::new(notices, added.until))).await;
            unconfirmed.push(added.confirmed);
        }
        confirmed(&nats).await;
        for confirmed in unconfirmed {
            confirmed.send_replace(true);
        }
        batch.shrink_to(MAX_BATCH);
    }
}

async fn subscribe(client: &Client, party: &Party) -> Subscriber {
    loop {
        match client.subscribe(subject::notices_to(party)).await {
            Ok(subscriber) => return subscriber,
            Err(error) => tracing::warn!(%party, %error, "cannot subscribe to a party's notices: retrying"),
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// The server processes a connection's messages in order. The answer to a request without a responder
/// therefore follows the subscriptions before it.
async fn confirmed(nats: &Nats) {
    let mut nats_state = nats.state();
    loop {
        let connections = nats_state.borrow_and_update().connections;
        let request = Request::new().payload(Bytes::new()).timeout(Some(CONFIRM_TIMEOUT));
        let answer = tokio::select! {
            answer = nats.client.send_request(subject::UNSERVED, request) => answer,
            // The answer is lost with the connection.
            Ok(_) = nats_state.wait_for(|nats_state| nats_state.connections != connections) => continue,
        };
        match answer {
            Ok(_) => return,
            Err(error) if error.kind() == RequestErrorKind::NoResponders => return,
            Err(error) => tracing::debug!(%error, "subscriptions are not confirmed yet"),
        }
        tokio::time::sleep(RETRY_DELAY).await;
    }
}

/// Notices, new subscriptions and ended ones take turns, so that thousands of the latter delay no notice.
async fn forward(client: Client, mut to_forward: mpsc::Receiver<Notices>, mut to_end: mpsc::Receiver<AbortHandle>) {
    let mut notices = SelectAll::new();
    loop {
        tokio::select! {
            Some(subscribed) = to_forward.recv() => notices.push(subscribed),
            Some(ended) = to_end.recv() => ended.abort(),
            Some((sink, notice)) = notices.next(), if !notices.is_empty() => {
                if subject::is_presence(&notice.subject) {
                    request::reply(&client, &notice, &Ok(OtomoPresent {})).await;
                } else {
                    sink.forward(notice);
                }
            }
            else => return,
        }
    }
}
