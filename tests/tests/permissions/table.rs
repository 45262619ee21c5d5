//! The publish and subscribe rights that the configuration should grant.

use std::collections::BTreeSet;

use contract::wire::notice::NoticeKind;
use contract::wire::rights;
use contract::wire::service::Service;
use contract::wire::subject;
use contract::{FactKind, Party, Role};

pub(crate) const ADMIN: &str = "admin";
pub(crate) const WORKER: &str = "media-worker";
pub(crate) const EDGE: &str = "ws-edge";
pub(crate) const TIMER: &str = "billing-timer";
pub(crate) const OBSERVER: &str = "observer";
pub(crate) const OPERATOR: &str = "operator";
pub(crate) const WALLET: &str = "wallet";

/// Subjects of facts and notices, and the services that may publish on them by their declarations.
pub(crate) fn declared() -> Vec<(String, BTreeSet<Service>)> {
    let (call, parties) = ("c".parse().unwrap(), [(Role::User, "u"), (Role::Otomo, "o")]);
    let facts = FactKind::ALL.iter().map(|kind| {
        let publishers = kind.declaration().publishers.iter().copied();
        (subject::fact(&call, *kind), publishers.collect())
    });
    let notices = NoticeKind::ALL.iter().flat_map(|kind| {
        parties.map(|(role, id)| {
            let subject = subject::notice(&Party::new(role, id).unwrap(), &kind.to_string());
            (subject, rights::publishers_of(*kind))
        })
    });
    facts.chain(notices).collect()
}

/// All other subjects, and who may publish on them besides the admin.
pub(crate) const MAY_PUBLISH: &[(&str, &[&str])] = &[
    ("call.c.unheard_of", &[]),
    ("user.u.unheard_of", &[]),
    ("otomo.o.presence", &[EDGE]),
    ("user.u.presence", &[]),
    ("media.w.open_call", &[EDGE]),
    ("media.w.report_calls", &[EDGE]),
    ("media.w.cordon", &[EDGE, OPERATOR]),
    ("media.w.uncordon", &[EDGE, OPERATOR]),
    ("CALLPULSE.API.DIRECT.GET.KV_media_workers", &[OPERATOR]),
    ("cmd.call.c.terminate", &[TIMER, WALLET]),
    ("cmd.call.c.grant", &[WALLET]),
    ("media.w.grant_credit", &[EDGE]),
    ("wallet.authorize", &[EDGE]),
    ("cmd.edges.report", &[EDGE]),
    ("parked.media-worker.x", &[]),
    ("parked.ws-edge.x", &[]),
    ("parked.billing-timer.x", &[TIMER]),
    ("$KV.media_workers.w", &[WORKER]),
    ("$KV.active_calls.call.c", &[WORKER, EDGE]),
    ("$KV.billing_active.c", &[TIMER]),
    ("$KV.billing_active.probe.i", &[TIMER]),
    ("$KV.billing_leases.p", &[TIMER]),
    ("_INBOX.somebody.else", &[]),
    ("$JS.API.STREAM.INFO.CALLS", &[WORKER, EDGE, TIMER]),
    ("CALLPULSE.API.STREAM.INFO.CALLS", &[OBSERVER, OPERATOR, WALLET]),
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
    ("$JS.API.DIRECT.GET.CALLS", &[EDGE, TIMER]),
    ("$JS.API.DIRECT.GET.PARKED", &[TIMER]),
    (
        "CALLPULSE.API.DIRECT.GET.CALLS.call.c.ended",
        &[OBSERVER, OPERATOR, WALLET],
    ),
    ("$JS.API.STREAM.MSG.GET.CALLS", &[WORKER, EDGE, TIMER]),
    ("$JS.API.STREAM.MSG.GET.PARKED", &[TIMER]),
    ("CALLPULSE.API.STREAM.MSG.GET.CALLS", &[OBSERVER, OPERATOR]),
    ("$JS.API.STREAM.MSG.GET.KV_active_calls", &[WORKER, EDGE]),
    ("$JS.API.STREAM.MSG.GET.KV_media_workers", &[WORKER]),
    ("$JS.API.STREAM.MSG.GET.KV_billing_active", &[TIMER]),
    ("$JS.API.STREAM.MSG.GET.KV_billing_leases", &[TIMER]),
    ("$JS.API.DIRECT.GET.KV_active_calls.$KV.active_calls.x", &[]),
    ("CALLPULSE.API.DIRECT.GET.KV_active_calls", &[OBSERVER, OPERATOR]),
    ("$JS.API.DIRECT.GET.KV_active_calls", &[EDGE]),
    ("$JS.API.DIRECT.GET.KV_media_workers", &[EDGE]),
    ("$JS.API.DIRECT.GET.KV_billing_leases", &[EDGE]),
    ("$JS.API.DIRECT.GET.KV_billing_active", &[TIMER]),
    ("$JS.API.CONSUMER.CREATE.CALLS", &[]),
    ("$JS.API.CONSUMER.CREATE.CALLS.observer", &[]),
    ("CALLPULSE.API.CONSUMER.CREATE.CALLS.observer", &[]),
    ("CALLPULSE.API.STREAM.PURGE.CALLS", &[]),
    ("$JS.API.CONSUMER.CREATE.CALLS.billing-timer", &[TIMER]),
    ("$JS.API.CONSUMER.DELETE.CALLS.billing-timer", &[]),
    ("$JS.API.CONSUMER.MSG.NEXT.CALLS.billing-timer", &[TIMER]),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_active_calls.watch", &[EDGE]),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_media_workers.watch", &[EDGE]),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_billing_active.watch", &[TIMER]),
    ("$JS.API.CONSUMER.MSG.NEXT.KV_billing_leases.watch", &[TIMER]),
    ("$JS.API.CONSUMER.INFO.KV_billing_active.watch", &[TIMER]),
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
    ("_INBOX.own.*", &[WORKER, EDGE, TIMER, OBSERVER, OPERATOR, WALLET]),
    ("call.>", &[OBSERVER, OPERATOR, WALLET]),
    ("call.*.ended", &[EDGE, OBSERVER, OPERATOR, WALLET]),
    ("user.u.*", &[EDGE]),
    ("otomo.o.*", &[EDGE]),
    ("media.w.*", &[WORKER]),
    ("$SRV.PING", &[WORKER]),
    ("cmd.call.*.terminate", &[EDGE]),
    ("cmd.call.*.grant", &[EDGE]),
    ("wallet.authorize", &[WALLET]),
    ("cmd.edges.report", &[EDGE]),
    ("$KV.billing_active.>", &[]),
    ("$JS.API.>", &[]),
];
