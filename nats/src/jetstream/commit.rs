//! Sends an atomic batch to a stream and waits for its commit.
//!
//! Source: NATS ADR-50 (nats-server 2.12).

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::response::Response;
use async_nats::{Client, HeaderName};
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

/// Sends batches over a connection.
#[derive(Debug, Clone)]
pub(crate) struct BatchSender {
    client: Client,
    /// Batches are sent one after another, and are acknowledged concurrently. If they shared the connection entry by entry, the first
    /// commit would reach the server only with the last one.
    turn: Arc<Mutex<()>>,
}

impl BatchSender {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            turn: Arc::default(),
        }
    }

    /// Stores all messages or none, and returns their sequences. The entries of a batch are contiguous in the stream, so the
    /// acknowledgement of the last one gives the sequences of all.
    pub(crate) async fn commit(&self, publications: Vec<Publication>) -> Result<Vec<u64>, BatchError> {
        let id = uuid::Uuid::now_v7().simple().to_string();
        let unacknowledged = |error: &dyn std::fmt::Display| BatchError::Unacknowledged(error.to_string());
        let (size, mut answer) = (publications.len(), None);
        let mut turn = Some(self.turn.lock().await);
        for (number, publication) in (1..).zip(publications) {
            let Publication {
                subject,
                mut headers,
                payload,
            } = publication;
            headers.insert(BATCH_ID, id.as_str());
            headers.insert(BATCH_SEQUENCE, number.to_string());
            if number < size {
                let sent = self.client.publish_with_headers(subject, headers, payload).await;
                sent.map_err(|error| unacknowledged(&error))?;
            } else {
                turn.take();
                // The server replies only to the commit, even if it discarded the batch at an earlier entry.
                headers.insert(BATCH_COMMIT, "1");
                let commit = async_nats::Request::new()
                    .headers(headers)
                    .payload(payload)
                    .timeout(Some(COMMIT_TIMEOUT));
                let sent = self.client.send_request(subject, commit).await;
                answer = Some(sent.map_err(|error| unacknowledged(&error))?);
            }
        }
        let answer = answer.ok_or(BatchError::Size(0))?;
        match serde_json::from_slice::<Response<Commit>>(&answer.payload) {
            Ok(Response::Ok(ack)) if ack.count.unwrap_or(1) == size => {
                let first = ack.seq.saturating_sub(size as u64 - 1);
                Ok((first..=ack.seq).collect())
            }
            Ok(Response::Ok(ack)) => Err(BatchError::Unacknowledged(format!(
                "{} of {size} entries are acknowledged",
                ack.count.unwrap_or(1),
            ))),
            Ok(Response::Err { error }) => Err(BatchError::Refused(error.to_string())),
            Err(error) => Err(unacknowledged(&error)),
        }
    }
}
