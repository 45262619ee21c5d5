use proptest::prelude::*;

use super::*;

const TIMEOUTS: MediaTimeouts = MediaTimeouts {
    media_timeout: Duration::from_secs(30),
    lost_after: Duration::from_secs(5),
    rtp_timeout: Duration::from_secs(15),
    one_sided_timeout: None,
    sample_interval: Duration::from_secs(1),
};

/// A call that is sampled once a second.
struct SampledCall {
    start: ClockReading,
    now: ClockReading,
    liveness: Liveness,
    packets: [u64; 2],
    producer: ProducerNumber,
}

impl SampledCall {
    fn new(timeouts: MediaTimeouts) -> Self {
        let start = ClockReading::now();
        Self {
            start,
            now: start,
            liveness: Liveness::new(timeouts, start),
            packets: [0; 2],
            producer: 0,
        }
    }

    fn connected(timeouts: MediaTimeouts) -> Self {
        let mut call = Self::new(timeouts);
        call.liveness.first_packet(Role::User, 0, call.now);
        call.liveness.connected();
        call
    }

    /// Lets one second pass; the parties in `talking` send packets in it.
    fn second(&mut self, talking: &[Role]) -> Vec<LivenessEvent> {
        self.now = self.now.plus(Duration::from_secs(1));
        let mut events = Vec::new();
        for role in Role::BOTH {
            let packets = &mut self.packets[usize::from(role == Role::Otomo)];
            *packets += if talking.contains(&role) { 50 } else { 0 };
            let packets = *packets;
            events.extend(self.liveness.sample(role, self.producer, packets, self.now));
        }
        events.extend(self.liveness.tick(self.now));
        events
    }

    fn seconds(&mut self, count: usize, talking: &[Role]) -> Vec<LivenessEvent> {
        (0..count).flat_map(|_| self.second(talking)).collect()
    }

    fn at(&self, second: u64) -> Timestamp {
        self.start.plus(Duration::from_secs(second)).wall
    }
}

#[test]
fn a_call_without_rtp_times_out_once() {
    let mut call = SampledCall::new(TIMEOUTS);
    assert_eq!(call.seconds(29, &[]), []);
    assert_eq!(call.second(&[]), [LivenessEvent::MediaTimeout]);
    assert_eq!(call.seconds(60, &[]), []);
}

#[test]
fn silence_is_reported_after_five_seconds_and_ends_the_call_after_fifteen() {
    let mut call = SampledCall::connected(TIMEOUTS);
    assert_eq!(call.seconds(10, &Role::BOTH), []);
    assert_eq!(call.seconds(4, &[]), [], "Opus DTX may pause that long");
    let (last_rtp_at, gap) = (call.at(10), TIMEOUTS.lost_after);
    let lost = |party| LivenessEvent::Lost {
        party,
        last_rtp_at,
        gap,
    };
    assert_eq!(call.second(&[]), [lost(Role::User), lost(Role::Otomo)]);
    assert_eq!(call.seconds(9, &[]), []);
    assert_eq!(call.second(&[]), [LivenessEvent::RtpTimeout { ended_at: last_rtp_at }]);
    assert_eq!(call.seconds(60, &Role::BOTH), [], "a call that is over stays over");
}

#[test]
fn the_media_of_each_party_is_reported_as_of_the_last_sample() {
    let mut call = SampledCall::connected(TIMEOUTS);
    assert_eq!(call.liveness.party_media(Role::Otomo), None);
    call.seconds(3, &Role::BOTH);
    call.seconds(6, &[Role::User]);
    let (user, otomo) = (
        call.liveness.party_media(Role::User),
        call.liveness.party_media(Role::Otomo),
    );
    let media = |second, lost, packets| PartyMedia {
        last_rtp_at: call.at(second),
        lost,
        packets,
    };
    assert_eq!((user, otomo), (Some(media(9, false, 450)), Some(media(3, true, 150))));
}

#[test]
fn the_loss_of_one_party_is_reported_and_the_call_goes_on() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(3, &Role::BOTH);
    let events = call.seconds(600, &[Role::User]);
    assert!(
        matches!(events[..], [LivenessEvent::Lost { party: Role::Otomo, .. }]),
        "{events:?}"
    );
    let events = call.second(&Role::BOTH);
    let resumed = LivenessEvent::Resumed {
        party: Role::Otomo,
        at: call.at(604),
        gap: Duration::from_secs(601),
    };
    assert_eq!(events, [resumed]);
}

#[test]
fn the_loss_of_one_party_ends_the_call_if_configured() {
    let mut call = SampledCall::connected(MediaTimeouts {
        one_sided_timeout: Some(Duration::from_secs(20)),
        ..TIMEOUTS
    });
    call.seconds(3, &Role::BOTH);
    let events = call.seconds(20, &[Role::User]);
    assert_eq!(events[1..], [LivenessEvent::RtpTimeout { ended_at: call.at(3) }]);
}

#[test]
fn a_party_that_never_produced_does_not_keep_the_call_alive() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &[Role::User]);
    let events = call.seconds(15, &[]);
    assert_eq!(events[1..], [LivenessEvent::RtpTimeout { ended_at: call.at(2) }]);
}

