//! What a seed holds: the fleet and its terms, the calls and their facts, and what breaks when.

use std::time::Duration;

use crate::core::micros;
use crate::dice::Dice;
use crate::network::Weather;

/// One run, but for what the dice decide on the way.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) interval_ms: u64,
    /// Minutes are paid from their start.
    pub(crate) charged_at_start: bool,
    pub(crate) max_call_ms: u64,
    pub(crate) lease_ttl_ms: u64,
    pub(crate) instances: usize,
    /// An instance keeps its name when it starts again.
    pub(crate) keeps_name: bool,
    /// Replicas answer reads of keys, and may be a moment behind.
    pub(crate) replicas: bool,
    pub(crate) calls: Vec<Call>,
    pub(crate) faults: Vec<(u64, Fault)>,
    /// From then on nothing breaks.
    pub(crate) calm_at: u64,
    /// As it is at the moment.
    pub(crate) weather: Weather,
}

/// A call as it was. All times in milliseconds since the run's beginning, by the true time.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) id: String,
    pub(crate) connected: Option<i64>,
    pub(crate) ended: i64,
    pub(crate) reason: &'static str,
    /// Who ends it knows when it began.
    pub(crate) told: bool,
    /// When the facts reach the stream.
    pub(crate) detected_stored: Option<i64>,
    pub(crate) ended_stored: i64,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// After so many polls more; another one starts after this.
    Crash(usize, u64),
    Stop(usize),
    Freeze(usize, Duration),
    Cut(usize, Duration),
    /// A subscription was full, and something dropped.
    Gap(usize),
    Weather(Weather, Duration),
    /// No leader.
    Stall(Duration),
    ClockJump(usize, i64),
    /// Deleted, or not.
    LoseConsumer(bool),
    EndWatchers(usize),
}

impl Plan {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let interval_ms = dice.one_of(&[1_000, 1_000, 2_000, 2_000, 5_000, 5_000, 5_000, 60_000]);
        let instances = dice.one_of(&[1, 2, 2, 3, 3]);
        let horizon_ms = (interval_ms * dice.between(4, 10)).max(dice.between(20_000, 60_000));
        let calls = (0..dice.between(2, 30))
            .map(|number| call(dice, number, interval_ms, horizon_ms))
            .collect();
        let faults = (0..dice.below(16))
            .map(|_| (dice.below(horizon_ms * 1_000), fault(dice, instances)))
            .collect();
        Self {
            interval_ms,
            charged_at_start: dice.per_mille(500),
            max_call_ms: if dice.per_mille(250) { interval_ms * 3 } else { 0 },
            lease_ttl_ms: dice.one_of(&[1_000, 2_000, 4_000, 4_000, 4_000, 10_000]),
            instances,
            keeps_name: dice.per_mille(500),
            replicas: dice.per_mille(300),
            calls,
            faults,
            calm_at: horizon_ms * 1_000 + micros(Duration::from_secs(5)),
            weather: Weather::default(),
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

fn call(dice: &mut Dice, number: u64, interval_ms: u64, horizon_ms: u64) -> Call {
    let milli = |value: u64| i64::try_from(value).unwrap();
    let begins = milli(dice.below(horizon_ms));
    let lasts = match dice.below(10) {
        0 => 0,
        // To the millisecond: the last tick is due as it ends.
        1 => milli(interval_ms * dice.between(1, 5)),
        2 => milli(dice.below(interval_ms)),
        _ => milli(dice.below(interval_ms * 6)),
    };
    let connected = dice.per_mille(880).then_some(begins);
    // Connected after its end: the last packet on its way as it was hung up.
    let ended = if dice.per_mille(20) {
        (begins - 300).max(0)
    } else {
        begins + lasts
    };
    let lost = dice.per_mille(150);
    let detected_stored = connected.map(|connected| connected + milli(delay(dice, interval_ms)));
    let mut ended_stored = ended + milli(delay(dice, interval_ms));
    if lost {
        ended_stored += milli(dice.between(3_000, 6_000 + 2 * interval_ms));
    }
    Call {
        id: format!("call{number}_{:x}", dice.below(0x1_0000)),
        connected,
        ended,
        reason: if lost { "worker_lost" } else { "hangup" },
        told: dice.per_mille(800),
        detected_stored,
        ended_stored,
    }
}

/// From the event until it is stored.
fn delay(dice: &mut Dice, interval_ms: u64) -> u64 {
    match dice.below(20) {
        0 => dice.below(3 * interval_ms),
        1..4 => dice.below(2_000),
        _ => dice.between(1, 30),
    }
}

fn fault(dice: &mut Dice, instances: usize) -> Fault {
    let (site, ms, second) = (dice.index(instances), Duration::from_millis(1), Duration::from_secs(1));
    match dice.below(100) {
        0..24 => Fault::Crash(site, dice.below(400)),
        24..32 => Fault::Stop(site),
        32..48 => Fault::Freeze(site, dice.span(ms * 20, second * 20)),
        48..60 => Fault::Cut(site, dice.span(ms * 20, second * 60)),
        60..62 => Fault::Cut(site, dice.span(second * 200, second * 900)),
        62..68 => Fault::Gap(site),
        68..82 => Fault::Weather(weather(dice), dice.span(ms * 300, second * 20)),
        82..88 => Fault::Stall(dice.span(ms * 50, second * 12)),
        88..94 => {
            let by = i64::try_from(dice.span(ms * 2, second * 20).as_millis()).unwrap();
            Fault::ClockJump(site, if dice.per_mille(500) { by } else { -by })
        }
        94..98 => Fault::LoseConsumer(dice.per_mille(300)),
        _ => Fault::EndWatchers(site),
    }
}

fn weather(dice: &mut Dice) -> Weather {
    let most = dice.one_of(&[20, 100, 300]);
    Weather {
        lost: dice.below(most),
        unheard: dice.below(most),
        late: dice.below(most),
        refused: dice.below(most / 2),
        mangled: dice.below(most),
    }
}
