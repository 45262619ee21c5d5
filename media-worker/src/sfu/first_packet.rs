//! Reports one RTP packet of a producer with mediasoup's `rtp` trace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use contract::Role;
use contract::jetstream::request::Refusal;
use mediasoup::prelude::*;
use mediasoup::producer::{ProducerTraceEventData, ProducerTraceEventType};

use super::Observer;
use super::refusals::{request_failed, with_timeout};
use crate::clock_reading::ClockReading;
use crate::detection::FirstPacket;
use crate::liveness::ProducerNumber;

/// The trace of a producer. It is off until it is armed, and after the next packet with a payload, usually before the
/// following one arrives.
#[derive(Debug, Clone)]
pub(super) struct PacketTrace {
    producer: WeakProducer,
    armed: Arc<AtomicBool>,
}

impl PacketTrace {
    /// A trace that reports to `observer` once it is armed.
    pub(super) fn new(producer: &Producer, role: Role, number: ProducerNumber, observer: Weak<dyn Observer>) -> Self {
        let trace = Self {
            producer: producer.downgrade(),
            armed: Arc::default(),
        };
        let (reported, producer_id) = (trace.clone(), producer.id().to_string());
        let runtime = tokio::runtime::Handle::current();
        let on_trace = move |event: &ProducerTraceEventData| {
            let at = ClockReading::now();
            let ProducerTraceEventData::Rtp { info, .. } = event else {
                return;
            };
            // A packet of nothing but padding probes the bandwidth and carries no audio.
            if info.payload_size == 0 || !reported.armed.swap(false, Ordering::Relaxed) {
                return;
            }
            if let Some(observer) = observer.upgrade() {
                let packet = FirstPacket {
                    role,
                    at,
                    producer_id: producer_id.clone(),
                    ssrc: info.ssrc,
                    sequence_number: info.sequence_number,
                    rtp_timestamp: info.timestamp,
                };
                observer.first_packet(number, packet);
            }
            runtime.spawn(reported.clone().disable());
        };
        producer.on_trace(on_trace).detach();
        trace
    }

    /// Reports the next packet with a payload.
    pub(super) async fn arm(&self) -> Result<(), Refusal> {
        let Some(producer) = self.producer.upgrade() else {
            return Ok(());
        };
        self.armed.store(true, Ordering::Relaxed);
        with_timeout(producer.enable_trace_event(vec![ProducerTraceEventType::Rtp]))
            .await?
            .map_err(request_failed)
    }

    async fn disable(self) {
        if let Some(producer) = self.producer.upgrade()
            && let Err(error) = producer.enable_trace_event(Vec::new()).await
        {
            tracing::debug!(%error, "RTP trace not disabled: the producer is closed");
        }
    }
}
