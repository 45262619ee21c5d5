//! The loop of the shared durable consumer: writes `rtp_detected` and `ended` to the bucket `billing_active`.
//!
//! Facts that have arrived together are handled as a batch; while the allowed batches are in progress, the next ones fill up.
//! A fact is acknowledged only after the bucket holds it, so a crash at any point causes a redelivery. The loop survives every
//! error by reopening the consumer. If the consumer was deleted, a new one reads the stream from its beginning: slow on an
//! old stream, but correct, because facts of settled calls are skipped.

mod batch;

mod handler;

use std::pin::pin;
use std::time::Duration;

use contract::jetstream::batch::MAX_BATCH;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::{BoxError, Condition};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::deps::Deps;
use crate::fact_source::{CONSUMER, DeliveredMessage, DeliveredMessages};
use crate::settings::ConsumerSettings;
use crate::{metrics, nats_state};

/// Concurrent batches.
const MAX_BATCHES: usize = 4;

/// Consumes facts.
#[derive(Debug, Clone)]
pub(crate) struct FactConsumer {
    pub(crate) deps: Deps,
    pub(crate) settings: ConsumerSettings,
    /// Holds while the consumer is open.
    pub(crate) consuming: Condition,
}

enum Lost {
    /// The service stops.
    Stopped,
    /// Reopen the consumer.
    Because(String),
}

impl FactConsumer {
    /// Consumes until `stop`, then finishes the facts in progress.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        loop {
            let opened = async {
                let reconnected = nats_state::until_reconnect(&self.deps.nats_state).await;
                Ok::<_, BoxError>((self.deps.fact_source.open(self.settings).await?, reconnected))
            };
            let lost = match stop.run_until_cancelled(opened).await {
                None => Lost::Stopped,
                Some(Err(error)) => Lost::Because(error.to_string()),
                Some(Ok((messages, reconnected))) => {
                    backoff.reset();
                    self.consuming.set(true);
                    tracing::info!(consumer = CONSUMER, "consuming facts");
                    self.consume(messages, reconnected, &stop).await
                }
            };
            self.consuming.set(false);
            match lost {
                Lost::Stopped => return Ok(()),
                Lost::Because(reason) => {
                    metrics::lost("consumer");
                    tracing::warn!(consumer = CONSUMER, reason, "consumer lost: reopening");
                }
            }
            if stop
                .run_until_cancelled(backoff.pause(&*self.deps.clock))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    }

    async fn consume(
        &self,
        mut messages: DeliveredMessages,
        reconnected: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) -> Lost {
        let mut reconnected = pin!(reconnected);
        let mut batches = FuturesUnordered::new();
        let mut facts = 0;
        let lost = loop {
            let room = self.settings.concurrency.saturating_sub(facts).min(MAX_BATCH);
            tokio::select! {
                biased;
                () = stop.cancelled() => break Lost::Stopped,
                () = &mut reconnected => break Lost::Because("NATS was reconnected".to_owned()),
                Some(handled) = batches.next() => facts -= handled,
                message = messages.next(), if room > 0 && batches.len() < MAX_BATCHES => {
                    let (batch, end) = collect(message, &mut messages, room);
                    facts += batch.len();
                    batches.push(self.handle_batch(batch));
                    if let Some(reason) = end {
                        break Lost::Because(reason);
                    }
                }
            }
        };
        // A nak makes buffered messages available to other instances at once instead of after the ack wait.
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            nak(message.as_ref(), None).await;
        }
        while batches.next().await.is_some() {}
        lost
    }
}

type Delivery = Option<Result<Box<dyn DeliveredMessage>, BoxError>>;

/// This message and those that have arrived, at most `max`; and the reason if no more will arrive.
fn collect(
    first: Delivery,
    messages: &mut DeliveredMessages,
    max: usize,
) -> (Vec<Box<dyn DeliveredMessage>>, Option<String>) {
    let (mut batch, mut next) = (Vec::new(), first);
    loop {
        match next {
            Some(Ok(message)) => batch.push(message),
            Some(Err(error)) => return (batch, Some(error.to_string())),
            None => return (batch, Some("the stream of messages ended".to_owned())),
        }
        if batch.len() >= max {
            return (batch, None);
        }
        // The cooperative budget would end the batch early.
        match tokio::task::unconstrained(messages.next()).now_or_never() {
            Some(delivery) => next = delivery,
            None => return (batch, None),
        }
    }
}

async fn nak(message: &dyn DeliveredMessage, delay: Option<Duration>) {
    if let Err(error) = message.nak(delay).await {
        tracing::debug!(%error, "nak failed: the server redelivers after the ack wait");
    }
}
