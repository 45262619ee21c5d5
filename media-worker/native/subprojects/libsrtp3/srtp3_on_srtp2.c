/* libsrtp 3's interface (include/srtp.h) on libsrtp 2. media-worker/tests/srtp_vectors.rs holds it to the RFCs. */
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <srtp2/srtp.h>

/* srtp_err_status_buffer_small, which libsrtp 2 does not have. */
static const srtp_err_status_t buffer_small = (srtp_err_status_t)28;

struct srtp3_policy {
    srtp_policy_t srtp2;
    unsigned char key_and_salt[SRTP_MAX_KEY_LEN]; /* the master key, directly followed by the master salt */
    size_t key_and_salt_len;
};

srtp_err_status_t srtp3_policy_create(struct srtp3_policy **policy)
{
    *policy = calloc(1, sizeof **policy);
    return *policy ? srtp_err_status_ok : srtp_err_status_alloc_fail;
}

void srtp3_policy_destroy(struct srtp3_policy *policy)
{
    if (!policy)
        return;
    explicit_bzero(policy, sizeof *policy);
    free(policy);
}

srtp_err_status_t srtp3_policy_set_ssrc(struct srtp3_policy *policy, srtp_ssrc_t ssrc)
{
    policy->srtp2.ssrc = ssrc;
    return srtp_err_status_ok;
}

srtp_err_status_t srtp3_policy_set_profile(struct srtp3_policy *policy, srtp_profile_t profile)
{
    srtp_err_status_t status = srtp_crypto_policy_set_from_profile_for_rtp(&policy->srtp2.rtp, profile);
    if (status)
        return status;
    return srtp_crypto_policy_set_from_profile_for_rtcp(&policy->srtp2.rtcp, profile);
}

srtp_err_status_t srtp3_policy_add_key(struct srtp3_policy *policy, const uint8_t *key, size_t key_len,
                                       const uint8_t *salt, size_t salt_len, const uint8_t *mki, size_t mki_len)
{
    (void)mki;
    if (policy->key_and_salt_len || mki_len)
        return srtp_err_status_bad_param;
    if (key_len > sizeof policy->key_and_salt || salt_len > sizeof policy->key_and_salt - key_len)
        return srtp_err_status_bad_param;
    memcpy(policy->key_and_salt, key, key_len);
    memcpy(policy->key_and_salt + key_len, salt, salt_len);
    policy->key_and_salt_len = key_len + salt_len;
    policy->srtp2.key = policy->key_and_salt;
    return srtp_err_status_ok;
}

srtp_err_status_t srtp3_policy_set_allow_repeat_tx(struct srtp3_policy *policy, bool allow)
{
    policy->srtp2.allow_repeat_tx = allow;
    return srtp_err_status_ok;
}

srtp_err_status_t srtp3_policy_set_window_size(struct srtp3_policy *policy, size_t packets)
{
    policy->srtp2.window_size = packets;
    return srtp_err_status_ok;
}

size_t srtp3_profile_get_master_key_length(srtp_profile_t profile)
{
    return srtp_profile_get_master_key_length(profile);
}

size_t srtp3_profile_get_master_salt_length(srtp_profile_t profile)
{
    return srtp_profile_get_master_salt_length(profile);
}

srtp_err_status_t srtp3_create(srtp_t *session, struct srtp3_policy *policy)
{
    /* libsrtp 2 reads as many octets as the profile wants: a shorter key would silently be filled up with zeros. */
    if (!policy->key_and_salt_len || policy->key_and_salt_len != (size_t)policy->srtp2.rtp.cipher_key_len)
        return srtp_err_status_bad_param;
    return srtp_create(session, &policy->srtp2);
}

/* libsrtp 2 works in one buffer, that must have room for `growth` more octets: copy there, then transform. */
static srtp_err_status_t in_place(srtp_err_status_t (*transform)(srtp_t, void *, int *), size_t growth, srtp_t session,
                                  const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
    if (in_len > INT32_MAX - growth || *out_len < in_len + growth)
        return buffer_small;
    if (out != in)
        memmove(out, in, in_len);
    int len = (int)in_len;
    srtp_err_status_t status = transform(session, out, &len);
    if (status == srtp_err_status_ok)
        *out_len = (size_t)len;
    return status;
}

srtp_err_status_t srtp3_protect(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len,
                                size_t mki_index)
{
    (void)mki_index;
    return in_place(srtp_protect, SRTP_MAX_TRAILER_LEN, session, in, in_len, out, out_len);
}

srtp_err_status_t srtp3_protect_rtcp(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len,
                                     size_t mki_index)
{
    (void)mki_index;
    /* SRTCP also carries its E flag and index: a word. */
    return in_place(srtp_protect_rtcp, SRTP_MAX_TRAILER_LEN + 4, session, in, in_len, out, out_len);
}

srtp_err_status_t srtp3_unprotect(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out, size_t *out_len)
{
    return in_place(srtp_unprotect, 0, session, in, in_len, out, out_len);
}

srtp_err_status_t srtp3_unprotect_rtcp(srtp_t session, const uint8_t *in, size_t in_len, uint8_t *out,
                                       size_t *out_len)
{
    return in_place(srtp_unprotect_rtcp, 0, session, in, in_len, out, out_len);
}
