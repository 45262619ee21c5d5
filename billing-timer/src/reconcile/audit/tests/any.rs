//! Random calls in random windows, with a random fact lost or repeated.

use contract::FactKind;
use proptest::prelude::*;

use super::super::Difference;
use super::{DAY, HOUR, MINUTE, SECOND, Stored, call, reconcile, window};

/// Random calls: when they connect and how long they last.
fn calls() -> impl Strategy<Value = Vec<(i64, i64)>> {
    prop::collection::vec((5 * SECOND..DAY, 0..2 * HOUR), 1..12)
}

fn stream(calls: &[(i64, i64)]) -> Stored {
    let calls = calls.iter().enumerate();
    calls
        .flat_map(|(number, (connected, duration))| call(&format!("c{number}"), *connected, *duration))
        .collect()
}

proptest! {
    #[test]
    fn adjacent_windows_check_every_call_once(calls in calls(), mut cuts in prop::collection::vec(0..DAY, 0..5)) {
        cuts.extend([-HOUR, 2 * DAY]);
        cuts.sort_unstable();
        let (mut checked, mut billed) = (0, 0);
        for cut in cuts.windows(2) {
            let (found, summary) = reconcile(stream(&calls), window(cut[0], cut[1]));
            prop_assert_eq!(found, vec![]);
            checked += summary.calls - summary.running;
            billed += summary.billed_minutes;
        }
        prop_assert_eq!(checked, calls.len() as u64);
        let minutes: i64 = calls.iter().map(|(_, duration)| duration / MINUTE).sum();
        prop_assert_eq!(billed, u64::try_from(minutes).unwrap());
    }

    #[test]
    fn any_lost_or_repeated_fact_is_reported_for_its_call(
        calls in calls(),
        which in any::<prop::sample::Index>(),
        lost in any::<bool>(),
        cut in 0..2 * DAY,
        delay in 0..DAY,
    ) {
        let mut stored = stream(&calls);
        stored.retain(|(_, fact)| fact.kind() != FactKind::Requested);
        let index = which.index(stored.len());
        let (stored_at, fact) = stored[index].clone();
        if lost {
            stored.remove(index);
        } else {
            stored.push((stored_at + delay, fact.clone()));
        }
        let windows = [window(-HOUR, cut), window(cut, 4 * DAY)];
        let found: Vec<Difference> = windows.into_iter().flat_map(|window| reconcile(stored.clone(), window).0).collect();
        prop_assert!(!found.is_empty(), "{:?} at {}", fact, stored_at);
        prop_assert!(found.iter().all(|difference| difference.call_id.as_ref() == Some(fact.call_id())), "{:?}", found);
    }
}
