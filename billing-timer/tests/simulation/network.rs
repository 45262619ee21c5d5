//! Requests to the server, and what may become of one.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;

use crate::core::{Core, Shared};
use crate::site::{Effect, breathe};

/// How requests fare at this moment, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Weather {
    /// Lost on the way there.
    pub(crate) lost: u64,
    /// Done, and the answer lost on the way back.
    pub(crate) unheard: u64,
    /// Done late, most of them after their sender has given up.
    pub(crate) late: u64,
    /// Refused by the server for reasons of its own.
    pub(crate) refused: u64,
    /// Deliveries and notices that are lost or come twice, or late.
    pub(crate) mangled: u64,
}

/// The longest that anything is under way.
pub(crate) const LATEST: Duration = Duration::from_secs(8);

/// An instance, as requests know it.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) shared: Shared,
    pub(crate) site: usize,
    pub(crate) name: String,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    TimedOut,
    /// The server says that it cannot.
    Refused,
}

impl Core {
    /// One way.
    pub(crate) fn latency(&mut self) -> Duration {
        let micros = match self.dice.below(20) {
            0 => self.dice.between(2_000, 60_000),
            1..4 => self.dice.between(500, 5_000),
            _ => self.dice.between(50, 800),
        };
        Duration::from_micros(micros)
    }
}

impl Sender {
    /// Has `effect` done by the server, once at most, and gives its answer. What was sent goes on if this is dropped.
    pub(crate) async fn request<R: Send + 'static>(
        &self,
        what: &'static str,
        patience: Duration,
        effect: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        breathe(&self.shared).await;
        let slot = Slot::default();
        {
            let mut core = self.shared.lock();
            let answer = slot.clone();
            core.run_after(patience, move |_| answer.fill(Err(NoAnswer::TimedOut)));
            self.send(&mut core, what, slot.clone(), effect);
        }
        let answer = slot.await;
        breathe(&self.shared).await;
        answer
    }

    fn send<R: Send + 'static>(
        &self,
        core: &mut Core,
        what: &'static str,
        slot: Slot<Result<R, NoAnswer>>,
        effect: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) {
        let weather = core.plan.weather;
        let (back, there, fate) = (core.latency(), core.latency(), core.dice.below(1_000));
        let site = self.site;
        let bounds = [weather.lost, weather.unheard, weather.late, weather.refused];
        let fate = bounds
            .iter()
            .scan(0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .position(|bound| fate < bound);
        if fate == Some(0) {
            core.note("lost", site as u64, || {
                format!("site {site}: {what} is lost on its way")
            });
            return;
        }
        if fate == Some(3) {
            core.note("refused", site as u64, || format!("site {site}: {what} is refused"));
            core.run_after(there + back, move |_| slot.fill(Err(NoAnswer::Refused)));
            return;
        }
        let unheard = fate == Some(1);
        let answered: Effect = Box::new(move |core| {
            let answer = effect(core);
            if unheard {
                core.note("unheard", site as u64, || {
                    format!("site {site}: the answer to {what} is lost")
                });
            } else {
                core.run_after(back, move |_| slot.fill(Ok(answer)));
            }
        });
        if !core.sites[site].is_up() {
            // What the client has not written yet is written when it is connected again.
            if core.dice.per_mille(600) {
                core.sites[site].unsent.push(answered);
            }
            return;
        }
        let delay = if fate == Some(2) {
            let late = core.dice.span(Duration::from_millis(50), LATEST);
            core.note("late", site as u64, || {
                format!("site {site}: {what} is under way for {late:?}")
            });
            late
        } else {
            there
        };
        let arrives = core.now + crate::core::micros(delay);
        let arrives = arrives.max(core.server.stalled_until + crate::core::micros(there));
        core.run_at(arrives, answered);
    }

    /// Says something that nobody answers.
    pub(crate) fn say(&self, core: &mut Core, what: &'static str, effect: impl FnOnce(&mut Core) + Send + 'static) {
        self.send(core, what, Slot::default(), effect);
    }
}

/// A place for an answer.
#[derive(Debug)]
pub(crate) struct Slot<T>(Arc<Mutex<Answer<T>>>);

#[derive(Debug)]
struct Answer<T> {
    answer: Option<T>,
    answered: bool,
    waker: Option<Waker>,
}

impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Answer {
            answer: None,
            answered: false,
            waker: None,
        })))
    }
}

impl<T> Slot<T> {
    /// The first answer counts.
    fn fill(&self, answer: T) {
        let mut slot = self.0.lock().unwrap();
        if !std::mem::replace(&mut slot.answered, true) {
            slot.answer = Some(answer);
            if let Some(waker) = slot.waker.take() {
                waker.wake();
            }
        }
    }
}

impl<T> Future for Slot<T> {
    type Output = T;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let mut slot = self.0.lock().unwrap();
        match slot.answer.take() {
            Some(answer) => Poll::Ready(answer),
            None => {
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

/// What a subscription has received and its holder has not taken yet.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Arc<Mutex<Received<T>>>);

#[derive(Debug)]
struct Received<T> {
    /// None where nothing comes any more.
    waiting: VecDeque<Option<T>>,
    waker: Option<Waker>,
}

impl<T> Clone for Inbox<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for Inbox<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Received {
            waiting: VecDeque::new(),
            waker: None,
        })))
    }
}

impl<T> Inbox<T> {
    pub(crate) fn push(&self, message: T) {
        self.add(Some(message));
    }

    /// Nothing comes any more.
    pub(crate) fn end(&self) {
        self.add(None);
    }

    fn add(&self, message: Option<T>) {
        let mut inbox = self.0.lock().unwrap();
        inbox.waiting.push_back(message);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

impl<T> Stream for Inbox<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let mut inbox = self.0.lock().unwrap();
        match inbox.waiting.pop_front() {
            Some(message) => Poll::Ready(message),
            None => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
