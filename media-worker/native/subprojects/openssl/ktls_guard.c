/*
 * Keeps mediasoup's BIO callback from switching kernel TLS on by accident.
 *
 * OpenSSL calls a BIO's callback before an operation and again after it, the second time with BIO_CB_RETURN set in
 * `oper` and the operation's result in `ret`; what the callback answers then becomes the result. mediasoup's callback
 * compares `oper` with BIO_CB_RETURN instead of testing the bit, and so answers 1 whatever the result was. To
 * BIO_CTRL_GET_KTLS_SEND, 1 means that the kernel encrypts: libssl allocates no write buffer and crashes on the first
 * DTLS flight. An OpenSSL built without kernel TLS never asks; Debian's is built with it.
 *
 * mediasoup's callback only wants to see the writes, so after an operation the result is left as it was.
 */
#include <stdatomic.h>

#include <openssl/bio.h>

/* One callback in the whole program, set again with the same value by each worker thread. */
static _Atomic(BIO_callback_fn_ex) guarded;

static long keep_result(BIO *bio, int oper, const char *argp, size_t len, int argi, long argl, int ret,
                        size_t *processed)
{
    BIO_callback_fn_ex callback = atomic_load_explicit(&guarded, memory_order_acquire);
    long answer = callback(bio, oper, argp, len, argi, argl, ret, processed);
    return (oper & BIO_CB_RETURN) ? ret : answer;
}

void ktls_guard_set_callback_ex(BIO *bio, BIO_callback_fn_ex callback)
{
    if (!callback) {
        BIO_set_callback_ex(bio, NULL);
        return;
    }
    atomic_store_explicit(&guarded, callback, memory_order_release);
    BIO_set_callback_ex(bio, keep_result);
}
