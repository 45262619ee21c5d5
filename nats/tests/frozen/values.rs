//! The call that all forms are about.

use contract::wire::command::{Relayed, Requester};
use contract::wire::terms::{Charge, Silence, Terms};
use contract::{CallId, OtomoId, Parties, Role, Timestamp, TraceParent, UserId, WorkerId};
use serde_json::json;

pub(crate) fn time(text: &str) -> Timestamp {
    serde_json::from_value(json!(text)).unwrap()
}

pub(crate) fn connected_at() -> Timestamp {
    time("2025-01-15T12:02:15.123Z")
}

pub(crate) fn ended_at() -> Timestamp {
    time("2025-01-15T12:04:45.000Z")
}

pub(crate) fn call() -> CallId {
    "call_abc123".parse().unwrap()
}

pub(crate) fn user() -> UserId {
    "user_001".parse().unwrap()
}

pub(crate) fn otomo() -> OtomoId {
    "otomo_777".parse().unwrap()
}

pub(crate) fn worker() -> WorkerId {
    "mw_1".parse().unwrap()
}

pub(crate) fn parties() -> Parties {
    Parties {
        call_id: call(),
        user_id: user(),
        otomo_id: otomo(),
    }
}

pub(crate) fn relayed<R>(request: R) -> Relayed<R> {
    let requester = Requester {
        call_id: call(),
        role: Role::User,
        party_id: "user_001".to_owned(),
    };
    Relayed { requester, request }
}

pub(crate) fn trace() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap()
}

pub(crate) fn terms() -> Terms {
    Terms {
        terms_id: "standard".parse().unwrap(),
        interval_ms: 60_000,
        charge: Charge::Start,
        free_ms: 0,
        minimum_ms: 60_000,
        silence: Silence::DeductOtomo,
    }
}
