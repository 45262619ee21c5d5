//! The durable consumer `billing-timer` as a port.

use std::fmt::Debug;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use contract::jetstream::parking;
use contract::wire::subject;
use contract::{FactKind, Nats, Timestamp};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use service::BoxError;

use crate::settings::ConsumerSettings;

/// Name of the durable consumer, on the stream and in the subjects of parked messages.
pub const CONSUMER: &str = "billing-timer";
/// Idle heartbeat of the consumer; after two missed heartbeats the consumer is reopened. The consumer's leader may be another
/// server than the one this process is connected to, so the link does not show that the leader died.
const HEARTBEAT: Duration = Duration::from_millis(1500);
/// Expiry of one pull request.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// Messages as they are delivered. After an error the consumer must be reopened.
pub type DeliveredMessages = BoxStream<'static, Result<Box<dyn DeliveredMessage>, BoxError>>;

/// The durable consumer shared by all instances.
pub trait FactSource: Debug + Send + Sync {
    /// Creates the consumer or updates it to these settings, and starts to consume.
    fn open(&self, settings: ConsumerSettings) -> BoxFuture<'_, Result<DeliveredMessages, BoxError>>;
}

/// A delivered message. The server redelivers it until it is acknowledged.
pub trait DeliveredMessage: Debug + Send + Sync {
    /// The subject.
    fn subject(&self) -> &str;

    /// The payload.
    fn payload(&self) -> &[u8];

    /// The headers.
    fn headers(&self) -> Option<&HeaderMap>;

    /// When the server stored it.
    fn stored_at(&self) -> Option<Timestamp>;

    /// How many messages the consumer had not delivered when it delivered this one.
    fn pending(&self) -> Option<u64>;

    /// Acknowledges, and waits until the server has confirmed it and all acknowledgements sent before.
    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Acknowledges without a confirmation. If the acknowledgement is lost, the message is redelivered.
    fn send_acknowledgement(&self) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Requests redelivery, after `delay` if one is given.
    fn nak(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Stores the message in the stream of parked messages for manual inspection, then acknowledges it.
    fn park<'a>(&'a self, reason: &'a str) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// The consumer in JetStream.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamSource {
    pub(crate) nats: Nats,
    pub(crate) calls: jetstream::stream::Stream,
}

impl FactSource for JetStreamSource {
    fn open(&self, settings: ConsumerSettings) -> BoxFuture<'_, Result<DeliveredMessages, BoxError>> {
        async move {
            let config = pull::Config {
                durable_name: Some(CONSUMER.to_owned()),
                description: Some("Maintains the bucket billing_active".to_owned()),
                filter_subjects: [FactKind::RtpDetected, FactKind::Ended]
                    .map(subject::facts_of_kind)
                    .to_vec(),
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::Explicit,
                ack_wait: Duration::from_millis(settings.ack_wait_ms),
                max_ack_pending: settings.max_ack_pending.into(),
                ..Default::default()
            };
            // The server rejects changes that cannot be made by an update.
            let consumer = self.calls.create_consumer(config).await?;
            let messages = consumer
                .stream()
                .max_messages_per_batch(settings.concurrency)
                .expires(PULL_EXPIRES)
                .heartbeat(HEARTBEAT)
                .messages()
                .await?;
            let nats = self.nats.clone();
            let messages = messages.map(move |message| {
                let nats = nats.clone();
                let message: Box<dyn DeliveredMessage> = Box::new(JetStreamMessage {
                    nats,
                    message: message?,
                });
                Ok(message)
            });
            Ok(messages.boxed())
        }
        .boxed()
    }
}

#[derive(Debug)]
struct JetStreamMessage {
    nats: Nats,
    message: jetstream::Message,
}

impl DeliveredMessage for JetStreamMessage {
    fn subject(&self) -> &str {
        &self.message.subject
    }

    fn payload(&self) -> &[u8] {
        &self.message.payload
    }

    fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    fn stored_at(&self) -> Option<Timestamp> {
        self.message.info().ok().map(|info| info.published.into())
    }

    fn pending(&self) -> Option<u64> {
        self.message.info().ok().map(|info| info.pending)
    }

    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        self.message.double_ack().boxed()
    }

    fn send_acknowledgement(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        self.message.ack().boxed()
    }

    fn nak(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>> {
        self.message.ack_with(AckKind::Nak(delay)).boxed()
    }

    fn park<'a>(&'a self, reason: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        async move { Ok(parking::park_delivery(&self.nats, CONSUMER, &self.message, reason).await?) }.boxed()
    }
}
