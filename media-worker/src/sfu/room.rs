//! A call's router and its two seats: what mediasoup does for one call.

use std::num::{NonZeroU8, NonZeroU32};
use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicBool, Ordering};

use contract::Role;
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{Consumed, Direction, TransportCreated};
use mediasoup::prelude::*;
use mediasoup::producer::{ProducerTraceEventData, ProducerTraceEventType};
use serde::Serialize;
use serde_json::Value;

use super::host::{Host, Place};
use super::seat::{Leg, Seat};
use super::{HostId, Observer, Probe, invalid, parameters, patiently, refused};
use crate::clock_reading::ClockReading;
use crate::detection::FirstPacket;
use crate::liveness::Source;

/// A call's media. Dropping it closes all of it.
pub struct Room {
    user: Seat,
    otomo: Seat,
    router: Router,
    place: Place,
    ice_consent_timeout_s: u8,
    observer: Weak<dyn Observer>,
    last_source: Source,
}

/// A party sends from now on.
#[derive(Debug)]
pub struct NewProducer {
    /// Its identifier.
    pub id: String,
    /// Its packet counter.
    pub probe: Probe,
}

impl Room {
    pub(super) async fn open(
        host: Arc<Host>,
        ice_consent_timeout_s: u8,
        observer: Weak<dyn Observer>,
    ) -> Result<Self, Refusal> {
        let place = Place::take(host);
        let options = RouterOptions::new(vec![opus()]);
        let router = patiently(place.host().worker.create_router(options)).await?;
        let router = router.map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))?;
        let (user, otomo) = Default::default();
        Ok(Self {
            user,
            otomo,
            router,
            place,
            ice_consent_timeout_s,
            observer,
            last_source: 0,
        })
    }

    /// The worker it is on.
    pub fn host(&self) -> HostId {
        self.place.host().id
    }

    /// RTC-01.
    ///
    /// # Errors
    /// None in practice.
    pub fn capabilities(&self) -> Result<Value, Refusal> {
        json(&self.router.rtp_capabilities())
    }

    /// RTC-02. An older transport of the same direction is closed.
    ///
    /// # Errors
    /// `internal` if mediasoup refuses.
    pub async fn create_transport(&mut self, role: Role, direction: Direction) -> Result<TransportCreated, Refusal> {
        let mut options = WebRtcTransportOptions::new_with_server(self.place.host().server.clone());
        options.prefer_udp = true;
        options.ice_consent_timeout = self.ice_consent_timeout_s;
        let transport = patiently(self.router.create_webrtc_transport(options)).await?;
        let transport = transport.map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))?;
        let answer = TransportCreated {
            id: transport.id().to_string(),
            ice_parameters: json(transport.ice_parameters())?,
            ice_candidates: parameters::with_ip(json(transport.ice_candidates())?),
            dtls_parameters: json(&transport.dtls_parameters())?,
        };
        let leg = Leg::new(transport);
        if direction == Direction::Send {
            leg.watch(role, &self.observer);
        }
        self.seat(role).replace(direction, leg);
        Ok(answer)
    }

    /// RTC-03.
    ///
    /// # Errors
    /// `unknown_transport`, `wrong_state` if it is connected already, `invalid_parameters`.
    pub async fn connect_transport(&mut self, role: Role, transport_id: &str, dtls: Value) -> Result<(), Refusal> {
        let dtls_parameters = parameters::dtls(dtls)?;
        let leg = self.seat(role).leg(transport_id).ok_or_else(unknown_transport)?;
        if leg.connected {
            return Err(Refusal::new(
                RefusalCode::WrongState,
                "the transport is connected already",
            ));
        }
        let remote = WebRtcTransportRemoteParameters { dtls_parameters };
        patiently(leg.transport.connect(remote)).await?.map_err(refused)?;
        leg.connected = true;
        Ok(())
    }

    /// RTC-04. With `detect` the observer is told of the first packet with a payload, and of no other.
    ///
    /// # Errors
    /// `unknown_transport`, `already_producing`, `audio_only`, `invalid_parameters`.
    pub async fn produce(
        &mut self,
        role: Role,
        transport_id: &str,
        kind: &str,
        rtp: Value,
        detect: bool,
    ) -> Result<NewProducer, Refusal> {
        if kind != "audio" {
            return Err(Refusal::new(RefusalCode::AudioOnly, "only audio can be sent"));
        }
        let rtp_parameters = parameters::rtp(rtp)?;
        let source = self.last_source + 1;
        let observer = self.observer.clone();
        let seat = self.seat(role);
        let leg = seat
            .send
            .as_ref()
            .filter(|leg| leg.is(transport_id))
            .ok_or_else(unknown_transport)?;
        if seat.producer.as_ref().is_some_and(|producer| !producer.closed()) {
            return Err(Refusal::new(
                RefusalCode::AlreadyProducing,
                "this party sends already: replace its track, or create a new send transport",
            ));
        }
        let options = ProducerOptions::new(MediaKind::Audio, rtp_parameters);
        let producer = patiently(leg.transport.produce(options))
            .await?
            .map_err(|error| match error {
                ProduceError::Request(error) => refused(error),
                error => invalid(&error.to_string()),
            })?;
        if detect {
            detect_first_packet(&producer, role, source, observer).await?;
        }
        leg.carries(source);
        let new = NewProducer {
            id: producer.id().to_string(),
            probe: Probe::new(source, &producer),
        };
        seat.producer = Some(producer);
        self.last_source = source;
        Ok(new)
    }

    /// RTC-05: a paused consumer of the peer's producer; an older one is closed.
    ///
    /// # Errors
    /// `unknown_transport`, `no_producer`, `invalid_parameters`, `cannot_consume`.
    pub async fn consume(&mut self, role: Role, transport_id: &str, capabilities: Value) -> Result<Consumed, Refusal> {
        let capabilities = parameters::capabilities(capabilities)?;
        let peer = self
            .seat(role.peer())
            .producer
            .as_ref()
            .filter(|producer| !producer.closed());
        let peer = peer.map(Producer::id);
        let router = self.router.clone();
        let seat = self.seat(role);
        let leg = seat
            .recv
            .as_ref()
            .filter(|leg| leg.is(transport_id))
            .ok_or_else(unknown_transport)?;
        let peer = peer.ok_or_else(|| {
            Refusal::new(
                RefusalCode::NoProducer,
                "the peer sends nothing yet: ask again when rtc_new_producer comes",
            )
        })?;
        if !router.can_consume(&peer, &capabilities) {
            return Err(Refusal::new(
                RefusalCode::CannotConsume,
                "the capabilities do not fit what the peer sends",
            ));
        }
        let mut options = ConsumerOptions::new(peer, capabilities);
        options.paused = true;
        let consumer = patiently(leg.transport.consume(options))
            .await?
            .map_err(|error| match error {
                ConsumeError::Request(error) => refused(error),
                ConsumeError::ProducerNotFound(_) => Refusal::new(RefusalCode::NoProducer, "the peer has just stopped"),
                error => invalid(&error.to_string()),
            })?;
        let consumed = Consumed {
            consumer_id: consumer.id().to_string(),
            producer_id: peer.to_string(),
            kind: "audio".to_owned(),
            rtp_parameters: json(consumer.rtp_parameters())?,
        };
        seat.consumer = Some(consumer);
        Ok(consumed)
    }

    /// RTC-06.
    ///
    /// # Errors
    /// `unknown_consumer`.
    pub async fn resume_consumer(&mut self, role: Role, consumer_id: &str) -> Result<(), Refusal> {
        let consumer = self.seat(role).consumer.as_ref();
        let consumer = consumer.filter(|consumer| consumer.id().to_string() == consumer_id && !consumer.closed());
        let consumer = consumer.ok_or_else(|| {
            Refusal::new(
                RefusalCode::UnknownConsumer,
                "no such consumer of this party: a later rtc_consume replaces it",
            )
        })?;
        patiently(consumer.resume()).await?.map_err(refused)
    }

    fn seat(&mut self, role: Role) -> &mut Seat {
        match role {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        }
    }
}

