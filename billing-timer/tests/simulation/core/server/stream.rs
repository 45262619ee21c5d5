//! The stream `CALLS`.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use contract::Timestamp;
use contract::jetstream::batch::BatchError;
use contract::jetstream::fact_stream::{
    Acknowledged, FactStream, LeaderTime, NotAcknowledged, Publication, StoredMessage,
};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::ServerBug;
use crate::core::Core;
use crate::core::network::{NoAnswer, Sender};

/// Timeouts of the client: for an acknowledgement, and for another request such as the commit of a batch.
const ACK_TIMEOUT: Duration = Duration::from_secs(2);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// The longest lag of a replica, in milliseconds.
const MAX_LAG_MS: u64 = 2_000;
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// The true time.
    pub(crate) at: Timestamp,
}

/// How an instance published a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) host: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// In order of their sequences, which start at 1.
    pub(crate) messages: Vec<Stored>,
    last: HashMap<String, u64>,
    last_of_call: HashMap<String, u64>,
}

impl Stream {
    /// The sequence of the last message on a subject, or of a call.
    pub(crate) fn last(&self, subject: &str) -> u64 {
        let found = match subject.strip_suffix(".*") {
            Some(call) => self.last_of_call.get(call),
            None => self.last.get(subject),
        };
        found.copied().unwrap_or(0)
    }

    fn admits(&self, subject: &str, headers: &HeaderMap) -> bool {
        let Some(expected) = headers.get(EXPECTED) else {
            return true;
        };
        let subject = headers.get(EXPECTED_SUBJECT).map_or(subject, |filter| filter.as_str());
        expected.as_str().parse() == Ok(self.last(subject))
    }

    fn append(&mut self, stored: Stored) -> u64 {
        let sequence = self.messages.len() as u64 + 1;
        let call = stored.subject.rsplit_once('.').map_or("", |(call, _)| call).to_owned();
        self.last.insert(stored.subject.clone(), sequence);
        self.last_of_call.insert(call, sequence);
        self.messages.push(stored);
        sequence
    }
}

impl Core {
    /// Stores all messages or none.
    pub(crate) fn store(&mut self, publications: Vec<Publication>, sent: Option<Sent>) -> Result<Vec<u64>, ()> {
        let bug = self.server.bug;
        let admitted = |one: &Publication| self.server.stream.admits(&one.subject, &one.headers);
        if let Some(refused) = publications.iter().find(|one| !admitted(one))
            && bug != Some(ServerBug::IgnoresConditions)
        {
            let (size, subject) = (publications.len(), refused.subject.clone());
            self.note("rejected", size as u64, || {
                format!("{subject} is rejected, and with it the {size} messages of its batch")
            });
            return Err(());
        }
        if bug == Some(ServerBug::LosesBatches) && sent.is_some() && self.rng.per_mille(50) {
            let next = self.server.stream.messages.len() as u64;
            return Ok((1..=publications.len() as u64).map(|number| next + number).collect());
        }
        let at = self.true_time();
        let mut sequences = Vec::with_capacity(publications.len());
        for Publication {
            subject,
            headers,
            payload,
        } in publications
        {
            let text = (subject.clone(), payload.clone());
            let sequence = self.server.stream.append(Stored {
                subject,
                headers,
                payload,
                at,
            });
            self.note("stored", sequence, || {
                let from = sent.map_or_else(String::new, |sent| format!(" from host {}", sent.host));
                format!("{} as {sequence}{from}: {}", text.0, brief(&text.1))
            });
            sequences.push(sequence);
        }
        self.deliver();
        Ok(sequences)
    }
}

impl Core {
    /// Up to when a replica has the messages: it may lag behind the leader.
    fn stored_by_replica(&mut self) -> i64 {
        let stale = self.plan.replicas && self.rng.per_mille(200);
        let lag = self.rng.below(MAX_LAG_MS);
        self.true_time().as_millis() - if stale { i64::try_from(lag).unwrap() } else { 0 }
    }
}

fn message(sequence: u64, stored: &Stored) -> StoredMessage {
    StoredMessage {
        subject: stored.subject.clone(),
        sequence,
        stored_at: stored.at,
        headers: stored.headers.clone(),
        payload: stored.payload.clone(),
    }
}

/// A payload without the fields that are the same in all facts of a call.
fn brief(payload: &[u8]) -> String {
    let Ok(serde_json::Value::Object(mut fields)) = serde_json::from_slice(payload) else {
        return String::new();
    };
    for common in [
        "callId",
        "userId",
        "otomoId",
        "method",
        "producerId",
        "ssrc",
        "workerId",
        "detectedFrom",
    ] {
        fields.remove(common);
    }
    serde_json::Value::Object(fields).to_string()
}

