//! The plan of a seed: the fleet and its terms, the calls and their facts, and the faults.

use std::time::Duration;

use crate::rng::Rng;
use crate::time::micros;

/// One run, apart from the random choices during the run.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) interval_ms: u64,
    /// Minutes are billed from their start.
    pub(crate) charged_at_start: bool,
    pub(crate) max_call_ms: u64,
    pub(crate) lease_ttl_ms: u64,
    pub(crate) instances: usize,
    /// A restarted instance keeps its name.
    pub(crate) keeps_name: bool,
    /// Reads of keys are answered by replicas, which may lag.
    pub(crate) replicas: bool,
    pub(crate) calls: Vec<Call>,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// No faults occur after this time.
    pub(crate) faults_end_at: u64,
    /// The current conditions.
    pub(crate) network_conditions: NetworkConditions,
}

/// A call. All times are in milliseconds of true time since the start of the run.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) connected: Option<i64>,
    pub(crate) ended: i64,
    pub(crate) reason: &'static str,
    /// Whether `ended` has a `connectedAt`.
    pub(crate) end_knows_start: bool,
    /// When the facts are stored.
    pub(crate) detected_stored: Option<i64>,
    pub(crate) ended_stored: i64,
    /// By how much the clock of its media-worker is ahead, in milliseconds.
    pub(crate) ahead_ms: i64,
    /// In `requested`, `rtp_detected` and `ended`; without them the fleet's settings apply.
    pub(crate) terms: Option<Terms>,
    /// The first in `requested`, the others in `credit_granted`.
    pub(crate) grants: Vec<Grant>,
    /// In `ended`.
    pub(crate) measured_ms: Option<u64>,
    /// In this order.
    pub(crate) sounds: Vec<Sound>,
}

/// How a call is billed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    pub(crate) interval_ms: u64,
    pub(crate) charge: &'static str,
    pub(crate) free_ms: u64,
    pub(crate) minimum_ms: u64,
    pub(crate) silence: &'static str,
}

/// Time that a wallet grants. A later one may be shorter: it changes nothing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grant {
    pub(crate) until_ms: u64,
    /// When the fact is stored, unless the call is over then: at its end.
    pub(crate) stored: i64,
}

/// A party's RTP is lost, or resumes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sound {
    pub(crate) party: &'static str,
    pub(crate) lost: bool,
    /// None for a party that was never heard.
    pub(crate) at: Option<i64>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Crash after this many further polls. A new instance starts later.
    Crash(usize, u64),
    Stop(usize),
    Freeze(usize, Duration),
    Disconnect(usize, Duration),
    /// A watch misses changes and notices it later. The connection is unaffected.
    Gap(usize),
    NetworkConditions(NetworkConditions, Duration),
    /// The stream has no leader.
    Stall(Duration),
    ClockJump(usize, i64),
    /// The consumer is lost; true if it is also deleted.
    LoseConsumer(bool),
    EndWatchers(usize),
}

/// The probabilities of failures, in thousandths.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NetworkConditions {
    /// The request is lost.
    pub(crate) lost: u64,
    /// The request takes effect and its reply is lost.
    pub(crate) reply_lost: u64,
    /// The request takes effect late, mostly after its timeout.
    pub(crate) late: u64,
    /// The server refuses the request without a reason in the request.
    pub(crate) refused: u64,
    /// Deliveries are lost, repeated or delayed.
    pub(crate) disturbed: u64,
}

impl Plan {
    pub(crate) fn new(rng: &mut Rng) -> Self {
        let interval_ms = rng.one_of(&[1_000, 1_000, 2_000, 2_000, 5_000, 5_000, 5_000, 60_000]);
        let instances = rng.one_of(&[1, 2, 2, 3, 3]);
        let horizon_ms = (interval_ms * rng.between(4, 10)).max(rng.between(20_000, 60_000));
        let calls = (0..rng.between(2, 30))
            .map(|number| call(rng, number, interval_ms, horizon_ms))
            .collect();
        let faults = (0..rng.below(16))
            .map(|_| (rng.below(horizon_ms * 1_000), fault(rng, instances)))
            .collect();
        Self {
            interval_ms,
            charged_at_start: rng.per_mille(500),
            max_call_ms: if rng.per_mille(250) { interval_ms * 3 } else { 0 },
            lease_ttl_ms: rng.one_of(&[1_000, 2_000, 4_000, 4_000, 4_000, 10_000]),
            instances,
            keeps_name: rng.per_mille(500),
            replicas: rng.per_mille(300),
            calls,
            faults,
            faults_end_at: horizon_ms * 1_000 + micros(Duration::from_secs(5)),
            network_conditions: NetworkConditions::default(),
        }
    }

    pub(crate) fn last_fact_at(&self) -> u64 {
        let stored = self
            .calls
            .iter()
            .flat_map(|call| [Some(call.ended_stored), call.detected_stored]);
        let last = stored.flatten().max().unwrap_or(0);
        u64::try_from(last).unwrap() * 1_000
    }
}

