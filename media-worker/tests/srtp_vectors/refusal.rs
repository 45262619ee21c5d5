//! Packets that the shim must reject.

use crate::agreement::{master_key, master_salt, rtcp, rtp, session};
use crate::reference::{self, Profile};
use crate::shim::{self, Direction, GROWTH, Session};

fn srtp(profile: Profile, sequence: u16) -> Vec<u8> {
    reference::protect_rtp(
        profile,
        &master_key(profile),
        &master_salt(profile),
        &rtp(sequence, 40),
        0,
    )
}

fn srtcp(profile: Profile, index: u32) -> Vec<u8> {
    reference::protect_rtcp(profile, &master_key(profile), &master_salt(profile), &rtcp(5), index)
}

/// Every copy of `packet` with one bit flipped, in the header, payload, index and tag.
fn tampered(packet: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    (0..packet.len() * 8).map(|bit| {
        let mut copy = packet.to_vec();
        copy[bit / 8] ^= 1 << (bit % 8);
        copy
    })
}

#[test]
fn rtp_with_any_one_bit_changed_is_refused() {
    for profile in Profile::ALL {
        let packet = srtp(profile, 7);
        let mut receiver = session(profile, Direction::Inbound);
        for (bit, changed) in tampered(&packet).enumerate() {
            assert!(receiver.unprotect_rtp(&changed).is_err(), "{profile:?} bit {bit}");
        }
        // A rejected packet does not change the session: the original is still accepted.
        assert_eq!(receiver.unprotect_rtp(&packet).unwrap(), rtp(7, 40), "{profile:?}");
    }
}

#[test]
fn rtcp_with_any_one_bit_changed_is_refused() {
    for profile in Profile::ALL {
        let packet = srtcp(profile, 1);
        let mut receiver = session(profile, Direction::Inbound);
        for (bit, changed) in tampered(&packet).enumerate() {
            assert!(receiver.unprotect_rtcp(&changed).is_err(), "{profile:?} bit {bit}");
        }
        assert_eq!(receiver.unprotect_rtcp(&packet).unwrap(), rtcp(5), "{profile:?}");
    }
}

#[test]
fn a_changed_payload_or_tag_fails_the_authentication() {
    for profile in Profile::ALL {
        let packet = srtp(profile, 7);
        let mut receiver = session(profile, Direction::Inbound);
        for byte in 12..packet.len() {
            let mut changed = packet.clone();
            changed[byte] ^= 0x55;
            assert_eq!(
                receiver.unprotect_rtp(&changed),
                Err(shim::AUTH_FAIL),
                "{profile:?} byte {byte}"
            );
        }
    }
}

#[test]
fn a_packet_cut_short_is_refused() {
    for profile in Profile::ALL {
        let (rtp, rtcp) = (srtp(profile, 7), srtcp(profile, 1));
        let mut receiver = session(profile, Direction::Inbound);
        for len in 0..rtp.len() {
            assert!(receiver.unprotect_rtp(&rtp[..len]).is_err(), "{profile:?} RTP of {len}");
        }
        for len in 0..rtcp.len() {
            assert!(
                receiver.unprotect_rtcp(&rtcp[..len]).is_err(),
                "{profile:?} RTCP of {len}"
            );
        }
    }
}

#[test]
fn another_key_is_refused() {
    for profile in Profile::ALL {
        let mut key = master_key(profile);
        key[0] ^= 1;
        let mut receiver = Session::new(profile, Direction::Inbound, &key, &master_salt(profile)).unwrap();
        assert_eq!(
            receiver.unprotect_rtp(&srtp(profile, 7)),
            Err(shim::AUTH_FAIL),
            "{profile:?}"
        );
        assert_eq!(
            receiver.unprotect_rtcp(&srtcp(profile, 1)),
            Err(shim::AUTH_FAIL),
            "{profile:?}"
        );
    }
}

#[test]
fn a_replay_is_refused_inside_the_window_and_behind_it() {
    for profile in Profile::ALL {
        let mut receiver = session(profile, Direction::Inbound);
        for sequence in [10, 12, 11, 2000] {
            receiver.unprotect_rtp(&srtp(profile, sequence)).unwrap();
        }
        assert_eq!(
            receiver.unprotect_rtp(&srtp(profile, 2000)),
            Err(shim::REPLAY_FAIL),
            "{profile:?}"
        );
        // The window is mediasoup's: 1024 packets.
        receiver.unprotect_rtp(&srtp(profile, 1000)).unwrap();
        assert_eq!(
            receiver.unprotect_rtp(&srtp(profile, 1000)),
            Err(shim::REPLAY_FAIL),
            "{profile:?}"
        );
        assert_eq!(
            receiver.unprotect_rtp(&srtp(profile, 13)),
            Err(shim::REPLAY_OLD),
            "{profile:?}"
        );

        receiver.unprotect_rtcp(&srtcp(profile, 1)).unwrap();
        assert_eq!(
            receiver.unprotect_rtcp(&srtcp(profile, 1)),
            Err(shim::REPLAY_FAIL),
            "{profile:?}"
        );
    }
}

#[test]
fn a_packet_may_be_sent_again_as_mediasoup_requires() {
    for profile in Profile::ALL {
        let mut sender = session(profile, Direction::Outbound);
        let first = sender.protect_rtp(&rtp(7, 40)).unwrap();
        sender.protect_rtp(&rtp(8, 40)).unwrap();
        assert_eq!(sender.protect_rtp(&rtp(7, 40)).unwrap(), first, "{profile:?}");
    }
}

#[test]
fn a_buffer_that_is_too_small_is_refused_unchanged() {
    let profile = Profile::Gcm128;
    let packet = rtp(7, 40);
    let mut sender = session(profile, Direction::Outbound);
    let too_small = packet.len() + GROWTH - 5;
    assert_eq!(sender.protect_rtp_into(&packet, too_small), Err(shim::BUFFER_SMALL));
    assert_eq!(sender.protect_rtp(&packet).unwrap(), srtp(profile, 7));

    let mut receiver = session(profile, Direction::Inbound);
    let protected = srtp(profile, 7);
    assert_eq!(
        receiver.unprotect_rtp_into(&protected, protected.len() - 1),
        Err(shim::BUFFER_SMALL)
    );
    assert_eq!(receiver.unprotect_rtp(&protected).unwrap(), packet);
}

#[test]
fn keys_of_the_wrong_length_and_mkis_are_refused() {
    for profile in Profile::ALL {
        let (key, salt) = (master_key(profile), master_salt(profile));
        let attempts = [
            Session::new(profile, Direction::Inbound, &key[1..], &salt),
            Session::new(profile, Direction::Inbound, &key, &salt[1..]),
            Session::new(profile, Direction::Inbound, &[0; 60], &salt),
            Session::new(profile, Direction::Inbound, &[], &[]),
            Session::with_mki(profile, Direction::Inbound, &key, &salt, &[1]),
        ];
        for (number, attempt) in attempts.into_iter().enumerate() {
            assert_eq!(attempt.err(), Some(shim::BAD_PARAM), "{profile:?} attempt {number}");
        }
    }
}
