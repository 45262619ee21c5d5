/*
 * libsrtp 3's interface, as far as mediasoup calls it, for programs that link libsrtp 2 (see srtp3_on_srtp2.c).
 *
 * What is the same in both comes from libsrtp 2's own header. A name whose type or signature changed is hidden while
 * that header is read (hidden_…) and then given to a function of this library (srtp3_…), so that both can be linked.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define srtp_policy_t hidden_policy_t
#define srtp_create hidden_create
#define srtp_protect hidden_protect
#define srtp_protect_rtcp hidden_protect_rtcp
#define srtp_unprotect hidden_unprotect
#define srtp_unprotect_rtcp hidden_unprotect_rtcp
#define srtp_profile_get_master_key_length hidden_profile_get_master_key_length
#define srtp_profile_get_master_salt_length hidden_profile_get_master_salt_length
#include <srtp2/srtp.h>
#undef srtp_policy_t
#undef srtp_create
#undef srtp_protect
#undef srtp_protect_rtcp
#undef srtp_unprotect
#undef srtp_unprotect_rtcp
#undef srtp_profile_get_master_key_length
#undef srtp_profile_get_master_salt_length

#define srtp_policy_t srtp3_policy_t
#define srtp_policy_create srtp3_policy_create
#define srtp_policy_destroy srtp3_policy_destroy
#define srtp_policy_set_ssrc srtp3_policy_set_ssrc
#define srtp_policy_set_profile srtp3_policy_set_profile
#define srtp_policy_add_key srtp3_policy_add_key
#define srtp_policy_set_allow_repeat_tx srtp3_policy_set_allow_repeat_tx
#define srtp_policy_set_window_size srtp3_policy_set_window_size
#define srtp_profile_get_master_key_length srtp3_profile_get_master_key_length
#define srtp_profile_get_master_salt_length srtp3_profile_get_master_salt_length
#define srtp_create srtp3_create
#define srtp_protect srtp3_protect
#define srtp_protect_rtcp srtp3_protect_rtcp
#define srtp_unprotect srtp3_unprotect
#define srtp_unprotect_rtcp srtp3_unprotect_rtcp
#define srtp_stream_remove srtp_remove_stream /* renamed only */

/* Statuses that are new in libsrtp 3. */
#define srtp_err_status_buffer_small ((srtp_err_status_t)28)
#define srtp_err_status_cryptex_err ((srtp_err_status_t)29)

#ifdef __cplusplus
extern "C" {
#endif

typedef struct srtp3_policy *srtp3_policy_t;

srtp_err_status_t srtp3_policy_create(srtp3_policy_t *policy);
void srtp3_policy_destroy(srtp3_policy_t policy);
srtp_err_status_t srtp3_policy_set_ssrc(srtp3_policy_t policy, srtp_ssrc_t ssrc);
srtp_err_status_t srtp3_policy_set_profile(srtp3_policy_t policy, srtp_profile_t profile);
/* One key for each policy, and no MKI. */
srtp_err_status_t srtp3_policy_add_key(srtp3_policy_t policy, const uint8_t *key, size_t key_len, const uint8_t *salt,
                                       size_t salt_len, const uint8_t *mki, size_t mki_len);
srtp_err_status_t srtp3_policy_set_allow_repeat_tx(srtp3_policy_t policy, bool allow);
srtp_err_status_t srtp3_policy_set_window_size(srtp3_policy_t policy, size_t packets);
size_t srtp3_profile_get_master_key_length(srtp_profile_t profile);
size_t srtp3_profile_get_master_salt_length(srtp_profile_t profile);
srtp_err_status_t srtp3_create(srtp_t *session, srtp3_policy_t policy);

/*
 * Lengths in octets. *out_len is the room in `out` before the call, and what was written there after it; after an
 * error `out` holds nothing of use. `out` may be `in`.
 */
srtp_err_status_t srtp3_protect(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len,
                                size_t mki_index);
srtp_err_status_t srtp3_protect_rtcp(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len,
                                     size_t mki_index);
srtp_err_status_t srtp3_unprotect(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len);
srtp_err_status_t srtp3_unprotect_rtcp(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out,
                                       size_t *out_len);

#ifdef __cplusplus
}
#endif
