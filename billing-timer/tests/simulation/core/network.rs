//! Requests to the server, and their failures.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::Stream;

use crate::core::host::{Effect, yield_at_random};
use crate::core::{Core, Shared};
use crate::time::micros;

/// The longest delay of a message.
pub(crate) const LATEST: Duration = Duration::from_secs(8);

/// The sender of requests: an instance on a host.
#[derive(Debug, Clone)]
pub(crate) struct Sender {
    pub(crate) shared: Shared,
    pub(crate) host: usize,
    pub(crate) name: String,
}

/// Why a request has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    TimedOut,
    /// The server refused it.
    Rejected,
}

impl Core {
    /// The latency of one direction.
    pub(crate) fn latency(&mut self) -> Duration {
        Duration::from_micros(match self.rng.below(20) {
            0 => self.rng.between(2_000, 60_000),
            1..4 => self.rng.between(500, 5_000),
            _ => self.rng.between(50, 800),
        })
    }
}

impl Sender {
    /// The server runs `effect` at most once, and its result is returned. A request that was sent takes effect even if this
    /// future is dropped.
    pub(crate) async fn request<R: Send + 'static>(
        &self,
        what: &'static str,
        timeout: Duration,
        effect: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) -> Result<R, NoAnswer> {
        yield_at_random(&self.shared).await;
        let slot = ReplySlot::default();
        {
            let mut core = self.shared.lock();
            let answer = slot.clone();
            core.run_after(timeout, move |_| answer.fill(Err(NoAnswer::TimedOut)));
            self.send(&mut core, what, slot.clone(), effect);
        }
        let answer = slot.await;
        yield_at_random(&self.shared).await;
        answer
    }

    fn send<R: Send + 'static>(
        &self,
        core: &mut Core,
        what: &'static str,
        slot: ReplySlot<Result<R, NoAnswer>>,
        effect: impl FnOnce(&mut Core) -> R + Send + 'static,
    ) {
        let network_conditions = core.plan.network_conditions;
        let (back, there, outcome) = (core.latency(), core.latency(), core.rng.below(1_000));
        let host = self.host;
        let bounds = [
            network_conditions.lost,
            network_conditions.reply_lost,
            network_conditions.late,
            network_conditions.refused,
        ];
        let outcome = bounds
            .iter()
            .scan(0, |sum, share| {
                *sum += share;
                Some(*sum)
            })
            .position(|bound| outcome < bound);
        if outcome == Some(0) {
            core.note("lost", host as u64, || format!("host {host}: {what} is lost"));
            return;
        }
        if outcome == Some(3) {
            core.note("refused", host as u64, || format!("host {host}: {what} is refused"));
            core.run_after(there + back, move |_| slot.fill(Err(NoAnswer::Rejected)));
            return;
        }
        let reply_lost = outcome == Some(1);
        let answered: Effect = Box::new(move |core| {
            let answer = effect(core);
            if reply_lost {
                core.note("reply_lost", host as u64, || {
                    format!("host {host}: the answer to {what} is lost")
                });
            } else {
                core.run_after(back, move |_| slot.fill(Ok(answer)));
            }
        });
        if !core.hosts[host].is_up() {
            // The client writes buffered requests after it has reconnected.
            if core.rng.per_mille(600) {
                core.hosts[host].unsent.push(answered);
            }
            return;
        }
        let delay = if outcome == Some(2) {
            let late = core.rng.span(Duration::from_millis(50), LATEST);
            core.note("late", host as u64, || {
                format!("host {host}: {what} is delayed by {late:?}")
            });
            late
        } else {
            there
        };
        let arrives = core.now + micros(delay);
        let arrives = arrives.max(core.server.stalled_until + micros(there));
        core.run_at(arrives, answered);
    }

    /// Sends a message without a reply.
    pub(crate) fn send_one_way(
        &self,
        core: &mut Core,
        what: &'static str,
        effect: impl FnOnce(&mut Core) + Send + 'static,
    ) {
        self.send(core, what, ReplySlot::default(), effect);
    }
}

/// Holds the reply of a request.
#[derive(Debug)]
pub(crate) struct ReplySlot<T>(Arc<Mutex<Answer<T>>>);

#[derive(Debug)]
struct Answer<T> {
    answer: Option<T>,
    answered: bool,
    waker: Option<Waker>,
}

impl<T> Clone for ReplySlot<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Default for ReplySlot<T> {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Answer {
            answer: None,
            answered: false,
            waker: None,
        })))
    }
}

impl<T> ReplySlot<T> {
    /// Only the first reply counts.
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

impl<T> Future for ReplySlot<T> {
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

/// The buffer of a subscription.
#[derive(Debug)]
pub(crate) struct Inbox<T>(Arc<Mutex<Received<T>>>);

#[derive(Debug)]
struct Received<T> {
    /// None marks the end.
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

    /// Ends the subscription.
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
