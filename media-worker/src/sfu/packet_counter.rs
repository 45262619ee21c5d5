//! Reads a producer's counters without keeping the producer alive.

use std::time::Duration;

use mediasoup::prelude::*;

use super::first_packet::PacketTrace;
use crate::clock_reading::ClockReading;
use crate::liveness::{ProducerNumber, Sample};

/// The window of a stream's bitrate (mediasoup, `RtpStreamRecv`).
const BITRATE_WINDOW: Duration = Duration::from_millis(2_500);
/// The same if the producer declared Opus DTX.
const BITRATE_WINDOW_DTX: Duration = Duration::from_millis(6_000);

/// The counters of one producer.
#[derive(Debug, Clone)]
pub struct PacketCounter {
    /// The producer's number within its call.
    pub producer_number: ProducerNumber,
    producer: WeakProducer,
    window: Duration,
    trace: PacketTrace,
}

impl PacketCounter {
    pub(super) fn new(producer_number: ProducerNumber, producer: &Producer, trace: PacketTrace) -> Self {
        let uses_dtx = |codec: &RtpCodecParameters| {
            let RtpCodecParameters::Audio { parameters, .. } = codec else {
                return false;
            };
            let declared = parameters.iter().find(|(name, _)| **name == "usedtx");
            declared.is_some_and(|(_, value)| *value == 1_u32.into())
        };
        let dtx = producer.rtp_parameters().codecs.iter().any(uses_dtx);
        Self {
            producer_number,
            producer: producer.downgrade(),
            window: if dtx { BITRATE_WINDOW_DTX } else { BITRATE_WINDOW },
            trace,
        }
    }

    /// The counters; `None` if the producer is closed, or its worker does not answer within `timeout`.
    pub async fn read(&self, timeout: Duration) -> Option<Sample> {
        let producer = self.producer.upgrade()?;
        let asked = ClockReading::now();
        let stats = tokio::time::timeout(timeout, producer.get_stats()).await.ok()?.ok()?;
        Some(Sample {
            asked,
            packets: stats.iter().map(|stream| stream.packet_count).sum(),
            bytes: stats.iter().map(|stream| stream.byte_count).sum(),
            active: stats.iter().any(|stream| stream.bitrate > 0),
            window: self.window,
        })
    }

    /// Has the observer of the call receive the producer's next packet.
    pub async fn report_next_packet(&self) {
        if let Err(refusal) = self.trace.arm().await {
            tracing::warn!(
                message = refusal.message,
                "RTP trace not enabled: sampling detects the resume"
            );
        }
    }
}
