//! One call: its room, what was detected, whether it lives, and what is written down of it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallClosed, CallMedia};
use contract::wire::fact::{Method, RtpDetected, RtpLost, RtpResumed};
use contract::{EndReason, Parties, Role, Timestamp, WorkerId};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::Rules;
use crate::detection::{Detection, FirstPacket};
use crate::liveness::{Liveness, Source, Verdict};
use crate::moment::Moment;
use crate::outbox::{Ending, Outbox};
use crate::sfu::{HostId, Observer, Probe, Room};

/// Commands of one call that may wait for each other.
const TURNS: usize = 16;

/// A call on this worker.
pub struct Call {
    /// The call and who is in it.
    pub parties: Parties,
    /// When it is given up if it is not connected.
    pub media_deadline: Timestamp,
    pub(super) stage: Arc<tokio::sync::Mutex<Stage>>,
    pub(super) outbox: Outbox,
    worker_id: WorkerId,
    host: OnceLock<HostId>,
    turns: Arc<Semaphore>,
    detection: Mutex<Detection>,
    liveness: Mutex<Liveness>,
    probes: Mutex<[Option<Probe>; 2]>,
}

/// How far a call is.
pub(super) enum Stage {
    /// It has no room yet.
    Opening,
    /// Media may flow.
    Open(Box<Room>),
    /// It has no room any more.
    Over,
}

/// One party at a call's media; the next one waits until this is dropped.
pub struct Visit {
    /// The call.
    pub call: Arc<Call>,
    /// Which party.
    pub role: Role,
    stage: OwnedMutexGuard<Stage>,
    _turn: OwnedSemaphorePermit,
}

/// What the state of its media does to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fate {
    /// Why it ends.
    pub reason: EndReason,
    /// When it was over.
    pub ended_at: Timestamp,
}

impl Call {
    pub(super) fn new(parties: Parties, outbox: Outbox, rules: &Rules) -> Self {
        let now = Moment::now();
        Self {
            parties,
            media_deadline: now.wall.plus(rules.limits.media_timeout),
            stage: Arc::new(tokio::sync::Mutex::new(Stage::Opening)),
            outbox,
            worker_id: rules.worker_id.clone(),
            host: OnceLock::new(),
            turns: Arc::new(Semaphore::new(TURNS)),
            detection: Mutex::new(Detection::new(rules.connect_policy)),
            liveness: Mutex::new(Liveness::new(rules.limits.clone(), now)),
            probes: Mutex::default(),
        }
    }

    pub(super) fn hosted_by(&self, host: HostId) {
        let _ = self.host.set(host);
    }

    /// The mediasoup worker it is on.
    pub fn host(&self) -> Option<HostId> {
        self.host.get().copied()
    }

    /// Waits until its end is stored.
    ///
    /// # Errors
    /// `internal` if it cannot be.
    pub async fn closed(&self) -> Result<CallClosed, Refusal> {
        self.outbox.closed().await
    }

    /// When its media was last seen.
    pub fn last_rtp(&self) -> Option<Timestamp> {
        lock(&self.liveness).last_rtp().map(|last| last.wall)
    }

    /// Its media, as it was last looked at.
    pub fn media(&self) -> CallMedia {
        let liveness = lock(&self.liveness);
        CallMedia {
            call_id: self.parties.call_id.clone(),
            user: liveness.seen(Role::User),
            otomo: liveness.seen(Role::Otomo),
        }
    }

    /// Whether a party's next producer is to be watched for its first packet.
    pub fn awaits(&self, role: Role) -> bool {
        lock(&self.detection).awaits(role)
    }

    /// From now on this party's packets are counted there.
    pub fn count_at(&self, role: Role, probe: Probe) {
        let [user, otomo] = &mut *lock(&self.probes);
        *(if role == Role::User { user } else { otomo }) = Some(probe);
    }

    pub(super) async fn visit(self: Arc<Self>, role: Role) -> Result<Visit, Refusal> {
        let turn = Arc::clone(&self.turns).try_acquire_owned();
        let turn = turn.map_err(|_| Refusal::new(RefusalCode::WrongState, "too many commands of this call at once"))?;
        let stage = Arc::clone(&self.stage).lock_owned().await;
        Ok(Visit {
            call: self,
            role,
            stage,
            _turn: turn,
        })
    }

    /// Reads its packet counters, writes down what follows, and says if the call is over by it.
    pub async fn look(&self, patience: Duration) -> Option<Fate> {
        let probes = lock(&self.probes).clone();
        let read = Role::BOTH
            .into_iter()
            .zip(probes)
            .filter_map(|(role, probe)| Some((role, probe?)));
        let read = read.map(async |(role, probe)| Some((role, probe.source, probe.packets(patience).await?)));
        let read: Vec<_> = futures::future::join_all(read).await;
        for (role, source, packets) in read.into_iter().flatten() {
            let verdict = lock(&self.liveness).sample(role, source, packets, Moment::now());
            verdict.and_then(|verdict| self.note(verdict));
        }
        let verdicts = lock(&self.liveness).tick(Moment::now());
        verdicts.into_iter().filter_map(|verdict| self.note(verdict)).last()
    }

    fn note(&self, verdict: Verdict) -> Option<Fate> {
        let millis = |gap: Duration| u64::try_from(gap.as_millis()).unwrap_or(u64::MAX);
        let parties = self.parties.clone();
        match verdict {
            Verdict::Lost {
                party,
                last_rtp_at,
                gap,
            } => {
                self.outbox.lost(RtpLost {
                    parties,
                    party,
                    last_rtp_at,
                    gap_ms: millis(gap),
                });
                None
            }
            Verdict::Resumed { party, at, gap } => {
                self.outbox.resumed(RtpResumed {
                    parties,
                    party,
                    at,
                    gap_ms: millis(gap),
                });
                None
            }
            Verdict::Dead { ended_at } => Some(Fate {
                reason: EndReason::RtpTimeout,
                ended_at,
            }),
            Verdict::MediaTimeout => Some(Fate {
                reason: EndReason::MediaTimeout,
                ended_at: Timestamp::now(),
            }),
        }
    }

    /// The ending that its fate asks for.
    pub fn ending(&self, fate: Fate) -> Ending {
        Ending {
            reason: fate.reason,
            by: self.worker_id.to_string(),
            ended_at: fate.ended_at,
        }
    }
}

impl Observer for Call {
    fn first_packet(&self, source: Source, packet: FirstPacket) {
        let FirstPacket {
            role,
            at,
            producer_id,
            ssrc,
        } = packet;
        lock(&self.liveness).first_packet(role, source, at);
        if lock(&self.detection).connects(role) {
            let fact = RtpDetected {
                parties: self.parties.clone(),
                connected_at: at.wall,
                method: Method::SfuRtpDetected,
                detected_from: role,
                worker_id: self.worker_id.clone(),
                producer_id,
                ssrc,
            };
            // Before silence counts, so that no loss is written down ahead of it.
            self.outbox.detected(fact, at.instant);
            lock(&self.liveness).connected();
        }
    }

    fn transport_gone(&self, role: Role, source: Source) {
        let verdict = lock(&self.liveness).gone(role, source, Moment::now());
        verdict.and_then(|verdict| self.note(verdict));
    }
}

impl Visit {
    /// The call's media.
    ///
    /// # Errors
    /// `unknown_call` if it is over.
    pub fn room(&mut self) -> Result<&mut Room, Refusal> {
        match &mut *self.stage {
            Stage::Open(room) => Ok(room),
            Stage::Opening | Stage::Over => Err(Refusal::new(RefusalCode::UnknownCall, "the call is over here")),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
