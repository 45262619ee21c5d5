//! An independent SRTP sender, written from the RFCs with RustCrypto, for comparison with the shim.
//! RFC 3711 (key derivation, AES-CM with HMAC-SHA1) and RFC 7714 (AES-GCM), without MKI and with a key derivation rate of 0.

use aes_gcm::aead::{AeadInOut, KeyInit};
use aes_gcm::aes::{Aes128, Aes256};
use aes_gcm::{Aes128Gcm, Aes256Gcm, Nonce};
use ctr::Ctr128BE;
use ctr::cipher::{KeyIvInit, StreamCipher};
use sha1::{Digest, Sha1};

/// The protection profiles that DTLS can negotiate with mediasoup (RFC 5764, RFC 7714).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    AesCmSha1_80,
    AesCmSha1_32,
    Gcm128,
    Gcm256,
}

impl Profile {
    pub(crate) const ALL: [Self; 4] = [Self::AesCmSha1_80, Self::AesCmSha1_32, Self::Gcm128, Self::Gcm256];

    pub(crate) fn key_len(self) -> usize {
        if self == Self::Gcm256 { 32 } else { 16 }
    }

    pub(crate) fn salt_len(self) -> usize {
        if self.is_gcm() { 12 } else { 14 }
    }

    fn is_gcm(self) -> bool {
        matches!(self, Self::Gcm128 | Self::Gcm256)
    }
}

/// The session keys derived from a master key, for RTP or RTCP.
struct SessionKeys {
    encryption: Vec<u8>,
    authentication: Vec<u8>,
    salt: Vec<u8>,
}

impl SessionKeys {
    /// `first_label` is 0 for RTP and 3 for RTCP (RFC 3711, 4.3.2).
    fn derive(profile: Profile, master_key: &[u8], master_salt: &[u8], first_label: u8) -> Self {
        let derived = |label, len| derive(master_key, master_salt, first_label + label, len);
        Self {
            encryption: derived(0, profile.key_len()),
            authentication: derived(1, 20),
            salt: derived(2, profile.salt_len()),
        }
    }
}

pub(crate) fn protect_rtp(profile: Profile, key: &[u8], salt: &[u8], packet: &[u8], rollovers: u32) -> Vec<u8> {
    let keys = SessionKeys::derive(profile, key, salt, 0);
    if profile.is_gcm() {
        return gcm_rtp(&keys.encryption, &keys.salt, packet, rollovers);
    }
    let header = rtp_header_len(packet);
    let iv = [
        &[0; 4],
        &packet[8..12],
        &rollovers.to_be_bytes(),
        &packet[2..4],
        &[0; 2],
    ]
    .concat();
    let mut protected = packet.to_vec();
    apply_keystream(&keys.encryption, &xor(&keys.salt, &iv), &mut protected[header..]);
    let tag = hmac_sha1(&keys.authentication, &[&protected, &rollovers.to_be_bytes()]);
    protected.extend(&tag[..if profile == Profile::AesCmSha1_32 { 4 } else { 10 }]);
    protected
}

pub(crate) fn protect_rtcp(profile: Profile, key: &[u8], salt: &[u8], packet: &[u8], index: u32) -> Vec<u8> {
    let keys = SessionKeys::derive(profile, key, salt, 3);
    if profile.is_gcm() {
        return gcm_rtcp(&keys.encryption, &keys.salt, packet, index);
    }
    let iv = [&[0; 4], &packet[4..8], &[0; 2], &index.to_be_bytes(), &[0; 2]].concat();
    let mut protected = packet.to_vec();
    apply_keystream(&keys.encryption, &xor(&keys.salt, &iv), &mut protected[8..]);
    protected.extend(encrypted_index(index));
    // Always 80 bits: the short tag of AES_CM_128_HMAC_SHA1_32 is for RTP only (RFC 5764, 4.1.2).
    let tag = hmac_sha1(&keys.authentication, &[&protected]);
    protected.extend(&tag[..10]);
    protected
}

