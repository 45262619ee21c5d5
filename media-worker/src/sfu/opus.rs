//! Opus, the only codec: as the routers support it, and as clients declare it (RFC 7587).

use std::num::{NonZeroU8, NonZeroU32};

use contract::jetstream::request::Refusal;
use mediasoup::prelude::*;
use serde_json::Value;

use super::refusals::invalid_parameters;

/// Section 7: always declared, whatever is encoded.
const CLOCK_RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
const CHANNELS: NonZeroU8 = NonZeroU8::new(2).unwrap();
/// The most format parameters that are kept (section 6.1 has eight).
const PARAMETERS_MAX: usize = 32;

/// The codec of every router.
pub(super) fn router_codec() -> RtpCodecCapability {
    RtpCodecCapability::Audio {
        mime_type: MimeTypeAudio::Opus,
        preferred_payload_type: None,
        clock_rate: CLOCK_RATE,
        channels: CHANNELS,
        parameters: RtpCodecParametersParameters::from([("useinbandfec", 1_u32.into())]),
        rtcp_feedback: vec![],
    }
}

/// Whether a client's codec is Opus.
pub(super) fn is_opus(codec: &Value) -> bool {
    codec
        .get("mimeType")
        .and_then(Value::as_str)
        .is_some_and(|mime| mime.eq_ignore_ascii_case("audio/opus"))
}

/// Rewrites a client's Opus codec so that mediasoup reads it: canonical MIME type, known kinds of parameters only.
pub(super) fn canonicalize(codec: &mut Value) {
    let Some(codec) = codec.as_object_mut() else { return };
    codec.insert("mimeType".to_owned(), "audio/opus".into());
    if let Some(parameters) = codec.get_mut("parameters").and_then(Value::as_object_mut) {
        let known = std::mem::take(parameters).into_iter().filter(|(_, value)| {
            value.is_string() || value.as_u64().is_some_and(|number| u32::try_from(number).is_ok())
        });
        *parameters = known.take(PARAMETERS_MAX).collect();
    }
}

/// Reads the codec of a client's `rtpParameters`.
pub(super) fn producer_codec(mut codec: Value) -> Result<RtpCodecParameters, Refusal> {
    if !is_opus(&codec) {
        return Err(invalid_parameters("rtpParameters: the codec must be audio/opus"));
    }
    canonicalize(&mut codec);
    let codec = serde_json::from_value(codec)
        .map_err(|error| invalid_parameters(&format!("rtpParameters: the codec: {error}")))?;
    match &codec {
        RtpCodecParameters::Audio {
            clock_rate: CLOCK_RATE,
            channels: CHANNELS,
            // RFC 5761 section 4: on one port with RTCP, packets with a marker and one of 64 to 95 are RTCP.
            payload_type: 0..=63 | 96..=127,
            ..
        } => Ok(codec),
        _ => Err(invalid_parameters(
            "rtpParameters: Opus has clock rate 48000, 2 channels and a payload type below 64 or from 96 to 127",
        )),
    }
}
