//! Vectors that others published.

use crate::hex;
use crate::reference::{self, Profile};
use crate::shim::{Direction, Session};

const RFC_3711_MASTER_KEY: &str = "E1F97A0D3E018BE0D64FA32C06DE4139";
const RFC_3711_MASTER_SALT: &str = "0EC675AD498AFEEBB6960B3AABE6";

/// RFC 7714, section 16: the salt is "Quid pro quo".
const RFC_7714_SALT: &str = "517569642070726f2071756f";
const RFC_7714_RTP: &str = "8040f17b 8041f8d3 5501a0b2
    47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";
const RFC_7714_RTCP: &str = "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61
    deadbeef deadbeef deadbeef deadbeef deadbeef";
const RFC_7714_RTCP_INDEX: u32 = 0x5d4;

#[test]
fn reference_gives_the_keystream_of_rfc_3711_b_2() {
    let key = hex("2B7E151628AED2A6ABF7158809CF4F3C");
    for (iv, keystream) in [
        (
            "F0F1F2F3F4F5F6F7F8F9FAFBFCFD0000",
            "E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB 41E95B3BB0A2E8DD477901E4FCA894C0",
        ),
        (
            "F0F1F2F3F4F5F6F7F8F9FAFBFCFDFEFF",
            "EC8CDF7398607CB0F2D21675EA9EA1E4 362B7C3C6773516318A077D7FC5073AE 6A2CC3787889374FBEB4C81B17BA6C44",
        ),
    ] {
        let mut data = vec![0; 48];
        reference::apply_keystream(&key, &hex(iv), &mut data);
        assert_eq!(data, hex(keystream));
    }
}

#[test]
fn reference_derives_the_keys_of_rfc_3711_b_3() {
    let (key, salt) = (hex(RFC_3711_MASTER_KEY), hex(RFC_3711_MASTER_SALT));
    let encryption = reference::derive(&key, &salt, 0, 16);
    let authentication = reference::derive(&key, &salt, 1, 94);
    let session_salt = reference::derive(&key, &salt, 2, 14);
    assert_eq!(encryption, hex("C61E7A93744F39EE10734AFE3FF7A087"));
    assert_eq!(session_salt, hex("30CBBC08863D8C85D49DB34A9AE1"));
    let expected = "CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE E049646C43D9327AD175578EF7227098
        6371C10C9A369AC2F94A8C5FBCDDDC25 6D6E919A48B610EF17C2041E47403576 6B68642C59BBFC2F34DB60DBDFB2";
    assert_eq!(authentication, hex(expected));
}

#[test]
fn reference_gives_the_srtp_packets_of_rfc_7714_16() {
    let aes_128 = "8040f17b 8041f8d3 5501a0b2
        f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833
        899d7f27 beb16a91 52cf765e e4390cce";
    let aes_256 = "8040f17b 8041f8d3 5501a0b2
        32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb
        7878d7a7 6c13";
    for (key_len, packet) in [(16, aes_128), (32, aes_256)] {
        let key: Vec<u8> = (0..key_len).collect();
        assert_eq!(
            reference::gcm_rtp(&key, &hex(RFC_7714_SALT), &hex(RFC_7714_RTP), 0),
            hex(packet)
        );
    }
}

#[test]
fn reference_gives_the_srtcp_packets_of_rfc_7714_17() {
    let aes_128 = "81c8000d 4d617273
        63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded 0bb9275b
        c84aa458 96cf4d2f c5abf872 45d9eade 800005d4";
    let aes_256 = "81c8000d 4d617273
        d50ae4d1 f5ce5d30 4ba297e4 7d470c28 2c3ece5d bffe0a50 a2eaa5c1 110555be 8415f658 c61de047 6f1b6fad
        1d1eb30c 4446839f 57ff6f6c b26ac3be 800005d4";
    for (key_len, packet) in [(16, aes_128), (32, aes_256)] {
        let key: Vec<u8> = (0..key_len).collect();
        let protected = reference::gcm_rtcp(&key, &hex(RFC_7714_SALT), &hex(RFC_7714_RTCP), RFC_7714_RTCP_INDEX);
        assert_eq!(protected, hex(packet));
    }
}

/// libsrtp, test/srtp_driver.c: `srtp_validate` (RFC 3711's master key) and `srtp_validate_gcm`.
struct LibsrtpSuite {
    profile: Profile,
    key: Vec<u8>,
    salt: Vec<u8>,
    rtp: Vec<u8>,
    srtp: Vec<u8>,
    rtcp: Vec<u8>,
    srtcp: Vec<u8>,
}

fn libsrtp_suites() -> [LibsrtpSuite; 2] {
    let payload = [0xab; 16];
    let rtp = [hex("800f1234 decafbad cafebabe"), payload.to_vec()].concat();
    let rtcp = [hex("81c8000b cafebabe"), payload.to_vec()].concat();
    [
        LibsrtpSuite {
            profile: Profile::AesCmSha1_80,
            key: hex(RFC_3711_MASTER_KEY),
            salt: hex(RFC_3711_MASTER_SALT),
            rtp: rtp.clone(),
            srtp: hex("800f1234 decafbad cafebabe 4e55dc4c e79978d8 8ca4d215 949d2402 b78d6acc 99ea179b 8dbb"),
            rtcp: rtcp.clone(),
            srtcp: hex("81c8000b cafebabe 7128035b e487b9bd bef89041 f977a5a8 80000001 993e08cd 54d6c123 0798"),
        },
        LibsrtpSuite {
            profile: Profile::Gcm128,
            key: (0..16).collect(),
            salt: hex("a0a1a2a3a4a5a6a7a8a9aaab"),
            rtp,
            srtp: hex("800f1234 decafbad cafebabe c5002ede 04cfdd2e b91159e0 880aa06e
                d2976826 f796b201 df3131a1 27e8a392"),
            rtcp,
            srtcp: hex("81c8000b cafebabe c98b8b5d f0392a55 852b6c21 ac8e7025
                c52c6fbe a2b3b446 ea31123b a88ce61e 80000001"),
        },
    ]
}

#[test]
fn reference_gives_the_packets_of_libsrtps_test_suite() {
    for suite in libsrtp_suites() {
        let LibsrtpSuite { profile, key, salt, .. } = &suite;
        assert_eq!(
            reference::protect_rtp(*profile, key, salt, &suite.rtp, 0),
            suite.srtp,
            "{profile:?}"
        );
        // libsrtp's first SRTCP index is 1.
        assert_eq!(
            reference::protect_rtcp(*profile, key, salt, &suite.rtcp, 1),
            suite.srtcp,
            "{profile:?}"
        );
    }
}

#[test]
fn shim_gives_and_takes_the_packets_of_libsrtps_test_suite() {
    for suite in libsrtp_suites() {
        let LibsrtpSuite { profile, key, salt, .. } = &suite;
        let mut sender = Session::new(*profile, Direction::Outbound, key, salt).unwrap();
        assert_eq!(sender.protect_rtp(&suite.rtp).unwrap(), suite.srtp, "{profile:?}");
        assert_eq!(sender.protect_rtcp(&suite.rtcp).unwrap(), suite.srtcp, "{profile:?}");

        let mut receiver = Session::new(*profile, Direction::Inbound, key, salt).unwrap();
        assert_eq!(receiver.unprotect_rtp(&suite.srtp).unwrap(), suite.rtp, "{profile:?}");
        assert_eq!(
            receiver.unprotect_rtcp(&suite.srtcp).unwrap(),
            suite.rtcp,
            "{profile:?}"
        );
    }
}
