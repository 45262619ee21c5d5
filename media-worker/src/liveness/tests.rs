use proptest::prelude::*;

use super::*;

const LIMITS: Limits = Limits {
    media_timeout: Duration::from_secs(30),
    lost_after: Duration::from_secs(5),
    rtp_timeout: Duration::from_secs(15),
    one_sided_timeout: None,
    sample_interval: Duration::from_secs(1),
};

/// A call that is looked at once a second.
struct Watched {
    start: ClockReading,
    now: ClockReading,
    liveness: Liveness,
    packets: [u64; 2],
    source: Source,
}

impl Watched {
    fn new(limits: Limits) -> Self {
        let start = ClockReading::now();
        Self {
            start,
            now: start,
            liveness: Liveness::new(limits, start),
            packets: [0; 2],
            source: 0,
        }
    }

    fn connected(limits: Limits) -> Self {
        let mut watched = Self::new(limits);
        watched.liveness.first_packet(Role::User, 0, watched.now);
        watched.liveness.connected();
        watched
    }

    /// One second later; `talking` are the parties whose packets went on coming.
    fn second(&mut self, talking: &[Role]) -> Vec<Verdict> {
        self.now = self.now.plus(Duration::from_secs(1));
        let mut verdicts = Vec::new();
        for role in Role::BOTH {
            let packets = &mut self.packets[usize::from(role == Role::Otomo)];
            *packets += if talking.contains(&role) { 50 } else { 0 };
            let packets = *packets;
            verdicts.extend(self.liveness.sample(role, self.source, packets, self.now));
        }
        verdicts.extend(self.liveness.tick(self.now));
        verdicts
    }

    fn seconds(&mut self, count: usize, talking: &[Role]) -> Vec<Verdict> {
        (0..count).flat_map(|_| self.second(talking)).collect()
    }

    fn at(&self, second: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(second)).wall
    }
}

#[test]
fn a_call_without_rtp_times_out_once() {
    let mut call = Watched::new(LIMITS);
    assert_eq!(call.seconds(29, &[]), []);
    assert_eq!(call.second(&[]), [Verdict::MediaTimeout]);
    assert_eq!(call.seconds(60, &[]), []);
}

#[test]
fn silence_is_told_after_five_seconds_and_ends_the_call_after_fifteen() {
    let mut call = Watched::connected(LIMITS);
    assert_eq!(call.seconds(10, &Role::BOTH), []);
    assert_eq!(call.seconds(4, &[]), [], "Opus DTX may pause that long");
    let (last_rtp_at, gap) = (call.at(10), LIMITS.lost_after);
    let lost = |party| Verdict::Lost {
        party,
        last_rtp_at,
        gap,
    };
    assert_eq!(call.second(&[]), [lost(Role::User), lost(Role::Otomo)]);
    assert_eq!(call.seconds(9, &[]), []);
    assert_eq!(call.second(&[]), [Verdict::Dead { ended_at: last_rtp_at }]);
    assert_eq!(call.seconds(60, &Role::BOTH), [], "what is over stays over");
}

#[test]
fn onlookers_are_shown_the_last_look_at_each_side() {
    let mut call = Watched::connected(LIMITS);
    assert_eq!(call.liveness.seen(Role::Otomo), None);
    call.seconds(3, &Role::BOTH);
    call.seconds(6, &[Role::User]);
    let (user, otomo) = (call.liveness.seen(Role::User), call.liveness.seen(Role::Otomo));
    let seen = |second, lost, packets| PartyMedia {
        last_rtp_at: call.at(second),
        lost,
        packets,
    };
    assert_eq!((user, otomo), (Some(seen(9, false, 450)), Some(seen(3, true, 150))));
}

#[test]
fn one_side_lost_is_told_and_the_call_goes_on() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(3, &Role::BOTH);
    let verdicts = call.seconds(600, &[Role::User]);
    assert!(
        matches!(verdicts[..], [Verdict::Lost { party: Role::Otomo, .. }]),
        "{verdicts:?}"
    );
    let verdicts = call.second(&Role::BOTH);
    let resumed = Verdict::Resumed {
        party: Role::Otomo,
        at: call.at(604),
        gap: Duration::from_secs(601),
    };
    assert_eq!(verdicts, [resumed]);
}

#[test]
fn one_side_lost_ends_the_call_where_configured() {
    let mut call = Watched::connected(Limits {
        one_sided_timeout: Some(Duration::from_secs(20)),
        ..LIMITS
    });
    call.seconds(3, &Role::BOTH);
    let verdicts = call.seconds(20, &[Role::User]);
    assert_eq!(verdicts[1..], [Verdict::Dead { ended_at: call.at(3) }]);
}

#[test]
fn who_never_produced_is_not_waited_for() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(2, &[Role::User]);
    let verdicts = call.seconds(15, &[]);
    assert_eq!(verdicts[1..], [Verdict::Dead { ended_at: call.at(2) }]);
}

