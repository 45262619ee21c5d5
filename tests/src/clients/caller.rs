//! A headless WebRTC client: signals through its party's WebSocket, sends and receives on two WebRTC transports.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::clients::opus::{Pace, rtp_parameters};
use crate::clients::party::Party;
use crate::clients::transport::{ClockReading, PendingTransport, Transport};

/// A party in a call's media. Dropping it looks like a dead machine.
#[derive(Debug)]
pub struct Caller {
    capabilities: Value,
    payload_type: u8,
    ssrc: u32,
    producer_id: String,
    send: Transport,
    receive: Option<Transport>,
    /// As the SFU named them.
    send_id: String,
    receive_id: Option<String>,
}

impl Caller {
    /// Joins an accepted call: capabilities, a sending transport, a producer. Returns connected, before the first RTP packet.
    pub async fn join(party: &Party) -> Result<Self> {
        let answer = party.request("rtc_capabilities", json!({})).await?;
        let capabilities = answer.get("rtpCapabilities").unwrap_or(&answer).clone();
        let payload_type = opus_payload_type(&capabilities)?;
        let ssrc = rand::random::<u32>() | 1; // never 0, which means "none"

        let (id, mut prepared) = create(party, "send", payload_type).await?;
        prepared.declare_stream(ssrc);
        let send = connect(party, &id, prepared).await?;
        let parameters = rtp_parameters(payload_type, ssrc);
        let produce = json!({ "transportId": id, "kind": "audio", "rtpParameters": parameters });
        let produced = party.request("rtc_produce", produce).await?;
        let producer_id = text(&produced, "producerId")?;
        send.connected()
            .await
            .with_context(|| format!("{}'s sending transport", party.name()))?;
        Ok(Self {
            capabilities,
            payload_type,
            ssrc,
            producer_id,
            send,
            receive: None,
            send_id: id,
            receive_id: None,
        })
    }

    /// Consumes what the peer produces. The peer must have joined.
    pub async fn listen(&mut self, party: &Party) -> Result<()> {
        let (id, prepared) = create(party, "recv", self.payload_type).await?;
        let receive = connect(party, &id, prepared).await?;
        let consume = json!({ "transportId": id, "rtpCapabilities": self.capabilities });
        let consumed = party.request("rtc_consume", consume).await?;
        let ssrc = consumed
            .pointer("/rtpParameters/encodings/0/ssrc")
            .and_then(Value::as_u64);
        let ssrc = ssrc.with_context(|| format!("no SSRC to consume in {consumed}"))?;
        receive.expect(u32::try_from(ssrc)?).await?;
        receive
            .connected()
            .await
            .with_context(|| format!("{}'s receiving transport", party.name()))?;
        let consumer_id = text(&consumed, "consumerId")?;
        party
            .request("rtc_resume", json!({ "consumerId": consumer_id }))
            .await?;
        self.receive = Some(receive);
        self.receive_id = Some(id);
        Ok(())
    }

    /// Sends an Opus packet every 20 ms from now on. Returns when the first one is sent.
    pub async fn start_talking(&self) -> Result<()> {
        self.start_talking_at(Pace::STEADY).await
    }

    /// Like [`start_talking`](Self::start_talking), at another pace.
    pub async fn start_talking_at(&self, pace: Pace) -> Result<()> {
        self.send.start_talking_at(self.ssrc, pace).await
    }

    /// Stops sending RTP. ICE continues.
    pub async fn stop_talking(&self) -> Result<()> {
        self.send.stop_talking(self.ssrc).await
    }

    /// Sends RTP packets that consist of padding.
    pub async fn send_padding_only(&self, packets: u32) -> Result<()> {
        self.send.send_padding_only(self.ssrc, packets).await
    }

    fn transports(&self) -> impl Iterator<Item = &Transport> {
        [&self.send].into_iter().chain(&self.receive)
    }

    /// Drops every datagram in both directions, as a dead network does.
    pub async fn cut(&self) -> Result<()> {
        for transport in self.transports() {
            transport.cut().await?;
        }
        Ok(())
    }

    /// Restores the network.
    pub async fn restore(&self) -> Result<()> {
        for transport in self.transports() {
            transport.restore().await?;
        }
        Ok(())
    }

