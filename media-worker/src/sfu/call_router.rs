//! A call's router and its two participants: each media command of a party is one method here.

use std::sync::{Arc, Weak};

use contract::Role;
use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::request::{Consumed, Direction, IceRestarted, TransportCreated};
use mediasoup::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::first_packet::PacketTrace;
use super::packet_counter::PacketCounter;
use super::participant::{Participant, ParticipantTransport};
use super::refusals::{invalid_parameters, request_failed, with_timeout};
use super::worker::{SfuWorker, SfuWorkerId};
use super::{Observer, opus, parameters};
use crate::liveness::ProducerNumber;

/// A call's media. Dropping it closes the router and all its transports.
pub struct CallRouter {
    user: Participant,
    otomo: Participant,
    router: Router,
    worker: Arc<SfuWorker>,
    ice_consent_timeout_s: u8,
    observer: Weak<dyn Observer>,
    last_producer: ProducerNumber,
}

/// A new producer of a party.
#[derive(Debug)]
pub struct NewProducer {
    /// The identifier that mediasoup gave it.
    pub id: String,
    /// Its packet counter.
    pub packet_counter: PacketCounter,
}

impl CallRouter {
    pub(super) async fn create(
        worker: Arc<SfuWorker>,
        ice_consent_timeout_s: u8,
        observer: Weak<dyn Observer>,
    ) -> Result<Self, Refusal> {
        let options = RouterOptions::new(vec![opus::router_codec()]);
        let router = with_timeout(worker.worker.create_router(options)).await?;
        let router = router.map_err(internal)?;
        let (user, otomo) = Default::default();
        Ok(Self {
            user,
            otomo,
            router,
            worker,
            ice_consent_timeout_s,
            observer,
            last_producer: 0,
        })
    }

    /// The mediasoup worker that runs the router.
    pub fn sfu_worker_id(&self) -> SfuWorkerId {
        self.worker.id
    }

    /// The router's RTP capabilities (`rtc_capabilities`).
    ///
    /// # Errors
    /// None in practice.
    pub fn capabilities(&self) -> Result<Value, Refusal> {
        json(&self.router.rtp_capabilities())
    }

    /// Creates a transport (`rtc_create_transport`); the party's older transport of the direction closes, and is returned by name.
    ///
    /// # Errors
    /// `internal` if mediasoup fails.
    pub async fn create_transport(
        &mut self,
        role: Role,
        direction: Direction,
    ) -> Result<(TransportCreated, Option<String>), Refusal> {
        let mut options = WebRtcTransportOptions::new_with_server(self.worker.server.clone());
        options.prefer_udp = true;
        options.ice_consent_timeout = self.ice_consent_timeout_s;
        let transport = with_timeout(self.router.create_webrtc_transport(options)).await?;
        let transport = transport.map_err(internal)?;
        let created = TransportCreated {
            id: transport.id().to_string(),
            ice_parameters: json(transport.ice_parameters())?,
            ice_candidates: parameters::with_ip(json(&self.candidates(&transport))?),
            dtls_parameters: json(&transport.dtls_parameters())?,
            ice_servers: None,
        };
        let ufrag = &transport.ice_parameters().username_fragment;
        let ufrags = self.worker.tcp_admission.transport(ufrag);
        let transport = ParticipantTransport::new(transport, ufrags);
        if direction == Direction::Send {
            transport.observe(role, &self.observer);
        }
        let replaced = self.participant(role).replace_transport(direction, transport);
        Ok((created, replaced.map(|transport| transport.id())))
    }

    /// Connects a transport (`rtc_connect_transport`) with the client's DTLS parameters.
    ///
    /// # Errors
    /// `unknown_transport`, `wrong_state` if it is connected already, `invalid_parameters`.
    pub async fn connect_transport(&mut self, role: Role, transport_id: &str, dtls: Value) -> Result<(), Refusal> {
        let dtls_parameters = parameters::dtls(dtls)?;
        let transport = self.participant(role).transport_mut(transport_id);
        let transport = transport.ok_or_else(unknown_transport)?;
        if transport.connected {
            return Err(Refusal::new(
                RefusalCode::WrongState,
                "the transport is connected already",
            ));
        }
        let remote = WebRtcTransportRemoteParameters { dtls_parameters };
        with_timeout(transport.transport.connect(remote))
            .await?
            .map_err(request_failed)?;
        transport.connected = true;
        Ok(())
    }

    /// Gives a transport new ICE parameters (`rtc_restart_ice`). Media continues on the old path until the client uses them.
    ///
    /// # Errors
    /// `unknown_transport`.
    pub async fn restart_ice(&mut self, role: Role, transport_id: &str) -> Result<IceRestarted, Refusal> {
        let transport = self.participant(role).transport_mut(transport_id);
        let transport = transport.ok_or_else(unknown_transport)?;
        let restarted = with_timeout(transport.transport.restart_ice()).await?;
        let parameters = restarted.map_err(request_failed)?;
        transport.ufrags.renew(&parameters.username_fragment);
        Ok(IceRestarted {
            ice_parameters: json(&parameters)?,
        })
    }

