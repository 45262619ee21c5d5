//! Checks native/subprojects/libsrtp3 (libsrtp 3's API on libsrtp 2) against published SRTP vectors.
//!
//! RFC 3711 and RFC 7714 publish *session* keys with the packets they protect, and key derivation on its own, while a
//! libsrtp session takes *master* keys: no RFC's packet can be put through one. So the chain is
//! 1. `published`: `reference`, an independent sender, reproduces the RFCs' vectors, and it and the shim both reproduce
//!    the packets of libsrtp's own test suite, which start from master keys;
//! 2. `agreement`: shim and reference agree on packets of every profile and shape;
//! 3. `refusal`: tampered, truncated and replayed packets are rejected, and buffer bounds hold.
#![cfg(not(media_dependencies = "bundled"))]
#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "helpers of tests, where a panic is the answer"
)]

mod agreement;
mod published;
mod reference;
mod refusal;
mod shim;

/// Parses hexadecimal octets; blanks are ignored.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u32> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| c.to_digit(16).unwrap())
        .collect();
    digits
        .chunks(2)
        .map(|pair| u8::try_from(pair[0] << 4 | pair[1]).unwrap())
        .collect()
}
