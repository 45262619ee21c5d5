use contract::jetstream::request::RefusalCode;
use proptest::prelude::*;
use serde_json::json;

use super::*;

fn hex() -> String {
    ["AB"; 32].join(":")
}

fn fingerprint() -> Value {
    json!({ "algorithm": "sha-256", "value": hex() })
}

fn stream() -> Value {
    json!({
        "mid": "0",
        "codecs": [{
            "mimeType": "audio/opus", "payloadType": 111, "clockRate": 48000, "channels": 2,
            "parameters": { "minptime": 10, "useinbandfec": 1, "odd": true },
            "rtcpFeedback": [{ "type": "transport-cc", "parameter": "" }, { "type": "nack" }],
        }],
        "headerExtensions": [
            { "uri": "urn:ietf:params:rtp-hdrext:sdes:mid", "id": 4, "encrypt": false, "parameters": {} },
            { "uri": "urn:unheard:of", "id": 5 },
        ],
        "encodings": [{ "ssrc": 1234, "dtx": false }],
        "rtcp": { "cname": "someone", "reducedSize": true },
        "msid": "stream track",
    })
}

fn with(pointer: &str, value: Value) -> Value {
    let mut stream = stream();
    *stream.pointer_mut(pointer).unwrap() = value;
    stream
}

#[test]
fn the_parameters_of_browsers_are_accepted() {
    let rtp = rtp(stream()).unwrap();
    assert_eq!((rtp.mid.as_deref(), rtp.encodings[0].ssrc), (Some("0"), Some(1234)));
    assert_eq!(rtp.header_extensions.len(), 1, "the unknown one is dropped");
    assert_eq!(
        rtp.codecs[0].parameters().iter().count(),
        2,
        "a parameter of an unknown kind is dropped"
    );
}

#[test]
fn optional_members_may_be_absent_or_null() {
    let minimal = json!({
        "mid": null,
        "codecs": [{ "mimeType": "audio/OPUS", "payloadType": 100, "clockRate": 48000, "channels": 2 }],
        "encodings": [{ "ssrc": 1, "rid": null }],
    });
    assert!(rtp(minimal).is_ok());
    assert!(dtls(json!({ "fingerprints": [fingerprint()], "role": null })).is_ok());
}

#[test]
fn anything_but_one_opus_stream_is_refused() {
    let codec = stream()["codecs"][0].clone();
    let encoding = stream()["encodings"][0].clone();
    let extension = stream()["headerExtensions"][0].clone();
    for wrong in [
        json!(null),
        json!([]),
        json!({}),
        with("/codecs", json!([])),
        with("/codecs", json!([codec, codec])),
        with("/codecs/0/mimeType", json!("audio/PCMU")),
        with("/codecs/0/mimeType", json!("video/VP8")),
        with("/codecs/0/clockRate", json!(16000)),
        with("/codecs/0/channels", json!(1)),
        with("/codecs/0/payloadType", json!(128)),
        with("/codecs/0/payloadType", json!(64)),
        with("/codecs/0/payloadType", json!(95)),
        with("/codecs/0/payloadType", json!("111")),
        with("/encodings", json!([])),
        with("/encodings", json!([encoding, encoding])),
        with("/encodings", json!([{}]))
            .as_object()
            .map(|it| without(it, "mid"))
            .unwrap(),
        with("/encodings/0/ssrc", json!(-1)),
        with("/encodings/0/ssrc", json!(0))
            .as_object()
            .map(|it| without(it, "mid"))
            .unwrap(),
        with("/encodings", json!([{}]))
            .as_object()
            .map(|it| without(it, "headerExtensions"))
            .unwrap(),
        with("/encodings/0/ssrc", json!(0))
            .as_object()
            .map(|it| without(it, "headerExtensions"))
            .unwrap(),
        with("/mid", json!("")),
        with("/mid", json!("a\u{0}b")),
        with("/mid", json!("x".repeat(256))),
        with("/headerExtensions/0/id", json!(0)),
        with("/headerExtensions/0/id", json!(256)),
        with("/headerExtensions", json!([extension, extension])),
    ] {
        let refusal = rtp(wrong.clone()).expect_err(&wrong.to_string());
        assert_eq!(refusal.code, RefusalCode::InvalidParameters);
        assert!(refusal.message.starts_with("rtpParameters"), "{}", refusal.message);
    }
}

fn without(object: &Map<String, Value>, key: &str) -> Value {
    object
        .iter()
        .filter(|(name, _)| *name != key)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect()
}