/// The stream as the client of an instance.
#[derive(Debug)]
pub(crate) struct SimulatedFactStream(pub(crate) Sender);

impl SimulatedFactStream {
    /// An instance that ticks must have a valid announcement: it stops before others may take over.
    fn check_heartbeat(&self) {
        let mut core = self.0.shared.lock();
        let heartbeat = format!("instance.{}", self.0.name);
        // A restarted instance with the same name may have its announcement removed by the last request of its predecessor.
        if !core.plan.keeps_name && !core.server.leases.has(&heartbeat) {
            core.violation(format!("{} ticks although its announcement has expired", self.0.name));
        }
    }

    fn sent(&self) -> Sent {
        Sent { host: self.0.host }
    }
}

impl FactStream for SimulatedFactStream {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>> {
        async move {
            let sent = self.sent();
            let store = move |core: &mut Core| core.store(vec![publication], Some(sent));
            match self.0.request("a publication", ACK_TIMEOUT, store).await {
                Ok(Ok(sequences)) => Ok(Acknowledged {
                    sequence: sequences[0],
                    duplicate: false,
                }),
                Ok(Err(())) => Err(NotAcknowledged::WrongLastSequence),
                Err(no_answer) => Err(NotAcknowledged::Unanswered(format!("{no_answer:?}"))),
            }
        }
        .boxed()
    }

    fn publish_batch(&self, publications: Vec<Publication>) -> BoxFuture<'_, Result<Vec<u64>, BatchError>> {
        async move {
            if publications.iter().any(|one| one.subject.ends_with(".tick")) {
                self.check_heartbeat();
            }
            let sent = self.sent();
            let store = move |core: &mut Core| core.store(publications, Some(sent));
            match self.0.request("a batch", REQUEST_TIMEOUT, store).await {
                Ok(Ok(sequences)) => Ok(sequences),
                Ok(Err(())) => Err(BatchError::Rejected("wrong last sequence".to_owned())),
                Err(NoAnswer::Rejected) => Err(BatchError::Rejected("batch abandoned".to_owned())),
                Err(NoAnswer::TimedOut) => Err(BatchError::Unacknowledged("timed out".to_owned())),
            }
        }
        .boxed()
    }

    fn last(&self, subject: String) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        let read = move |core: &mut Core| {
            let sequence = core.server.stream.last(&subject);
            let index = usize::try_from(sequence).unwrap().checked_sub(1)?;
            let stored = core.server.stream.messages[index].clone();
            Some(StoredMessage {
                subject: stored.subject,
                sequence,
                stored_at: stored.at,
                headers: stored.headers,
                payload: stored.payload,
            })
        };
        async move {
            let answer = self.0.request("a read", ACK_TIMEOUT, read).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }

    fn last_of_each(&self, filters: Vec<String>) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        let read = move |core: &mut Core| {
            let stored_by = core.stored_by_replica();
            let mut last = BTreeMap::new();
            for (sequence, stored) in (1..).zip(&core.server.stream.messages) {
                let call = stored.subject.rsplit_once('.').map_or("", |(call, _)| call);
                let matches = filters.iter().any(|filter| filter.strip_suffix(".*") == Some(call));
                if matches && stored.at.as_millis() <= stored_by {
                    last.insert(stored.subject.clone(), (sequence, stored.clone()));
                }
            }
            let messages = last.into_iter().map(|(subject, (sequence, stored))| StoredMessage {
                subject,
                sequence,
                stored_at: stored.at,
                headers: stored.headers,
                payload: stored.payload,
            });
            messages.collect()
        };
        async move {
            let answer = self.0.request("a read of several calls", ACK_TIMEOUT, read).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }

    fn page(&self, subject: String, from: u64, limit: usize) -> BoxFuture<'_, Result<Vec<StoredMessage>, String>> {
        let read = move |core: &mut Core| {
            let stored_by = core.stored_by_replica();
            let messages = (1..).zip(&core.server.stream.messages);
            let wanted = messages.filter(|(sequence, stored)| {
                *sequence >= from && stored.subject == subject && stored.at.as_millis() <= stored_by
            });
            // Short pages, so that the reader asks for more.
            wanted
                .take(limit.min(2))
                .map(|(sequence, stored)| message(sequence, stored))
                .collect()
        };
        async move {
            let answer = self.0.request("a page", ACK_TIMEOUT, read).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }
    fn leader_time(&self) -> BoxFuture<'_, Result<LeaderTime, String>> {
        let read = |core: &mut Core| LeaderTime {
            at: core.true_time(),
            leader: Some(format!("leader {}", core.server.leader)),
        };
        async move {
            let answer = self.0.request("the leader's time", ACK_TIMEOUT, read).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }
}
