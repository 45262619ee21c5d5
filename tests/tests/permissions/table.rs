//! Who may publish and hear what, as the configuration should have it.

pub(crate) const ADMIN: &str = "admin";
pub(crate) const WORKER: &str = "media-worker";
pub(crate) const EDGE: &str = "ws-edge";
pub(crate) const TIMER: &str = "billing-timer";
pub(crate) const OBSERVER: &str = "observer";
pub(crate) const WALLET: &str = "wallet";

/// Subjects, and who may publish on them besides the admin.
pub(crate) const MAY_PUBLISH: &[(&str, &[&str])] = &[
    ("call.c.requested", &[EDGE]),
    ("call.c.accepted", &[EDGE]),
    ("call.c.rtp_detected", &[WORKER]),
    ("call.c.rtp_lost", &[WORKER]),
    ("call.c.rtp_resumed", &[WORKER]),
    ("call.c.tick", &[TIMER]),
    ("call.c.ended", &[WORKER, EDGE]),
    ("call.c.settled", &[TIMER]),
    ("call.c.unheard_of", &[]),
    ("user.u.incoming_call", &[EDGE]),
    ("otomo.o.call_accepted", &[EDGE]),
    ("user.u.call_connected", &[WORKER]),
    ("otomo.o.call_connected", &[WORKER]),
    ("otomo.o.rtc_new_producer", &[WORKER]),
    ("user.u.media_lost", &[WORKER]),
    ("user.u.tick", &[TIMER]),
    ("otomo.o.call_ended", &[WORKER, EDGE, TIMER]),
    ("media.w.open_call", &[EDGE]),
    ("cmd.call.c.terminate", &[TIMER, WALLET]),
    ("parked.media-worker.x", &[WORKER]),
    ("parked.ws-edge.x", &[EDGE]),
    ("parked.billing-timer.x", &[TIMER]),
    ("$KV.media_workers.w", &[WORKER]),
    ("$KV.active_calls.call.c", &[WORKER, EDGE]),
    ("$KV.billing_active.c", &[TIMER]),
    ("$KV.billing_leases.p", &[TIMER]),
    ("_INBOX.somebody.else", &[]),
    ("$JS.API.STREAM.INFO.CALLS", &[WORKER, EDGE, TIMER]),
    ("CALLPULSE.API.STREAM.INFO.CALLS", &[OBSERVER, WALLET]),
    ("$JS.API.STREAM.CREATE.CALLS", &[WORKER, EDGE, TIMER]),
    ("$JS.API.STREAM.CREATE.ANOTHER", &[]),
    ("$JS.API.STREAM.UPDATE.CALLS", &[]),
    ("$JS.API.STREAM.DELETE.CALLS", &[]),
    ("$JS.API.STREAM.DELETE.KV_active_calls", &[]),
    ("$JS.API.STREAM.PURGE.CALLS", &[]),
    ("$JS.API.STREAM.PURGE.PARKED", &[]),
    ("$JS.API.STREAM.MSG.DELETE.CALLS", &[]),
    ("$JS.API.STREAM.SNAPSHOT.CALLS", &[]),
    ("$JS.API.STREAM.RESTORE.CALLS", &[]),
    ("$JS.API.DIRECT.GET.CALLS", &[TIMER]),
    ("$JS.API.DIRECT.GET.PARKED", &[TIMER]),
    ("CALLPULSE.API.DIRECT.GET.CALLS.call.c.ended", &[OBSERVER, WALLET]),
    ("$JS.API.DIRECT.GET.KV_active_calls.$KV.active_calls.x", &[WORKER, EDGE]),
    ("$JS.API.CONSUMER.CREATE.CALLS", &[]),
    ("$JS.API.CONSUMER.CREATE.CALLS.observer", &[]),
    ("CALLPULSE.API.CONSUMER.CREATE.CALLS.observer", &[]),
    ("CALLPULSE.API.STREAM.PURGE.CALLS", &[]),
    ("$JS.API.CONSUMER.CREATE.CALLS.billing-timer", &[TIMER]),
    ("$JS.API.CONSUMER.DELETE.CALLS.billing-timer", &[]),
    ("$JS.API.CONSUMER.MSG.NEXT.CALLS.billing-timer", &[TIMER]),
    ("CALLPULSE.API.CONSUMER.MSG.NEXT.CALLS.observer", &[OBSERVER]),
    ("CALLPULSE.API.CONSUMER.MSG.NEXT.CALLS.wallet", &[WALLET]),
    ("$JS.API.CONSUMER.INFO.CALLS.billing-timer", &[TIMER]),
    ("CALLPULSE.API.CONSUMER.INFO.CALLS.observer", &[OBSERVER]),
    ("$JS.ACK.CALLS.billing-timer.1.1.1.1.1", &[TIMER]),
    ("$JS.ACK.CALLS.observer.1.1.1.1.1", &[OBSERVER]),
];

/// Subjects, and who may listen to them besides the admin.
pub(crate) const MAY_SUBSCRIBE: &[(&str, &[&str])] = &[
    (">", &[]),
    ("_INBOX.own.*", &[WORKER, EDGE, TIMER, OBSERVER, WALLET]),
    ("call.>", &[OBSERVER, WALLET]),
    ("call.*.ended", &[EDGE, OBSERVER, WALLET]),
    ("user.u.*", &[EDGE]),
    ("otomo.o.*", &[EDGE]),
    ("media.w.*", &[WORKER]),
    ("$SRV.PING", &[WORKER]),
    ("cmd.call.*.terminate", &[EDGE]),
    ("$KV.billing_active.>", &[]),
    ("$JS.API.>", &[]),
];
