//! The task behind a call's queue: stores each fact, and tells what follows from it once it is acknowledged.

use std::sync::Arc;
use std::time::Instant;

use contract::jetstream::fact_store::{FactError, StoredFact};
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::CallClosed;
use contract::wire::fact::{Ended, RtpDetected};
use contract::wire::notice::{self, Notice};
use contract::{Fact, FactKind, Outcome, Parties, PublishCondition, Timestamp, TraceParent};
use tokio::sync::mpsc;

use super::{Closed, Ending, Entry, Post};
use crate::meters;

/// Writes one call's facts down.
pub(super) struct Scribe {
    pub(super) post: Arc<Post>,
    pub(super) parties: Parties,
    pub(super) trace: TraceParent,
    pub(super) connected_at: Option<Timestamp>,
}

impl Scribe {
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Entry>) -> Closed {
        let nothing = CallClosed {
            ended_at: None,
            connected_at: None,
        };
        while let Some(entry) = queue.recv().await {
            let closed = match entry {
                Entry::Detected(fact, seen) => self.detected(fact, seen).await,
                Entry::Lost(fact) => {
                    let notice = Notice::MediaLost {
                        call_id: self.parties.call_id.clone(),
                        party: fact.party,
                    };
                    self.media(fact.into(), notice, "lost").await
                }
                Entry::Resumed(fact) => {
                    let notice = Notice::MediaResumed {
                        call_id: self.parties.call_id.clone(),
                        party: fact.party,
                    };
                    self.media(fact.into(), notice, "resumed").await
                }
                Entry::Over(Some(ending)) => Some(self.end(ending).await),
                Entry::Over(None) => Some(Ok(nothing.clone())),
            };
            self.post.count(-1);
            if let Some(closed) = closed {
                queue.close();
                while queue.try_recv().is_ok() {
                    self.post.count(-1);
                }
                return closed;
            }
        }
        Ok(nothing)
    }

    async fn detected(&mut self, fact: RtpDetected, seen: Instant) -> Option<Closed> {
        self.connected_at = Some(fact.connected_at);
        // An edge may have ended the call while this worker was cut off.
        let stored = match self.store(&fact.clone().into(), PublishCondition::OnceWhileOpen).await {
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                meters::connected(seen.elapsed());
                Some(fact)
            }
            Ok(Outcome::Superseded(stored)) => match *stored {
                StoredFact {
                    fact: Fact::RtpDetected(stored),
                    ..
                } => {
                    tracing::warn!(call_id = %self.parties.call_id, worker_id = %stored.worker_id, "was connected before");
                    self.connected_at = Some(stored.connected_at);
                    Some(stored)
                }
                _ => None,
            },
            Ok(Outcome::Refused) => {
                tracing::info!(call_id = %self.parties.call_id, "connected, and ended by somebody else before");
                None
            }
            Err(error) => self.lost_fact("rtp_detected", &error.to_string()),
        };
        if let Some(stored) = stored {
            self.tell(&Notice::connected(&stored)).await;
            tracing::info!(
                call_id = %self.parties.call_id,
                connected_at = %stored.connected_at,
                detected_from = %stored.detected_from,
                ssrc = stored.ssrc,
                "connected"
            );
        }
        None
    }

    async fn media(&self, fact: Fact, notice: Notice, event: &'static str) -> Option<Closed> {
        match self.store(&fact, PublishCondition::WhileOpen).await {
            Ok(Outcome::Superseded(_) | Outcome::Refused) => {
                tracing::info!(call_id = %self.parties.call_id, fact = %fact.kind(), "was ended by somebody else before");
            }
            Ok(Outcome::Stored(_) | Outcome::AlreadyStored(_)) => {
                meters::media(event);
                tracing::info!(call_id = %self.parties.call_id, fact = %fact.kind(), "media {event}");
                self.tell(&notice).await;
            }
            Err(error) => drop(self.lost_fact::<()>(fact.kind().as_str(), &error.to_string())),
        }
        None
    }

    async fn end(&self, Ending { reason, by, ended_at }: Ending) -> Closed {
        let connected_at = self.connected_at;
        // Both are wall-clock times, and a clock may have been set back between them.
        let ended_at = connected_at.map_or(ended_at, |connected_at| ended_at.max(connected_at));
        let fact = Ended {
            parties: self.parties.clone(),
            ended_at,
            reason,
            by,
            connected_at,
        };
        match self.store_end(&fact.clone().into()).await {
            Ok(Some(Outcome::Stored(_) | Outcome::AlreadyStored(_))) => {
                meters::ended(reason);
                tracing::info!(call_id = %self.parties.call_id, ?reason, by = fact.by, %ended_at, "ended");
                if let Some(notice) = Notice::ended_unconnected(&fact) {
                    self.tell(&notice).await;
                }
                if let Err(error) = self.post.active.release(&self.parties).await {
                    tracing::warn!(call_id = %self.parties.call_id, %error, "the parties' locks are left to who meets them");
                }
                Ok(CallClosed {
                    ended_at: Some(ended_at),
                    connected_at,
                })
            }
            Ok(Some(Outcome::Superseded(stored))) => match stored.fact {
                Fact::Ended(stored) => {
                    tracing::info!(call_id = %self.parties.call_id, by = stored.by, "was ended by somebody else before");
                    Ok(CallClosed {
                        ended_at: Some(stored.ended_at),
                        connected_at: stored.connected_at,
                    })
                }
                _ => self.not_ended("something else is stored in its place"),
            },
            Ok(Some(Outcome::Refused)) => self.not_ended("the guard does not hold"),
            Ok(None) => {
                tracing::info!(call_id = %self.parties.call_id, ?reason, "given up here: another worker hosts the call");
                Ok(CallClosed {
                    ended_at: None,
                    connected_at: None,
                })
            }
            Err(error) => self.not_ended(&error.to_string()),
        }
    }

    /// Stores the end; `None` if another worker was chosen for the call. Without a connection, an acceptance may be under way
    /// that says so, hence nothing of the call may be stored between the look and the end.
    async fn store_end(&self, end: &Fact) -> Result<Option<Outcome>, FactError> {
        if self.connected_at.is_some() {
            return self.store(end, PublishCondition::OnceWhileOpen).await.map(Some);
        }
        let call = &self.parties.call_id;
        loop {
            self.post.nats.connected().await;
            let guard = match self.post.facts.last_of_call(call).await {
                Ok(None) => PublishCondition::CallUnchangedSince(0),
                Ok(Some(StoredFact { fact, sequence, .. })) => match fact {
                    Fact::Accepted(accepted) if accepted.worker_id != self.post.worker_id => return Ok(None),
                    Fact::Requested(_) | Fact::Accepted(_) => PublishCondition::CallUnchangedSince(sequence),
                    // It is over, or connected elsewhere.
                    _ if self.is_elsewhere().await => return Ok(None),
                    _ => PublishCondition::OnceWhileOpen,
                },
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(call_id = %call, %error, "where the call stands is not known yet, looking again");
                    continue;
                }
                Err(_) => PublishCondition::OnceWhileOpen,
            };
            match self.store(end, guard).await? {
                Outcome::Refused if guard != PublishCondition::OnceWhileOpen => {}
                outcome => return Ok(Some(outcome)),
            }
        }
    }

    /// Whether another worker was chosen for the call: room was made here for an edge that had given up waiting for it, and
    /// its taking it back may have overtaken the making.
    async fn is_elsewhere(&self) -> bool {
        let call = &self.parties.call_id;
        loop {
            self.post.nats.connected().await;
            match self.post.facts.last(call, FactKind::Accepted).await {
                Ok(Some(StoredFact {
                    fact: Fact::Accepted(accepted),
                    ..
                })) => return accepted.worker_id != self.post.worker_id,
                Ok(_) => return false,
                Err(error @ FactError::Read { .. }) => {
                    tracing::warn!(call_id = %call, %error, "who hosts the call is not known yet, looking again");
                }
                Err(_) => return false,
            }
        }
    }

    async fn store(&self, fact: &Fact, guard: PublishCondition) -> Result<Outcome, FactError> {
        // Each attempt without a connection would leave a copy in the client's buffer.
        self.post.nats.connected().await;
        self.post.facts.publish(fact, guard, self.trace.child()).await
    }

    async fn tell(&self, notice: &Notice) {
        notice::tell_both(&self.post.nats.notice_publisher, &self.parties, notice).await;
    }

    fn not_ended(&self, reason: &str) -> Closed {
        self.lost_fact::<()>("ended", reason);
        Err(Refusal::new(
            RefusalCode::Internal,
            format!("the end of the call was not stored: {reason}"),
        ))
    }

    fn lost_fact<T>(&self, fact: &str, reason: &str) -> Option<T> {
        meters::dropped();
        tracing::error!(call_id = %self.parties.call_id, fact, reason, "a fact cannot be stored and is lost");
        None
    }
}