/// RFC 7714, sections 8 and 9, from session keys.
pub(crate) fn gcm_rtp(key: &[u8], salt: &[u8], packet: &[u8], rollovers: u32) -> Vec<u8> {
    let (header, payload) = packet.split_at(rtp_header_len(packet));
    let iv = [&[0; 2], &packet[8..12], &rollovers.to_be_bytes(), &packet[2..4]].concat();
    [header, &gcm(key, &xor(salt, &iv), header, payload)].concat()
}

/// RFC 7714, sections 8 and 9, from session keys.
pub(crate) fn gcm_rtcp(key: &[u8], salt: &[u8], packet: &[u8], index: u32) -> Vec<u8> {
    let (header, payload) = packet.split_at(8);
    let iv = [&[0; 2], &packet[4..8], &[0; 2], &index.to_be_bytes()].concat();
    let trailer = encrypted_index(index);
    let associated = [header, &trailer].concat();
    [header, &gcm(key, &xor(salt, &iv), &associated, payload), &trailer].concat()
}

/// The key derivation function of RFC 3711, 4.3; a 96-bit salt is filled up with zeros (RFC 7714, 11).
pub(crate) fn derive(master_key: &[u8], master_salt: &[u8], label: u8, len: usize) -> Vec<u8> {
    let mut iv = [0; 16];
    iv[..master_salt.len()].copy_from_slice(master_salt);
    iv[7] ^= label;
    let mut derived = vec![0; len];
    apply_keystream(master_key, &iv, &mut derived);
    derived
}

/// AES in counter mode (RFC 3711, 4.1.1).
pub(crate) fn apply_keystream(key: &[u8], iv: &[u8], data: &mut [u8]) {
    match key.len() {
        16 => Ctr128BE::<Aes128>::new_from_slices(key, iv)
            .unwrap()
            .apply_keystream(data),
        _ => Ctr128BE::<Aes256>::new_from_slices(key, iv)
            .unwrap()
            .apply_keystream(data),
    }
}

fn gcm(key: &[u8], iv: &[u8], aad: &[u8], msg: &[u8]) -> Vec<u8> {
    let nonce = Nonce::try_from(iv).unwrap();
    let mut text = msg.to_vec();
    let in_place = text.as_mut_slice().into();
    let tag = match key.len() {
        16 => Aes128Gcm::new_from_slice(key)
            .unwrap()
            .encrypt_inout_detached(&nonce, aad, in_place),
        _ => Aes256Gcm::new_from_slice(key)
            .unwrap()
            .encrypt_inout_detached(&nonce, aad, in_place),
    };
    text.extend(tag.unwrap());
    text
}

/// RFC 2104, for a key of at most a block.
fn hmac_sha1(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let pad = |byte: u8| -> Vec<u8> { key.iter().chain(&[0; 64]).take(64).map(|octet| octet ^ byte).collect() };
    let inner = Sha1::new_with_prefix(pad(0x36)).chain_update(parts.concat()).finalize();
    Sha1::new_with_prefix(pad(0x5c)).chain_update(inner).finalize().to_vec()
}

/// The SRTCP index behind its E flag, which says that the packet is encrypted.
fn encrypted_index(index: u32) -> [u8; 4] {
    (0x8000_0000 | index).to_be_bytes()
}

/// The fixed header, the contributing sources, the extension (RFC 3550, 5.1): sent in the clear.
fn rtp_header_len(packet: &[u8]) -> usize {
    let fixed = 12 + 4 * usize::from(packet[0] & 0x0f);
    if packet[0] & 0x10 == 0 {
        return fixed;
    }
    fixed + 4 + 4 * usize::from(u16::from_be_bytes([packet[fixed + 2], packet[fixed + 3]]))
}

/// As long as `iv`; a shorter salt counts as followed by zeros.
fn xor(salt: &[u8], iv: &[u8]) -> Vec<u8> {
    iv.iter().zip(salt.iter().chain(&[0; 16])).map(|(a, b)| a ^ b).collect()
}