#[test]
fn a_lost_transport_is_reported_at_once_and_only_once() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    let now = call.now.plus(Duration::from_millis(300));
    let lost = LivenessEvent::Lost {
        party: Role::User,
        last_rtp_at: call.at(2),
        gap: Duration::from_millis(300),
    };
    assert_eq!(call.liveness.transport_lost(Role::User, 0, now), Some(lost));
    assert_eq!(call.liveness.transport_lost(Role::User, 0, now), None);
    assert_eq!(call.seconds(10, &[Role::Otomo]), [], "it is not reported again");
}

#[test]
fn packets_from_before_the_loss_of_a_transport_do_not_resume_rtp() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    let lost_at = call.now.plus(Duration::from_millis(300));
    assert!(call.liveness.transport_lost(Role::User, 0, lost_at).is_some());
    assert_eq!(
        call.second(&Role::BOTH),
        [],
        "counted since the last sample, sent before the loss"
    );
    assert_eq!(call.seconds(5, &[Role::Otomo]), []);
    // `last` is the time of the loss, whether or not packets came between the last sample and the loss.
    assert_eq!(
        call.liveness.stream(Role::User).as_ref().unwrap().last.wall,
        lost_at.wall
    );
}

#[test]
fn rtp_of_a_transport_that_reconnects_resumes_one_sample_later() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    assert!(call.liveness.transport_lost(Role::User, 0, call.now).is_some());
    assert_eq!(call.second(&Role::BOTH), []);
    let back = call.second(&Role::BOTH);
    assert!(
        matches!(back[..], [LivenessEvent::Resumed { party: Role::User, .. }]),
        "{back:?}"
    );
}

#[test]
fn a_new_producer_resumes_rtp_with_its_first_packets() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    assert!(call.liveness.transport_lost(Role::User, 0, call.now).is_some());
    (call.producer, call.packets) = (1, [0; 2]);
    let back = call.second(&Role::BOTH);
    assert!(
        matches!(back[..], [LivenessEvent::Resumed { party: Role::User, .. }]),
        "{back:?}"
    );
}

#[test]
fn a_new_producer_counts_from_zero() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(20, &Role::BOTH);
    (call.producer, call.packets) = (1, [0; 2]);
    assert_eq!(call.seconds(20, &Role::BOTH), []);
    let stale = call.liveness.sample(Role::User, 0, 1_000_000, call.now);
    assert_eq!(stale, None);
    assert_eq!(
        call.seconds(20, &Role::BOTH),
        [],
        "a late sample of the old producer does not count for the new one"
    );
    assert_eq!(
        call.liveness.transport_lost(Role::User, 0, call.now),
        None,
        "nor does the loss of its transport"
    );
}

#[test]
fn a_pause_of_this_process_is_not_silence() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(5, &Role::BOTH);
    call.now = call.now.plus(Duration::from_secs(60));
    assert_eq!(call.second(&[]), [], "resumed after the pause, packets not counted yet");
    assert_eq!(call.seconds(10, &Role::BOTH), []);
}

#[test]
fn nothing_is_lost_before_the_call_is_connected() {
    let mut call = SampledCall::new(TIMEOUTS);
    call.seconds(2, &[Role::User]);
    assert_eq!(call.seconds(27, &[]), []);
    assert_eq!(call.second(&[]), [LivenessEvent::MediaTimeout]);
}

fn talkers() -> impl Strategy<Value = Vec<Vec<Role>>> {
    let second = prop_oneof![
        Just(vec![]),
        Just(vec![Role::User]),
        Just(vec![Role::Otomo]),
        Just(Role::BOTH.to_vec()),
    ];
    // Runs of the same second: silence is never long enough otherwise.
    proptest::collection::vec((second, 1..25usize), 1..12).prop_map(|runs| {
        runs.into_iter()
            .flat_map(|(second, count)| std::iter::repeat_n(second, count))
            .collect()
    })
}

proptest! {
    #[test]
    fn losses_and_resumptions_alternate_and_the_call_ends_at_the_last_packet(seconds in talkers()) {
        let mut call = SampledCall::connected(TIMEOUTS);
        let mut lost = [false; 2];
        let mut last_packet = call.start.wall;
        let mut timed_out = false;
        for talking in seconds {
            let events = call.second(&talking);
            if !talking.is_empty() && !timed_out {
                last_packet = call.now.wall;
            }
            for verdict in events {
                prop_assert!(!timed_out, "{verdict:?} after the end");
                match verdict {
                    LivenessEvent::Lost { party, gap, .. } => {
                        prop_assert!(!std::mem::replace(&mut lost[usize::from(party == Role::Otomo)], true));
                        prop_assert!(gap >= TIMEOUTS.lost_after);
                    }
                    LivenessEvent::Resumed { party, gap, .. } => {
                        prop_assert!(std::mem::replace(&mut lost[usize::from(party == Role::Otomo)], false));
                        prop_assert!(talking.contains(&party) && gap > TIMEOUTS.lost_after);
                    }
                    LivenessEvent::RtpTimeout { ended_at } => {
                        prop_assert_eq!(ended_at, last_packet);
                        prop_assert!(call.now.wall.millis_since(last_packet) >= 15_000);
                        timed_out = true;
                    }
                    LivenessEvent::MediaTimeout => prop_assert!(false, "it was connected"),
                }
            }
        }
        prop_assert!(timed_out || call.now.wall.millis_since(last_packet) < 15_000);
    }
}
