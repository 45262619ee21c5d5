//! Small Opus packets for a client without a microphone.

use std::time::Duration;

use serde_json::{Value, json};

/// The duration of a packet.
pub const FRAME: Duration = Duration::from_millis(20);
/// RTP clock ticks per packet, at 48 kHz (RFC 7587 section 4.1).
pub const FRAME_TICKS: u32 = 960;

/// How often a caller sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// The time in which every frame is sent.
    pub every_frame_for: Duration,
    /// The interval of packets after that, as in Opus' discontinuous transmission.
    pub pause: Duration,
}

impl Pace {
    /// Every frame, without end.
    pub const STEADY: Self = Self {
        every_frame_for: Duration::MAX,
        pause: FRAME,
    };

    /// The time to the next packet, `elapsed` after the first.
    pub fn gap(self, elapsed: Duration) -> Duration {
        if elapsed < self.every_frame_for {
            FRAME
        } else {
            self.pause
        }
    }
}

/// Configuration 31 (CELT, fullband, 20 ms), mono, one frame (RFC 6716 section 3.1).
const TABLE_OF_CONTENTS: u8 = 31 << 3;
/// About 16 kbit/s, like speech, and well above the 2 bytes or fewer of DTX.
const FRAME_BYTES: u8 = 40;

/// The packet with that number. Opus' range decoder accepts any bytes after the first.
pub fn packet(number: u64) -> Vec<u8> {
    let mut packet = vec![TABLE_OF_CONTENTS];
    let [seed, ..] = number.to_le_bytes();
    packet.extend((1..FRAME_BYTES).map(|index| seed.wrapping_mul(31).wrapping_add(index.wrapping_mul(97))));
    packet
}

/// mediasoup's `RtpParameters` of one plain Opus stream.
pub fn rtp_parameters(payload_type: u8, ssrc: u32) -> Value {
    json!({
        "mid": "0",
        "codecs": [{
            "mimeType": "audio/opus",
            "payloadType": payload_type,
            "clockRate": 48_000,
            "channels": 2,
            "parameters": { "minptime": 10, "useinbandfec": 1 },
            "rtcpFeedback": [],
        }],
        "headerExtensions": [],
        "encodings": [{ "ssrc": ssrc }],
        "rtcp": { "cname": "client", "reducedSize": true },
    })
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
        assert_eq!(u128::from(FRAME_TICKS), 48 * FRAME.as_millis());
    }
}
