//! The call that all forms are about.

use contract::{Parties, Timestamp, TraceParent, WorkerId};
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

pub(crate) fn worker() -> WorkerId {
    "mw_1".parse().unwrap()
}

pub(crate) fn parties() -> Parties {
    Parties {
        call_id: "call_abc123".parse().unwrap(),
        user_id: "user_001".parse().unwrap(),
        otomo_id: "otomo_777".parse().unwrap(),
    }
}

pub(crate) fn trace() -> TraceParent {
    "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        .parse()
        .unwrap()
}
