//! Where facts come from: the durable consumer, as its client sees it.

use std::fmt::Debug;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream;
use async_nats::jetstream::AckKind;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, pull};
use contract::jetstream::parking;
use contract::wire::subject;
use contract::{FactKind, Nats};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use service::BoxError;

use super::CONSUMER;
use crate::settings::IntakeSettings;

/// The server says at least this often that it is there; without two of them the consumer is made anew.
/// The server that leads the consumer need not be the one that this process is connected to: the link tells nothing of its death.
const HEARTBEAT: Duration = Duration::from_millis(1500);
/// How long one request for facts stands.
const PULL_EXPIRES: Duration = Duration::from_secs(30);

/// Facts as they are delivered; an error means that the consumer is lost.
pub type Deliveries = BoxStream<'static, Result<Box<dyn Delivery>, BoxError>>;

/// The shared consumer.
pub trait Feed: Debug + Send + Sync {
    /// Creates the consumer where it is missing, or updates it to these settings, and consumes.
    fn open(&self, settings: IntakeSettings) -> BoxFuture<'_, Result<Deliveries, BoxError>>;
}

/// A delivered message. It comes again until it is acknowledged.
pub trait Delivery: Debug + Send + Sync {
    /// Where it stands.
    fn subject(&self) -> &str;

    /// What it says.
    fn payload(&self) -> &[u8];

    /// Its envelope.
    fn headers(&self) -> Option<&HeaderMap>;

    /// Takes it off the consumer, and waits for the server's word for that.
    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Has it delivered again, after `delay` if there is one.
    fn give_back(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>>;

    /// Sets it aside for a person to look at, and takes it off the consumer once that is stored.
    fn park<'a>(&'a self, reason: &'a str) -> BoxFuture<'a, Result<(), BoxError>>;
}

/// The real one.
#[derive(Debug, Clone)]
pub(crate) struct JetStreamFeed {
    pub(crate) nats: Nats,
    pub(crate) calls: jetstream::stream::Stream,
}

impl Feed for JetStreamFeed {
    fn open(&self, settings: IntakeSettings) -> BoxFuture<'_, Result<Deliveries, BoxError>> {
        async move {
            let config = pull::Config {
                durable_name: Some(CONSUMER.to_owned()),
                description: Some("Puts calls on the book of those being billed".to_owned()),
                filter_subjects: [FactKind::RtpDetected, FactKind::Ended]
                    .map(subject::facts_of_kind)
                    .to_vec(),
                deliver_policy: DeliverPolicy::All,
                ack_policy: AckPolicy::Explicit,
                ack_wait: Duration::from_millis(settings.ack_wait_ms),
                max_ack_pending: settings.max_ack_pending.into(),
                ..Default::default()
            };
            // The server refuses what cannot be updated.
            let consumer = self.calls.create_consumer(config).await?;
            let messages = consumer
                .stream()
                .max_messages_per_batch(settings.concurrency)
                .expires(PULL_EXPIRES)
                .heartbeat(HEARTBEAT)
                .messages()
                .await?;
            let nats = self.nats.clone();
            let deliveries = messages.map(move |message| {
                let nats = nats.clone();
                let delivery: Box<dyn Delivery> = Box::new(JetStreamDelivery {
                    nats,
                    message: message?,
                });
                Ok(delivery)
            });
            Ok(deliveries.boxed())
        }
        .boxed()
    }
}

#[derive(Debug)]
struct JetStreamDelivery {
    nats: Nats,
    message: jetstream::Message,
}

impl Delivery for JetStreamDelivery {
    fn subject(&self) -> &str {
        &self.message.subject
    }

    fn payload(&self) -> &[u8] {
        &self.message.payload
    }

    fn headers(&self) -> Option<&HeaderMap> {
        self.message.headers.as_ref()
    }

    fn acknowledge(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        self.message.double_ack().boxed()
    }

    fn give_back(&self, delay: Option<Duration>) -> BoxFuture<'_, Result<(), BoxError>> {
        self.message.ack_with(AckKind::Nak(delay)).boxed()
    }

    fn park<'a>(&'a self, reason: &'a str) -> BoxFuture<'a, Result<(), BoxError>> {
        async move { Ok(parking::park_delivery(&self.nats, CONSUMER, &self.message, reason).await?) }.boxed()
    }
}
