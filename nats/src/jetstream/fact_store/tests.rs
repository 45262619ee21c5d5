//! Server behaviour that a real server does not show on demand.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use futures::FutureExt;
use futures::future::BoxFuture;

use super::reads::READ_ATTEMPTS;
use super::*;
use crate::jetstream::batch::BatchError;
use crate::jetstream::fact_stream::{Acknowledged, LeaderTime, StoredMessage};
use crate::{Timestamp, samples};

/// A leader that still processes the first attempt while it rejects the second, as during elections.
#[derive(Debug, Default)]
struct Undecided {
    attempts: AtomicU32,
}

impl FactStream for Undecided {
    fn publish(&self, _: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>> {
        let outcome = match self.attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Err(NotAcknowledged::Unanswered("timed out".to_owned())),
            1 => Err(NotAcknowledged::WrongLastSequence),
            _ => Ok(Acknowledged {
                sequence: 7,
                duplicate: false,
            }),
        };
        async move { outcome }.boxed()
    }

    fn publish_batch(&self, _: Vec<Publication>) -> BoxFuture<'_, Result<Vec<u64>, BatchError>> {
        async { Err(BatchError::Size(0)) }.boxed()
    }

    fn last(&self, _: String) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        async { Ok(None) }.boxed()
    }

    fn last_of_each(&self, _: Vec<String>) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn page(&self, _: String, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn leader_time(&self) -> BoxFuture<'_, Result<LeaderTime, String>> {
        async { Err("away".to_owned()) }.boxed()
    }
}

/// A leader that stores the first attempt without an acknowledgement, rejects all others, and fails reads for a while.
#[derive(Debug, Default)]
struct Silent {
    stored: Mutex<Option<StoredMessage>>,
    reads: AtomicU32,
}

impl FactStream for Silent {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>> {
        let mut stored = self.stored.lock().unwrap();
        let refusal = if stored.is_some() {
            NotAcknowledged::WrongLastSequence
        } else {
            *stored = Some(StoredMessage {
                subject: publication.subject,
                sequence: 5,
                stored_at: Timestamp::now(),
                headers: publication.headers,
                payload: publication.payload,
            });
            NotAcknowledged::Unanswered("timed out".to_owned())
        };
        async { Err(refusal) }.boxed()
    }

    fn publish_batch(&self, _: Vec<Publication>) -> BoxFuture<'_, Result<Vec<u64>, BatchError>> {
        async { Err(BatchError::Size(0)) }.boxed()
    }

    fn last(&self, _: String) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        let is_away = self.reads.fetch_add(1, Ordering::Relaxed) < 2 * READ_ATTEMPTS;
        let last = self.stored.lock().unwrap().clone();
        async move { if is_away { Err("away".to_owned()) } else { Ok(last) } }.boxed()
    }

    fn last_of_each(&self, _: Vec<String>) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn page(&self, _: String, _: u64, _: usize) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        async { Ok(Vec::new()) }.boxed()
    }

    fn leader_time(&self) -> BoxFuture<'_, Result<LeaderTime, String>> {
        async { Err("away".to_owned()) }.boxed()
    }
}

fn over(log: impl FactStream + 'static) -> FactStore {
    FactStore::with_port(Arc::new(log), Arc::new(SystemClock), Source::new("test", "facts"))
}

fn some_fact() -> Fact {
    samples::requested("c", Timestamp::now()).into()
}

#[tokio::test]
async fn a_first_fact_is_retried_if_rejected_while_nothing_is_stored() {
    for (condition, expected) in [
        (PublishCondition::First, Outcome::Stored(7)),
        (PublishCondition::CallUnchangedSince(3), Outcome::ConditionFailed),
    ] {
        let facts = over(Undecided::default());
        let outcome = facts.publish(&some_fact(), condition, TraceParent::generate()).await;
        assert_eq!(outcome.unwrap(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn an_identical_fact_of_another_publisher_is_superseding_even_after_failed_reads() {
    let facts = over(Silent::default());
    let (fact, parent) = (some_fact(), TraceParent::generate());
    let condition = PublishCondition::CallUnchangedSince(4);
    let own = facts.publish_as_first(&fact, condition, parent).await.unwrap();
    assert_eq!(own, Outcome::AlreadyStored(5));
    match facts.publish_as_first(&fact, condition, parent).await.unwrap() {
        Outcome::Superseded(stored) => {
            assert_eq!((&stored.fact, stored.trace.trace_id()), (&fact, parent.trace_id()));
        }
        outcome => panic!("{outcome:?}"),
    }
    assert_eq!(
        facts.publish(&fact, condition, parent).await.unwrap(),
        Outcome::AlreadyStored(5)
    );
}
