//! Whether a call's media is alive: a pure state machine. Samples and `now` go in, events come out.
//!
//! mediasoup does not report the silence of a single audio stream, so each sample of a producer's counters is compared with
//! the one before. This bounds the time of the last packet to one sample interval. The bitrate bounds it to the interval of two
//! samples: it covers a sliding window, so it falls to 0 when the last packet leaves the window. A producer that has
//! stalled is therefore sampled often ([`Liveness::refine_in`]). Every estimate is the lower bound, never later than the packet.

use std::time::{Duration, Instant};

use contract::Role;
use contract::wire::command::PartyMedia;

use crate::clock_reading::ClockReading;

/// More sample intervals than this between two ticks mean that this process paused, not that the parties were silent.
const PAUSE_INTERVALS: u32 = 3;

/// The pause between two samples of a stalled producer whose last packet is about to leave the window.
const REFINE_PAUSE: Duration = Duration::from_millis(25);
/// Sampling of a stalled producer begins this long before the earliest time at which its last packet can leave the window.
const REFINE_AHEAD: Duration = Duration::from_millis(50);

/// The timeouts of a call's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaTimeouts {
    /// From the opening of a call to its connection.
    pub media_timeout: Duration,
    /// Silence after which a party's RTP counts as lost.
    pub lost_after: Duration,
    /// Silence of all parties after which the call ends.
    pub rtp_timeout: Duration,
    /// Silence of one party after which the call ends; `None`: never.
    pub one_sided_timeout: Option<Duration>,
    /// The interval of [`Liveness::apply_timeouts`].
    pub sample_interval: Duration,
}

/// A change of a call's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LivenessEvent {
    /// A party's RTP stopped, or never began.
    Lost {
        /// The party whose RTP is lost.
        party: Role,
        /// Its last packet; `None` if it never sent any.
        last_rtp: Option<ClockReading>,
        /// Silence so far.
        gap: Duration,
    },
    /// A party's RTP resumed.
    Resumed {
        /// The party whose RTP resumed.
        party: Role,
        /// Its first packet after the silence.
        at: ClockReading,
        /// The whole silence.
        gap: Duration,
    },
    /// All RTP, or one party's, was silent for too long.
    RtpTimeout {
        /// The last packet; if one party's silence ended the call, now.
        ended: ClockReading,
        /// The party whose silence alone ended the call.
        party: Option<Role>,
    },
    /// The call was not connected in time.
    MediaTimeout,
}

/// Numbers the producers of a call, from 1, in the order of their creation.
pub type ProducerNumber = u64;

/// A producer's counters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sample {
    /// When they were asked for; mediasoup read them then or later.
    pub asked: ClockReading,
    /// Packets received in all.
    pub packets: u64,
    /// Bytes of packets with a payload received in all: padding is not media.
    pub bytes: u64,
    /// Whether such a packet was within the window of the bitrate.
    pub active: bool,
    /// The length of that window.
    pub window: Duration,
}

#[derive(Debug)]
struct RtpStream {
    producer: ProducerNumber,
    packets: u64,
    bytes: u64,
    // The last packet was not before this; `None`: no packet was received.
    last: Option<ClockReading>,
    // When the party was heard last, as far as samples tell; for one that was never heard, the connection of the call.
    heard: ClockReading,
    // `heard`, moved on by the pauses of this process.
    silent_since: Instant,
    // The sample before, of the same producer.
    previous: ClockReading,
    // The window and the time of the last sample in which it had a packet, until the window has none.
    active: Option<(ClockReading, Duration)>,
    stalled: bool,
    lost: bool,
    // When its RTP resumed.
    resumed: Option<Instant>,
    // Its transport was lost after the last sample: packets in the next sample came before the loss.
    transport_lost: bool,
}

impl RtpStream {
    fn new(producer: ProducerNumber, last: Option<ClockReading>, now: ClockReading) -> Self {
        Self {
            producer,
            packets: 0,
            bytes: 0,
            last,
            heard: now,
            silent_since: now.instant,
            previous: now,
            active: None,
            stalled: false,
            lost: false,
            resumed: None,
            transport_lost: false,
        }
    }

    fn silence(&self, now: ClockReading) -> Duration {
        now.instant.saturating_duration_since(self.silent_since)
    }

    fn not_before(&mut self, bound: ClockReading) {
        self.last = Some(match self.last {
            Some(last) if last.instant >= bound.instant => last,
            _ => bound,
        });
    }

    fn hear(&mut self, now: ClockReading) {
        (self.heard, self.silent_since, self.stalled) = (now, now.instant, false);
    }

