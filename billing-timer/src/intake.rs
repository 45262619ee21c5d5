//! Facts into the book: the shared durable consumer of `rtp_detected` and `ended`.
//!
//! A fact is acknowledged only after the book holds it, so whatever dies, it is delivered again. The loop never ends on an
//! error: the consumer is made anew, and where it was deleted the stream is read from its beginning. That is slow after
//! years, and right: a call that is settled is passed over.

pub mod feed;

mod delivery;

use std::pin::pin;
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use service::{BoxError, Condition};
use tokio_util::sync::CancellationToken;

use self::feed::{Deliveries, Delivery};
use crate::backoff::Backoff;
use crate::settings::IntakeSettings;
use crate::world::World;
use crate::{link, metrics};

/// The durable consumer's name, on the stream and in the subjects of parked messages.
pub const CONSUMER: &str = "billing-timer";

/// The consumer and where its facts go.
#[derive(Debug, Clone)]
pub(crate) struct Intake {
    pub(crate) world: World,
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
    /// Consumes until `stop`, then finishes what is in hand.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), BoxError> {
        let mut backoff = Backoff::default();
        loop {
            let opened = async {
                let gap = link::until_gap(&self.world.link).await;
                Ok::<_, BoxError>((self.world.feed.open(self.settings).await?, gap))
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
            if stop
                .run_until_cancelled(backoff.pause(&*self.world.clock))
                .await
                .is_none()
            {
                return Ok(());
            }
        }
    }

    async fn consume(&self, mut messages: Deliveries, gap: impl Future<Output = ()>, stop: &CancellationToken) -> Lost {
        let mut gap = pin!(gap);
        let mut in_hand = FuturesUnordered::new();
        let lost = loop {
            tokio::select! {
                biased;
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
            give_back(message.as_ref(), None).await;
        }
        while in_hand.next().await.is_some() {}
        lost
    }
}

async fn give_back(message: &dyn Delivery, delay: Option<Duration>) {
    if let Err(error) = message.give_back(delay).await {
        tracing::debug!(%error, "a message could not be given back, the server will see to it");
    }
}
