//! The stream `CALLS`.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::HeaderMap;
use bytes::Bytes;
use contract::Timestamp;
use contract::jetstream::batch::BatchError;
use contract::jetstream::fact_stream::{Acknowledged, FactStream, NotAcknowledged, Publication, StoredMessage};
use futures::FutureExt;
use futures::future::BoxFuture;

use super::Flaw;
use crate::core::Core;
use crate::network::{NoAnswer, Sender};

/// How long the client waits for an acknowledgement, and for an answer to a plain request such as a batch's commit.
const ACK_PATIENCE: Duration = Duration::from_secs(2);
const REQUEST_PATIENCE: Duration = Duration::from_secs(10);
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";
const EXPECTED_SUBJECT: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) subject: String,
    pub(crate) headers: HeaderMap,
    pub(crate) payload: Bytes,
    /// The true time.
    pub(crate) at: Timestamp,
    /// None for others' facts.
    pub(crate) sent: Option<Sent>,
}

/// How an instance sent it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) site: usize,
    /// The latest moment that the instance's wall clock had shown by then.
    pub(crate) shown: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// In the order of their sequences, from 1.
    pub(crate) messages: Vec<Stored>,
    last: HashMap<String, u64>,
    last_of_call: HashMap<String, u64>,
}

impl Stream {
    /// The sequence of the last message on a subject, or on all of a call's.
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
    /// Stores all or none.
    pub(crate) fn store(&mut self, publications: Vec<Publication>, sent: Option<Sent>) -> Result<Vec<u64>, ()> {
        let flaw = self.server.flaw;
        let admitted = |one: &Publication| self.server.stream.admits(&one.subject, &one.headers);
        if let Some(refused) = publications.iter().find(|one| !admitted(one))
            && flaw != Some(Flaw::Unguarded)
        {
            let (size, subject) = (publications.len(), refused.subject.clone());
            self.note("guarded", size as u64, || {
                format!("{subject} is refused, and all {size} of its batch")
            });
            return Err(());
        }
        if flaw == Some(Flaw::Forgetful) && sent.is_some() && self.dice.per_mille(50) {
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
                sent,
            });
            self.note("stored", sequence, || {
                let from = sent.map_or_else(String::new, |sent| format!(" from site {}", sent.site));
                format!("{} as {sequence}{from}: {}", text.0, brief(&text.1))
            });
            sequences.push(sequence);
        }
        self.deliver();
        Ok(sequences)
    }
}

/// A payload without what is the same in all of a call's.
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

/// The stream as an instance sees it.
#[derive(Debug)]
pub(crate) struct SimulatedFactStream(pub(crate) Sender);

impl SimulatedFactStream {
    /// Who ticks has given its word that it lives, and the word stands: an instance gives up before others may take over.
    fn check_word(&self) {
        let mut core = self.0.shared.lock();
        let word = format!("instance.{}", self.0.name);
        // An instance that bears the name of the one before may have its word taken back by that one's last request.
        if !core.plan.keeps_name && !core.server.leases.has(&word) {
            core.violation(format!("{} ticks though its word has expired", self.0.name));
        }
    }

    fn sent(&self) -> Sent {
        let mut core = self.0.shared.lock();
        core.wall(self.0.site);
        Sent {
            site: self.0.site,
            shown: core.sites[self.0.site].latest_shown,
        }
    }
}

impl FactStream for SimulatedFactStream {
    fn publish(&self, publication: Publication) -> BoxFuture<'_, Result<Acknowledged, NotAcknowledged>> {
        async move {
            let sent = self.sent();
            let store = move |core: &mut Core| core.store(vec![publication], Some(sent));
            match self.0.request("a publication", ACK_PATIENCE, store).await {
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
            self.check_word();
            let sent = self.sent();
            let store = move |core: &mut Core| core.store(publications, Some(sent));
            match self.0.request("a batch", REQUEST_PATIENCE, store).await {
                Ok(Ok(sequences)) => Ok(sequences),
                Ok(Err(())) => Err(BatchError::Refused("wrong last sequence".to_owned())),
                Err(NoAnswer::Refused) => Err(BatchError::Refused("batch abandoned".to_owned())),
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
                headers: stored.headers,
                payload: stored.payload,
            })
        };
        async move {
            let answer = self.0.request("a read", ACK_PATIENCE, read).await;
            answer.map_err(|no_answer| format!("{no_answer:?}"))
        }
        .boxed()
    }

    fn next(&self, subject: String, sequence: u64) -> BoxFuture<'_, Result<Option<StoredMessage>, String>> {
        async move { Err(format!("nothing reads {subject} from {sequence} in order")) }.boxed()
    }
}
