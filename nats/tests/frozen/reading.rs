//! Readers ignore unknown fields and reject contradictions.

use contract::Fact;
use contract::wire::fact_codec::DecodeError;

#[test]
fn readers_ignore_unknown_fields_and_reject_contradictions() {
    let later =
        r#"{"callId":"c","userId":"u","otomoId":"o","requestedAt":"2025-01-15T12:02:00.000Z","addedLater":{"x":1}}"#;
    assert!(Fact::decode("call.c.requested", later.as_bytes()).is_ok());
    assert!(matches!(
        Fact::decode("call.other.requested", later.as_bytes()),
        Err(DecodeError::OtherCall { .. })
    ));
    assert!(matches!(
        Fact::decode("call.c.accepted", later.as_bytes()),
        Err(DecodeError::Payload { .. })
    ));
    assert!(matches!(
        Fact::decode("call.c.unheard_of", later.as_bytes()),
        Err(DecodeError::UnknownKind { kind, .. }) if kind == "unheard_of"
    ));
    assert!(matches!(
        Fact::decode("call.c.unheard.of", later.as_bytes()),
        Err(DecodeError::Subject(_))
    ));
    let injected = later.replace(r#""userId":"u""#, r#""userId":"u.>""#);
    assert!(matches!(
        Fact::decode("call.c.requested", injected.as_bytes()),
        Err(DecodeError::Payload { .. })
    ));
}
