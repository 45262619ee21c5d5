//! One party's side of a call: a transport in each direction, its producer, and its consumer of the peer.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use contract::Role;
use contract::wire::request::Direction;
use mediasoup::prelude::*;
use mediasoup::types::data_structures::DtlsState;

use super::Observer;
use super::tcp_proxy::Ufrags;
use crate::liveness::ProducerNumber;

/// One party's media. Dropping a part closes it.
#[derive(Debug, Default)]
pub(super) struct Participant {
    // In this order: consumers and producers close before their transports.
    pub(super) consumer: Option<Consumer>,
    pub(super) producer: Option<Producer>,
    pub(super) send_transport: Option<ParticipantTransport>,
    pub(super) recv_transport: Option<ParticipantTransport>,
}

/// A transport, and whether the client has connected it.
#[derive(Debug)]
pub(super) struct ParticipantTransport {
    pub(super) transport: WebRtcTransport,
    pub(super) connected: bool,
    /// By which its connections over TCP are recognised.
    pub(super) ufrags: Ufrags,
    /// The number of the producer on it; 0 for none.
    producer: Arc<AtomicU64>,
}

impl Participant {
    /// Replaces the transport of a direction, and returns it; its producer or consumer closes.
    pub(super) fn replace_transport(
        &mut self,
        direction: Direction,
        transport: ParticipantTransport,
    ) -> Option<ParticipantTransport> {
        match direction {
            Direction::Send => {
                self.producer = None;
                self.send_transport.replace(transport)
            }
            Direction::Recv => {
                self.consumer = None;
                self.recv_transport.replace(transport)
            }
        }
    }

    /// The producer, unless it is closed.
    pub(super) fn open_producer(&self) -> Option<&Producer> {
        self.producer.as_ref().filter(|producer| !producer.closed())
    }

    /// The transport of either direction with this identifier.
    pub(super) fn transport_mut(&mut self, id: &str) -> Option<&mut ParticipantTransport> {
        [&mut self.send_transport, &mut self.recv_transport]
            .into_iter()
            .flatten()
            .find(|transport| transport.has_id(id))
    }
}

impl ParticipantTransport {
    pub(super) fn new(transport: WebRtcTransport, ufrags: Ufrags) -> Self {
        Self {
            transport,
            connected: false,
            ufrags,
            producer: Arc::default(),
        }
    }

    pub(super) fn id(&self) -> String {
        self.transport.id().to_string()
    }

    pub(super) fn has_id(&self, id: &str) -> bool {
        self.id() == id
    }

    /// Sets the producer whose loss [`Self::observe`] reports.
    pub(super) fn set_producer(&self, number: ProducerNumber) {
        self.producer.store(number, Ordering::Relaxed);
    }

    /// Reports to `observer` when DTLS ends, if there is a producer. A client whose ICE disconnects may come back from another
    /// address: that is silence.
    pub(super) fn observe(&self, role: Role, observer: &Weak<dyn Observer>) {
        let (producer, observer) = (Arc::clone(&self.producer), observer.clone());
        let on_dtls = move |state| {
            let number = producer.load(Ordering::Relaxed);
            if matches!(state, DtlsState::Failed | DtlsState::Closed)
                && let (1.., Some(observer)) = (number, observer.upgrade())
            {
                observer.transport_lost(role, number);
            }
        };
        self.transport.on_dtls_state_change(on_dtls).detach();
    }
}