#[test]
fn a_closed_transport_is_a_loss_at_once_and_only_once() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(2, &Role::BOTH);
    let now = call.now.plus(Duration::from_millis(300));
    let lost = Verdict::Lost {
        party: Role::User,
        last_rtp_at: call.at(2),
        gap: Duration::from_millis(300),
    };
    assert_eq!(call.liveness.gone(Role::User, 0, now), Some(lost));
    assert_eq!(call.liveness.gone(Role::User, 0, now), None);
    assert_eq!(call.seconds(10, &[Role::Otomo]), [], "it is not told again");
}

#[test]
fn packets_from_before_a_close_are_no_return() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(2, &Role::BOTH);
    let closed = call.now.plus(Duration::from_millis(300));
    assert!(call.liveness.gone(Role::User, 0, closed).is_some());
    assert_eq!(
        call.second(&Role::BOTH),
        [],
        "counted since the last look, sent before the close"
    );
    assert_eq!(call.seconds(5, &[Role::Otomo]), []);
    // Had nothing come between the last look and the close, it would be no different.
    assert_eq!(
        call.liveness.stream(Role::User).as_ref().unwrap().last.wall,
        closed.wall
    );
}

#[test]
fn a_transport_that_comes_back_by_itself_is_told_one_look_later() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(2, &Role::BOTH);
    assert!(call.liveness.gone(Role::User, 0, call.now).is_some());
    assert_eq!(call.second(&Role::BOTH), []);
    let back = call.second(&Role::BOTH);
    assert!(
        matches!(back[..], [Verdict::Resumed { party: Role::User, .. }]),
        "{back:?}"
    );
}

#[test]
fn a_new_producer_is_back_at_its_first_packets() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(2, &Role::BOTH);
    assert!(call.liveness.gone(Role::User, 0, call.now).is_some());
    (call.source, call.packets) = (1, [0; 2]);
    let back = call.second(&Role::BOTH);
    assert!(
        matches!(back[..], [Verdict::Resumed { party: Role::User, .. }]),
        "{back:?}"
    );
}

#[test]
fn a_new_producer_counts_from_nothing() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(20, &Role::BOTH);
    (call.source, call.packets) = (1, [0; 2]);
    assert_eq!(call.seconds(20, &Role::BOTH), []);
    let stale = call.liveness.sample(Role::User, 0, 1_000_000, call.now);
    assert_eq!(stale, None);
    assert_eq!(
        call.seconds(20, &Role::BOTH),
        [],
        "a late reading of the old one must not raise the bar"
    );
    assert_eq!(
        call.liveness.gone(Role::User, 0, call.now),
        None,
        "nor is its end a loss of the new one"
    );
}

#[test]
fn our_own_absence_is_not_silence() {
    let mut call = Watched::connected(LIMITS);
    call.seconds(5, &Role::BOTH);
    call.now = call.now.plus(Duration::from_secs(60));
    assert_eq!(call.second(&[]), [], "stopped and continued, packets not counted yet");
    assert_eq!(call.seconds(10, &Role::BOTH), []);
}

#[test]
fn before_the_connection_nothing_is_lost() {
    let mut call = Watched::new(LIMITS);
    call.seconds(2, &[Role::User]);
    assert_eq!(call.seconds(27, &[]), []);
    assert_eq!(call.second(&[]), [Verdict::MediaTimeout]);
}

fn talkers() -> impl Strategy<Value = Vec<Vec<Role>>> {
    let second = prop_oneof![
        Just(vec![]),
        Just(vec![Role::User]),
        Just(vec![Role::Otomo]),
        Just(Role::BOTH.to_vec()),
    ];
    // Runs of the same second, or silence would never be long enough.
    proptest::collection::vec((second, 1..25usize), 1..12).prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(second, count)| std::iter::repeat_n(second, count))
            .collect()
    })
}

proptest! {
    #[test]
    fn losses_and_returns_alternate_and_the_end_is_the_last_packet(seconds in talkers()) {
        let mut call = Watched::connected(LIMITS);
        let mut lost = [false; 2];
        let mut last_packet = call.start.wall;
        let mut dead = false;
        for talking in seconds {
            let verdicts = call.second(&talking);
            if !talking.is_empty() && !dead {
                last_packet = call.now.wall;
            }
            for verdict in verdicts {
                prop_assert!(!dead, "{verdict:?} after the end");
                match verdict {
                    Verdict::Lost { party, gap, .. } => {
                        prop_assert!(!std::mem::replace(&mut lost[usize::from(party == Role::Otomo)], true));
                        prop_assert!(gap >= LIMITS.lost_after);
                    }
                    Verdict::Resumed { party, gap, .. } => {
                        prop_assert!(std::mem::replace(&mut lost[usize::from(party == Role::Otomo)], false));
                        prop_assert!(talking.contains(&party) && gap > LIMITS.lost_after);
                    }
                    Verdict::Dead { ended_at } => {
                        prop_assert_eq!(ended_at, last_packet);
                        prop_assert!(call.now.wall.millis_since(last_packet) >= 15_000);
                        dead = true;
                    }
                    Verdict::MediaTimeout => prop_assert!(false, "it was connected"),
                }
            }
        }
        prop_assert!(dead || call.now.wall.millis_since(last_packet) < 15_000);
    }
}
