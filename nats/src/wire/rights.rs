//! Publish rights and self-reports, derived from the declarations of facts and notices.

use std::collections::BTreeSet;
use std::str::FromStr;

use strum::VariantArray;

use crate::wire::fact::FactKind;
use crate::wire::notice::NoticeKind;
use crate::wire::party::Role;
use crate::wire::service::Service;
use crate::wire::subject;

/// The first message of a WebSocket session. It is neither a fact nor a notice.
const WELCOME: &str = "welcome";

/// The facts that a service may publish, in the order in which a call goes through them.
pub fn facts_of(service: Service) -> impl Iterator<Item = FactKind> {
    let all = FactKind::ALL.iter().copied();
    all.filter(move |kind| kind.declaration().publishers.contains(&service))
}

/// The services that may publish a notice: those that publish a fact which it follows.
pub fn publishers_of(notice: NoticeKind) -> BTreeSet<Service> {
    let facts = FactKind::ALL.iter().map(|kind| kind.declaration());
    let following = facts.filter(|fact| fact.notices.contains(&notice));
    let publishers = following.flat_map(|fact| fact.publishers).copied();
    publishers.chain(notice.publisher_without_fact()).collect()
}

/// The subjects of facts and notices that a service may publish on, as `nats/conf/accounts.conf` lists them.
pub fn subjects_of(service: Service) -> BTreeSet<String> {
    let notices = NoticeKind::VARIANTS.iter().copied();
    let notices = notices.filter(|notice| publishers_of(*notice).contains(&service));
    let notices = notices.flat_map(|notice| Role::BOTH.map(|role| subject::notices_of_kind(role, notice)));
    facts_of(service).map(subject::facts_of_kind).chain(notices).collect()
}

/// Whether a client that sends a message of this type claims something that only the server knows: the type of a fact, of a
/// notice or of the server's greeting, or anything that claims a connection.
pub fn is_self_report(message_type: &str) -> bool {
    FactKind::from_str(message_type).is_ok()
        || NoticeKind::from_str(message_type).is_ok()
        || message_type == WELCOME
        || message_type.contains("connected")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_notice_has_a_publisher() {
        for notice in NoticeKind::ALL {
            assert!(!publishers_of(*notice).is_empty(), "{notice}");
        }
    }

    #[test]
    fn facts_notices_and_claims_of_a_connection_are_self_reports() {
        for claim in [
            "ended",
            "rtp_detected",
            "rtc_new_producer",
            "tick",
            "welcome",
            "webrtc_connected",
            "call_connected",
        ] {
            assert!(is_self_report(claim), "{claim}");
        }
        for request in ["call_request", "call_hangup", "rtc_produce", "ping", ""] {
            assert!(!is_self_report(request), "{request}");
        }
    }
}
