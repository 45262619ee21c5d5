//! The host of an instance: its clocks and its connection to the server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use contract::Timestamp;
use contract::jetstream::clock::Clock;
use contract::jetstream::connection_state::ConnectionState;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::core::{Core, Event, EventKey, Shared};
use crate::time::{micros, timestamp};

/// A host. When its instance ends, the next one starts on it.
pub(crate) struct Host {
    /// The number of the current or last instance.
    pub(crate) epoch: u32,
    pub(crate) nats_state: watch::Sender<ConnectionState>,
    /// The instance is not polled until this time.
    pub(crate) frozen_until: u64,
    /// By how much the wall clock is ahead, in milliseconds.
    pub(crate) ahead_ms: i64,
    /// Requests sent while disconnected, delivered after the reconnect.
    pub(crate) unsent: Vec<Effect>,
}

pub(crate) type Effect = Box<dyn FnOnce(&mut Core) + Send>;

impl Host {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 0,
            nats_state: watch::Sender::new(ConnectionState {
                connected: true,
                connections: 1,
                overflows: 0,
            }),
            frozen_until: 0,
            ahead_ms: 0,
            unsent: Vec::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.nats_state.borrow().connected
    }
}

impl Core {
    pub(crate) fn wall(&self, host: usize) -> Timestamp {
        let millis = i64::try_from(self.now / 1_000).unwrap();
        timestamp(millis + self.hosts[host].ahead_ms)
    }

    pub(crate) fn disconnect(&mut self, host: usize) {
        self.note("disconnected", host as u64, || format!("host {host}: the link is down"));
        self.hosts[host].nats_state.send_modify(|state| state.connected = false);
        self.server.mark_gap(host);
    }

    pub(crate) fn reconnect(&mut self, host: usize) {
        if self.hosts[host].is_up() {
            return;
        }
        self.note("reconnected", host as u64, || format!("host {host}: the link is up"));
        for effect in std::mem::take(&mut self.hosts[host].unsent) {
            let delay = Duration::from_micros(self.rng.between(10, 5_000));
            self.run_after(delay, effect);
        }
        self.hosts[host].nats_state.send_modify(|state| {
            state.connected = true;
            state.connections += 1;
        });
    }
}

/// A host's clocks.
#[derive(Debug, Clone)]
pub(crate) struct HostClock {
    pub(crate) shared: Shared,
    pub(crate) host: usize,
    /// The monotonic clock at the start of the run. Nothing depends on its value.
    pub(crate) zero: Instant,
}

impl Clock for HostClock {
    fn now(&self) -> Timestamp {
        self.shared.lock().wall(self.host)
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_micros(self.shared.lock().now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.shared.lock().now + micros(duration);
        Sleep {
            shared: self.shared.clone(),
            until,
            key: None,
        }
        .boxed()
    }

    fn jittered(&self, delay: Duration) -> Duration {
        let share = self.shared.lock().rng.between(500, 1_000);
        delay.mul_f64(f64::from(u32::try_from(share).unwrap()) / 1e3)
    }
}

struct Sleep {
    shared: Shared,
    until: u64,
    key: Option<(EventKey, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut core = shared.lock();
        if core.now >= self.until {
            return Poll::Ready(());
        }
        if self.key.as_ref().is_none_or(|(_, waker)| !waker.will_wake(cx.waker())) {
            if let Some((key, _)) = self.key.take() {
                core.cancel(key);
            }
            let key = core.at(self.until, Event::Wake(cx.waker().clone()));
            self.key = Some((key, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((key, _)) = self.key.take() {
            self.shared.lock().cancel(key);
        }
    }
}

/// Yields at random, so that a crash can also hit an await that would not wait.
pub(crate) async fn yield_at_random(shared: &Shared) {
    if shared.lock().rng.per_mille(300) {
        let mut waited = false;
        std::future::poll_fn(move |cx| {
            if std::mem::replace(&mut waited, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }
}

pub(crate) fn clock(shared: &Shared, host: usize, zero: Instant) -> Arc<HostClock> {
    Arc::new(HostClock {
        shared: shared.clone(),
        host,
        zero,
    })
}