    /// Delays each datagram that is sent by a random time up to `most`.
    pub async fn jitter(&self, most: Duration) -> Result<()> {
        for transport in self.transports() {
            transport.jitter(most).await?;
        }
        Ok(())
    }

    /// Nominates a candidate pair only once: not again from now on, until ICE restarts.
    pub async fn nominate_once(&self) -> Result<()> {
        for transport in self.transports() {
            transport.nominate_once().await?;
        }
        Ok(())
    }

    /// Moves to another network: each transport restarts ICE (`rtc_restart_ice`) on a new socket, and keeps its streams.
    pub async fn change_network(&self, party: &Party) -> Result<()> {
        let receive = self.receive_id.as_deref().zip(self.receive.as_ref());
        for (id, transport) in [Some((self.send_id.as_str(), &self.send)), receive]
            .into_iter()
            .flatten()
        {
            let restarted = party.request("rtc_restart_ice", json!({ "transportId": id })).await?;
            transport.restart_ice(&restarted).await?;
        }
        Ok(())
    }

    /// When the first RTP packet with a payload was handed to the socket.
    pub fn first_datagram_sent_at(&self) -> Option<ClockReading> {
        self.send.first_datagram_sent_at()
    }

    /// When the last RTP packet with a payload was handed to the socket.
    pub fn last_datagram_sent_at(&self) -> Option<ClockReading> {
        self.send.last_datagram_sent_at()
    }

    /// RTP packets with a payload that were sent.
    pub fn sent(&self) -> u64 {
        self.send.sent()
    }

    /// Padding-only RTP packets that were sent.
    pub fn padding_sent(&self) -> u64 {
        self.send.padding_sent()
    }

    /// RTP packets received from the peer.
    pub fn received(&self) -> u64 {
        self.receive.as_ref().map_or(0, Transport::received)
    }

    /// When `peer` sent the last packet that was received from it, at the earliest.
    pub fn last_heard_sent_at(&self, peer: &Self) -> Option<SystemTime> {
        self.receive.as_ref()?.last_received_sent_at(&peer.send)
    }

    /// The SSRC it sends with, which is the evidence in `rtp_detected`.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// Its producer, as the SFU named it.
    pub fn producer_id(&self) -> &str {
        &self.producer_id
    }
}

async fn create(party: &Party, direction: &str, payload_type: u8) -> Result<(String, PendingTransport)> {
    let created = party
        .request("rtc_create_transport", json!({ "direction": direction }))
        .await?;
    Ok((
        text(&created, "id")?,
        PendingTransport::new(&created, payload_type).await?,
    ))
}

async fn connect(party: &Party, id: &str, mut prepared: PendingTransport) -> Result<Transport> {
    let parameters = json!({ "transportId": id, "dtlsParameters": prepared.dtls_parameters() });
    party.request("rtc_connect_transport", parameters).await?;
    Ok(prepared.start())
}

fn text(answer: &Value, key: &str) -> Result<String> {
    let text = answer.get(key).and_then(Value::as_str);
    Ok(text.with_context(|| format!("no {key} in {answer}"))?.to_owned())
}

fn opus_payload_type(capabilities: &Value) -> Result<u8> {
    let codecs = capabilities
        .get("codecs")
        .and_then(Value::as_array)
        .context("no codecs")?;
    let is_opus = |codec: &&Value| {
        let mime = codec.get("mimeType").and_then(Value::as_str);
        mime.is_some_and(|mime| mime.eq_ignore_ascii_case("audio/opus"))
    };
    let opus = codecs
        .iter()
        .find(is_opus)
        .with_context(|| format!("no Opus in {capabilities}"))?;
    let payload_type = opus
        .get("preferredPayloadType")
        .and_then(Value::as_u64)
        .context("no payload type of Opus")?;
    Ok(u8::try_from(payload_type)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_opus_among_the_capabilities() {
        let other = json!({ "mimeType": "audio/PCMU", "preferredPayloadType": 0 });
        let opus = json!({ "mimeType": "audio/Opus", "preferredPayloadType": 111 });
        assert_eq!(opus_payload_type(&json!({ "codecs": [other, opus] })).unwrap(), 111);
        assert!(opus_payload_type(&json!({ "codecs": [other] })).is_err());
    }
}
