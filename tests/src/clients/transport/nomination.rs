//! Clients that nominate a candidate pair only once (RFC 8445 section 8.1.1), as aiortc does. str0m does so in every check.

use hmac::{Hmac, KeyInit, Mac};
use sha1::Sha1;

/// RFC 8489 section 5.
const HEADER_BYTES: usize = 20;
const BINDING_REQUEST: [u8; 2] = [0, 1];
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 8445 section 16.1, RFC 8489 sections 14.5 and 14.7.
const USE_CANDIDATE: u16 = 0x0025;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// Checks that carry a nomination: the first may be lost.
const NOMINATIONS: u32 = 4;

/// Removes nominations after the first ones.
#[derive(Debug)]
pub(super) struct NominatesOnce {
    password: String,
    sent: u32,
}

impl NominatesOnce {
    /// For the SFU's password.
    pub(super) fn new(password: String) -> Self {
        Self { password, sent: 0 }
    }

    /// The same, of a client that has nominated.
    pub(super) fn nominated(password: String) -> Self {
        Self {
            password,
            sent: NOMINATIONS,
        }
    }

    /// The datagram as such a client sends it.
    pub(super) fn filter(&mut self, datagram: Vec<u8>) -> Vec<u8> {
        if !is_nomination(&datagram) {
            return datagram;
        }
        self.sent += 1;
        if self.sent <= NOMINATIONS {
            return datagram;
        }
        without_nomination(&datagram, &self.password).unwrap_or(datagram)
    }
}

fn attributes(message: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = message.get(HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let [kind_high, kind_low, length_high, length_low, ..] = *rest else {
            return None;
        };
        let length = 4 + usize::from(u16::from_be_bytes([length_high, length_low])).next_multiple_of(4);
        let (whole, after) = rest.split_at_checked(length)?;
        rest = after;
        Some((u16::from_be_bytes([kind_high, kind_low]), whole))
    })
}

fn is_nomination(datagram: &[u8]) -> bool {
    datagram.starts_with(&BINDING_REQUEST)
        && datagram.get(4..8) == Some(&MAGIC_COOKIE)
        && attributes(datagram).any(|(kind, _)| kind == USE_CANDIDATE)
}

fn without_nomination(datagram: &[u8], password: &str) -> Option<Vec<u8>> {
    let mut message = datagram.get(..HEADER_BYTES)?.to_vec();
    for (kind, whole) in attributes(datagram) {
        if ![USE_CANDIDATE, MESSAGE_INTEGRITY, FINGERPRINT].contains(&kind) {
            message.extend_from_slice(whole);
        }
    }
    // The length includes the attribute itself.
    set_length(&mut message, 24)?;
    let mut mac = Hmac::<Sha1>::new_from_slice(password.as_bytes()).ok()?;
    mac.update(&message);
    message.extend_from_slice(&MESSAGE_INTEGRITY.to_be_bytes());
    message.extend_from_slice(&[0, 20]);
    message.extend_from_slice(&mac.finalize().into_bytes());
    set_length(&mut message, 8)?;
    let fingerprint = crc32(&message) ^ FINGERPRINT_XOR;
    message.extend_from_slice(&FINGERPRINT.to_be_bytes());
    message.extend_from_slice(&[0, 4]);
    message.extend_from_slice(&fingerprint.to_be_bytes());
    Some(message)
}

fn set_length(message: &mut [u8], more: usize) -> Option<()> {
    let length = u16::try_from(message.len() - HEADER_BYTES + more).ok()?;
    message.get_mut(2..4)?.copy_from_slice(&length.to_be_bytes());
    Some(())
}

/// CRC-32 of ITU V.42.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 & (crc & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_the_one_of_the_standard() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    /// The sample request of RFC 5769 section 2.1 with a nomination in front of its last two attributes; its password is there, too.
    #[test]
    fn a_request_without_its_nomination_is_the_original_one() {
        let original: Vec<u8> = [
            "000100582112a442b7e7a701bc34d686fa87dfae",
            "802200105354554e207465737420636c69656e74",
            "002400046e0001ff80290008932ff9b151263b36",
            "000600096576746a3a68367659202020",
            "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2",
            "80280004e57a3bcf",
        ]
        .concat()
        .as_bytes()
        .chunks(2)
        .map(|digits| u8::from_str_radix(std::str::from_utf8(digits).unwrap(), 16).unwrap())
        .collect();
        assert!(!is_nomination(&original));
        let end = original.len() - 32;
        let nominating = [&original[..end], &[0, 0x25, 0, 0], &original[end..]].concat();
        assert!(is_nomination(&nominating));
        let password = "VOkJxbRl1RmTxUk/WvJxBt";
        let mut filter = NominatesOnce::new(password.to_owned());
        for _ in 0..NOMINATIONS {
            assert_eq!(filter.filter(nominating.clone()), nominating);
        }
        let stripped = filter.filter(nominating.clone());
        assert_eq!(stripped, original);
        let mut filter = NominatesOnce::nominated(password.to_owned());
        assert_eq!(filter.filter(nominating), original);
    }
}
