use proptest::prelude::*;

use super::*;

const TIMEOUTS: MediaTimeouts = MediaTimeouts {
    media_timeout: Duration::from_secs(30),
    lost_after: Duration::from_secs(5),
    rtp_timeout: Duration::from_secs(15),
    one_sided_timeout: None,
    sample_interval: Duration::from_secs(1),
};
const WINDOW_MS: u64 = 2_500;
/// mediasoup counts a window in items of this length.
const ITEM_MS: u64 = 25;
const PACKET_MS: u64 = 20;

/// A call that is sampled once a second, and more often while a producer has stalled. Times are in milliseconds.
struct SampledCall {
    start: ClockReading,
    now_ms: u64,
    next_tick_ms: u64,
    liveness: Liveness,
    packets: [Vec<u64>; 2],
    producer: ProducerNumber,
    samples: u32,
}

fn index(party: Role) -> usize {
    usize::from(party == Role::Otomo)
}

impl SampledCall {
    fn new(timeouts: MediaTimeouts) -> Self {
        let start = ClockReading::now();
        Self {
            start,
            now_ms: 0,
            next_tick_ms: 1_000,
            liveness: Liveness::new(timeouts, start),
            packets: Default::default(),
            producer: 0,
            samples: 0,
        }
    }

    /// The user's first packet has connected it.
    fn connected(timeouts: MediaTimeouts) -> Self {
        let mut call = Self::new(timeouts);
        call.packets[0].push(0);
        assert_eq!(call.liveness.first_packet(Role::User, 0, call.start), None);
        call.liveness.connected(call.start);
        call
    }

    fn at_ms(&self, ms: u64) -> ClockReading {
        self.start.plus(Duration::from_millis(ms))
    }

    fn now(&self) -> ClockReading {
        self.at_ms(self.now_ms)
    }

    fn sample(&mut self) -> Vec<LivenessEvent> {
        self.samples += 1;
        let (now_ms, now) = (self.now_ms, self.now());
        let mut events = Vec::new();
        for role in Role::BOTH {
            let received = self.packets[index(role)].iter().filter(|at| **at <= now_ms);
            let packets = received.clone().count() as u64;
            let in_window = |at: &u64| at / ITEM_MS * ITEM_MS + WINDOW_MS > now_ms;
            let sample = Sample {
                asked: now,
                packets,
                bytes: packets * 100,
                active: received.max().is_some_and(in_window),
                window: Duration::from_millis(WINDOW_MS),
            };
            events.extend(self.liveness.sample(role, self.producer, sample, now));
        }
        events
    }

    /// Lets time pass; the parties in `talking` send a packet every 20 ms.
    fn run_until(&mut self, until_ms: u64, talking: &[Role]) -> Vec<LivenessEvent> {
        for role in talking {
            let first = self.now_ms / PACKET_MS * PACKET_MS + PACKET_MS;
            let step = usize::try_from(PACKET_MS).unwrap();
            self.packets[index(*role)].extend((first..=until_ms).step_by(step));
        }
        let mut events = Vec::new();
        loop {
            let refine = self.liveness.refine_in(self.now());
            let refine_ms = refine.map(|pause| self.now_ms + u64::try_from(pause.as_millis()).unwrap());
            let next_ms = refine_ms.unwrap_or(u64::MAX).min(self.next_tick_ms);
            if next_ms > until_ms {
                self.now_ms = until_ms;
                return events;
            }
            self.now_ms = next_ms;
            events.extend(self.sample());
            if next_ms == self.next_tick_ms {
                self.next_tick_ms += 1_000;
                events.extend(self.liveness.apply_timeouts(self.now()));
            }
        }
    }

    fn seconds(&mut self, count: u64, talking: &[Role]) -> Vec<LivenessEvent> {
        self.run_until(self.now_ms + count * 1_000, talking)
    }

    fn last_packet(&self, party: Role) -> ClockReading {
        self.at_ms(*self.packets[index(party)].last().unwrap())
    }

    /// A new producer of both parties.
    fn replace_producers(&mut self) {
        (self.producer, self.packets) = (1, Default::default());
    }
}

