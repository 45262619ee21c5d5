//! Padding-only RTP packets (RFC 3550 section 5.1), which str0m does not send on a media stream.
//!
//! str0m writes the header without the padding bit. A payload with the pattern [`PADDING`] therefore marks the packet: the bit is
//! set in the authenticated header before encryption, and in the datagram before sending. Both agree, so the SFU receives a valid
//! SRTP packet. This needs an AEAD profile (RFC 7714), which mediasoup prefers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use str0m::crypto::{
    AeadAes128GcmCipher, AeadAes256GcmCipher, CryptoError, CryptoProvider, SrtpProvider, SupportedAeadAes128Gcm,
    SupportedAeadAes256Gcm, SupportedAes128CmSha1_80, from_feature_flags,
};

/// The payload that marks padding. It is valid padding: its last byte is its length.
pub const PADDING: [u8; 32] = *b"padding in place of a payload!!\x20";

/// The padding bit in the first byte of an RTP packet.
const PADDING_BIT: u8 = 0b0010_0000;

/// Padding-only packets encrypted in this process.
static ENCRYPTED: AtomicU64 = AtomicU64::new(0);

/// str0m's own cryptography, aware of [`PADDING`].
pub fn crypto() -> Arc<CryptoProvider> {
    Arc::new(CryptoProvider {
        srtp_provider: &Srtp,
        ..from_feature_flags()
    })
}

/// The number of packets that were encrypted with an authenticated padding bit. If sending one does not increase it, the profile
/// is not an AEAD one, and the SFU drops the packet.
pub fn encrypted() -> u64 {
    ENCRYPTED.load(Ordering::Relaxed)
}

/// Sets the padding bit of an RTP packet.
pub fn mark(packet: &mut [u8]) {
    if let Some(first) = packet.first_mut() {
        *first |= PADDING_BIT;
    }
}

fn inner() -> &'static dyn SrtpProvider {
    from_feature_flags().srtp_provider
}

/// The header to authenticate.
fn header(header: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = header.to_vec();
    if payload == PADDING {
        mark(&mut header);
        ENCRYPTED.fetch_add(1, Ordering::Relaxed);
    }
    header
}

#[derive(Debug)]
struct Srtp;

impl SrtpProvider for Srtp {
    fn aes_128_cm_sha1_80(&self) -> &'static dyn SupportedAes128CmSha1_80 {
        inner().aes_128_cm_sha1_80()
    }

    fn aead_aes_128_gcm(&self) -> &'static dyn SupportedAeadAes128Gcm {
        &Srtp
    }

    fn aead_aes_256_gcm(&self) -> &'static dyn SupportedAeadAes256Gcm {
        &Srtp
    }

    fn srtp_aes_128_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        inner().srtp_aes_128_ecb_round(key, input, output);
    }

    fn srtp_aes_256_ecb_round(&self, key: &[u8], input: &[u8], output: &mut [u8]) {
        inner().srtp_aes_256_ecb_round(key, input, output);
    }
}

#[derive(Debug)]
struct Padded<C: ?Sized>(Box<C>);

macro_rules! aead {
    ($supported:ident, $cipher:ident, $factory:ident, $key:literal) => {
        impl $supported for Srtp {
            fn create_cipher(&self, key: [u8; $key], encrypt: bool) -> Box<dyn $cipher> {
                Box::new(Padded(inner().$factory().create_cipher(key, encrypt)))
            }
        }

        impl $cipher for Padded<dyn $cipher> {
            fn encrypt(&mut self, iv: &[u8; 12], aad: &[u8], input: &[u8], out: &mut [u8]) -> Result<(), CryptoError> {
                self.0.encrypt(iv, &header(aad, input), input, out)
            }

            fn decrypt(
                &mut self,
                iv: &[u8; 12],
                aads: &[&[u8]],
                input: &[u8],
                out: &mut [u8],
            ) -> Result<usize, CryptoError> {
                self.0.decrypt(iv, aads, input, out)
            }
        }
    };
}

aead!(SupportedAeadAes128Gcm, AeadAes128GcmCipher, aead_aes_128_gcm, 16);
aead!(SupportedAeadAes256Gcm, AeadAes256GcmCipher, aead_aes_256_gcm, 32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pattern_is_valid_padding() {
        assert_eq!(usize::from(*PADDING.last().unwrap()), PADDING.len());
    }

    #[test]
    fn the_padding_bit_is_authenticated_for_padding_only() {
        let (iv, sent) = ([7; 12], [0x90; 12]);
        let mut marked = sent;
        mark(&mut marked);
        assert_ne!(marked, sent);
        for (payload, expected) in [(PADDING, marked), ([1; 32], sent)] {
            let cipher = |encrypt| Srtp.aead_aes_256_gcm().create_cipher([9; 32], encrypt);
            let (mut sealed, mut opened) = ([0; 48], [0; 48]);
            cipher(true).encrypt(&iv, &sent, &payload, &mut sealed).unwrap();
            let length = cipher(false).decrypt(&iv, &[&expected], &sealed, &mut opened).unwrap();
            assert_eq!(opened[..length], payload);
        }
        assert!(encrypted() >= 1);
    }
}
