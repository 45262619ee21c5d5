//! Says notices, and says again what may have been lost with a connection.
//!
//! No server acknowledges a notice. What was written into a connection that was dead already, or to a server that died with
//! it, is gone; and whoever should have heard it, on a connection that is fine, does not know of any hole. So what was said
//! shortly before a connection was lost is said again over the next one, in the same order: a party may be told twice,
//! never not at all.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_nats::{Client, PublishError};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::jetstream::connection::Link;

/// As long as a dead connection may go unnoticed, and a bit: see the interval of pings.
const SUSPECT: Duration = Duration::from_secs(6);
/// Notices that are remembered; of more than that in [`SUSPECT`] the oldest are forgotten.
const MOST_REMEMBERED: usize = 32 * 1024;

/// Says what parties are told. Clones share its memory.
#[derive(Debug, Clone)]
pub struct NoticePublisher {
    client: Client,
    said: Arc<Mutex<Memory>>,
    _repeating: Arc<JoinSet<()>>,
}

#[derive(Debug, Default)]
struct Memory(VecDeque<Said>);

#[derive(Debug, Clone)]
struct Said {
    at: Instant,
    subject: String,
    payload: Bytes,
}

impl NoticePublisher {
    /// Follows the link for as long as there is a notice_publisher.
    pub(crate) fn new(client: Client, link: watch::Receiver<Link>) -> Self {
        let said = Arc::default();
        let mut repeating = JoinSet::new();
        repeating.spawn(repeat(client.clone(), Arc::clone(&said), link));
        Self {
            client,
            said,
            _repeating: Arc::new(repeating),
        }
    }

    /// Says a notice.
    ///
    /// # Errors
    /// When the client refuses it; one that is not connected does not.
    pub async fn say(&self, subject: String, payload: Bytes) -> Result<(), PublishError> {
        let said = Said {
            at: Instant::now(),
            subject: subject.clone(),
            payload: payload.clone(),
        };
        self.said.lock().unwrap_or_else(PoisonError::into_inner).remember(said);
        self.client.publish(subject, payload).await
    }
}

impl Memory {
    fn remember(&mut self, said: Said) {
        let old = |first: &Said| said.at.duration_since(first.at) > SUSPECT;
        while self.0.len() >= MOST_REMEMBERED || self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
        self.0.push_back(said);
    }

    /// What was said from then on.
    fn since(&self, from: Instant) -> Vec<Said> {
        self.0.iter().filter(|said| said.at >= from).cloned().collect()
    }
}

async fn repeat(client: Client, said: Arc<Mutex<Memory>>, mut link: watch::Receiver<Link>) {
    // The first connection ends no gap: nothing could be said before it.
    let mut seen = match link.wait_for(|link| link.up).await {
        Ok(link) => link.gaps,
        Err(_) => return,
    };
    loop {
        let Ok(lost) = link
            .wait_for(|link| !link.up || link.gaps != seen)
            .await
            .map(|link| *link)
        else {
            return;
        };
        let lost_at = Instant::now();
        let back = if lost.up {
            Ok(lost)
        } else {
            link.wait_for(|link| link.up).await.map(|link| *link)
        };
        let Ok(back) = back else { return };
        seen = back.gaps;
        let from = lost_at.checked_sub(SUSPECT).unwrap_or(lost_at);
        let again = said.lock().unwrap_or_else(PoisonError::into_inner).since(from);
        if again.is_empty() {
            continue;
        }
        tracing::info!(
            notices = again.len(),
            "telling again what may have been lost with the connection"
        );
        for Said { subject, payload, .. } in again {
            if let Err(error) = client.publish(subject, payload).await {
                tracing::warn!(%error, "a notice was not repeated");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn remembers_what_may_be_lost_in_order_and_no_more() {
        let mut memory = Memory::default();
        let said = |subject: &str| Said {
            at: Instant::now(),
            subject: subject.to_owned(),
            payload: Bytes::new(),
        };
        memory.remember(said("long ago"));
        tokio::time::advance(SUSPECT + Duration::from_secs(1)).await;
        let from = Instant::now();
        for subject in ["a", "b"] {
            memory.remember(said(subject));
        }
        let subjects = |memory: &Memory| {
            memory
                .since(from)
                .into_iter()
                .map(|said| said.subject)
                .collect::<Vec<_>>()
        };
        assert_eq!(
            (memory.0.len(), subjects(&memory)),
            (2, vec!["a".to_owned(), "b".to_owned()])
        );
        for _ in 0..MOST_REMEMBERED {
            memory.remember(said("c"));
        }
        assert_eq!(memory.0.len(), MOST_REMEMBERED);
        assert!(!subjects(&memory).contains(&"a".to_owned()));
    }
}