#[test]
fn a_stream_is_recognised_by_its_ssrc_or_by_its_mid() {
    let by_ssrc = without(stream().as_object().unwrap(), "mid");
    assert!(rtp(by_ssrc).is_ok());
    for absent in [json!(null), json!(0)] {
        let mut by_mid = with("/encodings/0/ssrc", absent);
        assert!(rtp(by_mid.clone()).is_ok(), "its mid is enough");
        by_mid["headerExtensions"][0]["encrypt"] = json!(true);
        assert!(rtp(by_mid).is_err(), "mediasoup cannot read it");
    }
}

#[test]
fn the_hash_function_of_a_fingerprint_has_no_case() {
    for algorithm in ["sha-256", "SHA-256", "Sha-256"] {
        let one = json!({ "algorithm": algorithm, "value": hex() });
        let read = dtls(json!({ "fingerprints": [one] })).unwrap();
        assert_eq!(
            read.fingerprints,
            dtls(json!({ "fingerprints": [fingerprint()] })).unwrap().fingerprints
        );
    }
}

#[test]
fn an_unknown_hash_function_is_no_error_beside_a_known_one() {
    let unknown = json!({ "algorithm": "MD5", "value": "AB" });
    let read = dtls(json!({ "fingerprints": [unknown, fingerprint()] })).unwrap();
    assert_eq!(read.fingerprints.len(), 1);
    assert!(dtls(json!({ "fingerprints": [unknown] })).is_err());
}

#[test]
fn bad_fingerprints_are_refused_without_a_panic() {
    let of = |value: &str| json!({ "role": "client", "fingerprints": [{ "algorithm": "sha-256", "value": value }] });
    assert!(dtls(of(&hex())).is_ok());
    for wrong in [
        json!(7),
        json!({ "role": "client" }),
        json!({ "role": "client", "fingerprints": [] }),
        json!({ "role": "client", "fingerprints": vec![fingerprint(); 9] }),
        json!({ "role": "boss", "fingerprints": [fingerprint()] }),
        of(""),
        of("AB:CD"),
        of(&"Z".repeat(95)),
        // 95 bytes whose third-of-a-byte boundaries are inside a character.
        of(&format!("A{}", "音".repeat(31))
            .chars()
            .chain("A".chars())
            .collect::<String>()),
    ] {
        let refusal = dtls(wrong.clone()).expect_err(&wrong.to_string());
        assert_eq!(refusal.code, RefusalCode::InvalidParameters);
    }
}

#[test]
fn the_message_of_a_refusal_is_bounded() {
    let refusal = dtls(json!({ "role": "x".repeat(50_000), "fingerprints": [fingerprint()] })).unwrap_err();
    assert!(refusal.message.len() <= crate::sfu::refusals::MESSAGE_CHARS);
}

#[test]
fn capabilities_keep_only_opus() {
    let value = json!({
        "codecs": [
            { "kind": "audio", "mimeType": "audio/red", "clockRate": 48000, "channels": 2 },
            { "mimeType": "audio/opus", "preferredPayloadType": 100, "clockRate": 48000, "channels": 2, "rtcpFeedback": [] },
            { "kind": "video", "mimeType": "video/VP8", "clockRate": 90000 },
        ],
        "headerExtensions": [
            { "kind": "audio", "uri": "urn:ietf:params:rtp-hdrext:ssrc-audio-level", "preferredId": 10 },
            { "kind": "audio", "uri": "urn:unheard:of", "preferredId": 11 },
        ],
    });
    let capabilities = capabilities(value).unwrap();
    assert_eq!(
        (capabilities.codecs.len(), capabilities.header_extensions.len()),
        (1, 1)
    );
    assert!(super::capabilities(json!({ "codecs": [] })).is_err());
    assert!(super::capabilities(json!("all")).is_err());
}

#[test]
fn candidates_have_both_address_and_ip() {
    let candidates = with_ip(json!([{ "address": "192.0.2.1", "port": 1 }, "odd"]));
    assert_eq!(
        candidates,
        json!([{ "address": "192.0.2.1", "ip": "192.0.2.1", "port": 1 }, "odd"])
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[ -~音:]{0,100}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 6, |inner| {
        let key = prop_oneof![
            "codecs|encodings|mid|rtcp|fingerprints|role|value|algorithm|mimeType|ssrc|id|uri",
            "[a-z]{0,4}"
        ];
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            proptest::collection::hash_map(key, inner, 0..6).prop_map(|map| map.into_iter().collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_json_causes_a_panic(value in any_json()) {
        let _ = (dtls(value.clone()), rtp(value.clone()), capabilities(value.clone()), with_ip(value));
    }

    #[test]
    fn no_fingerprint_causes_a_panic(value in "[0-9A-Fa-f:音é]{95}", algorithm in "sha-(1|224|256|384|512)") {
        let _ = dtls(json!({ "fingerprints": [{ "algorithm": algorithm, "value": value }] }));
    }
}
