//! The functions that mediasoup's worker calls, out of the very archive that media-worker links.

#![allow(unsafe_code, reason = "the shim has a C interface")]

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::Once;

// Without a use of the crate, the archive inside it would not be on the linker's command line.
use mediasoup as _;

use crate::reference::Profile;

/// A status of libsrtp other than `srtp_err_status_ok`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Refused(pub(crate) c_int);

pub(crate) const BAD_PARAM: Refused = Refused(2);
pub(crate) const AUTH_FAIL: Refused = Refused(7);
pub(crate) const REPLAY_FAIL: Refused = Refused(9);
pub(crate) const REPLAY_OLD: Refused = Refused(10);
pub(crate) const BUFFER_SMALL: Refused = Refused(28);

/// Room that a packet may need beyond its own length: SRTP_MAX_TRAILER_LEN and SRTCP's index.
pub(crate) const GROWTH: usize = 144 + 4;

/// mediasoup's own choices for a session (RTC/SrtpSession.cpp).
const WINDOW_PACKETS: usize = 1024;

#[repr(C)]
struct Ssrc {
    kind: c_int,
    value: u32,
}

type Context = *mut c_void;
type Policy = *mut c_void;
type Protect = unsafe extern "C" fn(Context, *const u8, usize, *mut u8, *mut usize, usize) -> c_int;
type Unprotect = unsafe extern "C" fn(Context, *const u8, usize, *mut u8, *mut usize) -> c_int;

unsafe extern "C" {
    fn srtp_init() -> c_int;
    fn srtp_dealloc(session: Context) -> c_int;
    fn srtp3_policy_create(policy: *mut Policy) -> c_int;
    fn srtp3_policy_destroy(policy: Policy);
    fn srtp3_policy_set_ssrc(policy: Policy, ssrc: Ssrc) -> c_int;
    fn srtp3_policy_set_profile(policy: Policy, profile: c_int) -> c_int;
    fn srtp3_policy_add_key(
        policy: Policy,
        key: *const u8,
        key_len: usize,
        salt: *const u8,
        salt_len: usize,
        mki: *const u8,
        mki_len: usize,
    ) -> c_int;
    fn srtp3_policy_set_allow_repeat_tx(policy: Policy, allow: bool) -> c_int;
    fn srtp3_policy_set_window_size(policy: Policy, packets: usize) -> c_int;
    fn srtp3_profile_get_master_key_length(profile: c_int) -> usize;
    fn srtp3_profile_get_master_salt_length(profile: c_int) -> usize;
    fn srtp3_create(session: *mut Context, policy: Policy) -> c_int;
    fn srtp3_protect(s: Context, input: *const u8, len: usize, out: *mut u8, out_len: *mut usize, mki: usize) -> c_int;
    fn srtp3_protect_rtcp(
        s: Context,
        input: *const u8,
        len: usize,
        out: *mut u8,
        out_len: *mut usize,
        mki: usize,
    ) -> c_int;
    fn srtp3_unprotect(s: Context, input: *const u8, len: usize, out: *mut u8, out_len: *mut usize) -> c_int;
    fn srtp3_unprotect_rtcp(s: Context, input: *const u8, len: usize, out: *mut u8, out_len: *mut usize) -> c_int;
}

/// Which packets a session takes, from any SSRC.
#[derive(Clone, Copy)]
pub(crate) enum Direction {
    Inbound = 2,
    Outbound = 3,
}

/// One direction of one DTLS connection, set up as mediasoup sets it up.
pub(crate) struct Session(Context);

impl Session {
    pub(crate) fn new(profile: Profile, direction: Direction, key: &[u8], salt: &[u8]) -> Result<Self, Refused> {
        Self::with_mki(profile, direction, key, salt, &[])
    }

