//! mediasoup's parameters as JSON, read like an older client does.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use str0m::ice::IceCreds;

/// The UDP candidate: mediasoup has one per listening address.
pub(super) fn remote_address(created: &Value) -> Result<SocketAddr> {
    let candidates = created
        .get("iceCandidates")
        .and_then(Value::as_array)
        .context("no iceCandidates")?;
    let udp = candidates
        .iter()
        .find(|candidate| candidate.get("protocol").and_then(Value::as_str) == Some("udp"));
    let udp = udp.with_context(|| format!("no UDP candidate in {created}"))?;
    // Older clients read `ip`. The contract has both.
    let ip = udp
        .get("ip")
        .and_then(Value::as_str)
        .context("no ip in the candidate")?;
    ensure!(
        udp.get("address").and_then(Value::as_str) == Some(ip),
        "address and ip differ in {udp}"
    );
    let port = udp
        .get("port")
        .and_then(Value::as_u64)
        .context("no port in the candidate")?;
    Ok(SocketAddr::new(ip.parse::<IpAddr>()?, u16::try_from(port)?))
}

/// The username fragment and the password of `iceParameters`.
pub(super) fn ice_credentials(answer: &Value) -> Result<IceCreds> {
    let text = |pointer: &str| {
        let text = answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
        text.with_context(|| format!("no {pointer} in {answer}"))
    };
    Ok(IceCreds {
        ufrag: text("/iceParameters/usernameFragment")?,
        pass: text("/iceParameters/password")?,
    })
}

/// In the form of str0m: `sha-256 AB:CD:…`.
pub(super) fn remote_fingerprint(created: &Value) -> Result<String> {
    let all = created
        .pointer("/dtlsParameters/fingerprints")
        .and_then(Value::as_array)
        .context("no fingerprints")?;
    let sha256 = all
        .iter()
        .find(|one| one.get("algorithm").and_then(Value::as_str) == Some("sha-256"));
    let value = sha256
        .and_then(|one| one.get("value"))
        .and_then(Value::as_str)
        .context("no SHA-256 fingerprint")?;
    Ok(format!("sha-256 {value}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_udp_candidate_is_chosen() {
        let candidate = |protocol: &str, port: u16| json!({ "protocol": protocol, "ip": "127.0.0.1", "address": "127.0.0.1", "port": port });
        let created = json!({ "iceCandidates": [candidate("tcp", 1), candidate("udp", 2)] });
        assert_eq!(remote_address(&created).unwrap(), "127.0.0.1:2".parse().unwrap());
        assert!(remote_address(&json!({ "iceCandidates": [candidate("tcp", 1)] })).is_err());
    }
}
