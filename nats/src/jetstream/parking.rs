//! Where messages go that could not be read: stored with the reason, so that nothing is acked away silently.

use async_nats::HeaderMap;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{self, AckKind};
use thiserror::Error;

use crate::jetstream::connection::Nats;
use crate::wire::subject;

/// Header: why it could not be read.
pub const REASON: &str = "callpulse-parked-reason";
/// Header: where it was.
pub const ORIGINAL_SUBJECT: &str = "callpulse-original-subject";
/// Header: its sequence in the stream it came from, if it came from one.
pub const ORIGINAL_SEQUENCE: &str = "callpulse-original-sequence";

/// The message could not be set aside; it stays where it was and is delivered again.
#[derive(Debug, Error)]
#[error("a message from {subject} could not be parked: {reason}")]
pub struct ParkError {
    subject: String,
    reason: String,
}

/// Sets aside a message that came by plain NATS.
///
/// # Errors
/// [`ParkError`] if it is not stored.
pub async fn park(nats: &Nats, consumer: &str, message: &async_nats::Message, reason: &str) -> Result<(), ParkError> {
    let message_id = None;
    store(nats, consumer, message, reason, message_id).await
}

/// Sets aside a message that a consumer got from a stream, and takes it out of that consumer's way once it is stored.
///
/// # Errors
/// [`ParkError`] if it is not stored; then it is not acknowledged either, and comes again.
pub async fn park_delivery(
    nats: &Nats,
    consumer: &str,
    delivery: &jetstream::Message,
    reason: &str,
) -> Result<(), ParkError> {
    let sequence = delivery.info().ok().map(|info| info.stream_sequence);
    store(nats, consumer, &delivery.message, reason, sequence).await?;
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
        // A redelivery, after a crash between parking and acknowledging, is parked once.
        publication = publication.message_id(format!("{consumer}.{sequence}"));
    }
    let ack = nats
        .jetstream
        .send_publish(subject::parked(consumer, &message.subject), publication)
        .await
        .map_err(|error| failed(&error))?;
    ack.await.map_err(|error| failed(&error))?;
    tracing::error!(consumer, subject = %message.subject, reason, "a message cannot be read and is parked: somebody must look");
    Ok(())
}
