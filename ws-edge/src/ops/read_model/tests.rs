use contract::TraceParent;
use contract::buckets::billing_leases::{Lease, Partition};
use contract::buckets::media_workers::WorkerStatus;
use contract::jetstream::bucket::Revised;
use contract::samples;
use contract::views::call_view::CallState;
use contract::wire::command::PartyMedia;

use super::*;
use crate::ops::row::RemovedRow;

fn at(seconds: u64) -> Timestamp {
    samples::at(0).plus_millis(seconds * 1000)
}

fn name(number: usize) -> String {
    format!("call_{number}")
}

fn id(number: usize) -> CallId {
    name(number).parse().unwrap()
}

fn requested(number: usize) -> Recorded {
    samples::recorded(1, samples::requested(&name(number), at(0)), 0)
}

fn detected(number: usize) -> Recorded {
    samples::recorded(2, samples::rtp_detected(&name(number), at(1)), 0)
}

fn ended(number: usize) -> Recorded {
    samples::recorded(9, samples::ended(&name(number), at(9), Some(at(1))), 0)
}

fn active(number: usize) -> CallChange {
    CallChange::Active(Revised {
        value: ActiveCall {
            parties: samples::parties(&name(number)),
            node_id: "edge".parse().unwrap(),
            requested_at: at(0),
            ring_deadline: at(30),
            accepted: None,
            traceparent: TraceParent::generate(),
        },
        revision: 1,
    })
}

fn media(number: usize, seconds: u64) -> Vec<CallMedia> {
    let party = PartyMedia {
        last_rtp_at: at(seconds),
        lost: false,
        packets: seconds * 50,
    };
    vec![CallMedia {
        call_id: id(number),
        user: Some(party),
        otomo: None,
    }]
}

fn call_rows(updates: &[RowUpdate]) -> Vec<&CallRow> {
    let rows = updates.iter().filter_map(|update| match update {
        RowUpdate::Call(row) => Some(&**row),
        _ => None,
    });
    rows.collect()
}

#[test]
fn the_facts_of_a_call_that_began_before_the_watch_are_read() {
    let mut model = ReadModel::default();
    model.apply_fact(&requested(1), at(0));
    model.apply_fact(&detected(2), at(0));
    model.apply_call_entry(active(3), at(0));
    assert_eq!(model.take_unread(), [id(2), id(3)]);
    assert_eq!(model.take_unread(), []);
    model.apply_read_facts(&[requested(2), detected(2), requested(3), detected(3)], at(0));
    assert_eq!(model.take_unread(), [], "nothing is left to be read");
    let updates = model.take_changes(at(0));
    let mut states: Vec<_> = call_rows(&updates)
        .iter()
        .map(|row| (row.call_id.clone(), row.state))
        .collect();
    states.sort();
    let connected = CallState::Connected;
    assert_eq!(
        states,
        [(id(1), CallState::Ringing), (id(2), connected), (id(3), connected)]
    );
    assert_eq!(model.take_changes(at(0)), []);
    assert_eq!(call_rows(&model.rows()).len(), 3);
}

#[test]
fn a_withdrawn_claim_removes_the_row_and_a_requested_call_is_read() {
    let mut model = ReadModel::default();
    model.apply_call_entry(active(1), at(0));
    model.apply_call_entry(active(2), at(0));
    model.apply_fact(&requested(2), at(0));
    model.take_unread();
    model.apply_call_entry(CallChange::Gone(id(1)), at(1));
    model.apply_call_entry(CallChange::Gone(id(2)), at(1));
    model.apply_call_entry(CallChange::Gone(id(3)), at(1));
    assert_eq!(model.take_unread(), [id(2)], "its end must be stored");
    let updates = model.take_changes(at(1));
    assert!(updates.contains(&RowUpdate::removed(Table::Call, id(1))), "{updates:?}");
    assert_eq!(call_rows(&updates).len(), 1);
}

