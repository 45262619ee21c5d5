//! Small Opus packets for a caller that has no microphone.

use std::time::Duration;

/// How much sound a packet holds.
pub const FRAME: Duration = Duration::from_millis(20);
/// RTP's clock rate for Opus, in hertz (RFC 7587 section 4.1).
pub const CLOCK_RATE: u32 = 48_000;
/// RTP time from one packet to the next.
pub const FRAME_TICKS: u32 = 960;

/// How often a caller sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// For so long every frame is sent.
    pub lively: Duration,
    /// From then on a packet leaves only so often, as in Opus' discontinuous transmission.
    pub pause: Duration,
}

impl Pace {
    /// Every frame, for as long as it lasts.
    pub const STEADY: Self = Self {
        lively: Duration::MAX,
        pause: FRAME,
    };

    /// How long after one packet the next leaves, `spoken` after the first.
    #[must_use]
    pub fn gap(self, spoken: Duration) -> Duration {
        if spoken < self.lively { FRAME } else { self.pause }
    }
}

/// Configuration 31 (CELT, fullband, 20 ms), mono, one frame (RFC 6716 section 3.1).
const TABLE_OF_CONTENTS: u8 = 31 << 3;
/// About 16 kbit/s, as speech is sent; well above the 2 bytes or fewer of DTX.
const FRAME_BYTES: u8 = 40;

/// The packet with that number. Any bytes after the first are a frame to Opus' range decoder; these give a faint hiss.
#[must_use]
pub fn packet(number: u64) -> Vec<u8> {
    let mut packet = vec![TABLE_OF_CONTENTS];
    let [seed, ..] = number.to_le_bytes();
    packet.extend((1..FRAME_BYTES).map(|index| seed.wrapping_mul(31).wrapping_add(index.wrapping_mul(97))));
    packet
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_one_twenty_millisecond_frame_each() {
        let packet = packet(300);
        assert_eq!(packet.len(), usize::from(FRAME_BYTES));
        assert_eq!(packet[0] >> 3, 31, "configuration");
        assert_eq!(packet[0] & 0b11, 0, "one frame");
        assert_eq!(
            u128::from(FRAME_TICKS),
            u128::from(CLOCK_RATE) * FRAME.as_millis() / 1000
        );
    }
}
