use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn at(seconds: f64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs_f64(seconds)
}

fn fault(what: &str, target: &str, injected: f64, repaired: Option<f64>) -> Fault {
    Fault {
        what: what.to_owned(),
        target: target.to_owned(),
        injected_at: at(injected),
        repaired_at: repaired.map(at),
        total: false,
        since: if what == "SIGKILL" {
            Since::Injection
        } else {
            Since::Repair
        },
    }
}

fn disturbance(since: f64, until: Option<f64>, target: Option<&str>) -> Disturbance {
    Disturbance {
        what: format!("since {since}"),
        target: target.map(str::to_owned),
        since: at(since).into(),
        failed_at: None,
        until: until.map(|until| at(until).into()),
    }
}

fn seconds(faults: &[Fault], disturbances: &[Disturbance]) -> Vec<f64> {
    let recovery = measure(faults, disturbances, &[], at(100.0).into());
    recovery.faults.iter().map(|fault| fault.seconds).collect()
}

#[test]
fn recovery_from_a_kill_begins_at_the_injection_and_from_a_freeze_at_the_repair() {
    let faults = [
        fault("SIGKILL", "timer", 10.0, Some(12.0)),
        fault("SIGSTOP", "timer", 30.0, Some(35.0)),
        fault("cut", "nats", 50.0, Some(51.0)),
    ];
    let disturbances = [
        disturbance(10.5, Some(14.0), None),
        disturbance(11.0, Some(13.0), None),
        disturbance(31.0, Some(36.5), None),
    ];
    assert_eq!(seconds(&faults, &disturbances), [4.0, 1.5, 0.0]);
    let recovery = measure(&faults, &disturbances, &[], at(100.0).into());
    assert_eq!(recovery.faults[1].from_injection, 6.5);
    assert_eq!((recovery.all.p50, recovery.all.p99, recovery.all.max), (1.5, 4.0, 4.0));
    assert_eq!(recovery.by_kind["SIGKILL"].max, 4.0);
}

#[test]
fn recovery_from_a_total_outage_begins_at_the_repair() {
    let total = Fault {
        total: true,
        ..fault("SIGKILL", "nats", 10.0, Some(20.0))
    };
    assert_eq!(seconds(&[total], &[disturbance(11.0, Some(22.0), None)]), [2.0]);
}

#[test]
fn a_lost_worker_is_attributed_to_its_fault_even_if_its_last_heartbeat_was_earlier() {
    let faults = [
        fault("SIGSTOP", "worker", 10.0, Some(12.0)),
        // No heartbeat is possible any more.
        fault("SIGKILL", "nats", 50.0, Some(58.0)),
        fault("SIGKILL", "worker", 54.0, Some(56.0)),
    ];
    let lost = |since, until| seconds(&faults, &[disturbance(since, Some(until), Some("worker"))]);
    assert_eq!(lost(49.0, 61.0), [0.0, 0.0, 7.0]);
    assert_eq!(lost(9.0, 17.0), [5.0, 0.0, 0.0]);
    // The worker had no fault: its entry expired during the outage of the server.
    assert_eq!(lost(48.0, 53.0), [0.0, 3.0, 0.0]);
}

#[test]
fn faults_at_the_same_time_are_counted_apart() {
    let faults = [
        fault("SIGKILL", "a", 10.0, Some(14.0)),
        fault("SIGKILL", "b", 13.0, Some(15.0)),
        fault("SIGKILL", "c", 20.0, Some(22.0)),
        fault("SIGKILL", "d", 30.0, Some(31.0)),
        // Injected just after the repair of the fault before.
        fault("SIGSTOP", "e", 31.1, Some(33.0)),
    ];
    let recovery = measure(&faults, &[disturbance(12.0, Some(25.0), None)], &[], at(100.0).into());
    let together: Vec<bool> = recovery.faults.iter().map(|fault| fault.together).collect();
    assert_eq!(together, [true, true, false, true, true]);
    assert_eq!((recovery.together.faults, recovery.together.max), (4, 15.0));
    assert_eq!((recovery.alone.faults, recovery.alone.max), (1, 0.0));
    assert_eq!(recovery.all.faults, 5);
}

#[test]
fn a_fault_on_a_starved_machine_is_counted_apart() {
    let faults = [
        fault("SIGKILL", "a", 10.0, Some(12.0)),
        fault("SIGKILL", "b", 30.0, Some(32.0)),
        fault("SIGKILL", "c", 50.0, Some(52.0)),
    ];
    let disturbances = [disturbance(10.5, Some(25.0), None), disturbance(30.5, Some(34.0), None)];
    // During the recovery from the first, after that from the second, before the repair of the third.
    let starved = [(20.0, 21.0), (34.5, 40.0), (51.0, 51.5)].map(|(from, until)| (at(from), at(until)));
    let recovery = measure(&faults, &disturbances, &starved, at(100.0).into());
    let found: Vec<bool> = recovery.faults.iter().map(|fault| fault.starved).collect();
    assert_eq!(found, [true, false, true]);
    assert_eq!((recovery.starved.faults, recovery.starved.max), (2, 15.0));
    assert_eq!((recovery.alone.faults, recovery.alone.max), (1, 4.0));
}

