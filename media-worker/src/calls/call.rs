//! One call: its media, the detection of its connection, its liveness, and the facts that follow from them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use contract::wire::command::CallMedia;
use contract::wire::fact::{MediaStarted, Method, RtpDetected, RtpEvidence, RtpLost, RtpResumed};
use contract::{EndReason, Parties, Role, Timestamp, WorkerId};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};

use super::HostSettings;
use crate::clock_reading::ClockReading;
use crate::credit::Credit;
use crate::detection::{Detected, Detection, FirstPacket};
use crate::fact_publisher::{CallEnd, EndOutcome, FactQueue};
use crate::liveness::{Liveness, LivenessEvent, ProducerNumber};
use crate::metrics::CallPhase;
use crate::sfu::{CallRouter, Observer, PacketCounter, SfuWorkerId};

/// The most commands of one call that run or wait.
const COMMANDS_MAX: usize = 16;

/// The most samples of a stalled producer in a row.
const REFINEMENTS_MAX: usize = 256;

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
    pub(super) connected: OnceLock<ClockReading>,
    refining: AtomicBool,
    detection: Mutex<Detection>,
    liveness: Mutex<Liveness>,
    packet_counters: Mutex<[Option<PacketCounter>; 2]>,
    pub(super) credit: Option<Mutex<Credit>>,
    pub(super) credit_changed: Notify,
    removed: AtomicBool,
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
    pub(super) fn new(parties: Parties, credit: Option<Credit>, facts: FactQueue, settings: &HostSettings) -> Self {
        let now = ClockReading::now();
        Self {
            parties,
            media_deadline: now.wall.plus(settings.timeouts.media_timeout),
            media: Arc::new(tokio::sync::Mutex::new(MediaState::Opening)),
            command_permits: Arc::new(Semaphore::new(COMMANDS_MAX)),
            facts,
            worker_id: settings.worker_id.clone(),
            sfu_worker: OnceLock::new(),
            connected: OnceLock::new(),
            refining: AtomicBool::new(false),
            detection: Mutex::new(Detection::new(settings.connect_policy)),
            liveness: Mutex::new(Liveness::new(settings.timeouts.clone(), now)),
            packet_counters: Mutex::default(),
            credit: credit.map(Mutex::new),
            credit_changed: Notify::new(),
            removed: AtomicBool::new(false),
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

    /// The last packet of either party.
    pub fn last_rtp(&self) -> Option<ClockReading> {
        self.liveness.lock().last_rtp()
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

    /// Whether the call waits for RTP, is connected, or has a party whose RTP is lost; for operators.
    pub fn phase(&self) -> CallPhase {
        let is_lost = |role| self.liveness.lock().is_lost(role);
        match self.connected.get() {
            None => CallPhase::Waiting,
            Some(_) if Role::BOTH.into_iter().any(is_lost) => CallPhase::Lost,
            Some(_) => CallPhase::Connected,
        }
    }

    /// Whether the first packet of this party's next producer must be detected.
    pub fn awaits_first_packet(&self, role: Role) -> bool {
        self.detection.lock().awaits(role) || self.liveness.lock().is_lost(role)
    }

    /// A party creates its transports: the call's first packet may follow within a round trip.
    pub fn prepare_detection(&self) {
        self.facts.read_ahead(&self.parties.call_id);
    }

    /// The time of a reading in facts. After the connection it follows the monotonic clock alone.
    fn time(&self, at: ClockReading) -> Timestamp {
        self.connected.get().map_or(at.wall, |connected| connected.time_of(at))
    }

    /// Sets the counter of this party's packets; it replaces the counter of an earlier producer.
    pub fn set_packet_counter(&self, role: Role, counter: PacketCounter) {
        let [user, otomo] = &mut *self.packet_counters.lock();
        *(if role == Role::User { user } else { otomo }) = Some(counter);
    }

    /// Samples both parties' packet counters and queues the facts that follow. Returns the end of the call if its media
    /// has timed out. `timeout` bounds the reading of one counter.
    pub async fn sample(self: &Arc<Self>, timeout: Duration) -> Option<CallEnd> {
        self.read_counters(timeout).await;
        let (events, refine) = {
            let (mut liveness, now) = (self.liveness.lock(), ClockReading::now());
            (liveness.apply_timeouts(now), liveness.refine_in(now).is_some())
        };
        let mut end = None;
        for event in events {
            let lost = match &event {
                LivenessEvent::Lost { party, .. } => Some(*party),
                _ => None,
            };
            end = self.apply(event).or(end);
            if let Some(party) = lost {
                // Calls on other mediasoup workers do not wait for one that hangs.
                let call = Arc::clone(self);
                tokio::spawn(async move { call.report_next_packet(party).await });
            }
        }
        if refine && !self.refining.swap(true, Ordering::Relaxed) {
            tokio::spawn(Arc::clone(self).refine(timeout));
        }
        end
    }

    async fn read_counters(&self, timeout: Duration) {
        let counters = self.packet_counters.lock().clone();
        let samples = Role::BOTH
            .into_iter()
            .zip(counters)
            .filter_map(|(role, counter)| Some((role, counter?)))
            .map(async |(role, counter)| Some((role, counter.producer_number, counter.read(timeout).await?)));
        let samples: Vec<_> = futures::future::join_all(samples).await;
        for (role, producer, sample) in samples.into_iter().flatten() {
            let event = self.liveness.lock().sample(role, producer, sample, ClockReading::now());
            event.and_then(|event| self.apply(event));
        }
    }

    /// Samples a stalled producer often, until its last packet is known.
    async fn refine(self: Arc<Self>, timeout: Duration) {
        for _ in 0..REFINEMENTS_MAX {
            let pause = self.liveness.lock().refine_in(ClockReading::now());
            let Some(pause) = pause else { break };
            tokio::time::sleep(pause).await;
            self.read_counters(timeout).await;
        }
        self.refining.store(false, Ordering::Relaxed);
    }

    async fn report_next_packet(&self, party: Role) {
        let [user, otomo] = self.packet_counters.lock().clone();
        let counter = if party == Role::User { user } else { otomo };
        if let Some(counter) = counter {
            counter.report_next_packet().await;
        }
    }

    /// Whether its first packet was received.
    pub fn is_connected(&self) -> bool {
        self.connected.get().is_some()
    }

    /// The call is not in the table any more.
    pub(super) fn set_removed(&self) {
        self.removed.store(true, Ordering::Relaxed);
        self.credit_changed.notify_one();
    }

    /// Whether its end is stored, or was given up.
    pub fn is_removed(&self) -> bool {
        self.removed.load(Ordering::Relaxed)
    }

    fn apply(&self, event: LivenessEvent) -> Option<CallEnd> {
        let millis = |gap: Duration| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let (parties, now) = (self.parties.clone(), ClockReading::now());
        match event {
            LivenessEvent::Lost { party, last_rtp, gap } => {
                self.facts.publish(
                    RtpLost {
                        parties,
                        party,
                        last_rtp_at: last_rtp.map(|last| self.time(last)),
                        lost_at: Some(self.time(now)),
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
                        at: self.time(at),
                        gap_ms: millis(gap),
                    },
                    now.instant,
                );
                None
            }
            LivenessEvent::RtpTimeout { ended, party } => Some(CallEnd {
                party,
                ..self.end_by_worker(EndReason::RtpTimeout, ended)
            }),
            LivenessEvent::MediaTimeout => Some(self.end_by_worker(EndReason::MediaTimeout, now)),
        }
    }

    /// The end of the call if this worker ends it.
    pub fn end_by_worker(&self, reason: EndReason, at: ClockReading) -> CallEnd {
        CallEnd {
            reason,
            by: self.worker_id.to_string(),
            at,
            party: None,
        }
    }
}

impl Observer for Call {
    fn first_packet(&self, producer: ProducerNumber, packet: FirstPacket) {
        let FirstPacket { role, at, .. } = packet;
        let resumed = self.liveness.lock().first_packet(role, producer, at);
        let evidence = RtpEvidence {
            worker_id: self.worker_id.clone(),
            producer_id: packet.producer_id,
            ssrc: packet.ssrc,
            sequence_number: Some(packet.sequence_number),
            rtp_timestamp: Some(packet.rtp_timestamp),
        };
        let parties = self.parties.clone();
        let detected = self.detection.lock().packet(role);
        match detected {
            Detected::Connects => {
                let fact = RtpDetected {
                    parties,
                    connected_at: at.wall,
                    method: Method::SfuRtpDetected,
                    detected_from: role,
                    evidence,
                    terms: None,
                };
                // Queued before liveness may report a loss, so that no `rtp_lost` precedes it.
                self.facts.publish(fact, at.instant);
                let _ = self.connected.set(at);
                self.liveness.lock().connected(at);
                self.start_credit(at);
            }
            Detected::Starts => {
                let fact = MediaStarted {
                    parties,
                    party: role,
                    at: self.time(at),
                    evidence,
                };
                self.facts.publish(fact, at.instant);
            }
            Detected::Nothing => {}
        }
        resumed.and_then(|event| self.apply(event));
    }

    fn transport_lost(&self, role: Role, producer: ProducerNumber) {
        let event = self.liveness.lock().transport_lost(role, producer, ClockReading::now());
        event.and_then(|event| self.apply(event));
    }
}
