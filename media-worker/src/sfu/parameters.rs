//! WebRTC parameters from clients: optional members may be absent, and everything that reaches mediasoup is checked.
//!
//! mediasoup's parser of DTLS fingerprints panics on text that is not ASCII, and its C++ side aborts on some combinations
//! that its Rust side accepts. Members that one audio stream does not need are dropped.

use std::collections::HashSet;

use contract::jetstream::request::Refusal;
use mediasoup::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::opus;
use super::refusals::invalid_parameters;

/// A certificate has one fingerprint for each hash function, of which there are five (RFC 8122).
const FINGERPRINTS_MAX: usize = 8;
/// One audio stream uses four or five.
const EXTENSIONS_MAX: usize = 32;
/// The most codecs that a browser can decode, audio and video.
const CODECS_MAX: usize = 256;
/// MID (RFC 9143) and CNAME (RFC 3550), in bytes.
const NAME_BYTES_MAX: usize = 255;
/// The hash functions that mediasoup has.
const HASH_FUNCTIONS: [&str; 5] = ["sha-1", "sha-224", "sha-256", "sha-384", "sha-512"];
/// The header extension without which no packet has a MID (RFC 9143).
const MID_EXTENSION: RtpHeaderExtensionUri = RtpHeaderExtensionUri::Mid;

/// Reads the `dtlsParameters` of `rtc_connect_transport`.
pub(super) fn dtls(mut value: Value) -> Result<DtlsParameters, Refusal> {
    strip_nulls(&mut value);
    default(&mut value, "role", || "auto".into());
    let fingerprints = value.get_mut("fingerprints").and_then(Value::as_array_mut);
    let mut none = Vec::new();
    let fingerprints = fingerprints.unwrap_or(&mut none);
    if !(1..=FINGERPRINTS_MAX).contains(&fingerprints.len()) {
        return Err(invalid_parameters(&format!(
            "dtlsParameters: between 1 and {FINGERPRINTS_MAX} fingerprints are needed"
        )));
    }
    fingerprints.iter_mut().for_each(lower_case_algorithm);
    // RFC 8122 section 5: one match is enough, and unknown functions are no error beside a known one.
    if fingerprints.iter().any(has_known_algorithm) {
        fingerprints.retain(has_known_algorithm);
    }
    let is_ascii = |fingerprint: &Value| {
        fingerprint
            .get("value")
            .and_then(Value::as_str)
            .is_none_or(str::is_ascii)
    };
    if !fingerprints.iter().all(is_ascii) {
        return Err(invalid_parameters(
            "dtlsParameters: a fingerprint is written in hexadecimal digits",
        ));
    }
    read("dtlsParameters", value)
}

/// Hash functions are compared without case (RFC 8122 section 5). mediasoup knows them in lower case only.
fn lower_case_algorithm(fingerprint: &mut Value) {
    if let Some(Value::String(algorithm)) = fingerprint.get_mut("algorithm") {
        algorithm.make_ascii_lowercase();
    }
}

fn has_known_algorithm(fingerprint: &Value) -> bool {
    let algorithm = fingerprint.get("algorithm").and_then(Value::as_str);
    algorithm.is_some_and(|algorithm| HASH_FUNCTIONS.contains(&algorithm))
}

/// Reads the `rtpParameters` of `rtc_produce`: one Opus stream.
pub(super) fn rtp(mut value: Value) -> Result<RtpParameters, Refusal> {
    let member = "rtpParameters";
    strip_nulls(&mut value);
    let mid = value.get("mid").map(|mid| name(member, mid)).transpose()?;
    let cname = value
        .pointer("/rtcp/cname")
        .map(|cname| name(member, cname))
        .transpose()?;
    let codec = match array(&value, "codecs", CODECS_MAX).as_slice() {
        [codec] => opus::producer_codec(codec.clone())?,
        _ => {
            return Err(invalid_parameters(
                "rtpParameters: exactly one codec, Opus, can be sent",
            ));
        }
    };
    let encoding = match array(&value, "encodings", 2).as_slice() {
        [encoding] => encoding.clone(),
        _ => return Err(invalid_parameters("rtpParameters: exactly one encoding can be sent")),
    };
    let ssrc = match encoding.get("ssrc") {
        None => None,
        Some(ssrc) => Some(read::<u32>(member, ssrc.clone())?),
    };
    let header_extensions = extensions(&value)?;
    // mediasoup takes 0 for absent, and finds a MID only by its extension, which it cannot decrypt (RFC 6904).
    let is_mid = |it: &RtpHeaderExtensionParameters| it.uri == MID_EXTENSION && !it.encrypt;
    let has_mid = mid.is_some() && header_extensions.iter().any(is_mid);
    if matches!(ssrc, None | Some(0)) && !has_mid {
        return Err(invalid_parameters(
            "rtpParameters: without an ssrc above 0, or a mid and its header extension, no packet could be recognised",
        ));
    }
    let dtx = encoding.get("dtx").and_then(Value::as_bool);
    Ok(RtpParameters {
        mid,
        codecs: vec![codec],
        header_extensions,
        encodings: vec![RtpEncodingParameters {
            ssrc,
            dtx,
            ..Default::default()
        }],
        rtcp: RtcpParameters {
            cname,
            ..Default::default()
        },
        msid: None,
    })
}

