//! Reads a stream from one point to its last message in pages, completely or with an error.
//!
//! The end is the last matching message that the stream's leader has when reading begins. The pages come from any replica by
//! direct get; a replica that has no more messages before that end lags, and is asked again.

use std::time::Duration;

use async_nats::{Client, jetstream};
use thiserror::Error;

use crate::jetstream::direct_reader::{DirectReader, MAX_ANSWER, Request};
use crate::jetstream::last_message::last_message;
use crate::wire::time::Timestamp;

pub use crate::jetstream::direct_reader::{DirectMessage, ReadError, Start};

/// Filter that matches every subject.
pub const ALL_SUBJECTS: &str = ">";

/// Attempts for one page before the reader fails.
const ATTEMPTS: u32 = 8;
/// Increase of the delay before each further attempt: 7 s in total, longer than most elections.
const RETRY_DELAY_STEP: Duration = Duration::from_millis(250);
/// Deadline of the next message of a page. The server searches a long stream before it sends the first.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);

/// The stream was not read to the end.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IncompleteRead {
    /// No complete answer. A retry may succeed.
    #[error(transparent)]
    Failed(#[from] ReadError),
    /// A replica lacks messages that the leader has. Retry when it has caught up.
    #[error("a replica of {stream} lags behind the leader and lacks messages up to sequence {last}")]
    Lagging {
        /// The stream.
        stream: String,
        /// The last sequence to be read.
        last: u64,
    },
}

/// The last message to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Last {
    /// Its sequence.
    pub sequence: u64,
    /// When it was stored.
    pub stored_at: Timestamp,
}

/// Reads the messages of one stream whose subjects match a filter.
#[derive(Debug)]
pub struct StoredMessages {
    reader: DirectReader,
    stream: String,
    filter: String,
    next: Start,
    last: Option<Last>,
}

impl StoredMessages {
    /// Reads from `start` to the last message that matches `filter`. Needs the rights to `STREAM.MSG.GET`, for that message,
    /// and `DIRECT.GET`.
    ///
    /// # Errors
    /// [`IncompleteRead::Failed`] if the leader does not answer.
    pub async fn open(
        client: &Client,
        api_prefix: &str,
        stream: &str,
        filter: &str,
        start: Start,
    ) -> Result<Self, IncompleteRead> {
        let mut messages = Self::new(client, api_prefix, stream, filter, start);
        messages.last = messages.last_of_leader(client, api_prefix).await?;
        Ok(messages)
    }

    /// Reads from `start` to `last`, a stored message that matches `filter`.
    pub fn up_to(client: &Client, api_prefix: &str, stream: &str, filter: &str, start: Start, last: Last) -> Self {
        Self {
            last: Some(last),
            ..Self::new(client, api_prefix, stream, filter, start)
        }
    }

    fn new(client: &Client, api_prefix: &str, stream: &str, filter: &str, start: Start) -> Self {
        Self {
            reader: DirectReader::new(client.clone(), api_prefix, stream).with_message_timeout(MESSAGE_TIMEOUT),
            stream: stream.to_owned(),
            filter: filter.to_owned(),
            next: start,
            last: None,
        }
    }

    /// The next messages in order; empty at the end. After an error, a further call continues where the last page ended.
    ///
    /// # Errors
    /// [`IncompleteRead`] after several attempts.
    pub async fn next_page(&mut self) -> Result<Vec<DirectMessage>, IncompleteRead> {
        let Some(last) = self.last.filter(|last| !self.is_beyond(last)) else {
            return Ok(Vec::new());
        };
        let page = retry(&self.stream, async || self.page(last).await).await?;
        if let Some(message) = page.last() {
            self.next = Start::Sequence(message.sequence + 1);
        }
        Ok(page)
    }

    fn is_beyond(&self, last: &Last) -> bool {
        match self.next {
            Start::Sequence(next) => next > last.sequence,
            Start::Time(time) => time > last.stored_at,
        }
    }

    async fn page(&self, last: Last) -> Result<Vec<DirectMessage>, IncompleteRead> {
        let request = Request::page(&self.filter, self.next, MAX_ANSWER);
        let mut page = self.reader.ask(&request).await?.messages;
        page.retain(|message| message.sequence <= last.sequence);
        if page.is_empty() {
            return Err(IncompleteRead::Lagging {
                stream: self.stream.clone(),
                last: last.sequence,
            });
        }
        Ok(page)
    }

    async fn last_of_leader(&self, client: &Client, api_prefix: &str) -> Result<Option<Last>, IncompleteRead> {
        let jetstream = jetstream::with_prefix(client.clone(), api_prefix);
        retry(&self.stream, async || {
            let stream = jetstream.get_stream_no_info(&self.stream).await;
            let stream = stream.map_err(|error| self.reader.failed(error))?;
            let last = last_message(&stream, &self.filter).await;
            let last = last.map_err(|error| self.reader.failed(error))?;
            Ok(last.map(|message| Last {
                sequence: message.sequence,
                stored_at: message.time.into(),
            }))
        })
        .await
    }
}

async fn retry<T>(stream: &str, attempt: impl AsyncFn() -> Result<T, IncompleteRead>) -> Result<T, IncompleteRead> {
    let mut attempts = 1;
    loop {
        match attempt().await {
            Err(error) if attempts < ATTEMPTS => {
                tracing::debug!(stream, %error, attempts, "read incomplete: retrying");
                tokio::time::sleep(RETRY_DELAY_STEP * attempts).await;
                attempts += 1;
            }
            outcome => return outcome,
        }
    }
}