fn call(rng: &mut Rng, number: u64, interval_ms: u64, horizon_ms: u64) -> Call {
    let milli = |value: u64| i64::try_from(value).unwrap();
    let begins = milli(rng.below(horizon_ms));
    let lasts = match rng.below(10) {
        0 => 0,
        // Ends at the millisecond at which its last tick is due.
        1 => milli(interval_ms * rng.between(1, 5)),
        2 => milli(rng.below(interval_ms)),
        _ => milli(rng.below(interval_ms * 6)),
    };
    let connected = rng.per_mille(880).then_some(begins);
    let terms = rng.per_mille(700).then(|| terms(rng, interval_ms));
    let minute = terms.map_or(interval_ms, |terms| terms.interval_ms);
    let grants: Vec<Grant> = (0..rng.one_of(&[0, 0, 1, 1, 2, 3, 5]))
        .map(|_| Grant {
            until_ms: minute * rng.between(1, 6),
            stored: begins + milli(rng.below(interval_ms * 7)),
        })
        .collect();
    // As the worker ends it, unless another service has ended it before as lost.
    let until_ms = grants.iter().map(|grant| grant.until_ms).max();
    let exhausted = until_ms.filter(|_| connected.is_some() && rng.per_mille(400));
    // Connected after its end: the first packet was in flight during the hang-up.
    let ended = match exhausted {
        Some(until_ms) => begins + milli(until_ms),
        None if rng.per_mille(20) => (begins - 300).max(0),
        None => begins + lasts,
    };
    let lost = rng.per_mille(150);
    let detected_stored = connected.map(|connected| connected + milli(delay(rng, interval_ms)));
    let mut ended_stored = ended + milli(delay(rng, interval_ms));
    if lost {
        ended_stored += milli(rng.between(3_000, 6_000 + 2 * interval_ms));
    }
    let wall_clock_ms = u64::try_from(ended - begins).unwrap_or(0);
    let measured_ms = match rng.below(4) {
        // The wall clock stepped.
        0 => Some((wall_clock_ms + rng.below(2_000)).saturating_sub(1_000)),
        1 | 2 => Some(wall_clock_ms),
        _ => None,
    };
    let second = 1_000;
    Call {
        ahead_ms: rng.one_of(&[0, 0, 0, 30, -30, 3_600, -3_600]) * second,
        terms,
        grants,
        measured_ms: measured_ms.filter(|_| connected.is_some()),
        sounds: sounds(rng, connected, ended),
        id: format!("call{number}_{:x}", rng.below(0x1_0000)),
        connected,
        ended,
        reason: match exhausted {
            _ if lost => "worker_lost",
            Some(_) => "credit_exhausted",
            None => "hangup",
        },
        end_knows_start: rng.per_mille(800),
        detected_stored,
        ended_stored,
    }
}

fn terms(rng: &mut Rng, interval_ms: u64) -> Terms {
    let some = |rng: &mut Rng, chance, most| if rng.per_mille(chance) { rng.below(most) } else { 0 };
    Terms {
        interval_ms: rng.one_of(&[interval_ms, interval_ms, interval_ms / 2, interval_ms * 2]),
        charge: rng.one_of(&["full", "start"]),
        free_ms: some(rng, 300, interval_ms * 2),
        minimum_ms: some(rng, 300, interval_ms * 3),
        silence: rng.one_of(&["bill", "deduct_otomo", "deduct_any"]),
    }
}

/// Losses and returns of both parties.
fn sounds(rng: &mut Rng, connected: Option<i64>, ended: i64) -> Vec<Sound> {
    let Some(connected) = connected else {
        return Vec::new();
    };
    let lasts = u64::try_from(ended - connected).unwrap_or(0);
    let (mut sounds, mut at) = (Vec::new(), connected);
    if rng.per_mille(100) {
        sounds.push(Sound {
            party: "otomo",
            lost: true,
            at: None,
        });
    }
    for _ in 0..rng.below(6) {
        at += i64::try_from(rng.below(lasts / 2 + 2)).unwrap();
        sounds.push(Sound {
            party: rng.one_of(&["user", "otomo"]),
            lost: rng.per_mille(600),
            at: Some(at),
        });
    }
    sounds
}

/// The delay between an event and its fact being stored.
fn delay(rng: &mut Rng, interval_ms: u64) -> u64 {
    match rng.below(20) {
        0 => rng.below(3 * interval_ms),
        1..4 => rng.below(2_000),
        _ => rng.between(1, 30),
    }
}

fn fault(rng: &mut Rng, instances: usize) -> Fault {
    let (host, ms, second) = (rng.index(instances), Duration::from_millis(1), Duration::from_secs(1));
    match rng.below(100) {
        0..24 => Fault::Crash(host, rng.below(400)),
        24..32 => Fault::Stop(host),
        32..48 => Fault::Freeze(host, rng.span(ms * 20, second * 20)),
        48..60 => Fault::Disconnect(host, rng.span(ms * 20, second * 60)),
        60..62 => Fault::Disconnect(host, rng.span(second * 200, second * 900)),
        62..68 => Fault::Gap(host),
        68..82 => Fault::NetworkConditions(network_conditions(rng), rng.span(ms * 300, second * 20)),
        82..88 => Fault::Stall(rng.span(ms * 50, second * 12)),
        88..94 => {
            let by = i64::try_from(rng.span(ms * 2, second * 3_600).as_millis()).unwrap();
            Fault::ClockJump(host, if rng.per_mille(500) { by } else { -by })
        }
        94..98 => Fault::LoseConsumer(rng.per_mille(300)),
        _ => Fault::EndWatchers(host),
    }
}

fn network_conditions(rng: &mut Rng) -> NetworkConditions {
    let most = rng.one_of(&[20, 100, 300]);
    NetworkConditions {
        lost: rng.below(most),
        reply_lost: rng.below(most),
        late: rng.below(most),
        refused: rng.below(most / 2),
        disturbed: rng.below(most),
    }
}
