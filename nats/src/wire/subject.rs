//! All subjects. No subject literal exists elsewhere.

use crate::wire::fact::FactKind;
use crate::wire::id::{CallId, OtomoId, WorkerId};
use crate::wire::notice::NoticeKind;
use crate::wire::party::{Party, Role};

/// All facts of all calls: the subjects of the stream `CALLS`.
pub const ALL_FACTS: &str = "call.*.*";
/// Messages that could not be decoded: the subjects of the stream `PARKED`.
pub const ALL_PARKED: &str = "parked.>";
/// Requests to end a call. The ws-edge nodes reply as one queue group.
pub const ALL_TERMINATE: &str = "cmd.call.*.terminate";
/// Requests to extend a call. The ws-edge nodes reply as one queue group.
pub const ALL_GRANT: &str = "cmd.call.*.grant";
/// The request to the wallet before a call rings.
pub const AUTHORIZE: &str = "wallet.authorize";
/// Requests that look for an otomo: [`presence`] of each.
pub const ALL_PRESENCE: &str = "otomo.*.presence";
/// The last token of [`presence`].
const PRESENCE: &str = "presence";
/// The request to which every ws-edge replies.
pub const REPORT_EDGES: &str = "cmd.edges.report";

/// `call.<callId>.<fact>`
pub fn fact(call: &CallId, kind: FactKind) -> String {
    format!("call.{call}.{kind}")
}

/// `call.<callId>.*`: every fact of one call.
pub fn facts_of(call: &CallId) -> String {
    format!("call.{call}.*")
}

/// `call.*.<fact>`: one kind of fact of every call.
pub fn facts_of_kind(kind: FactKind) -> String {
    format!("call.*.{kind}")
}

/// Parses `call.<callId>.<fact>`; `None` for another subject.
pub fn parse_fact(subject: &str) -> Option<(CallId, FactKind)> {
    let (call, kind) = split_fact(subject)?;
    Some((call, kind.parse().ok()?))
}

/// The call in `call.<callId>.<fact>`, also if the kind of fact is unknown; `None` for another subject.
pub fn call_of_fact(subject: &str) -> Option<CallId> {
    split_fact(subject).map(|(call, _)| call)
}

/// The call and the kind in `call.<callId>.<fact>`, as they are written.
pub(in crate::wire) fn split_fact(subject: &str) -> Option<(CallId, &str)> {
    let (call, kind) = subject.strip_prefix("call.")?.split_once('.')?;
    let is_token = !kind.is_empty() && !kind.contains('.');
    is_token.then_some((call.parse().ok()?, kind))
}

/// `user.<userId>.<notice>` or `otomo.<otomoId>.<notice>`
pub fn notice(to: &Party, notice: &str) -> String {
    format!("{}.{}.{notice}", to.role(), to.id())
}

/// `user.*.<notice>` or `otomo.*.<notice>`: one kind of notice to every party of a role.
pub fn notices_of_kind(role: Role, kind: NoticeKind) -> String {
    format!("{role}.*.{kind}")
}

/// `user.<userId>.*` or `otomo.<otomoId>.*`: every notice to one party.
pub fn notices_to(party: &Party) -> String {
    notice(party, "*")
}

/// `otomo.<otomoId>.presence`: the request to which every ws-edge with a socket of this otomo replies. It is not a notice.
pub fn presence(otomo: &OtomoId) -> String {
    format!("otomo.{otomo}.{PRESENCE}")
}

/// Whether the subject is one of [`presence`].
pub fn is_presence(subject: &str) -> bool {
    subject.rsplit_once('.').is_some_and(|(_, name)| name == PRESENCE)
}

/// A subject without a responder, which every edge may ask: when the server's answer arrives, it has processed the earlier messages of
/// the connection.
pub const UNSERVED: &str = "media.none.unserved";

/// `media.<workerId>`: the group below which a worker's operations are.
pub fn media_group(worker: &WorkerId) -> String {
    format!("media.{worker}")
}

/// `media.<workerId>.<operation>`
pub fn media(worker: &WorkerId, operation: &str) -> String {
    format!("media.{worker}.{operation}")
}

/// `media.*.<operation>`: one operation of every worker.
pub fn media_operation(operation: &str) -> String {
    format!("media.*.{operation}")
}

/// `cmd.call.<callId>.terminate`
pub fn terminate(call: &CallId) -> String {
    format!("cmd.call.{call}.terminate")
}

/// Parses `cmd.call.<callId>.terminate`; `None` for another subject.
pub fn parse_terminate(subject: &str) -> Option<CallId> {
    let call = subject.strip_prefix("cmd.call.")?.strip_suffix(".terminate")?;
    call.parse().ok()
}

/// `cmd.call.<callId>.grant`
pub fn grant(call: &CallId) -> String {
    format!("cmd.call.{call}.grant")
}

/// Parses `cmd.call.<callId>.grant`; `None` for another subject.
pub fn parse_grant(subject: &str) -> Option<CallId> {
    let call = subject.strip_prefix("cmd.call.")?.strip_suffix(".grant")?;
    call.parse().ok()
}

/// The longest subject that is derived from another publisher's, in bytes. NATS closes the connection of a client whose protocol line is
/// longer than 4,096.
const MAX_DERIVED_LEN: usize = 256;

/// `parked.<consumer>.<original subject>`, or `parked.<consumer>.long` if the original one is too long; the header
/// `callpulse-original-subject` has it.
pub fn parked(consumer: &str, original: &str) -> String {
    let subject = format!("parked.{consumer}.{original}");
    if subject.len() <= MAX_DERIVED_LEN {
        subject
    } else {
        format!("parked.{consumer}.long")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_facts_are_built_and_parsed() {
        let call: CallId = "call_1".parse().unwrap();
        assert_eq!(fact(&call, FactKind::RtpDetected), "call.call_1.rtp_detected");
        assert_eq!(
            parse_fact("call.call_1.rtp_detected"),
            Some((call, FactKind::RtpDetected))
        );
        for other in [
            "call.call_1",
            "call.call_1.rtp_detected.x",
            "call.c*.tick",
            "call.c.unheard",
            "user.c.tick",
            "",
        ] {
            assert_eq!(parse_fact(other), None, "{other}");
        }
        assert_eq!(call_of_fact("call.c.unheard"), Some("c".parse().unwrap()));
        for other in ["call.c", "call.c.", "call.c.tick.x", "call.c*.tick", "user.c.tick", ""] {
            assert_eq!(call_of_fact(other), None, "{other}");
        }
    }

    #[test]
    fn the_subjects_of_terminate_and_grant_are_built_and_parsed() {
        let call: CallId = "c-1".parse().unwrap();
        assert_eq!(parse_grant(&grant(&call)), Some(call.clone()));
        assert_eq!(parse_grant(&terminate(&call)), None);
        assert_eq!(parse_terminate(&terminate(&call)), Some(call));
        assert_eq!(parse_terminate("cmd.call.a.b.terminate"), None);
    }

    #[test]
    fn a_subject_from_a_long_subject_is_short() {
        assert_eq!(parked("edge", "call.c.x"), "parked.edge.call.c.x");
        assert_eq!(parked("edge", &"x".repeat(4_000)), "parked.edge.long");
    }
}