    pub(crate) fn with_mki(
        profile: Profile,
        direction: Direction,
        key: &[u8],
        salt: &[u8],
        mki: &[u8],
    ) -> Result<Self, Refused> {
        static LIBRARY: Once = Once::new();
        // SAFETY: once, before any other function of the library.
        LIBRARY.call_once(|| assert_eq!(unsafe { srtp_init() }, 0));

        let mut context = ptr::null_mut();
        // SAFETY: every slice outlives its call, which copies it; the policy is destroyed on each way out.
        let status = unsafe {
            let mut policy = ptr::null_mut();
            checked(srtp3_policy_create(&mut policy))?;
            let status = (|| {
                checked(srtp3_policy_set_ssrc(
                    policy,
                    Ssrc {
                        kind: direction as c_int,
                        value: 0,
                    },
                ))?;
                checked(srtp3_policy_set_profile(policy, number(profile)))?;
                checked(srtp3_policy_add_key(
                    policy,
                    key.as_ptr(),
                    key.len(),
                    salt.as_ptr(),
                    salt.len(),
                    mki.as_ptr(),
                    mki.len(),
                ))?;
                checked(srtp3_policy_set_allow_repeat_tx(policy, true))?;
                checked(srtp3_policy_set_window_size(policy, WINDOW_PACKETS))?;
                checked(srtp3_create(&mut context, policy))
            })();
            srtp3_policy_destroy(policy);
            status
        };
        status.map(|()| Self(context))
    }

    pub(crate) fn protect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        self.protect(srtp3_protect, packet, packet.len() + GROWTH)
    }

    pub(crate) fn protect_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        self.protect(srtp3_protect_rtcp, packet, packet.len() + GROWTH)
    }

    pub(crate) fn protect_rtp_into(&mut self, packet: &[u8], room: usize) -> Result<Vec<u8>, Refused> {
        self.protect(srtp3_protect, packet, room)
    }

    pub(crate) fn unprotect_rtp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        self.unprotect(srtp3_unprotect, packet, packet.len())
    }

    pub(crate) fn unprotect_rtcp(&mut self, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        self.unprotect(srtp3_unprotect_rtcp, packet, packet.len())
    }

    pub(crate) fn unprotect_rtp_into(&mut self, packet: &[u8], room: usize) -> Result<Vec<u8>, Refused> {
        self.unprotect(srtp3_unprotect, packet, room)
    }

    /// In one buffer, as mediasoup does with what it receives.
    pub(crate) fn unprotect_rtp_in_place(&mut self, packet: &[u8]) -> Result<Vec<u8>, Refused> {
        let mut buffer = packet.to_vec();
        let mut len = buffer.len();
        let start = buffer.as_mut_ptr();
        // SAFETY: both pointers are to `len` octets of one buffer, which the interface allows.
        checked(unsafe { srtp3_unprotect(self.0, start, len, start, &mut len) })?;
        buffer.truncate(len);
        Ok(buffer)
    }

    fn protect(&mut self, function: Protect, packet: &[u8], room: usize) -> Result<Vec<u8>, Refused> {
        let mut out = vec![0; room];
        let mut len = room;
        // SAFETY: `out` has the room that `len` says.
        checked(unsafe { function(self.0, packet.as_ptr(), packet.len(), out.as_mut_ptr(), &mut len, 0) })?;
        out.truncate(len);
        Ok(out)
    }

    fn unprotect(&mut self, function: Unprotect, packet: &[u8], room: usize) -> Result<Vec<u8>, Refused> {
        let mut out = vec![0; room];
        let mut len = room;
        // SAFETY: `out` has the room that `len` says.
        checked(unsafe { function(self.0, packet.as_ptr(), packet.len(), out.as_mut_ptr(), &mut len) })?;
        out.truncate(len);
        Ok(out)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: created by srtp3_create, and not used again.
        unsafe { srtp_dealloc(self.0) };
    }
}

/// Lengths of the master key and the master salt in octets, as reported by the shim.
pub(crate) fn master_lengths(profile: Profile) -> (usize, usize) {
    let profile = number(profile);
    // SAFETY: neither takes a pointer.
    unsafe {
        (
            srtp3_profile_get_master_key_length(profile),
            srtp3_profile_get_master_salt_length(profile),
        )
    }
}

/// The profile's registered number (IANA, DTLS-SRTP Protection Profiles), which libsrtp uses too.
fn number(profile: Profile) -> c_int {
    match profile {
        Profile::AesCmSha1_80 => 1,
        Profile::AesCmSha1_32 => 2,
        Profile::Gcm128 => 7,
        Profile::Gcm256 => 8,
    }
}

fn checked(status: c_int) -> Result<(), Refused> {
    if status == 0 { Ok(()) } else { Err(Refused(status)) }
}
