use contract::buckets::active_calls::Acceptance;
use contract::buckets::media_workers::WorkerStatus;
use contract::{Parties, TraceParent};

use super::*;

const GRACE: Duration = Duration::from_secs(2);
const TTL_MS: u64 = 6_000;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis).unwrap()
}

fn ringing(node: &str) -> ActiveCall {
    ActiveCall {
        parties: Parties {
            call_id: "call_1".parse().unwrap(),
            user_id: "user_001".parse().unwrap(),
            otomo_id: "otomo_777".parse().unwrap(),
        },
        node_id: node.parse().unwrap(),
        requested_at: at(0),
        ring_deadline: at(30_000),
        accepted: None,
        traceparent: TraceParent::generate(),
    }
}

fn accepted(node: &str) -> ActiveCall {
    let acceptance = Acceptance {
        accepted_at: at(1_000),
        worker_id: "mw_1".parse().unwrap(),
        worker_started_at: Some(at(0)),
        media_deadline: at(31_000),
    };
    ActiveCall {
        accepted: Some(acceptance),
        ..ringing(node)
    }
}

fn alive(millis: i64, started: i64) -> WorkerChange {
    let (worker_id, at, started_at) = ("mw_1".parse().unwrap(), at(millis), at(started));
    WorkerChange::Alive(WorkerStatus {
        worker_id,
        calls: 0,
        capacity: 1,
        draining: false,
        cordoned: false,
        at,
        started_at,
        wall: None,
        stored_at: None,
    })
}

fn gone() -> WorkerChange {
    WorkerChange::Gone("mw_1".parse().unwrap())
}

fn watchlist() -> CallSchedule {
    CallSchedule::new("me".parse().unwrap(), GRACE, at(0))
}

fn done(list: &mut CallSchedule, result: CheckResult, millis: i64) {
    list.done(&"call_1".parse().unwrap(), result, at(millis));
}

fn due(list: &mut CallSchedule, millis: i64) -> Vec<Due> {
    list.due(at(millis), 10).into_iter().map(|(_, due)| due).collect()
}

#[test]
fn a_call_of_this_node_stops_ringing_exactly_at_its_deadline() {
    let mut list = watchlist();
    list.call(ringing("me"), at(0));
    assert_eq!(list.next(), Some(at(30_000)));
    assert_eq!(due(&mut list, 29_999), []);
    assert_eq!(due(&mut list, 30_000), [Due::RingTimeout]);
    assert_eq!((due(&mut list, 60_000), list.next()), (vec![], None), "it is in hand");
    done(&mut list, CheckResult::Failed, 60_000);
    assert_eq!(due(&mut list, 65_000), [Due::RingTimeout], "and again if that failed");
    done(&mut list, CheckResult::Ended, 66_000);
    assert_eq!((list.next(), due(&mut list, 90_000)), (None, vec![]));
}

#[test]
fn calls_of_other_nodes_are_due_after_the_grace() {
    let mut list = watchlist();
    list.call(ringing("other"), at(0));
    assert_eq!(due(&mut list, 31_999), []);
    assert_eq!(due(&mut list, 34_000), [Due::RingTimeout]);
}

#[test]
fn an_accepted_call_is_checked_after_its_media_deadline_and_then_periodically() {
    let mut list = watchlist();
    list.call(ringing("me"), at(0));
    list.worker(alive(0, 0), at(0));
    list.call(accepted("me"), at(1_000));
    assert_eq!(due(&mut list, 32_999), []);
    assert_eq!(due(&mut list, 33_000), [Due::MediaTimeout]);
    done(&mut list, CheckResult::Continues, 33_000);
    assert_eq!(list.next(), Some(at(93_000)));
    assert_eq!(due(&mut list, 93_000), [Due::MediaTimeout]);
    done(&mut list, CheckResult::Failed, 94_000);
    assert_eq!(
        due(&mut list, 99_000),
        [Due::MediaTimeout],
        "sooner if it could not be done"
    );
}

#[test]
fn the_calls_of_a_lost_worker_end_at_its_last_heartbeat() {
    let mut list = watchlist();
    list.call(accepted("me"), at(1_000));
    list.worker(alive(2_000, 0), at(2_001));
    list.worker(alive(9_000, 0), at(9_001));
    list.worker(gone(), at(15_000));
    assert_eq!(due(&mut list, 16_999), []);
    assert_eq!(due(&mut list, 17_000), [Due::WorkerLost]);
    done(&mut list, CheckResult::Failed, 17_000);
    assert_eq!(due(&mut list, 22_000), [Due::WorkerLost], "until the call is gone");
}

