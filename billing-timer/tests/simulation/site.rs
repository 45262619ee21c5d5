//! Where an instance runs: its machine's clocks, and its link to the server.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use contract::Timestamp;
use contract::jetstream::clock::Clock;
use contract::jetstream::connection::Link;
use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::sync::watch;

use crate::core::{Core, Event, Shared, Ticket, micros, moment};

/// One place at which an instance runs, then the next one after it died.
pub(crate) struct Site {
    /// Which incarnation runs here, or ran last.
    pub(crate) epoch: u32,
    pub(crate) link: watch::Sender<Link>,
    /// Not polled until then.
    pub(crate) frozen_until: u64,
    /// By how much the wall clock is ahead, in milliseconds.
    pub(crate) ahead_ms: i64,
    /// The latest moment that the wall clock has shown.
    pub(crate) latest_shown: Timestamp,
    /// What was sent while the link was down, and will be when it is up again.
    pub(crate) unsent: Vec<Effect>,
}

pub(crate) type Effect = Box<dyn FnOnce(&mut Core) + Send>;

impl Site {
    pub(crate) fn new() -> Self {
        Self {
            epoch: 0,
            link: watch::Sender::new(Link { up: true, gaps: 1 }),
            frozen_until: 0,
            ahead_ms: 0,
            latest_shown: moment(0),
            unsent: Vec::new(),
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.link.borrow().up
    }
}

impl Core {
    pub(crate) fn wall(&mut self, site: usize) -> Timestamp {
        let millis = i64::try_from(self.now / 1_000).unwrap();
        let site = &mut self.sites[site];
        let shown = moment(millis + site.ahead_ms);
        site.latest_shown = site.latest_shown.max(shown);
        shown
    }

    pub(crate) fn cut(&mut self, site: usize) {
        self.note("cut", site as u64, || format!("site {site}: the link is down"));
        self.sites[site].link.send_modify(|link| link.up = false);
        self.server.deafen(site);
    }

    pub(crate) fn mend(&mut self, site: usize) {
        if self.sites[site].is_up() {
            return;
        }
        self.note("mended", site as u64, || format!("site {site}: the link is up"));
        for effect in std::mem::take(&mut self.sites[site].unsent) {
            let delay = Duration::from_micros(self.dice.between(10, 5_000));
            self.run_after(delay, effect);
        }
        self.sites[site].link.send_modify(|link| {
            *link = Link {
                up: true,
                gaps: link.gaps + 1,
            }
        });
    }
}

/// A site's clocks.
#[derive(Debug, Clone)]
pub(crate) struct SiteClock {
    pub(crate) shared: Shared,
    pub(crate) site: usize,
    /// What the monotonic clock shows at the run's beginning: nothing depends on it.
    pub(crate) zero: Instant,
}

impl Clock for SiteClock {
    fn now(&self) -> Timestamp {
        self.shared.lock().wall(self.site)
    }

    fn instant(&self) -> Instant {
        self.zero + Duration::from_micros(self.shared.lock().now)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let until = self.shared.lock().now + micros(duration);
        Sleep {
            shared: self.shared.clone(),
            until,
            ticket: None,
        }
        .boxed()
    }

    fn jittered(&self, delay: Duration) -> Duration {
        let share = self.shared.lock().dice.between(500, 1_000);
        delay.mul_f64(f64::from(u32::try_from(share).unwrap()) / 1e3)
    }
}

struct Sleep {
    shared: Shared,
    until: u64,
    ticket: Option<(Ticket, Waker)>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = self.shared.clone();
        let mut core = shared.lock();
        if core.now >= self.until {
            return Poll::Ready(());
        }
        if self
            .ticket
            .as_ref()
            .is_none_or(|(_, waker)| !waker.will_wake(cx.waker()))
        {
            if let Some((ticket, _)) = self.ticket.take() {
                core.cancel(ticket);
            }
            let ticket = core.at(self.until, Event::Wake(cx.waker().clone()));
            self.ticket = Some((ticket, cx.waker().clone()));
        }
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some((ticket, _)) = self.ticket.take() {
            self.shared.lock().cancel(ticket);
        }
    }
}

/// Lets others run once: where an await would not wait, a crash may come all the same.
pub(crate) async fn breathe(shared: &Shared) {
    if shared.lock().dice.per_mille(300) {
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

pub(crate) fn clock(shared: &Shared, site: usize, zero: Instant) -> Arc<SiteClock> {
    Arc::new(SiteClock {
        shared: shared.clone(),
        site,
        zero,
    })
}