/// One packet, one trace: it is off again before the second packet of a usual stream.
async fn detect_first_packet(
    producer: &Producer,
    role: Role,
    source: Source,
    observer: Weak<dyn Observer>,
) -> Result<(), Refusal> {
    let (weak, runtime, seen) = (
        producer.downgrade(),
        tokio::runtime::Handle::current(),
        AtomicBool::new(false),
    );
    let producer_id = producer.id().to_string();
    let on_trace = move |event: &ProducerTraceEventData| {
        let at = ClockReading::now();
        let ProducerTraceEventData::Rtp { info, .. } = event else {
            return;
        };
        // Nothing but padding is a probe of the network, not a voice.
        if info.payload_size == 0 || seen.swap(true, Ordering::Relaxed) {
            return;
        }
        if let Some(observer) = observer.upgrade() {
            let packet = FirstPacket {
                role,
                at,
                producer_id: producer_id.clone(),
                ssrc: info.ssrc,
            };
            observer.first_packet(source, packet);
        }
        let weak = weak.clone();
        runtime.spawn(async move {
            if let Some(producer) = weak.upgrade()
                && let Err(error) = producer.enable_trace_event(Vec::new()).await
            {
                tracing::debug!(%error, "a trace was not turned off: its producer is gone");
            }
        });
    };
    producer.on_trace(on_trace).detach();
    patiently(producer.enable_trace_event(vec![ProducerTraceEventType::Rtp]))
        .await?
        .map_err(refused)
}

fn opus() -> RtpCodecCapability {
    RtpCodecCapability::Audio {
        mime_type: MimeTypeAudio::Opus,
        preferred_payload_type: None,
        clock_rate: OPUS_CLOCK_RATE,
        channels: OPUS_CHANNELS,
        parameters: RtpCodecParametersParameters::from([("useinbandfec", 1_u32.into())]),
        rtcp_feedback: vec![],
    }
}

/// RFC 7587 section 7: whatever is coded, it is declared so.
pub(super) const OPUS_CLOCK_RATE: NonZeroU32 = NonZeroU32::new(48_000).unwrap();
pub(super) const OPUS_CHANNELS: NonZeroU8 = NonZeroU8::new(2).unwrap();

fn unknown_transport() -> Refusal {
    Refusal::new(
        RefusalCode::UnknownTransport,
        "no such transport of this party: rtc_produce needs its latest send transport, rtc_consume its latest recv one",
    )
}

fn json(value: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))
}