#[test]
fn a_worker_that_returns_within_the_grace_keeps_its_calls() {
    let mut list = watchlist();
    list.call(accepted("me"), at(1_000));
    list.worker(alive(2_000, 0), at(2_001));
    list.worker(gone(), at(15_000));
    list.worker(alive(16_000, 0), at(16_000));
    assert_eq!(due(&mut list, 32_999), []);
}

#[test]
fn after_an_outage_workers_get_one_ttl_for_a_heartbeat() {
    let mut list = watchlist();
    list.call(accepted("me"), at(1_000));
    list.worker(alive(2_000, 0), at(2_001));
    list.watch_restored(at(20_000));
    list.worker(gone(), at(20_010));
    assert_eq!(due(&mut list, 20_000 + TTL_MS as i64 - 1), []);
    assert_eq!(due(&mut list, 20_000 + TTL_MS as i64), [Due::WorkerLost]);
}

#[test]
fn an_unknown_worker_is_given_time_for_a_heartbeat() {
    let mut list = watchlist();
    list.call(accepted("me"), at(1_000));
    assert_eq!(due(&mut list, 6_999), []);
    assert_eq!(due(&mut list, 7_000), [Due::WorkerLost]);
}

#[test]
fn a_worker_restarted_under_its_name_has_lost_its_calls() {
    let mut list = watchlist();
    list.worker(alive(2_000, 0), at(2_001));
    list.call(accepted("me"), at(2_500));
    list.worker(alive(4_000, 3_500), at(4_001));
    assert_eq!(due(&mut list, 6_000), []);
    assert_eq!(due(&mut list, 6_001), [Due::WorkerLost]);
    done(&mut list, CheckResult::Failed, 6_001);
    list.worker(alive(6_000, 3_500), at(6_002));
    assert_eq!(due(&mut list, 11_000), []);
    assert_eq!(due(&mut list, 11_001), [Due::WorkerLost], "until the call is gone");
}

#[test]
fn a_lost_worker_that_is_restarted_has_lost_its_calls() {
    let mut list = watchlist();
    list.worker(alive(2_000, 0), at(2_001));
    list.call(accepted("me"), at(2_500));
    list.worker(gone(), at(8_000));
    list.worker(alive(9_000, 8_500), at(9_001));
    assert_eq!(due(&mut list, 9_999), []);
    assert_eq!(due(&mut list, 10_000), [Due::WorkerLost]);
}

#[test]
fn another_process_under_the_name_does_not_have_the_calls_of_an_unseen_one_whatever_its_clock_shows() {
    for started in [8_500, -3_600_000, 3_600_000] {
        let mut list = watchlist();
        list.worker(alive(9_000, started), at(9_001));
        list.call(accepted("me"), at(10_000));
        assert_eq!(due(&mut list, 11_999), []);
        assert_eq!(due(&mut list, 12_000), [Due::WorkerLost]);
    }
}

#[test]
fn a_worker_whose_clock_is_ahead_keeps_its_calls() {
    let mut list = watchlist();
    let mut call = accepted("me");
    if let Some(acceptance) = &mut call.accepted {
        acceptance.worker_started_at = Some(at(3_600_000));
    }
    list.worker(alive(3_602_000, 3_600_000), at(2_001));
    list.call(call, at(2_500));
    assert_eq!(due(&mut list, 32_000), []);
}

#[test]
fn nodes_take_over_at_different_times() {
    let mut times = std::collections::BTreeSet::new();
    for node in ["a", "b", "c", "d", "e"] {
        let mut list = CallSchedule::new(node.parse().unwrap(), GRACE, at(0));
        list.call(ringing("gone"), at(0));
        times.extend(list.next());
    }
    assert!(
        times.len() > 1 && times.iter().all(|time| (at(32_000)..at(34_000)).contains(time)),
        "{times:?}"
    );
}

#[test]
fn many_due_calls_are_taken_a_few_at_a_time() {
    let mut list = watchlist();
    for number in 0..10 {
        let mut call = ringing("me");
        call.parties.call_id = format!("call_{number}").parse().unwrap();
        list.call(call, at(0));
    }
    let first = list.due(at(30_000), 7);
    assert_eq!((first.len(), list.due(at(30_000), 7).len(), list.next()), (7, 3, None));
}

#[test]
fn a_call_removed_during_its_check_is_not_rescheduled() {
    let mut list = watchlist();
    list.call(ringing("me"), at(0));
    assert_eq!(due(&mut list, 30_000), [Due::RingTimeout]);
    list.remove_call(&"call_1".parse().unwrap());
    done(&mut list, CheckResult::Failed, 30_001);
    assert_eq!(list.next(), None);
}
