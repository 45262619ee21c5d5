//! Ticks and settlements.

use serde_json::{Value, json};

use super::run::{Run, text};
use super::{Case, assert_found};
use crate::report::Check::{BeyondEnd, FalseNotice, NotSettled, Order, Repeated, Settlement};
use crate::report::Check::{TickBeginning, TickDoubled, TickEarly, TickMissing, TickOrder, TickTime};
use crate::report::Ticks;

const TICKS: &[Case] = &[
    ("one is missing", &[TickMissing, FalseNotice], |run| {
        run.drop_fact("c1", "tick", 1)
    }),
    ("the last is missing", &[TickMissing, FalseNotice], |run| {
        run.drop_fact("c1", "tick", 5)
    }),
    ("one is doubled", &[TickDoubled], |run| run.repeat("c1", "tick")),
    ("two change places", &[TickOrder], |run| {
        let (first, second) = (run.fact("c1", "tick", 0).2.clone(), run.fact("c1", "tick", 1).2.clone());
        // Stored late enough for both.
        (run.fact("c1", "tick", 0).0, run.fact("c1", "tick", 0).2) = (5_002, second);
        run.fact("c1", "tick", 1).2 = first;
        run.received.retain(|(_, _, _, message)| message["type"] != "tick");
    }),
    ("one is early", &[TickEarly], |run| run.fact("c1", "tick", 1).0 = 4_994),
    ("one is of another time", &[TickTime, FalseNotice], |run| {
        run.fact("c1", "tick", 1).2["at"] = text(5_001)
    }),
    ("there is a minute 0", &[TickTime, TickMissing, FalseNotice], |run| {
        let tick = &mut run.fact("c1", "tick", 0).2;
        (tick["minute"], tick["at"]) = (json!(0), text(1_000));
    }),
    (
        "one has another connectedAt",
        &[TickBeginning, TickTime, FalseNotice],
        |run| {
            run.fact("c1", "tick", 1).2["connectedAt"] = text(999);
        },
    ),
    ("one beyond the end is not announced", &[BeyondEnd], |run| {
        run.tick_beyond_end(7)
    }),
    ("one of two beyond the end is not announced", &[BeyondEnd], |run| {
        run.tick_beyond_end(7);
        run.tick_beyond_end(8);
        run.fact("c1", "settled", 0).2["overTicks"] = json!(1);
    }),
    ("one that is announced is not stored", &[Settlement], |run| {
        run.fact("c1", "settled", 0).2["overTicks"] = json!(1);
    }),
    ("one comes after the settlement", &[BeyondEnd, Order], |run| {
        run.tick_beyond_end(7);
        let settled = run.index("c1", "settled");
        run.facts.swap(settled - 1, settled);
    }),
];

const SETTLEMENTS: &[Case] = &[
    ("another beginning", &[Settlement], |run| {
        settled(run, "connectedAt", text(1_001))
    }),
    ("no beginning", &[Settlement, FalseNotice], |run| {
        settled(run, "connectedAt", Value::Null)
    }),
    ("another end", &[Settlement, FalseNotice], |run| {
        settled(run, "endedAt", text(14_001))
    }),
    ("another duration", &[Settlement, FalseNotice], |run| {
        settled(run, "durationMs", json!(13_001))
    }),
    ("other ticks", &[Settlement], |run| settled(run, "ticks", json!(7))),
    ("another bill", &[Settlement, FalseNotice], |run| {
        settled(run, "billedMinutes", json!(7))
    }),
    ("another reason", &[Settlement, FalseNotice], |run| {
        settled(run, "reason", json!("rtp_timeout"))
    }),
    ("a call that never began is billed", &[Settlement], |run| {
        run.fact("c2", "settled", 0).2["billedMinutes"] = json!(1);
    }),
    ("none", &[NotSettled, FalseNotice], |run| {
        run.drop_fact("c1", "settled", 0)
    }),
    ("none of a call that never began", &[NotSettled], |run| {
        run.drop_fact("c2", "settled", 0)
    }),
    ("two", &[Repeated], |run| run.repeat("c1", "settled")),
    (
        "a beginning before the end is stored too late for it",
        &[Settlement],
        |run| {
            run.accept_second();
            run.detect(2_200, "c2", 1_900, 8);
        },
    ),
];

fn settled(run: &mut Run, field: &str, value: Value) {
    run.fact("c1", "settled", 0).2[field] = value;
}

#[test]
fn wrong_ticks_are_found() {
    assert_found(TICKS);
}

#[test]
fn wrong_settlements_are_found() {
    assert_found(SETTLEMENTS);
}

#[test]
fn minutes_are_counted() {
    let ticks = |change: fn(&mut Run)| {
        let mut run = Run::clean();
        change(&mut run);
        let report = run.check();
        (report.ticks, report.is_clean())
    };
    let clean = Ticks {
        due: 6,
        stored: 6,
        ..Ticks::default()
    };
    assert_eq!(ticks(|_| {}), (clean, true));
    let dropped = Ticks {
        stored: 4,
        missing: 2,
        ..clean
    };
    let drop_two: fn(&mut Run) = |run| (0..2).for_each(|nth| run.drop_fact("c1", "tick", nth));
    assert_eq!(ticks(drop_two), (dropped, false));
    let announced = Ticks {
        stored: 7,
        beyond_announced: 1,
        ..clean
    };
    let announce: fn(&mut Run) = |run| {
        run.tick_beyond_end(7);
        settled(run, "overTicks", json!(1));
    };
    assert_eq!(ticks(announce), (announced, true));
}

#[test]
fn a_minute_that_is_full_exactly_at_the_end_is_due() {
    for (end, due) in [(13_000, 6), (12_999, 5)] {
        let mut run = Run::clean();
        run.fact("c1", "ended", 0).2["endedAt"] = text(end);
        assert_eq!(run.check().ticks.due, due, "{end}");
    }
}
