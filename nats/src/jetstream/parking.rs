//! Stores messages of streams that could not be decoded in `PARKED` with the reason, so that none is acknowledged without a copy.
//!
//! Commands are not parked: their senders receive an error. A client or another team could otherwise fill the stream.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind};
use thiserror::Error;

use crate::jetstream::connection::Nats;
use crate::wire::subject;

/// Header: why the message could not be decoded.
pub const REASON: &str = "callpulse-parked-reason";
/// Header: its original subject.
pub const ORIGINAL_SUBJECT: &str = "callpulse-original-subject";
/// Header: its sequence in its original stream, if it came from one.
pub const ORIGINAL_SEQUENCE: &str = "callpulse-original-sequence";

/// The message could not be parked. If it came from a stream, it stays there and is redelivered.
#[derive(Debug, Error)]
#[error("a message from {subject} could not be parked: {reason}")]
pub struct ParkError {
    subject: String,
    reason: String,
}

/// Parks a message of a consumer, and then terminates its delivery.
///
/// # Errors
/// [`ParkError`] if it is not stored; it is then redelivered.
pub async fn park_delivery(
    nats: &Nats,
    consumer: &str,
    delivery: &jetstream::Message,
    reason: &str,
) -> Result<(), ParkError> {
    let sequence = delivery.info().ok().map(|info| info.stream_sequence);
    store(nats, consumer, delivery, reason, sequence).await?;
    delivery.ack_with(AckKind::Term).await.map_err(|error| ParkError {
        subject: delivery.subject.to_string(),
        reason: error.to_string(),
    })
}

async fn store(
    nats: &Nats,
    consumer: &str,
    message: &async_nats::Message,
    reason: &str,
    sequence: Option<u64>,
) -> Result<(), ParkError> {
    let failed = |error: &dyn std::fmt::Display| ParkError {
        subject: message.subject.to_string(),
        reason: error.to_string(),
    };
    let mut headers = HeaderMap::new();
    headers.insert(REASON, reason.replace(|c: char| c.is_control(), " "));
    headers.insert(ORIGINAL_SUBJECT, message.subject.as_str());
    let mut publication = PublishMessage::build().payload(message.payload.clone());
    if let Some(sequence) = sequence {
        headers.insert(ORIGINAL_SEQUENCE, sequence.to_string());
    }
    publication = publication.headers(headers);
    if let Some(sequence) = sequence {
        // Deduplicates a redelivery after a crash between parking and acknowledging.
        publication = publication.message_id(format!("{consumer}.{sequence}"));
    }
    let ack = nats
        .jetstream
        .send_publish(subject::parked(consumer, &message.subject), publication)
        .await
        .map_err(|error| failed(&error))?;
    ack.await.map_err(|error| failed(&error))?;
    tracing::error!(consumer, subject = %message.subject, reason, "message not decoded and parked: read it in the stream PARKED and fix its publisher");
    Ok(())
}
