//! Compares a call with what its facts require: due ticks, the settlement, and the bill by the call's terms.

use contract::wire::fact::{Ended, Settled};
use contract::wire::terms::{Charge, Silence as SilenceRule, Terms};
use contract::{Role, Timestamp};

use super::{Record, shown};
use crate::domain::terms::{DefaultTerms, full_minutes};
use crate::reconcile::difference::{Difference, Kind};
use crate::reconcile::minutes::MissingMinutes;

/// A clock that differs by less is slewed, as NTP does it.
const MAX_CLOCK_STEP_MS: u64 = 1_000;

/// The result of checking a call.
#[derive(Debug, Clone, Default)]
pub(crate) struct CheckResult {
    pub(crate) differences: Vec<Difference>,
    /// Differences beyond the limit.
    pub(crate) omitted: u32,
    pub(crate) connected: bool,
    pub(crate) settled: bool,
    pub(crate) billed_minutes: u32,
    pub(crate) ticks_due: u32,
    pub(crate) ticks_stored: u32,
}

impl Record {
    /// Checks a call that is over: all due ticks and the settlement must be stored.
    pub(crate) fn check_ended(&self, terms: &DefaultTerms) -> CheckResult {
        let mut checked = self.clone();
        let due = match (&self.ended, &self.settled) {
            (Some((_, ended)), settled) => {
                let due = self.due(ended.ended_at, terms);
                checked.check_connected_at();
                checked.check_clock();
                checked.missing(due);
                match settled {
                    Some((sequence, settled)) => checked.compare(ended, *sequence, settled, terms),
                    None => {
                        let last = self.ended.iter().map(|(sequence, _)| *sequence);
                        checked.note(Kind::NotSettled, last, "settled", "none");
                    }
                }
                due
            }
            (None, Some((sequence, settled))) => {
                let found = format!("settled, billedMinutes {}", settled.billed_minutes);
                checked.note(Kind::SettledWithoutEnd, [*sequence], "ended before it", found);
                settled.ticks
            }
            (None, None) => 0,
        };
        checked.result(due)
    }

    /// Checks a call that continued at `now`: all ticks due by then must be stored. Its bill belongs to a later window.
    pub(crate) fn check_running(&self, terms: &DefaultTerms, now: Timestamp) -> CheckResult {
        let mut checked = self.clone();
        let until = self.ended.as_ref().map_or(now, |(_, ended)| ended.ended_at.min(now));
        let due = self.due(until, terms);
        checked.missing(due);
        if let (None, Some(max_ms)) = (&self.ended, terms.max_call_duration_ms) {
            let deadline = self.connected_at().unwrap_or(self.first_stored_at).plus_millis(max_ms);
            if deadline <= now {
                let last = self.connected.map_or(self.first_sequence, |(sequence, _)| sequence);
                checked.note(Kind::NotEnded, [last], format!("ended by {deadline}"), "none");
            }
        }
        let missing: u32 = self.minutes.missing(due).into_iter().map(MissingMinutes::count).sum();
        CheckResult {
            settled: false,
            billed_minutes: 0,
            ticks_stored: due.saturating_sub(missing),
            ..checked.result(due)
        }
    }

    fn due(&self, until: Timestamp, terms: &DefaultTerms) -> u32 {
        let duration_ms = self.connected_at().map_or(0, |at| until.millis_since(at));
        full_minutes(duration_ms, self.interval_ms(terms))
    }

    fn interval_ms(&self, defaults: &DefaultTerms) -> u64 {
        match &self.terms {
            Some(terms) => terms.interval_ms,
            None => self.minutes.interval_ms(defaults.interval_ms),
        }
    }

    /// `ended` may lack a `connectedAt`, but one that is present must be correct.
    fn check_connected_at(&mut self) {
        let in_end = self
            .ended
            .as_ref()
            .and_then(|(sequence, ended)| Some((*sequence, ended.connected_at?)));
        let Some((sequence, in_end)) = in_end else { return };
        let expected = match self.connected {
            Some((_, at)) if at == in_end => return,
            Some((_, at)) => format!("connectedAt {at}"),
            None => "an rtp_detected".to_owned(),
        };
        self.note(Kind::Beginning, [sequence], expected, format!("{in_end} in ended"));
    }

    fn check_clock(&mut self) {
        let step = self
            .ended
            .as_ref()
            .and_then(|(sequence, ended)| Some((*sequence, ended.clock_step_ms?)));
        if let Some((sequence, step_ms)) = step
            && step_ms.unsigned_abs() >= MAX_CLOCK_STEP_MS
        {
            self.note(
                Kind::ClockStep,
                [sequence],
                "a clock that does not step",
                format!("{step_ms} ms"),
            );
        }
    }

    fn missing(&mut self, due: u32) {
        for missing in self.minutes.missing(due) {
            let (expected, found) = MissingMinutes::texts(missing);
            self.note(Kind::TickMissing, missing.sequence, expected, found);
        }
    }