    /// Creates the party's producer (`rtc_produce`). With `detect`, the observer receives its first packet.
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
        let number = self.last_producer + 1;
        let observer = self.observer.clone();
        let participant = self.participant(role);
        let transport = with_id(participant.send_transport.as_ref(), transport_id)?;
        if participant.open_producer().is_some() {
            return Err(Refusal::new(
                RefusalCode::AlreadyProducing,
                "this party sends already: replace its track, or create a new send transport",
            ));
        }
        let options = ProducerOptions::new(MediaKind::Audio, rtp_parameters);
        let producer = with_timeout(transport.transport.produce(options)).await?;
        let producer = producer.map_err(|error| match error {
            ProduceError::Request(error) => request_failed(error),
            error => invalid_parameters(&error.to_string()),
        })?;
        let trace = PacketTrace::new(&producer, role, number, observer);
        if detect {
            trace.arm().await?;
        }
        transport.set_producer(number);
        let new = NewProducer {
            id: producer.id().to_string(),
            packet_counter: PacketCounter::new(number, &producer, trace),
        };
        participant.producer = Some(producer);
        self.last_producer = number;
        Ok(new)
    }

    /// Creates a paused consumer of the peer's producer (`rtc_consume`); an older one closes.
    ///
    /// # Errors
    /// `unknown_transport`, `no_producer`, `invalid_parameters`, `cannot_consume`.
    pub async fn consume(&mut self, role: Role, transport_id: &str, capabilities: Value) -> Result<Consumed, Refusal> {
        let capabilities = parameters::capabilities(capabilities)?;
        let producer = self.participant(role.peer()).open_producer().map(Producer::id);
        let router = self.router.clone();
        let participant = self.participant(role);
        let transport = with_id(participant.recv_transport.as_ref(), transport_id)?;
        let producer = producer.ok_or_else(|| {
            Refusal::new(
                RefusalCode::NoProducer,
                "the peer sends nothing yet: ask again when rtc_new_producer comes",
            )
        })?;
        if !router.can_consume(&producer, &capabilities) {
            return Err(Refusal::new(
                RefusalCode::CannotConsume,
                "the capabilities do not fit what the peer sends",
            ));
        }
        let mut options = ConsumerOptions::new(producer, capabilities);
        options.paused = true;
        let consumer = with_timeout(transport.transport.consume(options)).await?;
        let consumer = consumer.map_err(|error| match error {
            ConsumeError::Request(error) => request_failed(error),
            ConsumeError::ProducerNotFound(_) => Refusal::new(RefusalCode::NoProducer, "the peer has just stopped"),
            error => invalid_parameters(&error.to_string()),
        })?;
        let consumed = Consumed {
            consumer_id: consumer.id().to_string(),
            producer_id: producer.to_string(),
            kind: "audio".to_owned(),
            rtp_parameters: json(consumer.rtp_parameters())?,
        };
        participant.consumer = Some(consumer);
        Ok(consumed)
    }

    /// Resumes the party's consumer (`rtc_resume`).
    ///
    /// # Errors
    /// `unknown_consumer`.
    pub async fn resume_consumer(&mut self, role: Role, consumer_id: &str) -> Result<(), Refusal> {
        let consumer = self.participant(role).consumer.as_ref();
        let consumer = consumer.filter(|consumer| consumer.id().to_string() == consumer_id && !consumer.closed());
        let consumer = consumer.ok_or_else(|| {
            Refusal::new(
                RefusalCode::UnknownConsumer,
                "no such consumer of this party: a later rtc_consume replaces it",
            )
        })?;
        with_timeout(consumer.resume()).await?.map_err(request_failed)
    }

    /// mediasoup's candidates, with the ports that clients reach.
    fn candidates(&self, transport: &WebRtcTransport) -> Vec<IceCandidate> {
        let mut candidates = transport.ice_candidates().clone();
        for candidate in &mut candidates {
            let mut tcp_proxies = self.worker.tcp_proxies.iter();
            if candidate.protocol == Protocol::Tcp
                && let Some(proxy) = tcp_proxies.find(|proxy| proxy.inner_port == candidate.port)
            {
                candidate.address.clone_from(&proxy.announced);
                candidate.port = proxy.port;
            }
        }
        candidates
    }

    fn participant(&mut self, role: Role) -> &mut Participant {
        match role {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        }
    }
}

fn with_id<'a>(transport: Option<&'a ParticipantTransport>, id: &str) -> Result<&'a ParticipantTransport, Refusal> {
    transport
        .filter(|transport| transport.has_id(id))
        .ok_or_else(unknown_transport)
}

fn unknown_transport() -> Refusal {
    Refusal::new(
        RefusalCode::UnknownTransport,
        "no such transport of this party: rtc_produce needs its latest send transport, rtc_consume its latest recv one",
    )
}

fn internal(error: impl std::error::Error) -> Refusal {
    Refusal::new(RefusalCode::Internal, error.to_string())
}

fn json(value: &impl Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(value).map_err(internal)
}