#[test]
fn ended_calls_are_kept_for_a_bounded_time_and_number() {
    let mut model = ReadModel::default();
    for number in 0..MAX_ENDED + 10 {
        model.apply_fact(&requested(number), at(0));
        model.apply_fact(&ended(number), at(0));
    }
    let updates = model.take_changes(at(1));
    let gone = |updates: &[RowUpdate]| {
        updates
            .iter()
            .filter(|update| matches!(update, RowUpdate::Gone(_)))
            .count()
    };
    assert_eq!((gone(&updates), call_rows(&updates).len()), (10, MAX_ENDED));
    assert_eq!(gone(&model.take_changes(at(59))), 0);
    assert_eq!(gone(&model.take_changes(at(60))), MAX_ENDED);
    assert_eq!(model.rows(), []);
}

#[test]
fn reports_change_the_media_of_live_calls_only() {
    let mut model = ReadModel::default();
    let worker: WorkerId = "mw".parse().unwrap();
    model.apply_worker(WorkerChange::Alive(WorkerStatus {
        worker_id: worker.clone(),
        calls: 1,
        capacity: 2,
        draining: false,
        cordoned: false,
        at: at(0),
        started_at: at(0),
        wall: None,
        stored_at: None,
    }));
    model.apply_fact(&requested(1), at(0));
    model.take_changes(at(0));
    model.apply_worker_report(&worker, Some(media(1, 2)));
    model.apply_worker_report(&worker, Some(media(7, 2)));
    let updates = model.take_changes(at(2));
    assert!(
        matches!(&updates[..], [RowUpdate::Worker(row), RowUpdate::Media(media)] if row.reports == Some(true) && media.call_id == id(1)),
        "{updates:?}"
    );
    model.apply_worker_report(&worker, Some(media(1, 2)));
    assert_eq!(model.take_changes(at(3)), [], "the same as before");
    model.apply_fact(&samples::recorded(3, samples::rtp_lost("call_1", at(2)), 0), at(7));
    let updates = model.take_changes(at(7));
    assert_eq!(
        call_rows(&updates)[0].user.map(|side| (side.lost, side.packets)),
        Some((true, Some(100)))
    );
    model.apply_fact(&ended(1), at(9));
    model.take_changes(at(9));
    model.apply_worker_report(&worker, Some(media(1, 9)));
    model.apply_worker_report(&worker, None);
    let updates = model.take_changes(at(10));
    assert!(
        matches!(&updates[..], [RowUpdate::Worker(row)] if row.reports == Some(false)),
        "{updates:?}"
    );
    model.apply_worker(WorkerChange::Gone(worker));
    assert_eq!((model.workers(), model.rows().len()), (vec![], 1));
}

#[test]
fn edges_that_stop_reporting_are_removed_and_leases_change_holders() {
    let mut model = ReadModel::default();
    let edge = |name: &str| EdgeReported {
        node_id: name.parse().unwrap(),
        sockets: 1,
        operators: 0,
        at: at(0),
        started_at: at(0),
    };
    model.apply_edge_reports(vec![edge("e1"), edge("e2")], at(0));
    model.take_changes(at(0));
    model.apply_edge_reports(vec![edge("e1")], at(11));
    let removed = RemovedRow {
        table: Table::Edge,
        id: "e2".to_owned(),
    };
    assert_eq!(
        model.take_changes(at(11)),
        [RowUpdate::Edge(edge("e1")), RowUpdate::Gone(removed)]
    );

    let timer: NodeId = "bt".parse().unwrap();
    let partition = Partition::numbered(5).unwrap();
    let lease = Lease {
        instance_id: timer.clone(),
        since: at(0),
    };
    model.apply_lease(LeaseChange::Alive(timer.clone(), 1, None), at(11));
    model.apply_lease(
        LeaseChange::Held(
            partition,
            Revised {
                value: lease,
                revision: 2,
            },
        ),
        at(11),
    );
    assert_eq!(model.take_changes(at(11)).len(), 2);
    model.apply_lease(LeaseChange::Gone(timer.clone()), at(12));
    model.apply_lease(LeaseChange::Gone(timer), at(12));
    model.apply_lease(LeaseChange::Vacant(partition), at(12));
    assert_eq!(model.take_changes(at(12)).len(), 2);
    assert_eq!(model.rows().len(), 1, "the edge");
}