    fn mark_lost(&mut self, party: Role, now: ClockReading) -> Option<LivenessEvent> {
        let was_lost = std::mem::replace(&mut self.lost, true);
        (!was_lost).then(|| LivenessEvent::Lost {
            party,
            last_rtp: self.last,
            gap: now.since(self.last.unwrap_or(self.heard)),
        })
    }

    fn mark_resumed(&mut self, party: Role, at: ClockReading, before: ClockReading) -> Option<LivenessEvent> {
        std::mem::take(&mut self.lost).then(|| {
            self.resumed = Some(at.instant);
            LivenessEvent::Resumed {
                party,
                at,
                gap: at.since(before),
            }
        })
    }

    // When the time of the last packet can be narrowed down.
    fn refine_at(&self) -> Option<Instant> {
        let (_, window) = self.active.filter(|_| self.stalled)?;
        let earliest = self.last?.instant.checked_add(window)?;
        Some(earliest.checked_sub(REFINE_AHEAD).unwrap_or(earliest))
    }
}

/// The state of a call's media at the last sample.
#[derive(Debug)]
pub struct Liveness {
    timeouts: MediaTimeouts,
    opened: ClockReading,
    last_check: Instant,
    connected: bool,
    over: bool,
    user: Option<RtpStream>,
    otomo: Option<RtpStream>,
}

impl Liveness {
    /// A call that is opened `now`.
    pub fn new(timeouts: MediaTimeouts, now: ClockReading) -> Self {
        Self {
            timeouts,
            opened: now,
            last_check: now.instant,
            connected: false,
            over: false,
            user: None,
            otomo: None,
        }
    }

    /// The last packet of either party.
    pub fn last_rtp(&self) -> Option<ClockReading> {
        let streams = [&self.user, &self.otomo].into_iter().flatten();
        streams.filter_map(|stream| stream.last).max_by_key(|last| last.instant)
    }

    /// The state of a party's RTP; `None` if it never sent any.
    pub fn party_media(&self, party: Role) -> Option<PartyMedia> {
        let stream = self.of(party).filter(|stream| stream.last.is_some())?;
        Some(PartyMedia {
            last_rtp_at: stream.heard.wall,
            lost: stream.lost,
            packets: stream.packets,
        })
    }

    /// Whether a party's RTP is lost.
    pub fn is_lost(&self, party: Role) -> bool {
        self.of(party).is_some_and(|stream| stream.lost)
    }

    /// Marks the call as connected: silence counts from `at` on, also that of a party that has sent nothing yet.
    pub fn connected(&mut self, at: ClockReading) {
        self.connected = true;
        for party in Role::BOTH {
            self.stream(party).get_or_insert_with(|| RtpStream::new(0, None, at));
        }
    }

    /// Takes the first packet of a party, or of a producer that was lost: mediasoup reports it before any sample.
    pub fn first_packet(&mut self, party: Role, producer: ProducerNumber, at: ClockReading) -> Option<LivenessEvent> {
        let reporting = self.connected && !self.over;
        let Some(stream) = self.stream(party) else {
            *self.stream(party) = Some(RtpStream::new(producer, Some(at), at));
            return None;
        };
        if producer < stream.producer || (producer == stream.producer && stream.last.is_some() && !stream.lost) {
            return None;
        }
        if producer > stream.producer {
            (stream.producer, stream.packets, stream.bytes) = (producer, 0, 0);
        }
        let before = stream.last.unwrap_or(stream.heard);
        (stream.active, stream.transport_lost) = (None, false);
        stream.not_before(at);
        stream.hear(at);
        stream.mark_resumed(party, at, before).filter(|_| reporting)
    }

    /// Takes a sample of a producer, which arrived `now`.
    pub fn sample(
        &mut self,
        party: Role,
        producer: ProducerNumber,
        sample: Sample,
        now: ClockReading,
    ) -> Option<LivenessEvent> {
        let reporting = self.connected && !self.over;
        let opened = self.opened;
        if self.of(party).is_none() && sample.bytes > 0 {
            let mut stream = RtpStream::new(producer, Some(opened), now);
            stream.previous = opened;
            *self.stream(party) = Some(stream);
        }
        let stream = self.stream(party).as_mut()?;
        // The producer has been replaced since its counters were read.
        if producer < stream.producer {
            return None;
        }
        if producer > stream.producer {
            (stream.producer, stream.packets, stream.bytes) = (producer, 0, 0);
            (stream.active, stream.transport_lost) = (None, false);
        }
        let grew = sample.bytes > stream.bytes;
        (stream.packets, stream.bytes) = (sample.packets.max(stream.packets), sample.bytes.max(stream.bytes));
        let previous = std::mem::replace(&mut stream.previous, sample.asked);
        let before = stream.last.unwrap_or(stream.heard);
        if grew {
            stream.not_before(previous);
        }
        if sample.active {
            stream.active = Some((sample.asked, sample.window));
        } else if let Some((active, window)) = stream.active.take() {
            stream.not_before(active.minus(window));
        }
        if !grew {
            stream.stalled = true;
            return None;
        }
        if std::mem::take(&mut stream.transport_lost) {
            return None;
        }
        stream.hear(now);
        stream.mark_resumed(party, now, before).filter(|_| reporting)
    }

