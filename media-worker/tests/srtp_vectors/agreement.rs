//! Shim and reference, given the same master key, put the same octets on the wire.

use crate::reference::{self, Profile};
use crate::shim::{self, Direction, Session};

pub(crate) fn master_key(profile: Profile) -> Vec<u8> {
    (0x40..).take(profile.key_len()).collect()
}

pub(crate) fn master_salt(profile: Profile) -> Vec<u8> {
    (0xc0..).take(profile.salt_len()).collect()
}

pub(crate) fn session(profile: Profile, direction: Direction) -> Session {
    Session::new(profile, direction, &master_key(profile), &master_salt(profile)).unwrap()
}

pub(crate) fn rtp(sequence: u16, payload_len: usize) -> Vec<u8> {
    let mut packet = vec![0x80, 111];
    packet.extend(sequence.to_be_bytes());
    packet.extend(u32::from(sequence).wrapping_mul(960).to_be_bytes());
    packet.extend(0x1234_5678_u32.to_be_bytes());
    packet.extend((0_u8..=255).cycle().take(payload_len));
    packet
}

/// A sender report, and a source description to fill it up to `words` 32-bit words of payload.
pub(crate) fn rtcp(words: u8) -> Vec<u8> {
    let mut packet = vec![0x80, 200, 0, words + 1];
    packet.extend(0x1234_5678_u32.to_be_bytes());
    packet.extend((0..words).flat_map(|word| [word; 4]));
    packet
}

/// One contributing source and a one-byte header extension with two words.
fn rtp_with_extras(sequence: u16) -> Vec<u8> {
    let plain = rtp(sequence, 80);
    let extras = [0, 0, 0, 9, 0xbe, 0xde, 0, 2, 0x10, 0x81, 0, 0, 0x22, 1, 2, 3];
    let mut packet = [&plain[..12], &extras, &plain[12..]].concat();
    packet[0] |= 0x10 | 1;
    packet
}

#[test]
fn master_key_and_salt_lengths_are_the_profiles() {
    for profile in Profile::ALL {
        assert_eq!(
            shim::master_lengths(profile),
            (profile.key_len(), profile.salt_len()),
            "{profile:?}"
        );
    }
}

#[test]
fn rtp_agrees_across_a_rollover_of_the_sequence_number() {
    for profile in Profile::ALL {
        let mut sender = session(profile, Direction::Outbound);
        let mut receiver = session(profile, Direction::Inbound);
        for (sequence, rollovers) in [(65533, 0), (65534, 0), (65535, 0), (0, 1), (1, 1), (2, 1)] {
            let packet = rtp(sequence, 120);
            let expected =
                reference::protect_rtp(profile, &master_key(profile), &master_salt(profile), &packet, rollovers);
            assert_eq!(sender.protect_rtp(&packet).unwrap(), expected, "{profile:?} {sequence}");
            assert_eq!(
                receiver.unprotect_rtp(&expected).unwrap(),
                packet,
                "{profile:?} {sequence}"
            );
        }
    }
}

#[test]
fn rtp_agrees_for_packets_of_every_form() {
    for profile in Profile::ALL {
        let mut sender = session(profile, Direction::Outbound);
        let mut receiver = session(profile, Direction::Inbound);
        let sizes = [1, 15, 16, 17, 160, 1200]
            .into_iter()
            .zip(1..)
            .map(|(size, sequence)| rtp(sequence, size));
        for packet in sizes.chain([rtp_with_extras(100)]) {
            let expected = reference::protect_rtp(profile, &master_key(profile), &master_salt(profile), &packet, 0);
            assert_eq!(
                sender.protect_rtp(&packet).unwrap(),
                expected,
                "{profile:?} {}",
                packet.len()
            );
            assert_eq!(
                receiver.unprotect_rtp_in_place(&expected).unwrap(),
                packet,
                "{profile:?} {}",
                packet.len()
            );
        }
    }
}

#[test]
fn rtcp_agrees() {
    for profile in Profile::ALL {
        let mut sender = session(profile, Direction::Outbound);
        let mut receiver = session(profile, Direction::Inbound);
        for (words, index) in [(5, 1), (1, 2), (40, 3)] {
            let packet = rtcp(words);
            let expected =
                reference::protect_rtcp(profile, &master_key(profile), &master_salt(profile), &packet, index);
            assert_eq!(sender.protect_rtcp(&packet).unwrap(), expected, "{profile:?} {index}");
            assert_eq!(
                receiver.unprotect_rtcp(&expected).unwrap(),
                packet,
                "{profile:?} {index}"
            );
        }
    }
}
