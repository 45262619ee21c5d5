//! Closes the sockets of a node that stops over a time, an equal share at each step, so that their clients do not all connect to
//! other nodes at once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Groups of sockets that close at the same time. Clients add a jitter of their own before they connect again.
const GROUPS: usize = 64;

/// The groups, to which sockets are assigned in turn.
#[derive(Debug)]
pub struct StaggeredClose {
    groups: [CancellationToken; GROUPS],
    next: AtomicUsize,
    spread: Duration,
}

impl StaggeredClose {
    /// Closes the last group one `spread` after the stop, less one step.
    pub fn new(spread: Duration) -> Self {
        Self {
            groups: std::array::from_fn(|_| CancellationToken::new()),
            next: AtomicUsize::new(0),
            spread,
        }
    }

    /// The token of a new socket. It is cancelled when the socket is to close.
    pub fn assign(&self) -> CancellationToken {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.groups.get(number % GROUPS).cloned().unwrap_or_default()
    }

    /// Closes one group after the other.
    pub async fn close_all(&self) {
        let (started, groups) = (Instant::now(), u32::try_from(GROUPS).unwrap_or(u32::MAX));
        for (number, group) in (0..).zip(&self.groups) {
            sleep_until(started + self.spread * number / groups).await;
            group.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::time::sleep;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_equal_share_of_the_sockets_closes_in_each_part_of_the_time() {
        let closing = Arc::new(StaggeredClose::new(Duration::from_secs(10)));
        let sockets: Vec<_> = (0..1_000).map(|_| closing.assign()).collect();
        let open = || sockets.iter().filter(|socket| !socket.is_cancelled()).count();
        tokio::spawn(async move { closing.close_all().await });
        let mut left = vec![open()];
        for _ in 0..10 {
            sleep(Duration::from_secs(1)).await;
            left.push(open());
        }
        let closed: Vec<_> = left.windows(2).map(|pair| pair[0] - pair[1]).collect();
        assert!(closed.iter().all(|closed| (90..=125).contains(closed)), "{closed:?}");
        assert_eq!(left.last(), Some(&0));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_spread_all_close_at_once() {
        let closing = StaggeredClose::new(Duration::ZERO);
        let (first, started) = (closing.assign(), Instant::now());
        closing.close_all().await;
        assert!(first.is_cancelled() && started.elapsed() < Duration::from_secs(1));
    }
}
