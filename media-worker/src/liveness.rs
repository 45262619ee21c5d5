//! Whether a call's media is alive: a pure state machine. Samples and `now` go in, events come out.
//!
//! mediasoup does not report the silence of a single audio stream, so each sample of a packet counter is compared with the
//! one before.

use std::time::{Duration, Instant};

use contract::wire::command::PartyMedia;
use contract::{Role, Timestamp};

use crate::clock_reading::ClockReading;

/// More sample intervals than this between two ticks mean that this process paused, not that the parties were silent.
const PAUSE_INTERVALS: u32 = 3;

/// The timeouts of a call's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MediaTimeouts {
    /// From the opening of a call to its connection.
    pub media_timeout: Duration,
    /// Silence after which a party's RTP counts as lost.
    pub lost_after: Duration,
    /// Silence of all parties that have sent RTP, after which the call ends.
    pub rtp_timeout: Duration,
    /// Silence of one party after which the call ends; `None`: never.
    pub one_sided_timeout: Option<Duration>,
    /// The interval of [`Liveness::tick`].
    pub sample_interval: Duration,
}

/// A change of a call's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LivenessEvent {
    /// A party's RTP stopped.
    Lost {
        /// The party.
        party: Role,
        /// When its last packet was counted.
        last_rtp_at: Timestamp,
        /// Silence so far.
        gap: Duration,
    },
    /// A party's RTP resumed.
    Resumed {
        /// The party.
        party: Role,
        /// When packets were counted again.
        at: Timestamp,
        /// The whole silence.
        gap: Duration,
    },
    /// All RTP, or one party's, was silent for too long.
    RtpTimeout {
        /// When the last packet was counted.
        ended_at: Timestamp,
    },
    /// The call was not connected in time.
    MediaTimeout,
}

/// Numbers the producers of a call, from 1, in the order of their creation.
pub type ProducerNumber = u64;

#[derive(Debug)]
struct RtpStream {
    producer: ProducerNumber,
    packets: u64,
    last: ClockReading,
    // `last`, moved on by the pauses of this process.
    silent_since: Instant,
    lost: bool,
    // When its transport was lost, if that was after the last sample: packets in the next sample came before the loss.
    transport_lost_at: Option<ClockReading>,
}

impl RtpStream {
    fn new(producer: ProducerNumber, packets: u64, now: ClockReading) -> Self {
        Self {
            producer,
            packets,
            last: now,
            silent_since: now.instant,
            lost: false,
            transport_lost_at: None,
        }
    }

    fn silence(&self, now: ClockReading) -> Duration {
        now.instant.saturating_duration_since(self.silent_since)
    }

    fn mark_lost(&mut self, party: Role, now: ClockReading) -> Option<LivenessEvent> {
        let was_lost = std::mem::replace(&mut self.lost, true);
        (!was_lost).then(|| LivenessEvent::Lost {
            party,
            last_rtp_at: self.last.wall,
            gap: now.since(self.last),
        })
    }
}

/// The state of a call's media at the last sample.
#[derive(Debug)]
pub struct Liveness {
    timeouts: MediaTimeouts,
    opened: ClockReading,
    last_tick: Instant,
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
            last_tick: now.instant,
            connected: false,
            over: false,
            user: None,
            otomo: None,
        }
    }

    /// When the last packet of either party was counted.
    pub fn last_rtp(&self) -> Option<ClockReading> {
        [&self.user, &self.otomo]
            .into_iter()
            .flatten()
            .map(|stream| stream.last)
            .max_by_key(|last| last.instant)
    }

    /// The state of a party's RTP; `None` if it never sent any.
    pub fn party_media(&self, party: Role) -> Option<PartyMedia> {
        let stream = match party {
            Role::User => &self.user,
            Role::Otomo => &self.otomo,
        };
        stream.as_ref().map(|stream| PartyMedia {
            last_rtp_at: stream.last.wall,
            lost: stream.lost,
            packets: stream.packets,
        })
    }

    /// Marks the call as connected: silence counts from now on.
    pub fn connected(&mut self) {
        self.connected = true;
    }

    /// Takes a producer's first packet, which mediasoup reports before any sample.
    pub fn first_packet(&mut self, party: Role, producer: ProducerNumber, now: ClockReading) {
        let stream = self.stream(party);
        if stream.is_none() {
            *stream = Some(RtpStream::new(producer, 0, now));
        }
    }

    /// Takes a sample: the packets that a producer has received in all.
    pub fn sample(
        &mut self,
        party: Role,
        producer: ProducerNumber,
        packets: u64,
        now: ClockReading,
    ) -> Option<LivenessEvent> {
        let reporting = self.connected && !self.over;
        let Some(stream) = self.stream(party) else {
            if packets > 0 {
                *self.stream(party) = Some(RtpStream::new(producer, packets, now));
            }
            return None;
        };
        // The producer has been replaced since its counter was read.
        if producer < stream.producer {
            return None;
        }
        let newer = producer > stream.producer;
        let before = if newer { 0 } else { stream.packets };
        (stream.producer, stream.packets) = (producer, packets.max(before));
        let transport_lost_at = stream.transport_lost_at.take().filter(|_| !newer);
        if packets <= before {
            return None;
        }
        if let Some(transport_lost_at) = transport_lost_at {
            (stream.last, stream.silent_since) = (transport_lost_at, transport_lost_at.instant);
            return None;
        }
        let gap = now.since(stream.last);
        (stream.last, stream.silent_since) = (now, now.instant);
        let was_lost = std::mem::replace(&mut stream.lost, false);
        (was_lost && reporting).then_some(LivenessEvent::Resumed {
            party,
            at: now.wall,
            gap,
        })
    }

    /// Takes the loss of a producer's transport: its RTP is lost at once.
    pub fn transport_lost(
        &mut self,
        party: Role,
        producer: ProducerNumber,
        now: ClockReading,
    ) -> Option<LivenessEvent> {
        if !self.connected || self.over {
            return None;
        }
        let stream = self
            .stream(party)
            .as_mut()
            .filter(|stream| stream.producer <= producer)?;
        stream.transport_lost_at = Some(now);
        stream.mark_lost(party, now)
    }

    /// Applies the timeouts. Called once per sample interval, after the samples.
    pub fn tick(&mut self, now: ClockReading) -> Vec<LivenessEvent> {
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
        if let Some(ended_at) = self.rtp_timeout_at(now) {
            self.over = true;
            events.push(LivenessEvent::RtpTimeout { ended_at });
        }
        events
    }

    fn rtp_timeout_at(&self, now: ClockReading) -> Option<Timestamp> {
        let lost_for = |stream: &RtpStream, limit: Duration| stream.lost && stream.silence(now) >= limit;
        let streams = || [&self.user, &self.otomo].into_iter().flatten();
        if streams().all(|stream| lost_for(stream, self.timeouts.rtp_timeout)) {
            return self.last_rtp().map(|last| last.wall);
        }
        let limit = self.timeouts.one_sided_timeout?;
        streams()
            .filter(|stream| lost_for(stream, limit))
            .map(|stream| stream.last.wall)
            .min()
    }

    fn discount_pause(&mut self, now: ClockReading) {
        let interval = self.timeouts.sample_interval;
        let elapsed = now.instant.saturating_duration_since(self.last_tick);
        if elapsed > interval * PAUSE_INTERVALS {
            for stream in [&mut self.user, &mut self.otomo].into_iter().flatten() {
                let moved = stream.silent_since.checked_add(elapsed - interval);
                stream.silent_since = moved.unwrap_or(now.instant).min(now.instant);
            }
        }
        self.last_tick = now.instant;
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
