//! Handshakes are limited in number, so that thousands of sockets that connect at once leave the processors to the notices of live calls.
//!
//! A handshake has a permit only while this node works for it. It gives it back whenever it waits for its client: half-open
//! connections delay no other.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use crate::metrics;
use crate::settings::Limits;

/// How long a permit is held. A handshake that waits longer for NATS continues without one, because waiting takes no processor.
const MAX_HOLD: Duration = Duration::from_millis(5);

/// The permits of a node, given in the order of asking.
#[derive(Clone)]
pub struct HandshakeLimiter {
    all: Arc<Semaphore>,
    beside_notices: Arc<Semaphore>,
    has_live_notices: Arc<dyn Fn() -> bool + Send + Sync>,
}

/// One permit; dropping it gives it back.
pub struct HandshakePermit {
    _all: Option<OwnedSemaphorePermit>,
    _beside_notices: Option<OwnedSemaphorePermit>,
}

impl HandshakeLimiter {
    /// As many as the limits allow, which depends on whether notices are sent at the moment.
    pub fn new(limits: &Limits, has_live_notices: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self {
            all: Arc::new(Semaphore::new(limits.handshakes)),
            beside_notices: Arc::new(Semaphore::new(limits.handshakes_beside_notices)),
            has_live_notices: Arc::new(has_live_notices),
        }
    }

    /// Waits for a permit.
    async fn acquire(&self) -> HandshakePermit {
        let _waiting = metrics::HandshakeWaiting::count();
        // Never closed.
        let all = Arc::clone(&self.all).acquire_owned().await.ok();
        let beside_notices = if (self.has_live_notices)() {
            Arc::clone(&self.beside_notices).acquire_owned().await.ok()
        } else {
            None
        };
        HandshakePermit {
            _all: all,
            _beside_notices: beside_notices,
        }
    }

    /// Carries a handshake out, each step of it in a turn, and returns its outcome with the turn of the last step.
    pub(crate) async fn run<F: Future>(&self, handshake: F) -> (F::Output, HandshakePermit) {
        let mut handshake = pin!(handshake);
        loop {
            let permit = self.acquire().await;
            let step = poll_fn(|context| Poll::Ready(handshake.as_mut().poll(context))).await;
            if let Poll::Ready(outcome) = step {
                return (outcome, permit);
            }
            drop(permit);
            woken().await;
        }
    }
}

impl HandshakePermit {
    /// Completes `work` with this permit, or at least begins it.
    pub(crate) async fn during<F: Future>(self, work: F) -> F::Output {
        let mut work = pin!(work);
        match timeout(MAX_HOLD, work.as_mut()).await {
            Ok(outcome) => outcome,
            Err(_) => {
                drop(self);
                work.await
            }
        }
    }
}

/// Waits until the task is woken by what it polled before.
async fn woken() {
    let mut is_woken = false;
    poll_fn(|_| {
        if std::mem::replace(&mut is_woken, true) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use futures::FutureExt as _;
    use futures::future::join_all;
    use tokio::sync::oneshot;

    use super::*;

    fn limiter(has_live_notices: bool) -> HandshakeLimiter {
        let limits = Limits {
            handshakes: 3,
            handshakes_beside_notices: 1,
            ..Limits::default()
        };
        HandshakeLimiter::new(&limits, move || has_live_notices)
    }

    #[tokio::test]
    async fn further_handshakes_wait_and_fewer_are_processed_beside_notices() {
        for (has_live_notices, expected) in [(false, 3), (true, 1)] {
            let limiter = limiter(has_live_notices);
            let mut permits = Vec::new();
            while let Some(((), permit)) = limiter.run(ready(())).now_or_never() {
                permits.push(permit);
            }
            assert_eq!(permits.len(), expected);
            let next = limiter.run(ready(()));
            permits.pop();
            assert!(next.now_or_never().is_some(), "a free permit is given");
        }
    }

    #[tokio::test]
    async fn a_handshake_that_waits_for_its_client_holds_no_permit() {
        let limiter = limiter(true);
        let (request, received) = oneshot::channel();
        let mut slow = Box::pin(limiter.run(received));
        assert!((&mut slow).now_or_never().is_none());
        let mut half_open: Vec<_> = (0..10).map(|_| Box::pin(limiter.run(pending::<()>()))).collect();
        assert!(join_all(half_open.iter_mut()).now_or_never().is_none());
        let (_, permit) = limiter.run(ready(())).await;
        request.send(()).unwrap();
        assert!((&mut slow).now_or_never().is_none(), "its next step takes a permit");
        drop(permit);
        assert_eq!(slow.await.0, Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_permit_is_released_while_nats_is_waited_for() {
        let limiter = limiter(true);
        let ((), permit) = limiter.run(ready(())).await;
        let (answer, answered) = oneshot::channel();
        let slow = tokio::spawn(permit.during(answered));
        limiter.run(ready(())).await;
        assert!(!slow.is_finished());
        answer.send(()).unwrap();
        assert_eq!(slow.await.unwrap(), Ok(()));
    }
}
