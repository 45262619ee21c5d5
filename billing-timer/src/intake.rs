//! Facts into the book: the shared durable consumer of `rtp_detected` and `ended`.
//!
//! A fact is acknowledged only after the book holds it, so whatever dies, it is delivered again. The loop never ends on an
//! error: the consumer is made anew, and where it was deleted the stream is read from its beginning. That is slow after
//! years, and right: a call that is settled is passed over.

mod delivery;

use std::pin::pin;
use std::time::Duration;

use async_nats::jetstream;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use nats::billing_book::BillingBook;
use nats::storage::Storage;
use nats::{FactKind, FactStore, Nats, subject};
use service::{BoxError, Condition};
use tokio_util::sync::CancellationToken;

use crate::backoff::Backoff;
use crate::settings::IntakeSettings;
use crate::{link, metrics};

/// The durable consumer's name, on the stream and in the subjects of parked messages.
pub const CONSUMER: &str = "billing-timer";

/// The server says at least this often that it is there; without two of them the consumer is made anew.
const HEARTBEAT: Duration = Duration::from_secs(5);
/// How long one request for facts stands.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// The consumer and where its facts go.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    pub(crate) nats: Nats,
    pub(crate) calls: jetstream::stream::Stream,
    pub(crate) facts: FactStore,
    pub(crate) book: BillingBook,
    pub(crate) settings: IntakeSettings,
    /// Holds while facts are being consumed.
    pub(crate) consuming: Condition,
}

enum Lost {
    /// Asked to stop.
    Stopped,
    /// To be made anew.
    Because(String),
}

impl Intake {
    pub(crate) fn new(
        nats: &Nats,
        storage: &Storage,
        facts: &FactStore,
        settings: IntakeSettings,
        consuming: Condition,
    ) -> Self {
        Self {
            nats: nats.clone(),
            calls: storage.calls.clone(),
            facts: facts.clone(),
            book: BillingBook::new(storage),
            settings,
            consuming,
        }
    }

    /// Consumes until `stop`, then finishes what is in hand.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        loop {
            let opened = async {
                let gap = link::until_gap(&self.nats).await;
                Ok::<_, BoxError>((self.consumer().await?, gap))
            };
            let lost = stop.run_until_cancelled(opened).await;
            let lost = match lost {
                None => Lost::Stopped,
                Some(Err(error)) => Lost::Because(error.to_string()),
                Some(Ok((messages, gap))) => {
                    backoff.reset();
                    self.consuming.set(true);
                    tracing::info!(consumer = CONSUMER, "consuming facts");
                    self.consume(messages, gap, &stop).await
                }
            };
            self.consuming.set(false);
            match lost {
                Lost::Stopped => return Ok(()),
                Lost::Because(reason) => {
                    metrics::lost("consumer");
                    tracing::warn!(
                        consumer = CONSUMER,
                        reason,
                        "the consumer is lost and will be made anew"
                    );
                }
            }
            if stop.run_until_cancelled(backoff.pause()).await.is_none() {
                return Ok(());
            }
        }
    }

    /// Creates the consumer, or updates it to these settings; the server refuses what cannot be updated.
    async fn consumer(&self) -> Result<pull::Stream, BoxError> {
        let config = pull::Config {
            durable_name: Some(CONSUMER.to_owned()),
            description: Some("Puts calls on the book of those being billed".to_owned()),
            filter_subjects: [FactKind::RtpDetected, FactKind::Ended]
                .map(subject::facts_of_kind)
                .to_vec(),
            deliver_policy: DeliverPolicy::All,
            ack_policy: AckPolicy::Explicit,
            ack_wait: Duration::from_millis(self.settings.ack_wait_ms),
            max_ack_pending: self.settings.max_ack_pending.into(),
            ..Default::default()
        };
        let consumer = self.calls.create_consumer(config).await?;
        let messages = consumer
            .stream()
            .max_messages_per_batch(self.settings.concurrency)
            .expires(PULL_EXPIRES)
            .heartbeat(HEARTBEAT)
            .messages()
            .await?;
        Ok(messages)
    }

    async fn consume(
        &self,
        mut messages: pull::Stream,
        gap: impl Future<Output = ()>,
        stop: &CancellationToken,
    ) -> Lost {
        let mut gap = pin!(gap);
        let mut in_hand = FuturesUnordered::new();
        let lost = loop {
            tokio::select! {
                () = stop.cancelled() => break Lost::Stopped,
                () = &mut gap => break Lost::Because("the link had a gap".to_owned()),
                Some(()) = in_hand.next() => {}
                message = messages.next(), if in_hand.len() < self.settings.concurrency => match message {
                    Some(Ok(message)) => in_hand.push(self.handle(message)),
                    Some(Err(error)) => break Lost::Because(error.to_string()),
                    None => break Lost::Because("the stream of messages ended".to_owned()),
                },
            }
        };
        // What waits in the client's buffer is given back at once, not after the server's patience.
        while let Some(Some(Ok(message))) = messages.next().now_or_never() {
            give_back(&message, None).await;
        }
        while in_hand.next().await.is_some() {}
        lost
    }
}

async fn give_back(message: &jetstream::Message, delay: Option<Duration>) {
    if let Err(error) = message.ack_with(AckKind::Nak(delay)).await {
        tracing::debug!(%error, "a message could not be given back, the server will see to it");
    }
}