#[test]
fn a_disturbance_during_a_total_outage_is_attributed_to_it_unless_it_was_slow_before() {
    let outage = Fault {
        total: true,
        ..fault("SIGKILL", "nats", 20.0, Some(40.0))
    };
    let faults = [fault("SIGKILL", "a", 8.0, Some(12.0)), outage];
    assert_eq!(seconds(&faults, &[disturbance(15.0, Some(42.0), None)]), [0.0, 2.0]);
    assert_eq!(seconds(&faults, &[disturbance(9.0, Some(42.0), None)]), [34.0, 0.0]);
}

#[test]
fn a_disturbance_is_attributed_to_the_active_fault_or_else_to_the_nearest() {
    let faults = [
        fault("SIGKILL", "a", 10.0, Some(11.0)),
        fault("SIGKILL", "b", 20.0, Some(25.0)),
    ];
    // (since, until, target) → recovery from each fault
    let cases = [
        (15.0, 16.0, None, [6.0, 0.0]),
        (19.0, 23.0, None, [0.0, 3.0]),
        (21.0, 23.0, None, [0.0, 3.0]),
        (10.5, 23.0, Some("a"), [13.0, 0.0]),
        // The fault of its target is over, so it is the other one.
        (21.0, 23.0, Some("a"), [0.0, 3.0]),
        (9.0, 10.5, None, [0.5, 0.0]),
        (1.0, 12.0, None, [2.0, 0.0]),
    ];
    for (since, until, blame, expected) in cases {
        let disturbances = [disturbance(since, Some(until), blame)];
        assert_eq!(seconds(&faults, &disturbances), expected, "{disturbances:?}");
    }
}

#[test]
fn a_failed_attempt_is_attributed_to_the_fault_injected_during_it() {
    let faults = [
        fault("stall", "a", 10.0, Some(14.0)),
        fault("cut", "b", 20.0, Some(28.0)),
    ];
    let of = |since, failed| {
        let disturbances = Disturbance {
            failed_at: Some(at(failed).into()),
            ..disturbance(since, Some(29.0), None)
        };
        seconds(&faults, &[disturbances])
    };
    assert_eq!(of(16.0, 25.0), [0.0, 1.0]);
    assert_eq!(of(13.0, 25.0), [15.0, 0.0]);
    assert_eq!(of(15.0, 19.0), [15.0, 0.0]);
}

#[test]
fn an_unfinished_disturbance_is_open_and_an_unexplained_one_is_reported() {
    let faults = [fault("SIGKILL", "a", 10.0, Some(11.0))];
    let disturbances = [disturbance(10.5, None, None), disturbance(1.0, Some(2.0), None)];
    let recovery = measure(&faults, &disturbances, &[], at(100.0).into());
    assert!(recovery.faults[0].open);
    assert_eq!(recovery.faults[0].seconds, 90.0);
    let unexplained = &recovery.without_fault[0];
    assert_eq!(
        (unexplained.what.as_str(), unexplained.seconds, unexplained.open),
        ("since 1", 1.0, false)
    );
}

#[test]
fn runs_are_measured_together_and_without_starved_faults() {
    let run = |seconds: f64, kills: u32, starved: bool| {
        let times = (0..kills).map(|number| f64::from(number) * 50.0);
        let faults: Vec<Fault> = times
            .clone()
            .map(|time| fault("SIGKILL", "a", time, Some(time + 1.0)))
            .collect();
        let disturbances: Vec<Disturbance> = times
            .map(|time| disturbance(time, Some(time + seconds), None))
            .collect();
        let starved = [(at(0.0), at(100_000.0))].repeat(usize::from(starved));
        measure(&faults, &disturbances, &starved, at(100_000.0).into())
    };
    assert_eq!(run(10.0, 1, false).complaints(), ["p99 of faults alone is 10.0 s"]);
    let together = Recovery::of_runs([run(10.0, 1, false), run(9.0, 99, false)]);
    assert_eq!(
        (together.alone.faults, together.alone.p99, together.alone.max),
        (100, 9.0, 10.0)
    );
    assert!(together.complaints().is_empty());
    let all_but = |measured| Recovery::of_runs([run(30.0, 150, true), run(9.0, measured, false)]).complaints();
    assert!(all_but(100).is_empty());
    let machine = "the CPU was starved in 150 of 249 faults: repeat the run on a machine without other load";
    assert_eq!(all_but(99), [machine]);
    assert!(
        Recovery::of_runs([run(30.0, 5, true), run(9.0, 5, false)])
            .complaints()
            .is_empty()
    );
}
