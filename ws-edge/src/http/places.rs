//! The places of a node's connections. A full node closes its oldest half-open connection for a new one: clients that connect and send
//! nothing keep no others out, because a client that means it sends its request at once.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::{AbortHandle, AbortRegistration};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::metrics;

/// The places of a node.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    half_open: Arc<Mutex<HalfOpen>>,
}

/// The connections whose request is not complete, in the order of their arrival.
#[derive(Debug, Default)]
struct HalfOpen {
    next_number: u64,
    connections: BTreeMap<u64, (OwnedSemaphorePermit, AbortHandle)>,
}

/// The place of a connection; dropping it frees it.
#[derive(Debug)]
pub struct Place {
    number: u64,
    half_open: Arc<Mutex<HalfOpen>>,
    /// Set once the request is complete.
    kept: Mutex<Option<OwnedSemaphorePermit>>,
}

impl Places {
    /// At most `max` connections at a time.
    pub fn new(max: usize) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            half_open: Arc::default(),
        }
    }

    /// A place for a new connection, which is closed through the registration if it is half-open for too long on a full node. `None`
    /// if all places are taken by connections with a complete request.
    pub fn take(&self) -> Option<(Place, AbortRegistration)> {
        let mut half_open = self.half_open.lock();
        let permit = Arc::clone(&self.free).try_acquire_owned().ok();
        let permit = permit.or_else(|| {
            let (_, (permit, oldest)) = half_open.connections.pop_first()?;
            oldest.abort();
            metrics::handshake("displaced");
            Some(permit)
        })?;
        let (abort, until) = AbortHandle::new_pair();
        let number = half_open.next_number;
        half_open.next_number += 1;
        half_open.connections.insert(number, (permit, abort));
        let place = Place {
            number,
            half_open: Arc::clone(&self.half_open),
            kept: Mutex::default(),
        };
        Some((place, until))
    }
}

impl Place {
    /// The request is complete: the connection keeps its place until its end.
    pub fn keep(&self) {
        let kept = self.half_open.lock().connections.remove(&self.number);
        if let Some((permit, _)) = kept {
            *self.kept.lock() = Some(permit);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.half_open.lock().connections.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::{Abortable, pending};

    use super::*;

    #[test]
    fn the_oldest_half_open_connection_makes_room() {
        let places = Places::new(3);
        let (kept, _) = places.take().unwrap();
        let (oldest, until_oldest) = places.take().unwrap();
        let (younger, until_younger) = places.take().unwrap();
        kept.keep();
        let (new, _) = places.take().unwrap();
        let is_closed = |until| Abortable::new(pending::<()>(), until).now_or_never().is_some();
        assert!(is_closed(until_oldest) && !is_closed(until_younger));
        // Its task ends a little later.
        oldest.keep();
        drop(oldest);
        younger.keep();
        new.keep();
        assert!(places.take().is_none(), "every request is complete");
        drop(kept);
        assert!(places.take().is_some());
        assert!(places.half_open.lock().connections.is_empty());
    }
}
