//! Handles one delivered fact: writes it to the bucket, then acknowledges it. All reads are answered by the leaders.

use std::time::Duration;

use async_nats::HeaderMap;
use contract::buckets::billing_active::BillingEntry;
use contract::jetstream::bucket::BucketError;
use contract::jetstream::fact_store::FactError;
use contract::wire::envelope;
use contract::wire::fact::{Ended, RtpDetected};
use contract::wire::fact_codec::DecodeError;
use contract::wire::unknown::Unknown;
use contract::{CallId, Fact, FactKind, Timestamp, TraceParent, call_span, spans};
use thiserror::Error;
use tracing::Span;

use super::{FactConsumer, nak};
use crate::domain::entry;
use crate::fact_source::DeliveredMessage;
use crate::metrics;

/// Redelivery delay of a fact that could not be written.
pub(super) const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Why a fact could not be written this time.
#[derive(Debug, Error)]
pub(super) enum WriteError {
    #[error(transparent)]
    Bucket(#[from] BucketError),
    #[error(transparent)]
    Stream(#[from] FactError),
}

/// A delivered fact.
pub(super) struct Delivered {
    pub(super) message: Box<dyn DeliveredMessage>,
    pub(super) fact: Fact,
    pub(super) trace: TraceParent,
    /// From its delivery to its acknowledgement.
    pub(super) _span: Span,
    /// When it happened, by the server's clock.
    pub(super) happened_at: Option<Timestamp>,
}

impl Delivered {
    /// The call's entry with this fact. `connected_at` comes from another source than `ended`, which may lack it.
    pub(super) fn merged(&self, entry: Option<BillingEntry>, connected_at: Option<Timestamp>) -> Option<BillingEntry> {
        match &self.fact {
            Fact::RtpDetected(fact) => Some(entry::connected(entry, fact, self.happened_at, self.trace)),
            Fact::Ended(fact) => Some(entry::ended(entry, fact, connected_at, self.trace)),
            // The consumer's filter excludes all other kinds.
            _ => entry,
        }
    }
}

impl FactConsumer {
    /// Decodes a message. Acknowledges one of an unknown kind, and parks one that is no fact.
    pub(super) async fn decode(&self, message: Box<dyn DeliveredMessage>) -> Option<Delivered> {
        let fact = Fact::decode(message.subject(), message.payload());
        contract::metrics::unknown(Unknown::of(&fact, message.payload()));
        match fact {
            Ok(fact) => Some(Delivered {
                trace: TraceParent::of(message.headers()),
                _span: span_of(&fact, message.headers()),
                happened_at: message
                    .stored_at()
                    .and_then(|stored_at| envelope::happened_at(message.headers(), stored_at)),
                fact,
                message,
            }),
            Err(DecodeError::UnknownKind { call, kind }) => {
                tracing::debug!(call_id = %call, kind, "fact of an unknown kind skipped");
                if let Err(error) = message.acknowledge().await {
                    tracing::warn!(call_id = %call, %error, "acknowledgement failed: the fact will be redelivered");
                }
                None
            }
            Err(error) => {
                park(message.as_ref(), &error.to_string()).await;
                None
            }
        }
    }

    /// Handles a fact by itself.
    pub(super) async fn handle(&self, delivered: &Delivered) {
        let Delivered { message, fact, .. } = delivered;
        match self.write(delivered).await {
            Ok(outcome) => {
                metrics::fact_handled(fact.kind().as_str(), outcome);
                if let Err(error) = message.acknowledge().await {
                    tracing::warn!(call_id = %fact.call_id(), %error, "acknowledgement failed: the fact will be redelivered");
                }
            }
            Err(error) => {
                metrics::fact_handled(fact.kind().as_str(), "failed");
                tracing::warn!(call_id = %fact.call_id(), fact = %fact.kind(), %error, "fact not written to billing_active: retrying");
                nak(message.as_ref(), Some(RETRY_DELAY)).await;
            }
        }
    }

    async fn write(&self, delivered: &Delivered) -> Result<&'static str, WriteError> {
        let call = delivered.fact.call_id();
        let bucket = &self.deps.active_billing;
        if self.deps.facts.last(call, FactKind::Settled).await?.is_some() {
            return Ok("settled_before");
        }
        let connected_at = match &delivered.fact {
            Fact::Ended(ended) => self.connected_at(call, ended).await?,
            _ => None,
        };
        bucket
            .upsert(call, |entry| delivered.merged(entry, connected_at))
            .await?;
        Ok("entered")
    }

    /// When the call was connected: `ended` may be delivered before the call's `rtp_detected`.
    async fn connected_at(&self, call: &CallId, fact: &Ended) -> Result<Option<Timestamp>, WriteError> {
        if let Some(entry) = self.deps.active_billing.get(call).await?
            && entry.value.connected_at.is_some()
        {
            return Ok(entry.value.connected_at);
        }
        match self.deps.facts.last(call, FactKind::RtpDetected).await {
            Ok(Some(stored)) => match stored.fact {
                Fact::RtpDetected(RtpDetected { connected_at, .. }) => Ok(Some(connected_at)),
                _ => Ok(fact.connected_at),
            },
            Ok(None) => {
                if fact.connected_at.is_some() {
                    tracing::warn!(call_id = %call, by = fact.by, "ended has a connectedAt but no rtp_detected is stored: using the connectedAt of ended");
                }
                Ok(fact.connected_at)
            }
            // An unreadable fact is parked when it is delivered. The end of the call must not wait for that.
            Err(FactError::Stored(error)) => {
                tracing::error!(call_id = %call, %error, "stored rtp_detected not decoded, using the connectedAt of ended: check its writer's version");
                Ok(fact.connected_at)
            }
            Err(error) => Err(error.into()),
        }
    }
}

fn span_of(fact: &Fact, headers: Option<&HeaderMap>) -> Span {
    let span = call_span!(
        "process",
        "consumer",
        otel.name = %format_args!("process {}", fact.kind()),
        callpulse.call_id = %fact.call_id(),
    );
    if !span.is_disabled() {
        spans::child_of_message(&span, headers);
    }
    span
}

async fn park(message: &dyn DeliveredMessage, reason: &str) {
    match message.park(reason).await {
        Ok(()) => metrics::parked(),
        Err(error) => {
            tracing::warn!(%error, "message not parked: retrying");
            nak(message, Some(RETRY_DELAY)).await;
        }
    }
}
