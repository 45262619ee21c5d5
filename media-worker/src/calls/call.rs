//! One call: its media, the detection of its connection, its liveness, and the facts that follow from them.

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::wire::command::CallMedia;
use contract::wire::fact::{Method, RtpDetected, RtpEvidence, RtpLost, RtpResumed};
use contract::{EndReason, Parties, Role, Timestamp, WorkerId};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::CallSettings;
use crate::clock_reading::ClockReading;
use crate::detection::{Detection, FirstPacket};
use crate::fact_publisher::{CallEnd, EndOutcome, FactQueue};
use crate::liveness::{Liveness, LivenessEvent, ProducerNumber};
use crate::sfu::{CallRouter, Observer, PacketCounter, SfuWorkerId};

/// The most commands of one call that run or wait.
const COMMANDS_MAX: usize = 16;

/// A call on this worker.
pub struct Call {
    /// The call's identifier and its two parties.
    pub parties: Parties,
    /// The call ends then if it is not connected.
    pub media_deadline: Timestamp,
    pub(super) media: Arc<tokio::sync::Mutex<MediaState>>,
    pub(super) command_permits: Arc<Semaphore>,
    pub(super) facts: FactQueue,
    worker_id: WorkerId,
    sfu_worker: OnceLock<SfuWorkerId>,
    detection: Mutex<Detection>,
    liveness: Mutex<Liveness>,
    packet_counters: Mutex<[Option<PacketCounter>; 2]>,
}

/// The state of a call's media.
pub(super) enum MediaState {
    /// The call has no router yet.
    Opening,
    /// Media may flow.
    Open(Box<CallRouter>),
    /// The call is over, and its router is closed.
    Closed,
}

impl Call {
    pub(super) fn new(parties: Parties, facts: FactQueue, settings: &CallSettings) -> Self {
        let now = ClockReading::now();
        Self {
            parties,
            media_deadline: now.wall.plus(settings.timeouts.media_timeout),
            media: Arc::new(tokio::sync::Mutex::new(MediaState::Opening)),
            command_permits: Arc::new(Semaphore::new(COMMANDS_MAX)),
            facts,
            worker_id: settings.worker_id.clone(),
            sfu_worker: OnceLock::new(),
            detection: Mutex::new(Detection::new(settings.connect_policy)),
            liveness: Mutex::new(Liveness::new(settings.timeouts.clone(), now)),
            packet_counters: Mutex::default(),
        }
    }

    pub(super) fn set_sfu_worker(&self, worker: SfuWorkerId) {
        let _ = self.sfu_worker.set(worker);
    }

    /// The mediasoup worker that runs the call's router.
    pub fn sfu_worker(&self) -> Option<SfuWorkerId> {
        self.sfu_worker.get().copied()
    }

    /// Waits until the call's end is stored.
    ///
    /// # Errors
    /// `internal` if it cannot be stored.
    pub async fn ended(&self) -> EndOutcome {
        self.facts.ended().await
    }

    /// The time of the last packet of either party.
    pub fn last_rtp_at(&self) -> Option<Timestamp> {
        self.liveness.lock().last_rtp().map(|last| last.wall)
    }

    /// The state of each party's RTP at the last sample.
    pub fn media_report(&self) -> CallMedia {
        let liveness = self.liveness.lock();
        CallMedia {
            call_id: self.parties.call_id.clone(),
            user: liveness.party_media(Role::User),
            otomo: liveness.party_media(Role::Otomo),
        }
    }

    /// Whether the first packet of this party's next producer must be detected.
    pub fn awaits_first_packet(&self, role: Role) -> bool {
        self.detection.lock().awaits(role)
    }

    /// Sets the counter of this party's packets; it replaces the counter of an earlier producer.
    pub fn set_packet_counter(&self, role: Role, counter: PacketCounter) {
        let [user, otomo] = &mut *self.packet_counters.lock();
        *(if role == Role::User { user } else { otomo }) = Some(counter);
    }

    /// Samples both parties' packet counters and queues the facts that follow. Returns the end of the call if its media
    /// has timed out. `timeout` bounds the reading of one counter.
    pub async fn sample(&self, timeout: Duration) -> Option<CallEnd> {
        let counters = self.packet_counters.lock().clone();
        let samples = Role::BOTH
            .into_iter()
            .zip(counters)
            .filter_map(|(role, counter)| Some((role, counter?)))
            .map(async |(role, counter)| Some((role, counter.producer_number, counter.read(timeout).await?)));
        let samples: Vec<_> = futures::future::join_all(samples).await;
        for (role, producer, packets) in samples.into_iter().flatten() {
            let event = self
                .liveness
                .lock()
                .sample(role, producer, packets, ClockReading::now());
            event.and_then(|event| self.apply(event));
        }
        let events = self.liveness.lock().tick(ClockReading::now());
        events.into_iter().filter_map(|event| self.apply(event)).last()
    }

    fn apply(&self, event: LivenessEvent) -> Option<CallEnd> {
        let millis = |gap: Duration| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let (parties, now) = (self.parties.clone(), ClockReading::now());
        match event {
            LivenessEvent::Lost {
                party,
                last_rtp_at,
                gap,
            } => {
                self.facts.publish(
                    RtpLost {
                        parties,
                        party,
                        last_rtp_at: Some(last_rtp_at),
                        lost_at: Some(now.wall),
                        gap_ms: millis(gap),
                    },
                    now.instant,
                );
                None
            }
            LivenessEvent::Resumed { party, at, gap } => {
                self.facts.publish(
                    RtpResumed {
                        parties,
                        party,
                        at,
                        gap_ms: millis(gap),
                    },
                    now.instant,
                );
                None
            }
            LivenessEvent::RtpTimeout { ended_at } => Some(self.end_by_worker(EndReason::RtpTimeout, ended_at)),
            LivenessEvent::MediaTimeout => Some(self.end_by_worker(EndReason::MediaTimeout, Timestamp::now())),
        }
    }

    /// The end of the call if this worker ends it.
    pub fn end_by_worker(&self, reason: EndReason, ended_at: Timestamp) -> CallEnd {
        CallEnd {
            reason,
            by: self.worker_id.to_string(),
            ended_at,
        }
    }
}

impl Observer for Call {
    fn first_packet(&self, producer: ProducerNumber, packet: FirstPacket) {
        let FirstPacket {
            role,
            at,
            producer_id,
            ssrc,
        } = packet;
        self.liveness.lock().first_packet(role, producer, at);
        if self.detection.lock().connects(role) {
            let fact = RtpDetected {
                parties: self.parties.clone(),
                connected_at: at.wall,
                method: Method::SfuRtpDetected,
                detected_from: role,
                evidence: RtpEvidence {
                    worker_id: self.worker_id.clone(),
                    producer_id,
                    ssrc,
                    sequence_number: None,
                    rtp_timestamp: None,
                },
            };
            // Queued before liveness may report a loss, so that no `rtp_lost` precedes it.
            self.facts.publish(fact, at.instant);
            self.liveness.lock().connected();
        }
    }

    fn transport_lost(&self, role: Role, producer: ProducerNumber) {
        let event = self.liveness.lock().transport_lost(role, producer, ClockReading::now());
        event.and_then(|event| self.apply(event));
    }
}
