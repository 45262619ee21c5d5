//! One delivered fact: into the book, then acknowledged.

use std::time::Duration;

use contract::jetstream::bucket::BucketError;
use contract::jetstream::fact_store::FactError;
use contract::wire::fact::{Ended, RtpDetected};
use contract::{CallId, Fact, FactKind, Timestamp, TraceParent};
use thiserror::Error;

use super::feed::Delivery;
use super::{Intake, give_back};
use crate::domain::entry;
use crate::metrics;

/// A fact that could not be entered is delivered again after this long.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// Why a fact could not be entered this time.
#[derive(Debug, Error)]
enum NotEntered {
    #[error(transparent)]
    Book(#[from] BucketError),
    #[error(transparent)]
    Stream(#[from] FactError),
}

impl Intake {
    pub(super) async fn handle(&self, message: Box<dyn Delivery>) {
        let fact = match Fact::decode(message.subject(), message.payload()) {
            Ok(fact) => fact,
            Err(error) => return park(message.as_ref(), &error.to_string()).await,
        };
        let trace = TraceParent::of(message.headers());
        match self.enter(&fact, trace).await {
            Ok(outcome) => {
                metrics::taken_in(fact.kind().as_str(), outcome);
                if let Err(error) = message.acknowledge().await {
                    tracing::warn!(call_id = %fact.call_id(), %error, "an entered fact is not acknowledged, and will come again");
                }
            }
            Err(error) => {
                metrics::taken_in(fact.kind().as_str(), "failed");
                tracing::warn!(call_id = %fact.call_id(), fact = %fact.kind(), %error, "a fact could not be entered yet");
                give_back(message.as_ref(), Some(RETRY_DELAY)).await;
            }
        }
    }

    async fn enter(&self, fact: &Fact, trace: TraceParent) -> Result<&'static str, NotEntered> {
        let call = fact.call_id();
        if self.world.facts.last(call, FactKind::Settled).await?.is_some() {
            return Ok("settled_before");
        }
        match fact {
            Fact::RtpDetected(fact) => {
                self.world
                    .book
                    .upsert(call, |entry| entry::connected(entry, fact, trace))
                    .await?;
            }
            Fact::Ended(fact) => {
                let connected_at = self.beginning(call, fact).await?;
                self.world
                    .book
                    .upsert(call, |entry| entry::ended(entry, fact, connected_at, trace))
                    .await?;
            }
            // The consumer's filter lets no other kind through.
            _ => return Ok("not_ours"),
        }
        Ok("entered")
    }

    /// When the call began, for an `ended` that may have overtaken its `rtp_detected` on the way here.
    async fn beginning(&self, call: &CallId, fact: &Ended) -> Result<Option<Timestamp>, NotEntered> {
        if let Some(entry) = self.world.book.get(call).await?
            && entry.value.connected_at.is_some()
        {
            return Ok(entry.value.connected_at);
        }
        match self.world.facts.last(call, FactKind::RtpDetected).await {
            Ok(Some(stored)) => match stored.fact {
                Fact::RtpDetected(RtpDetected { connected_at, .. }) => Ok(Some(connected_at)),
                _ => Ok(fact.connected_at),
            },
            Ok(None) => {
                if fact.connected_at.is_some() {
                    tracing::warn!(call_id = %call, by = fact.by, "an end tells of a beginning that is not stored; it is believed");
                }
                Ok(fact.connected_at)
            }
            // Unreadable, and parked when it is delivered. The end of the call must not wait for that.
            Err(FactError::Stored(error)) => {
                tracing::error!(call_id = %call, %error, "the call's beginning is stored and cannot be read; the end is believed");
                Ok(fact.connected_at)
            }
            Err(error) => Err(error.into()),
        }
    }
}

async fn park(message: &dyn Delivery, reason: &str) {
    match message.park(reason).await {
        Ok(()) => metrics::parked(),
        Err(error) => {
            tracing::warn!(%error, "a message could not be parked yet");
            give_back(message, Some(RETRY_DELAY)).await;
        }
    }
}
