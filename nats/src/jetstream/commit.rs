//! Sends an atomic batch to a stream and waits for its commit.
//!
//! Source: NATS ADR-50 (nats-server 2.12).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, HeaderName, Message};
use serde::Deserialize;
use tokio::sync::Mutex;

use crate::jetstream::batch::{BatchError, Publication};

/// Timeout of the reply to a batch: a leader that dies does not reply, and its successor may be elected soon. A batch that is
/// stored after this timeout is found by reading back.
const COMMIT_TIMEOUT: Duration = Duration::from_secs(3);

const BATCH_ID: HeaderName = HeaderName::from_static("Nats-Batch-Id");
const BATCH_SEQUENCE: HeaderName = HeaderName::from_static("Nats-Batch-Sequence");
const BATCH_COMMIT: HeaderName = HeaderName::from_static("Nats-Batch-Commit");

#[derive(Deserialize)]
struct Commit {
    seq: u64,
    #[serde(default)]
    count: Option<usize>,
}

/// Sends the batches of one stream or bucket.
#[derive(Debug, Clone)]
pub(crate) struct BatchSender {
    client: Client,
    /// Batches are sent one after another, and are acknowledged concurrently. If they shared the connection entry by entry, the first
    /// commit would reach the server only with the last one.
    send_lock: Arc<Mutex<()>>,
}

impl BatchSender {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            send_lock: Arc::default(),
        }
    }

    /// Stores all messages or none, and returns their sequences. The entries of a batch are contiguous in the stream, so the
    /// acknowledgement of the last one gives the sequences of all.
    ///
    /// A batch is sent by a task of its own: a caller that is not polled for a while must not hold the lock. It is sent to its end
    /// even if the caller is dropped.
    pub(crate) async fn commit(&self, publications: Vec<Publication>) -> Result<Vec<u64>, BatchError> {
        let size = publications.len();
        let sending = tokio::spawn(self.clone().send(publications));
        let answer = sending.await.map_err(|error| unacknowledged(&error))??;
        match serde_json::from_slice::<Response<Commit>>(&answer.payload) {
            Ok(Response::Ok(ack)) if ack.count.unwrap_or(1) == size => {
                let first = ack.seq.saturating_sub(size as u64 - 1);
                Ok((first..=ack.seq).collect())
            }
            Ok(Response::Ok(ack)) => Err(BatchError::Unacknowledged(format!(
                "{} of {size} entries are acknowledged",
                ack.count.unwrap_or(1),
            ))),
            Ok(Response::Err { error }) => Err(BatchError::Rejected(error.to_string())),
            Err(error) => Err(unacknowledged(&error)),
        }
    }

    /// Returns the answer to the last message, the commit. The server answers no other, even if it discarded the batch at an earlier one.
    async fn send(self, mut publications: Vec<Publication>) -> Result<Message, BatchError> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let size = publications.len();
        for (number, publication) in (1..).zip(&mut publications) {
            publication.headers.insert(BATCH_ID, id.as_str());
            publication.headers.insert(BATCH_SEQUENCE, number.to_string());
        }
        let commit = publications.pop().ok_or(BatchError::Size(size))?;
        let sending = self.send_lock.lock().await;
        for entry in publications {
            let sent = self
                .client
                .publish_with_headers(entry.subject, entry.headers, entry.payload);
            sent.await.map_err(|error| unacknowledged(&error))?;
        }
        // The commit may follow entries of the next batch.
        drop(sending);
        let mut headers = commit.headers;
        headers.insert(BATCH_COMMIT, "1");
        let request = async_nats::Request::new()
            .headers(headers)
            .payload(commit.payload)
            .timeout(Some(COMMIT_TIMEOUT));
        let answer = self.client.send_request(commit.subject, request);
        answer.await.map_err(|error| unacknowledged(&error))
    }
}

fn unacknowledged(error: &dyn std::fmt::Display) -> BatchError {
    BatchError::Unacknowledged(error.to_string())
}
