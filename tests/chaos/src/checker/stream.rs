//! The streams as they are on the server, from their first message to their last, with the server's own time stamps.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::{DeliverPolicy, pull};
use futures::StreamExt;
use tokio::time::timeout;

use crate::records::timestamp::Timestamp;

/// How long the server may take for the next message.
const NEXT_WITHIN: Duration = Duration::from_secs(30);
/// More than any run stores. Beyond it, the run is not judged.
const MOST_MESSAGES: u64 = 4_000_000;

/// One stored message.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its place in the stream.
    pub sequence: u64,
    /// When the server took it in.
    pub stored_at: Timestamp,
    /// Where.
    pub subject: String,
    /// What.
    pub payload: Vec<u8>,
}

/// Everything in a stream at this timestamp.
///
/// # Errors
/// When there is no such stream, it cannot be read to its end in time, or it is too long.
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
    // An ordered consumer makes itself anew where the stream's leader changes, and goes on where it was.
    let config = pull::OrderedConfig {
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let consumer = stream.create_consumer(config).await?;
    let mut messages = consumer.messages().await?;
    while stored.last().is_none_or(|stored: &Stored| stored.sequence < last) {
        let message = timeout(NEXT_WITHIN, messages.next())
            .await
            .with_context(|| format!("{} of {last} messages came", stored.len()))?
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
