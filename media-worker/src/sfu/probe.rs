//! Reads a producer's packet counter without keeping the producer alive.

use std::time::Duration;

use mediasoup::prelude::*;

use crate::liveness::Source;

/// A producer's statistics.
#[derive(Debug, Clone)]
pub struct Probe {
    /// Which of the call's producers it is.
    pub source: Source,
    producer: WeakProducer,
}

impl Probe {
    pub(super) fn new(source: Source, producer: &Producer) -> Self {
        Self {
            source,
            producer: producer.downgrade(),
        }
    }

    /// Packets received in all; `None` if the producer is gone, or nobody answers within `patience`.
    pub async fn packets(&self, patience: Duration) -> Option<u64> {
        let producer = self.producer.upgrade()?;
        let stats = tokio::time::timeout(patience, producer.get_stats()).await.ok()?.ok()?;
        Some(stats.iter().map(|stream| stream.packet_count).sum())
    }
}