    fn compare(&mut self, ended: &Ended, sequence: u64, settled: &Settled, terms: &DefaultTerms) {
        let connected_at = self.connected_at();
        let elapsed_ms = connected_at.map_or(0, |at| ended.ended_at.millis_since(at));
        let duration_ms = connected_at.and(ended.duration_ms).unwrap_or(elapsed_ms);
        let ticks = full_minutes(elapsed_ms, self.interval_ms(terms));
        let (billed_ms, billed) = self.bill(ended, duration_ms, terms);
        let over = self.minutes.highest.saturating_sub(ticks);
        let time = |at: Option<Timestamp>| at.map_or_else(|| "null".to_owned(), |at| at.to_string());
        let mut fields = vec![
            ("connectedAt", time(connected_at), time(settled.connected_at)),
            ("endedAt", ended.ended_at.to_string(), settled.ended_at.to_string()),
            ("durationMs", duration_ms.to_string(), settled.duration_ms.to_string()),
            ("ticks", ticks.to_string(), settled.ticks.to_string()),
            ("billedMinutes", billed.to_string(), settled.billed_minutes.to_string()),
            (
                "reason",
                ended.reason.as_str().to_owned(),
                settled.reason.as_str().to_owned(),
            ),
        ];
        // Absent in the settlements of earlier versions.
        if let Some(found) = settled.billed_ms {
            fields.push(("billedMs", billed_ms.to_string(), found.to_string()));
        }
        if let Some(found) = settled.silent_ms {
            let silent = |party| self.silent_ms(&[party], ended).to_string();
            fields.push(("silentMs.user", silent(Role::User), found.user.to_string()));
            fields.push(("silentMs.otomo", silent(Role::Otomo), found.otomo.to_string()));
        }
        if settled.billed_ms.is_some() {
            let number = |value: Option<u64>| value.map_or_else(|| "null".to_owned(), |value| value.to_string());
            fields.push(("untilMs", number(self.until_ms), number(settled.until_ms)));
            let terms = |terms: Option<&Terms>| terms.map_or_else(|| "null".to_owned(), shown);
            fields.push(("terms", terms(self.terms.as_deref()), terms(settled.terms.as_ref())));
        }
        for (field, expected, found) in fields {
            if expected != found {
                self.note(Kind::Settlement, [sequence], format!("{field} {expected}"), found);
            }
        }
        if over > settled.over_ticks {
            let expected = format!("no tick beyond {ticks} but the {} of overTicks", settled.over_ticks);
            let found = format!("ticks up to {}", self.minutes.highest);
            self.note(Kind::TickBeyondEnd, [sequence], expected, found);
        } else if over < settled.over_ticks {
            let found = settled.over_ticks.to_string();
            self.note(Kind::Settlement, [sequence], format!("overTicks {over}"), found);
        }
    }

    /// The billed time and minutes.
    fn bill(&self, ended: &Ended, duration_ms: u64, defaults: &DefaultTerms) -> (u64, u32) {
        let rounded = |charge, billed_ms: u64, interval_ms: u64| {
            let (full, rest) = (billed_ms / interval_ms, billed_ms % interval_ms);
            let minutes = full + u64::from(charge == Charge::Start && rest > 0);
            u32::try_from(minutes).unwrap_or(u32::MAX)
        };
        let granted = |time: u64| self.until_ms.map_or(time, |until_ms| until_ms.min(time));
        let Some(terms) = &self.terms else {
            let billed_ms = granted(duration_ms);
            return (
                billed_ms,
                rounded(defaults.charge, billed_ms, self.interval_ms(defaults)),
            );
        };
        let silent_parties: &[Role] = match terms.silence {
            SilenceRule::Bill => &[],
            SilenceRule::DeductOtomo => &[Role::Otomo],
            SilenceRule::DeductAny => &Role::BOTH,
        };
        let free_ms = self.silent_ms(silent_parties, ended).saturating_add(terms.free_ms);
        let mut billed_ms = granted(duration_ms).saturating_sub(free_ms);
        if self.connected_at().is_some() && billed_ms < terms.minimum_ms {
            billed_ms = granted(terms.minimum_ms).max(billed_ms);
        }
        (billed_ms, rounded(terms.charge, billed_ms, terms.interval_ms))
    }

    fn silent_ms(&self, parties: &[Role], ended: &Ended) -> u64 {
        let millis = |connected_at| self.silence.millis(parties, connected_at, ended.ended_at);
        self.connected_at().map_or(0, millis)
    }

    fn result(self, ticks_due: u32) -> CheckResult {
        CheckResult {
            connected: self.connected_at().is_some(),
            settled: self.settled.is_some(),
            billed_minutes: self.settled.map_or(0, |(_, settled)| settled.billed_minutes),
            ticks_due,
            ticks_stored: self.minutes.stored,
            differences: self.differences,
            omitted: self.omitted,
        }
    }
}
