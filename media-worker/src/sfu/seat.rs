//! What one party has in a room: a transport each way, what it sends, what it hears.

use std::sync::Arc;
use std::sync::Weak;
use std::sync::atomic::{AtomicU64, Ordering};

use contract::Role;
use contract::wire::command::Direction;
use mediasoup::prelude::*;
use mediasoup::types::data_structures::{DtlsState, IceState};

use super::Observer;
use crate::liveness::Source;

/// One party's media. Dropping a part closes it.
#[derive(Debug, Default)]
pub(super) struct Seat {
    // Before the transports: consumers and producers go first.
    pub(super) consumer: Option<Consumer>,
    pub(super) producer: Option<Producer>,
    pub(super) send: Option<Leg>,
    pub(super) recv: Option<Leg>,
}

/// A transport, and whether the client has connected it.
#[derive(Debug)]
pub(super) struct Leg {
    pub(super) transport: WebRtcTransport,
    pub(super) connected: bool,
    /// The producer on it; 0 for none.
    source: Arc<AtomicU64>,
}

impl Seat {
    /// Puts a new transport in the place of the older one, with which goes all that was on it.
    pub(super) fn replace(&mut self, direction: Direction, leg: Leg) {
        match direction {
            Direction::Send => {
                self.producer = None;
                self.send = Some(leg);
            }
            Direction::Recv => {
                self.consumer = None;
                self.recv = Some(leg);
            }
        }
    }

    pub(super) fn leg(&mut self, transport_id: &str) -> Option<&mut Leg> {
        [&mut self.send, &mut self.recv]
            .into_iter()
            .flatten()
            .find(|leg| leg.is(transport_id))
    }
}

impl Leg {
    pub(super) fn new(transport: WebRtcTransport) -> Self {
        Self {
            transport,
            connected: false,
            source: Arc::default(),
        }
    }

    pub(super) fn is(&self, transport_id: &str) -> bool {
        self.transport.id().to_string() == transport_id
    }

    pub(super) fn carries(&self, source: Source) {
        self.source.store(source, Ordering::Relaxed);
    }

    /// Tells of the end of ICE or DTLS, once there is a producer that it matters to.
    pub(super) fn watch(&self, role: Role, observer: &Weak<dyn Observer>) {
        let tell = {
            let (source, observer) = (Arc::clone(&self.source), observer.clone());
            move || {
                let source = source.load(Ordering::Relaxed);
                if let (1.., Some(observer)) = (source, observer.upgrade()) {
                    observer.transport_gone(role, source);
                }
            }
        };
        let ice = tell.clone();
        let on_ice = move |state| {
            if state == IceState::Disconnected {
                ice();
            }
        };
        let on_dtls = move |state| {
            if matches!(state, DtlsState::Failed | DtlsState::Closed) {
                tell();
            }
        };
        self.transport.on_ice_state_change(on_ice).detach();
        self.transport.on_dtls_state_change(on_dtls).detach();
    }
}
