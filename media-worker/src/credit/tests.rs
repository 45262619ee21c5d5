use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000;

fn settings() -> CreditSettings {
    CreditSettings {
        low_before: Duration::from_secs(3),
    }
}

fn grant(id: &str, seconds: u64) -> Grant {
    Grant {
        grant_id: id.parse().unwrap(),
        until_ms: seconds * SECOND,
    }
}

fn credit(seconds: u64) -> (Credit, ClockReading) {
    let mut credit = Credit::new(settings(), SECOND, grant("first", seconds)).unwrap();
    let connected = ClockReading::now();
    assert_eq!(credit.due(), None, "nothing counts before the connection");
    credit.connected(connected);
    (credit, connected)
}

fn after(connected: ClockReading, millis: u64) -> ClockReading {
    connected.plus(Duration::from_millis(millis))
}

#[test]
fn a_call_is_warned_once_per_grant_and_ends_exactly_when_its_time_is_over() {
    let (mut credit, connected) = credit(10);
    assert_eq!(credit.due(), Some(after(connected, 7_000).instant));
    assert_eq!(credit.act(after(connected, 6_999)), None);
    let low = credit.act(after(connected, 7_001)).unwrap();
    assert!(matches!(low, CreditAction::Low { remaining_ms: 2_999, grant, .. } if grant.until_ms == 10_000));
    assert_eq!(credit.act(after(connected, 7_002)), None, "warned already");
    credit
        .extend(grant("second", 20), after(connected, 9_999).instant)
        .unwrap();
    assert_eq!(credit.due(), Some(after(connected, 17_000).instant));
    assert!(matches!(
        credit.act(after(connected, 17_000)),
        Some(CreditAction::Low { .. })
    ));
    assert_eq!(credit.due(), Some(after(connected, 20_000).instant));
    // The task that acts may be late; the end is not.
    let ended_at = after(connected, 20_000).wall;
    assert_eq!(credit.exhausted_at(after(connected, 19_999).instant), None);
    assert_eq!(credit.exhausted_at(after(connected, 20_050).instant), Some(ended_at));
    assert_eq!(
        credit.act(after(connected, 20_050)),
        Some(CreditAction::Exhausted { ended_at })
    );
    assert_eq!((credit.due(), credit.act(after(connected, 30_000))), (None, None));
}

#[test]
fn a_step_of_the_wall_clock_changes_nothing() {
    let (mut credit, connected) = credit(10);
    let mut now = after(connected, 10_000);
    now.wall = now.wall.plus(Duration::from_secs(3_600));
    let ended_at = after(connected, 10_000).wall;
    assert_eq!(credit.act(now), Some(CreditAction::Exhausted { ended_at }));
}

#[test]
fn a_grant_shorter_than_the_warning_is_warned_at_once() {
    let (mut credit, connected) = credit(2);
    assert!(credit.due().unwrap() <= connected.instant);
    assert!(matches!(
        credit.act(connected),
        Some(CreditAction::Low {
            remaining_ms: 2_000,
            ..
        })
    ));
}

#[test]
fn older_and_repeated_grants_are_superseded_and_bad_ones_refused() {
    let (mut credit, connected) = credit(10);
    let now = connected.instant;
    let mut extend = |id: &str, until_ms: u64| {
        let grant_id = id.parse().unwrap();
        let extended = credit.extend(Grant { grant_id, until_ms }, now);
        extended
            .map(|extended| (extended.until_ms, extended.superseded))
            .map_err(|refusal| refusal.code)
    };
    assert_eq!(extend("third", 30_000), Ok((30_000, false)));
    assert_eq!(
        extend("second", 20_000),
        Ok((30_000, true)),
        "an older grant after a newer one"
    );
    assert_eq!(extend("third", 30_000), Ok((30_000, true)));
    assert_eq!(extend("first", 10_000), Ok((30_000, true)));
    assert_eq!(
        extend("third", 40_000),
        Err(RefusalCode::InvalidGrant),
        "one identifier, two grants"
    );
    for bad in [0, 1, 30_001, u64::MAX] {
        assert_eq!(extend("bad", bad), Err(RefusalCode::InvalidGrant), "{bad}");
    }
    let late = credit.extend(grant("late", 40), after(connected, 30_000).instant);
    assert_eq!(late.unwrap_err().code, RefusalCode::WrongState);
    assert_eq!(credit.grant(), &grant("third", 30));
}

proptest! {
    /// Whatever arrives whenever, the call ends once, at the longest grant that was accepted before its end.
    #[test]
    fn a_call_ends_at_its_longest_accepted_grant(steps in proptest::collection::vec((0u64..6_000, 0u64..120), 0..60)) {
        let (mut credit, connected) = credit(5);
        let (mut elapsed, mut longest, mut ended) = (0, 5_000, None);
        for (number, (step, seconds)) in steps.into_iter().enumerate() {
            elapsed += step;
            let now = after(connected, elapsed);
            let accepted = credit.extend(grant(&format!("g{number}"), seconds), now.instant);
            if let Ok(extended) = accepted {
                prop_assert!(elapsed < longest && ended.is_none());
                longest = longest.max(seconds * SECOND);
                prop_assert_eq!(extended.until_ms, longest);
            }
            while let Some(action) = credit.act(now) {
                if let CreditAction::Exhausted { ended_at } = action {
                    prop_assert!(elapsed >= longest && ended.is_none());
                    ended = Some(ended_at);
                }
            }
            prop_assert_eq!(ended.is_some(), elapsed >= longest);
        }
        if let Some(ended_at) = ended {
            prop_assert_eq!(ended_at, after(connected, longest).wall);
        }
    }
}