/// Never later than the packet, at most 100 ms earlier.
fn is_true(reported: ClockReading, packet: ClockReading) -> bool {
    reported.instant <= packet.instant && packet.since(reported) <= Duration::from_millis(100)
}

#[test]
fn a_call_without_rtp_times_out_once() {
    let mut call = SampledCall::new(TIMEOUTS);
    assert_eq!(call.seconds(29, &[]), []);
    assert_eq!(call.seconds(1, &[]), [LivenessEvent::MediaTimeout]);
    assert_eq!(call.seconds(60, &[]), []);
}

#[test]
fn silence_is_reported_after_five_seconds_and_ends_the_call_after_fifteen() {
    let mut call = SampledCall::connected(TIMEOUTS);
    assert_eq!(call.seconds(10, &Role::BOTH), []);
    assert_eq!(call.seconds(4, &[]), [], "Opus DTX may pause that long");
    let lost = call.seconds(1, &[]);
    for (event, role) in lost.iter().zip(Role::BOTH) {
        assert!(
            matches!(event, LivenessEvent::Lost { party, last_rtp: Some(last), .. }
                if *party == role && is_true(*last, call.last_packet(role))),
            "{event:?}"
        );
    }
    assert_eq!(lost.len(), 2);
    assert_eq!(call.seconds(9, &[]), []);
    let ended = call.seconds(1, &[]);
    assert!(
        matches!(ended[..], [LivenessEvent::RtpTimeout { ended, party: None }]
            if is_true(ended, call.at_ms(10_000))),
        "{ended:?}"
    );
    assert_eq!(call.seconds(60, &Role::BOTH), [], "a call that is over stays over");
}

#[test]
fn a_healthy_call_is_sampled_once_a_second_and_a_stalled_one_no_more_than_needed() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(60, &Role::BOTH);
    assert_eq!(call.samples, 60);
    call.seconds(60, &[]);
    // Each party's last packet is sought once, every 25 ms within the second that the samples leave open.
    assert!(call.samples <= 60 + 15 + 2 * 45, "{}", call.samples);
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
    let media = |ms, lost, packets| PartyMedia {
        last_rtp_at: call.at_ms(ms).wall,
        lost,
        packets,
    };
    assert_eq!(
        (user, otomo),
        (Some(media(9_000, false, 451)), Some(media(3_000, true, 150)))
    );
}

#[test]
fn the_loss_of_one_party_is_reported_and_resumes_with_the_first_packet() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(3, &Role::BOTH);
    let events = call.seconds(600, &[Role::User]);
    assert!(
        matches!(events[..], [LivenessEvent::Lost { party: Role::Otomo, .. }]),
        "{events:?}"
    );
    let at = call.at_ms(603_020);
    let resumed = call.liveness.first_packet(Role::Otomo, 0, at);
    assert!(
        matches!(resumed, Some(LivenessEvent::Resumed { party: Role::Otomo, at: reported, gap })
            if reported == at && gap >= Duration::from_secs(600) && gap <= Duration::from_millis(600_120)),
        "{resumed:?}"
    );
    assert_eq!(call.seconds(1, &Role::BOTH), [], "it is not reported again");
}

#[test]
fn a_return_that_no_trace_reports_is_seen_in_the_next_sample() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(3, &Role::BOTH);
    call.seconds(60, &[Role::User]);
    let back = call.seconds(1, &Role::BOTH);
    assert!(
        matches!(back[..], [LivenessEvent::Resumed { party: Role::Otomo, .. }]),
        "{back:?}"
    );
}

#[test]
fn a_party_that_is_never_heard_is_lost_from_the_connection_and_ends_the_call() {
    let mut call = SampledCall::connected(MediaTimeouts {
        one_sided_timeout: Some(Duration::from_secs(60)),
        ..TIMEOUTS
    });
    let events = call.seconds(59, &[Role::User]);
    let lost = LivenessEvent::Lost {
        party: Role::Otomo,
        last_rtp: None,
        gap: Duration::from_secs(5),
    };
    assert_eq!(events, [lost]);
    assert!(call.liveness.is_lost(Role::Otomo) && !call.liveness.is_lost(Role::User));
    let ended = LivenessEvent::RtpTimeout {
        ended: call.at_ms(60_000),
        party: Some(Role::Otomo),
    };
    assert_eq!(call.seconds(1, &[Role::User]), [ended]);
}

