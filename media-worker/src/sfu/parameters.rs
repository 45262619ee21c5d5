//! WebRTC parameters from clients: lenient in what may be left out, strict in what reaches mediasoup.
//!
//! mediasoup's own reader of DTLS fingerprints panics on text that is not ASCII, and its C++ side aborts on some
//! combinations that its Rust side lets through. So everything is checked here, and what one audio stream does not need
//! is left away.

use std::collections::HashSet;

use contract::jetstream::request::Refusal;
use mediasoup::prelude::*;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::invalid;
use super::room::{OPUS_CHANNELS, OPUS_CLOCK_RATE};

/// A certificate has one fingerprint for each hash function, of which there are five (RFC 8122).
const FINGERPRINTS_MAX: usize = 8;
/// One audio stream uses four or five.
const EXTENSIONS_MAX: usize = 32;
/// What a browser can decode, all kinds together.
const CODECS_MAX: usize = 256;
/// Format parameters of a codec (RFC 7587 section 6.1 has eight).
const CODEC_PARAMETERS_MAX: usize = 32;
/// MID (RFC 9143) and CNAME (RFC 3550), in bytes.
const NAME_BYTES_MAX: usize = 255;

/// RTC-03.
pub(super) fn dtls(mut value: Value) -> Result<DtlsParameters, Refusal> {
    strip_nulls(&mut value);
    default(&mut value, "role", || "auto".into());
    let fingerprints = value
        .get("fingerprints")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    if !(1..=FINGERPRINTS_MAX).contains(&fingerprints.len()) {
        return Err(invalid(&format!(
            "dtlsParameters: between 1 and {FINGERPRINTS_MAX} fingerprints are needed"
        )));
    }
    let is_ascii = |fingerprint: &Value| {
        fingerprint
            .get("value")
            .and_then(Value::as_str)
            .is_none_or(str::is_ascii)
    };
    if !fingerprints.iter().all(is_ascii) {
        return Err(invalid(
            "dtlsParameters: a fingerprint is written in hexadecimal digits",
        ));
    }
    read("dtlsParameters", value)
}

/// RTC-04: one Opus stream.
pub(super) fn rtp(mut value: Value) -> Result<RtpParameters, Refusal> {
    let what = "rtpParameters";
    strip_nulls(&mut value);
    let mid = value.get("mid").map(|mid| name(what, mid)).transpose()?;
    let cname = value
        .pointer("/rtcp/cname")
        .map(|cname| name(what, cname))
        .transpose()?;
    let codec = match array(&value, "codecs", CODECS_MAX).as_slice() {
        [codec] => opus(codec.clone())?,
        _ => return Err(invalid("rtpParameters: exactly one codec, Opus, can be sent")),
    };
    let encoding = match array(&value, "encodings", 2).as_slice() {
        [encoding] => encoding.clone(),
        _ => return Err(invalid("rtpParameters: exactly one encoding can be sent")),
    };
    let ssrc = match encoding.get("ssrc") {
        None => None,
        Some(ssrc) => Some(read::<u32>(what, ssrc.clone())?),
    };
    if ssrc.is_none() && mid.is_none() {
        return Err(invalid(
            "rtpParameters: without an ssrc or a mid no packet could be recognised",
        ));
    }
    let dtx = encoding.get("dtx").and_then(Value::as_bool);
    Ok(RtpParameters {
        mid,
        codecs: vec![codec],
        header_extensions: extensions(&value)?,
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

/// RTC-05. Codecs and extensions that nobody here sends are left away, known or not.
pub(super) fn capabilities(mut value: Value) -> Result<RtpCapabilities, Refusal> {
    strip_nulls(&mut value);
    if value.get("codecs").and_then(Value::as_array).is_none_or(Vec::is_empty) {
        return Err(invalid("rtpCapabilities: there are no codecs"));
    }
    let codecs = array(&value, "codecs", CODECS_MAX)
        .into_iter()
        .filter(is_opus)
        .filter_map(|mut codec| {
            canonical_codec(&mut codec);
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

/// Older clients read a candidate's `ip`, newer ones its `address`.
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

fn opus(mut codec: Value) -> Result<RtpCodecParameters, Refusal> {
    if !is_opus(&codec) {
        return Err(invalid("rtpParameters: the codec must be audio/opus"));
    }
    canonical_codec(&mut codec);
    let codec: RtpCodecParameters = read("rtpParameters: the codec", codec)?;
    match &codec {
        RtpCodecParameters::Audio {
            clock_rate,
            channels,
            payload_type: 0..=127,
            ..
        } if *clock_rate == OPUS_CLOCK_RATE && *channels == OPUS_CHANNELS => Ok(codec),
        _ => Err(invalid(
            "rtpParameters: Opus has clock rate 48000, 2 channels and a payload type below 128",
        )),
    }
}

fn is_opus(codec: &Value) -> bool {
    codec
        .get("mimeType")
        .and_then(Value::as_str)
        .is_some_and(|mime| mime.eq_ignore_ascii_case("audio/opus"))
}

fn canonical_codec(codec: &mut Value) {
    let Some(codec) = codec.as_object_mut() else { return };
    codec.insert("mimeType".to_owned(), "audio/opus".into());
    if let Some(parameters) = codec.get_mut("parameters").and_then(Value::as_object_mut) {
        let known = std::mem::take(parameters).into_iter().filter(|(_, value)| {
            value.is_string() || value.as_u64().is_some_and(|number| u32::try_from(number).is_ok())
        });
        *parameters = known.take(CODEC_PARAMETERS_MAX).collect();
    }
}

/// Extensions that mediasoup does not know are left away: the client sends them, nobody reads them.
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
            return Err(invalid(
                "rtpParameters: header extensions have different ids from 1 to 255",
            ));
        }
        known.push(extension);
    }
    Ok(known)
}

fn name(what: &str, value: &Value) -> Result<String, Refusal> {
    match value.as_str() {
        Some(name) if (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.contains(char::is_control) => {
            Ok(name.to_owned())
        }
        _ => Err(invalid(&format!(
            "{what}: mid and cname are texts of 1 to {NAME_BYTES_MAX} bytes"
        ))),
    }
}

fn array(value: &Value, key: &str, most: usize) -> Vec<Value> {
    let all = value.get(key).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    all.iter().take(most).cloned().collect()
}

fn read<T: DeserializeOwned>(what: &str, value: Value) -> Result<T, Refusal> {
    serde_json::from_value(value).map_err(|error| invalid(&format!("{what}: {error}")))
}

fn default(value: &mut Value, key: &str, default: impl FnOnce() -> Value) {
    if let Some(object) = value.as_object_mut() {
        object.entry(key).or_insert_with(default);
    }
}

/// Some clients write `null` for what they leave out. The depth is bounded by the reader of the JSON.
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
