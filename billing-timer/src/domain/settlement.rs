//! The settlement of a call that is over: its bill follows from its facts alone.
//!
//! `base = min(durationMs, untilMs) − deducted silence − freeMs`, not below 0. A connected call is then billed for at least `minimumMs`,
//! but for no more than `untilMs`. What is billed is rounded to minutes by `charge`.

use contract::buckets::billing_active::{BillingEnd, BillingEntry};
use contract::wire::fact::{Settled, SilentMs};
use contract::wire::terms::{Charge, Silence};
use contract::{Parties, Role, Timestamp};

use super::call_facts::CallFacts;
use super::step::{Step, step};
use super::terms::{DefaultTerms, billed_minutes, full_minutes};
use super::{entry, last_tick};

/// The settlement of a call that is over, or none as long as due ticks are not stored.
///
/// A stored `rtp_detected` counts for more than the entry.
pub fn settle_if_complete(
    entry: &BillingEntry,
    facts: &CallFacts,
    defaults: &DefaultTerms,
    now: Timestamp,
) -> Option<Settled> {
    let entry = BillingEntry {
        connected_at: facts.connected_at.or(entry.connected_at),
        interval_ms: entry::interval_ms(facts.terms.as_ref()).or(entry.interval_ms),
        ..entry.clone()
    };
    let is_complete = step(&entry, facts.tick.as_ref(), defaults, now) == Step::Settle;
    let end = entry.end.as_deref().filter(|_| is_complete)?;
    Some(settle(&entry.parties, entry.connected_at, end, facts, defaults))
}

/// The terms in effect.
struct Effective {
    interval_ms: u64,
    charge: Charge,
    free_ms: u64,
    minimum_ms: u64,
    silence: Silence,
}

/// Computes the settlement.
///
/// `connected_at` and `end` are those of the call's entry, which `facts` may lack. Ticks beyond the end are reported as `overTicks`
/// and not billed. A call whose `connectedAt` is after its `endedAt` has a duration of 0. A call without terms is billed by the
/// fleet's settings: by its duration, silence included.
pub fn settle(
    parties: &Parties,
    connected_at: Option<Timestamp>,
    end: &BillingEnd,
    facts: &CallFacts,
    defaults: &DefaultTerms,
) -> Settled {
    let elapsed_ms = connected_at.map_or(0, |connected_at| end.ended_at.millis_since(connected_at));
    let measured_ms = facts.ended.as_ref().and_then(|ended| ended.duration_ms);
    let duration_ms = connected_at.map_or(0, |_| measured_ms.unwrap_or(elapsed_ms));
    let terms = effective(connected_at, facts, defaults);
    let silent_ms = |parties: &[Role]| {
        connected_at.map_or(0, |connected_at| {
            facts.silences.silent_ms(parties, connected_at, end.ended_at)
        })
    };
    let deducted_ms = match terms.silence {
        Silence::Bill => 0,
        Silence::DeductOtomo => silent_ms(&[Role::Otomo]),
        Silence::DeductAny => silent_ms(&Role::BOTH),
    };
    let until_ms = facts.until_ms.unwrap_or(u64::MAX);
    let base_ms = duration_ms
        .min(until_ms)
        .saturating_sub(deducted_ms)
        .saturating_sub(terms.free_ms);
    let minimum_ms = connected_at.map_or(0, |_| terms.minimum_ms.min(until_ms));
    let billed_ms = base_ms.max(minimum_ms);
    let ticks = full_minutes(elapsed_ms, terms.interval_ms);
    Settled {
        parties: parties.clone(),
        connected_at,
        ended_at: end.ended_at,
        duration_ms,
        ticks,
        over_ticks: facts.tick.map_or(0, |last| last.minute).saturating_sub(ticks),
        billed_minutes: billed_minutes(terms.charge, billed_ms, terms.interval_ms),
        reason: end.reason,
        billed_ms: Some(billed_ms),
        silent_ms: Some(SilentMs {
            user: silent_ms(&[Role::User]),
            otomo: silent_ms(&[Role::Otomo]),
        }),
        until_ms: facts.until_ms,
        terms: facts.terms.clone(),
    }
}

fn effective(connected_at: Option<Timestamp>, facts: &CallFacts, defaults: &DefaultTerms) -> Effective {
    match &facts.terms {
        Some(terms) => Effective {
            interval_ms: terms.interval_ms,
            charge: terms.charge,
            free_ms: terms.free_ms,
            minimum_ms: terms.minimum_ms,
            silence: terms.silence,
        },
        None => Effective {
            interval_ms: connected_at.map_or(defaults.interval_ms, |connected_at| {
                last_tick::interval_ms(facts.tick.as_ref(), connected_at, defaults.interval_ms)
                    .unwrap_or(defaults.interval_ms)
            }),
            charge: defaults.charge,
            free_ms: 0,
            minimum_ms: 0,
            silence: Silence::Bill,
        },
    }
}

#[cfg(test)]
mod tests;