#[test]
fn a_party_that_is_heard_late_resumes_with_its_first_packet() {
    let mut call = SampledCall::connected(TIMEOUTS);
    assert_eq!(call.seconds(8, &[Role::User]).len(), 1);
    let at = call.at_ms(8_010);
    let resumed = LivenessEvent::Resumed {
        party: Role::Otomo,
        at,
        gap: Duration::from_millis(8_010),
    };
    assert_eq!(call.liveness.first_packet(Role::Otomo, 0, at), Some(resumed));
}

#[test]
fn the_silence_of_one_party_ends_the_call_at_that_moment() {
    let mut call = SampledCall::connected(MediaTimeouts {
        one_sided_timeout: Some(Duration::from_secs(20)),
        ..TIMEOUTS
    });
    call.seconds(3, &Role::BOTH);
    let events = call.seconds(20, &[Role::User]);
    let ended = LivenessEvent::RtpTimeout {
        ended: call.at_ms(23_000),
        party: Some(Role::Otomo),
    };
    assert_eq!(events[1..], [ended]);
}

#[test]
fn a_party_that_never_produced_does_not_keep_the_call_alive() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &[Role::User]);
    let events = call.seconds(15, &[]);
    assert!(
        matches!(events[2..], [LivenessEvent::RtpTimeout { ended, party: None }] if is_true(ended, call.at_ms(2_000))),
        "{events:?}"
    );
}

#[test]
fn the_time_of_a_single_packet_is_that_of_its_trace() {
    let mut call = SampledCall::connected(TIMEOUTS);
    let events = call.seconds(20, &[]);
    let ended = LivenessEvent::RtpTimeout {
        ended: call.start,
        party: None,
    };
    assert_eq!(events[2..], [ended]);
}

#[test]
fn a_lost_transport_is_reported_at_once_and_only_once() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    let now = call.at_ms(2_300);
    let lost = call.liveness.transport_lost(Role::User, 0, now);
    assert!(
        matches!(lost, Some(LivenessEvent::Lost { party: Role::User, last_rtp: Some(last), .. })
            if last.instant <= call.last_packet(Role::User).instant),
        "{lost:?}"
    );
    assert_eq!(call.liveness.transport_lost(Role::User, 0, now), None);
    assert_eq!(call.seconds(10, &[Role::Otomo]), [], "it is not reported again");
}

#[test]
fn a_party_that_closes_its_transports_in_a_loop_is_lost_every_five_seconds_at_most() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    let mut events = 0;
    for cycle in 1..=200 {
        let at = call.at_ms(2_000 + cycle * 100);
        let lost = call.liveness.transport_lost(Role::User, cycle - 1, at);
        let resumed = call.liveness.first_packet(Role::User, cycle, at);
        events += lost.into_iter().chain(resumed).count();
    }
    assert!((2..=10).contains(&events), "{events} in 20 s");
    let later = call.at_ms(30_000);
    assert!(call.liveness.transport_lost(Role::User, 200, later).is_some());
}

#[test]
fn packets_from_before_the_loss_of_a_transport_do_not_resume_rtp() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    call.run_until(2_300, &Role::BOTH);
    assert!(call.liveness.transport_lost(Role::User, 0, call.now()).is_some());
    assert_eq!(
        call.run_until(3_000, &[Role::Otomo]),
        [],
        "counted since the last sample, sent before the loss"
    );
    assert_eq!(call.seconds(5, &[Role::Otomo]), []);
    let last = call.liveness.of(Role::User).and_then(|stream| stream.last);
    assert!(is_true(last.unwrap(), call.at_ms(2_300)), "{last:?}");
}

#[test]
fn a_new_producer_resumes_rtp_with_its_first_packets() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(2, &Role::BOTH);
    assert!(call.liveness.transport_lost(Role::User, 0, call.now()).is_some());
    call.replace_producers();
    let at = call.at_ms(2_500);
    let back = call.liveness.first_packet(Role::User, 1, at);
    assert!(
        matches!(back, Some(LivenessEvent::Resumed { party: Role::User, at: reported, .. }) if reported == at),
        "{back:?}"
    );
    assert_eq!(call.seconds(20, &Role::BOTH), []);
    call.seconds(20, &[]);
    let last = call.liveness.last_rtp().unwrap();
    assert!(is_true(last, call.last_packet(Role::User)), "{last:?}");
}