/// Reads the `rtpCapabilities` of `rtc_consume`. Only Opus and header extensions that mediasoup knows are kept.
pub(super) fn capabilities(mut value: Value) -> Result<RtpCapabilities, Refusal> {
    strip_nulls(&mut value);
    if value.get("codecs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(invalid_parameters("rtpCapabilities: there are no codecs"));
    }
    let codecs = array(&value, "codecs", CODECS_MAX)
        .into_iter()
        .filter(opus::is_opus)
        .filter_map(|mut codec| {
            opus::canonicalize(&mut codec);
            default(&mut codec, "kind", || "audio".into());
            serde_json::from_value(codec).ok()
        });
    let header_extensions = array(&value, "headerExtensions", EXTENSIONS_MAX)
        .into_iter()
        .filter_map(|mut extension| {
            default(&mut extension, "preferredEncrypt", || false.into());
            default(&mut extension, "direction", || "sendrecv".into());
            serde_json::from_value(extension).ok()
        });
    Ok(RtpCapabilities {
        codecs: codecs.collect(),
        header_extensions: header_extensions.collect(),
    })
}

/// Adds `ip`, which older clients read, to each candidate's `address`.
pub(super) fn with_ip(mut candidates: Value) -> Value {
    for candidate in candidates
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        if let Some(address) = candidate.get("address").cloned() {
            candidate.insert("ip".to_owned(), address);
        }
    }
    candidates
}

/// Header extensions that mediasoup does not know are dropped: clients may send them, and nothing reads them.
fn extensions(value: &Value) -> Result<Vec<RtpHeaderExtensionParameters>, Refusal> {
    let mut ids = HashSet::new();
    let mut known = Vec::new();
    for mut extension in array(value, "headerExtensions", EXTENSIONS_MAX) {
        default(&mut extension, "encrypt", || false.into());
        let Ok(extension) = serde_json::from_value::<RtpHeaderExtensionParameters>(extension) else {
            continue;
        };
        // RFC 8285 section 4.3.
        if !(1..=255).contains(&extension.id) || !ids.insert(extension.id) {
            return Err(invalid_parameters(
                "rtpParameters: header extensions have different ids from 1 to 255",
            ));
        }
        known.push(extension);
    }
    Ok(known)
}

fn name(member: &str, value: &Value) -> Result<String, Refusal> {
    match value.as_str() {
        Some(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) => {
            Ok(name.to_owned())
        }
        _ => Err(invalid_parameters(&format!(
            "{member}: mid and cname are texts of 1 to {NAME_BYTES_MAX} bytes"
        ))),
    }
}

fn array(value: &Value, key: &str, length_max: usize) -> Vec<Value> {
    let all = value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().take(length_max).cloned().collect()
}

fn read<T: DeserializeOwned>(member: &str, value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| invalid_parameters(&format!("{member}: {error}")))
}

fn default(value: &mut Value, key: &str, default: impl FnOnce() -> Value) {
    if let Some(object) = value.as_object_mut() {
        object.entry(key).or_insert_with(default);
    }
}

/// Removes members that are `null`: some clients write it for absent members. serde_json bounds the recursion.
fn strip_nulls(value: &mut Value) {
    match value {
        Value::Object(object) => {
            let kept = std::mem::take(object).into_iter().filter(|(_, value)| !value.is_null());
            *object = kept.collect::<Map<_, _>>();
            object.values_mut().for_each(strip_nulls);
        }
        Value::Array(values) => values.iter_mut().for_each(strip_nulls),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
