//! Whether a call's media is alive: a pure state machine. Samples and `now` go in, verdicts come out.
//!
//! mediasoup never reports silence of a single audio stream, so its packet counters are compared from sample to sample.

use std::time::{Duration, Instant};

use contract::wire::command::PartyMedia;
use contract::{Role, Timestamp};

use crate::clock_reading::ClockReading;

/// A gap between two looks of more than so many sample intervals is our own absence, not the caller's silence.
const ABSENCE_INTERVALS: u32 = 3;

/// The times that decide.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// From opening to connection.
    pub media_timeout: Duration,
    /// Silence that makes a stream lost.
    pub lost_after: Duration,
    /// Silence of every stream that ends the call.
    pub rtp_timeout: Duration,
    /// Silence of one stream that ends the call, if that is wanted.
    pub one_sided_timeout: Option<Duration>,
    /// How often [`Liveness::tick`] is to be expected.
    pub sample_interval: Duration,
}

/// What has become of a call's media.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A party's RTP stopped.
    Lost {
        /// Whose.
        party: Role,
        /// When its last packet was counted.
        last_rtp_at: Timestamp,
        /// Silence so far.
        gap: Duration,
    },
    /// A party's RTP came back.
    Resumed {
        /// Whose.
        party: Role,
        /// When it was counted again.
        at: Timestamp,
        /// Silence in all.
        gap: Duration,
    },
    /// The call is over since its last packet.
    Dead {
        /// When that was counted.
        ended_at: Timestamp,
    },
    /// The call was opened and never connected.
    MediaTimeout,
}

/// Which producer a count belongs to; a later producer of the same party has a greater one.
pub type Source = u64;

#[derive(Debug)]
struct Stream {
    source: Source,
    packets: u64,
    last: ClockReading,
    // `last`, without the time in which nobody looked.
    silent_since: Instant,
    lost: bool,
    // Its transport went since the last look: packets that the next one finds came before that.
    gone_at: Option<ClockReading>,
}

impl Stream {
    fn new(source: Source, packets: u64, now: ClockReading) -> Self {
        Self {
            source,
            packets,
            last: now,
            silent_since: now.instant,
            lost: false,
            gone_at: None,
        }
    }

    fn silence(&self, now: ClockReading) -> Duration {
        now.instant.saturating_duration_since(self.silent_since)
    }

    fn lose(&mut self, party: Role, now: ClockReading) -> Option<Verdict> {
        let was_lost = std::mem::replace(&mut self.lost, true);
        (!was_lost).then(|| Verdict::Lost {
            party,
            last_rtp_at: self.last.wall,
            gap: now.since(self.last),
        })
    }
}

/// A call's media as it was last seen.
#[derive(Debug)]
pub struct Liveness {
    limits: Limits,
    opened: ClockReading,
    looked: Instant,
    connected: bool,
    over: bool,
    user: Option<Stream>,
    otomo: Option<Stream>,
}

impl Liveness {
    /// A call that was opened just now.
    pub fn new(limits: Limits, now: ClockReading) -> Self {
        Self {
            limits,
            opened: now,
            looked: now.instant,
            connected: false,
            over: false,
            user: None,
            otomo: None,
        }
    }

    /// When the last packet of anybody was counted.
    pub fn last_rtp(&self) -> Option<ClockReading> {
        [&self.user, &self.otomo]
            .into_iter()
            .flatten()
            .map(|stream| stream.last)
            .max_by_key(|last| last.instant)
    }

    /// What was last seen of a party's RTP; none if there never was any.
    pub fn seen(&self, party: Role) -> Option<PartyMedia> {
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

    /// The call is connected: from now on silence counts.
    pub fn connected(&mut self) {
        self.connected = true;
    }

    /// A producer's first packet was seen, before any sample.
    pub fn first_packet(&mut self, party: Role, source: Source, now: ClockReading) {
        let stream = self.stream(party);
        if stream.is_none() {
            *stream = Some(Stream::new(source, 0, now));
        }
    }

    /// How many packets a producer has received in all.
    pub fn sample(&mut self, party: Role, source: Source, packets: u64, now: ClockReading) -> Option<Verdict> {
        let tell = self.connected && !self.over;
        let Some(stream) = self.stream(party) else {
            if packets > 0 {
                *self.stream(party) = Some(Stream::new(source, packets, now));
            }
            return None;
        };
        // A reading of a producer that has been replaced meanwhile.
        if source < stream.source {
            return None;
        }
        let newer = source > stream.source;
        let before = if newer { 0 } else { stream.packets };
        (stream.source, stream.packets) = (source, packets.max(before));
        let gone_at = stream.gone_at.take().filter(|_| !newer);
        if packets <= before {
            return None;
        }
        if let Some(gone_at) = gone_at {
            (stream.last, stream.silent_since) = (gone_at, gone_at.instant);
            return None;
        }
        let gap = now.since(stream.last);
        (stream.last, stream.silent_since) = (now, now.instant);
        let was_lost = std::mem::replace(&mut stream.lost, false);
        (was_lost && tell).then_some(Verdict::Resumed {
            party,
            at: now.wall,
            gap,
        })
    }

    /// A producer's transport is gone: a loss at once.
    pub fn gone(&mut self, party: Role, source: Source, now: ClockReading) -> Option<Verdict> {
        if !self.connected || self.over {
            return None;
        }
        let stream = self.stream(party).as_mut().filter(|stream| stream.source <= source)?;
        stream.gone_at = Some(now);
        stream.lose(party, now)
    }

    /// To be called every sample interval, after the samples.
    pub fn tick(&mut self, now: ClockReading) -> Vec<Verdict> {
        self.excuse_absence(now);
        if self.over {
            return Vec::new();
        }
        if !self.connected {
            self.over = now.since(self.opened) >= self.limits.media_timeout;
            return if self.over {
                vec![Verdict::MediaTimeout]
            } else {
                Vec::new()
            };
        }
        let mut verdicts = Vec::new();
        for party in Role::BOTH {
            let lost_after = self.limits.lost_after;
            if let Some(stream) = self
                .stream(party)
                .as_mut()
                .filter(|stream| stream.silence(now) >= lost_after)
            {
                verdicts.extend(stream.lose(party, now));
            }
        }
        if let Some(ended_at) = self.dead_since(now) {
            self.over = true;
            verdicts.push(Verdict::Dead { ended_at });
        }
        verdicts
    }

    fn dead_since(&self, now: ClockReading) -> Option<Timestamp> {
        let lost_for = |stream: &Stream, limit: Duration| stream.lost && stream.silence(now) >= limit;
        let streams = || [&self.user, &self.otomo].into_iter().flatten();
        if streams().all(|stream| lost_for(stream, self.limits.rtp_timeout)) {
            return self.last_rtp().map(|last| last.wall);
        }
        let limit = self.limits.one_sided_timeout?;
        streams()
            .filter(|stream| lost_for(stream, limit))
            .map(|stream| stream.last.wall)
            .min()
    }

    fn excuse_absence(&mut self, now: ClockReading) {
        let interval = self.limits.sample_interval;
        let absence = now.instant.saturating_duration_since(self.looked);
        if absence > interval * ABSENCE_INTERVALS {
            for stream in [&mut self.user, &mut self.otomo].into_iter().flatten() {
                let excused = stream.silent_since.checked_add(absence - interval);
                stream.silent_since = excused.unwrap_or(now.instant).min(now.instant);
            }
        }
        self.looked = now.instant;
    }

    fn stream(&mut self, party: Role) -> &mut Option<Stream> {
        match party {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        }
    }
}

#[cfg(test)]
mod tests;