    /// Takes the loss of a producer's transport: its RTP is lost at once. If it has just resumed, only the silence timeout marks it
    /// lost: a client can close and open transports in a loop, and every loss is a stored fact.
    pub fn transport_lost(
        &mut self,
        party: Role,
        producer: ProducerNumber,
        now: ClockReading,
    ) -> Option<LivenessEvent> {
        if !self.connected || self.over {
            return None;
        }
        let lost_after = self.timeouts.lost_after;
        let stream = self
            .stream(party)
            .as_mut()
            .filter(|stream| stream.producer <= producer && stream.last.is_some())?;
        stream.transport_lost = true;
        stream.stalled = true;
        let resumed_for = stream.resumed.map(|at| now.instant.saturating_duration_since(at));
        match resumed_for {
            Some(resumed_for) if resumed_for < lost_after => None,
            _ => stream.mark_lost(party, now),
        }
    }

    /// How long to wait before the next sample that can tell the last packet of a stalled producer more precisely; `None` if
    /// no sample can.
    pub fn refine_in(&self, now: ClockReading) -> Option<Duration> {
        let streams = [&self.user, &self.otomo].into_iter().flatten();
        let at = streams.filter_map(RtpStream::refine_at).min()?;
        Some(at.saturating_duration_since(now.instant).max(REFINE_PAUSE))
    }

    /// Applies the timeouts. Called once per sample interval, after the samples.
    pub fn apply_timeouts(&mut self, now: ClockReading) -> Vec<LivenessEvent> {
        self.discount_pause(now);
        if self.over {
            return Vec::new();
        }
        if !self.connected {
            self.over = now.since(self.opened) >= self.timeouts.media_timeout;
            return if self.over {
                vec![LivenessEvent::MediaTimeout]
            } else {
                Vec::new()
            };
        }
        let mut events = Vec::new();
        for party in Role::BOTH {
            let lost_after = self.timeouts.lost_after;
            if let Some(stream) = self
                .stream(party)
                .as_mut()
                .filter(|stream| stream.silence(now) >= lost_after)
            {
                events.extend(stream.mark_lost(party, now));
            }
        }
        if let Some(timeout) = self.rtp_timeout(now) {
            self.over = true;
            events.push(timeout);
        }
        events
    }

    fn rtp_timeout(&self, now: ClockReading) -> Option<LivenessEvent> {
        let lost_for = |party: Role, limit: Duration| {
            let stream = self.of(party);
            stream.is_some_and(|stream| stream.lost && stream.silence(now) >= limit)
        };
        if Role::BOTH
            .into_iter()
            .all(|party| lost_for(party, self.timeouts.rtp_timeout))
        {
            let ended = self.last_rtp()?;
            return Some(LivenessEvent::RtpTimeout { ended, party: None });
        }
        let limit = self.timeouts.one_sided_timeout?;
        let party = Role::BOTH.into_iter().find(|party| lost_for(*party, limit))?;
        Some(LivenessEvent::RtpTimeout {
            ended: now,
            party: Some(party),
        })
    }

    fn discount_pause(&mut self, now: ClockReading) {
        let interval = self.timeouts.sample_interval;
        let elapsed = now.instant.saturating_duration_since(self.last_check);
        if elapsed > interval * PAUSE_INTERVALS {
            for stream in [&mut self.user, &mut self.otomo].into_iter().flatten() {
                let moved = stream.silent_since.checked_add(elapsed - interval);
                stream.silent_since = moved.unwrap_or(now.instant).min(now.instant);
            }
        }
        self.last_check = now.instant;
    }

    fn of(&self, party: Role) -> Option<&RtpStream> {
        match party {
            Role::User => self.user.as_ref(),
            Role::Otomo => self.otomo.as_ref(),
        }
    }

    fn stream(&mut self, party: Role) -> &mut Option<RtpStream> {
        match party {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        }
    }
}

#[cfg(test)]
mod tests;