#[test]
fn a_new_producer_counts_from_zero() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(20, &Role::BOTH);
    call.replace_producers();
    assert_eq!(call.seconds(20, &Role::BOTH), []);
    let stale = Sample {
        asked: call.now(),
        packets: 1_000_000,
        bytes: 1_000_000,
        active: true,
        window: Duration::from_millis(WINDOW_MS),
    };
    assert_eq!(call.liveness.sample(Role::User, 0, stale, call.now()), None);
    assert_eq!(
        call.seconds(20, &Role::BOTH),
        [],
        "a late sample of the old producer does not count for the new one"
    );
    assert_eq!(
        call.liveness.transport_lost(Role::User, 0, call.now()),
        None,
        "nor does the loss of its transport"
    );
}

#[test]
fn a_pause_of_this_process_is_not_silence() {
    let mut call = SampledCall::connected(TIMEOUTS);
    call.seconds(5, &Role::BOTH);
    (call.now_ms, call.next_tick_ms) = (65_000, 66_000);
    assert_eq!(
        call.seconds(1, &[]),
        [],
        "resumed after the pause, packets not counted yet"
    );
    assert_eq!(call.seconds(10, &Role::BOTH), []);
}

#[test]
fn nothing_is_lost_before_the_call_is_connected() {
    let mut call = SampledCall::new(TIMEOUTS);
    call.seconds(2, &[Role::User]);
    assert_eq!(call.seconds(27, &[]), []);
    assert_eq!(call.seconds(1, &[]), [LivenessEvent::MediaTimeout]);
}

/// Runs of time in which the same parties talk, with their lengths in milliseconds.
fn talkers() -> impl Strategy<Value = Vec<(Vec<Role>, u64)>> {
    let run = prop_oneof![
        Just(vec![]),
        Just(vec![Role::User]),
        Just(vec![Role::Otomo]),
        Just(Role::BOTH.to_vec()),
    ];
    proptest::collection::vec((run, 500..25_000u64), 1..12)
}

proptest! {
    #[test]
    fn losses_and_resumptions_alternate_and_each_last_packet_is_true(runs in talkers()) {
        let mut call = SampledCall::connected(TIMEOUTS);
        let mut lost = [false; 2];
        let mut timed_out = false;
        for (talking, ms) in runs {
            let before: Vec<_> = call.packets.iter().map(|packets| packets.last().copied()).collect();
            for event in call.run_until(call.now_ms + ms, &talking) {
                prop_assert!(!timed_out, "{event:?} after the end");
                match event {
                    LivenessEvent::Lost { party, last_rtp, gap } => {
                        prop_assert!(!std::mem::replace(&mut lost[index(party)], true));
                        prop_assert!(gap >= TIMEOUTS.lost_after);
                        let packet = before[index(party)].map(|ms| call.at_ms(ms));
                        prop_assert_eq!(last_rtp.is_some(), packet.is_some());
                        if let (Some(reported), Some(packet)) = (last_rtp, packet) {
                            prop_assert!(is_true(reported, packet), "reported {:?} early", packet.since(reported));
                        }
                    }
                    LivenessEvent::Resumed { party, gap, .. } => {
                        prop_assert!(std::mem::take(&mut lost[index(party)]));
                        // A sample may count its packets up to a second later, when it is silent again.
                        prop_assert!(talking.contains(&party) || before[index(party)].is_some());
                        prop_assert!(gap > TIMEOUTS.lost_after);
                    }
                    LivenessEvent::RtpTimeout { ended, party } => {
                        prop_assert_eq!(party, None);
                        let last = before.iter().flatten().max().copied().unwrap();
                        prop_assert!(is_true(ended, call.at_ms(last)), "ended {:?} early", call.at_ms(last).since(ended));
                        timed_out = true;
                    }
                    LivenessEvent::MediaTimeout => prop_assert!(false, "it was connected"),
                }
            }
        }
    }
}
