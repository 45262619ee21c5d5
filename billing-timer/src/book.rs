//! The book's follower: everything that is on it, then every change, and all of it again if it was lost.

use std::pin::pin;
use std::time::Instant;

use contract::CallId;
use contract::buckets::billing_index::{BillingChange, BillingEntry};
use contract::jetstream::bucket::{BucketError, Revised};
use contract::jetstream::storage::MARKER_TTL;
use futures::StreamExt;
use service::{BoxError, Condition};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::world::World;
use crate::{link, metrics};

/// News that may wait for the ticker.
pub(crate) const NEWS_CAPACITY: usize = 1_024;

/// What the follower tells.
#[derive(Debug)]
pub(crate) enum News {
    /// What was told before may be out of date: forget it, all entries follow.
    Anew,
    /// An entry is on the book as this.
    Open(CallId, Revised<BillingEntry>),
    /// An entry is gone.
    Closed(CallId),
}

/// Follows the book.
#[derive(Debug)]
pub(crate) struct Follower {
    pub(crate) world: World,
    /// Holds while the book is being followed.
    pub(crate) following: Condition,
    pub(crate) news: mpsc::Sender<News>,
}

impl Follower {
    /// Follows until `stop`.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        let mut lost_at = None;
        while let Some(outcome) = stop.run_until_cancelled(self.follow(&mut backoff, lost_at)).await {
            if self.following.holds() {
                lost_at = Some(self.world.clock.instant());
            }
            self.following.set(false);
            let Some(reason) = outcome else { break };
            metrics::lost("book");
            tracing::warn!(reason, "the book's watcher is lost and will be made anew");
            if stop
                .run_until_cancelled(backoff.pause(&*self.world.clock))
                .await
                .is_none()
            {
                break;
            }
        }
        Ok(())
    }

    /// The reason for which the watcher is lost; none if nobody listens any more.
    async fn follow(&self, backoff: &mut Backoff, lost_at: Option<Instant>) -> Option<String> {
        let mut gap = pin!(link::until_gap(&self.world.link).await);
        let changes = match self.world.book.watch().await {
            Ok(changes) => changes,
            Err(error) => return Some(error.to_string()),
        };
        let mut changes = pin!(changes);
        backoff.reset();
        // All entries come again, and markers of those that are gone, unless it has been too long for that.
        let now = self.world.clock.instant();
        if lost_at.is_none_or(|lost_at| now.duration_since(lost_at) > MARKER_TTL / 2) {
            self.news.send(News::Anew).await.ok()?;
        }
        self.following.set(true);
        loop {
            let change = tokio::select! {
                biased;
                () = &mut gap => return Some("the link had a gap".to_owned()),
                change = changes.next() => change,
            };
            let news = match change {
                Some(Ok(BillingChange::Open(entry))) => News::Open(entry.value.parties.call_id.clone(), entry),
                Some(Ok(BillingChange::Closed(call))) => News::Closed(call),
                Some(Err(error @ BucketError::Unreadable { .. })) => {
                    metrics::call_stuck("unreadable_entry");
                    tracing::error!(%error, "an entry of the book cannot be read, its call is not billed: somebody must look");
                    continue;
                }
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the stream of changes ended".to_owned()),
            };
            self.news.send(news).await.ok()?;
        }
    }
}
