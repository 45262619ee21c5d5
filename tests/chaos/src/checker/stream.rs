//! Reads the streams from their first message to their last, with the server's time stamps.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt;
use tokio::time::timeout;

use crate::records::timestamp::Timestamp;

/// The deadline for the next message.
const NEXT_WITHIN: Duration = Duration::from_secs(30);
/// More than any run stores. A longer stream is not checked.
const MOST_MESSAGES: u64 = 4_000_000;

/// One stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its sequence in the stream.
    pub sequence: u64,
    /// The server's time stamp.
    pub stored_at: Timestamp,
    /// Its subject.
    pub subject: String,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// All messages of a stream.
/// Fails if it is too long, or a message does not arrive before the deadline.
pub(super) async fn read(client: &async_nats::Client, name: &str) -> Result<Vec<Stored>> {
    let jetstream = jetstream::new(client.clone());
    let stream = jetstream.get_stream(name).await?;
    let state = &stream.cached_info().state;
    ensure!(
        state.messages <= MOST_MESSAGES,
        "{} messages are too many",
        state.messages
    );
    let (last, mut stored) = (state.last_sequence, Vec::new());
    if state.messages == 0 {
        return Ok(stored);
    }
    // After a change of leader, an ordered consumer is created again and continues.
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    while stored.last().is_none_or(|stored: &Stored| stored.sequence < last) {
        let message = timeout(NEXT_WITHIN, messages.next())
            .await
            .with_context(|| format!("{} of {last} messages arrived", stored.len()))?
            .context("the consumer ended")??;
        let info = message.info().map_err(anyhow::Error::from_boxed)?;
        stored.push(Stored {
            sequence: info.stream_sequence,
            stored_at: info.published.into(),
            subject: message.subject.to_string(),
            payload: message.payload.to_vec(),
        });
    }
    Ok(stored)
}
