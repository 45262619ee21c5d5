//! Reads a producer's packet counter without keeping the producer alive.

use std::time::Duration;

use mediasoup::prelude::*;

use crate::liveness::ProducerNumber;

/// The packet counter of one producer.
#[derive(Debug, Clone)]
pub struct PacketCounter {
    /// The producer's number within its call.
    pub producer_number: ProducerNumber,
    producer: WeakProducer,
}

impl PacketCounter {
    pub(super) fn new(producer_number: ProducerNumber, producer: &Producer) -> Self {
        Self {
            producer_number,
            producer: producer.downgrade(),
        }
    }

    /// The packets received in all; `None` if the producer is closed, or its worker does not answer within `timeout`.
    pub async fn read(&self, timeout: Duration) -> Option<u64> {
        let producer = self.producer.upgrade()?;
        let stats = tokio::time::timeout(timeout, producer.get_stats()).await.ok()?.ok()?;
        Some(stats.iter().map(|stream| stream.packet_count).sum())
    }
}
