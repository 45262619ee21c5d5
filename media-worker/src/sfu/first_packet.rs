//! Detects a producer's first RTP packet with mediasoup's `rtp` trace.

use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::Role;
use contract::jetstream::request::Refusal;
use mediasoup::prelude::*;
use mediasoup::producer::{ProducerTraceEventData, ProducerTraceEventType};

use super::Observer;
use super::refusals::{request_failed, with_timeout};
use crate::clock_reading::ClockReading;
use crate::detection::FirstPacket;
use crate::liveness::ProducerNumber;

/// Reports the producer's first packet with a payload to `observer`. The trace is disabled after that packet, usually
/// before the second one arrives.
pub(super) async fn detect(
    producer: &Producer,
    role: Role,
    number: ProducerNumber,
    observer: Weak<dyn Observer>,
) -> Result<(), Refusal> {
    let (weak, producer_id) = (producer.downgrade(), producer.id().to_string());
    let (runtime, seen) = (tokio::runtime::Handle::current(), AtomicBool::new(false));
    let on_trace = move |event: &ProducerTraceEventData| {
        let at = ClockReading::now();
        let ProducerTraceEventData::Rtp { info, .. } = event else {
            return;
        };
        // A packet of nothing but padding probes the bandwidth and carries no audio.
        if info.payload_size == 0 || seen.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(observer) = observer.upgrade() {
            let packet = FirstPacket {
                role,
                at,
                producer_id: producer_id.clone(),
                ssrc: info.ssrc,
            };
            observer.first_packet(number, packet);
        }
        runtime.spawn(disable_trace(weak.clone()));
    };
    producer.on_trace(on_trace).detach();
    with_timeout(producer.enable_trace_event(vec![ProducerTraceEventType::Rtp]))
        .await?
        .map_err(request_failed)
}

async fn disable_trace(producer: WeakProducer) {
    if let Some(producer) = producer.upgrade()
        && let Err(error) = producer.enable_trace_event(Vec::new()).await
    {
        tracing::debug!(%error, "trace not disabled: the producer is closed");
    }
}
