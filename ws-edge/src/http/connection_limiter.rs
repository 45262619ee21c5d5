//! The places of a node's connections. A connection is pending until its client is authenticated. A full node closes its oldest pending
//! connection for a new one, and an address with all its connections open the oldest pending one of that address: clients that connect
//! and then neither send a request nor read its answer keep no others out, because a legitimate client is authenticated at once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use futures::future::{AbortHandle, AbortRegistration};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::address_limiter::{AddressLimiter, AddressPermit};
use crate::handshake::Rejection;
use crate::metrics;

/// The places of a node.
#[derive(Debug)]
pub struct ConnectionLimiter {
    free: Arc<Semaphore>,
    addresses: AddressLimiter,
    pending: Arc<Mutex<Pending>>,
}

/// The connections whose client is not authenticated, in the order of their arrival.
#[derive(Debug, Default)]
struct Pending {
    next_number: u64,
    connections: BTreeMap<u64, Connection>,
    /// The numbers of connections with a place of their address.
    by_address: BTreeSet<(IpAddr, u64)>,
}

#[derive(Debug)]
struct Connection {
    held: Held,
    abort: AbortHandle,
}

/// What a connection holds until its end: a place of the node, and one of its address.
#[derive(Debug)]
struct Held {
    node: OwnedSemaphorePermit,
    address: Option<AddressPermit>,
}

/// The place of a connection; dropping it frees it.
#[derive(Debug)]
pub struct ConnectionPermit {
    number: u64,
    pending: Arc<Mutex<Pending>>,
    /// Set once the client is authenticated.
    kept: Mutex<Option<Held>>,
}

impl ConnectionLimiter {
    /// At most `max` connections at a time, and of each address as many as `addresses` allow.
    pub fn new(max: usize, addresses: AddressLimiter) -> Self {
        Self {
            free: Arc::new(Semaphore::new(max)),
            addresses,
            pending: Arc::default(),
        }
    }

    /// A place for a new connection, which is closed through the registration if a newer one needs its place. `address` is none for a
    /// trusted proxy, whose client is known after the request.
    ///
    /// # Errors
    /// If all places are taken by connections of authenticated clients.
    pub fn try_acquire(&self, address: Option<IpAddr>) -> Result<(ConnectionPermit, AbortRegistration), Rejection> {
        let mut pending = self.pending.lock();
        let held = match address.map(|address| self.addresses.try_acquire(address).ok_or(address)) {
            // The place of the node that is freed is one of this address, too.
            Some(Err(address)) => pending
                .displace_of(AddressLimiter::counted(address))
                .ok_or_else(Rejection::address_full)?,
            Some(Ok(permit)) => self.on_node(&mut pending, Some(permit))?,
            None => self.on_node(&mut pending, None)?,
        };
        let (abort, until) = AbortHandle::new_pair();
        let number = pending.add(Connection { held, abort });
        let permit = ConnectionPermit {
            number,
            pending: Arc::clone(&self.pending),
            kept: Mutex::default(),
        };
        Ok((permit, until))
    }

    fn on_node(&self, pending: &mut Pending, address: Option<AddressPermit>) -> Result<Held, Rejection> {
        let free = Arc::clone(&self.free).try_acquire_owned().ok();
        let node = free.or_else(|| pending.displace_oldest().map(|held| held.node));
        let full = || Rejection::unavailable("this node is full; try another");
        Ok(Held {
            node: node.ok_or_else(full)?,
            address,
        })
    }
}

impl Pending {
    fn add(&mut self, connection: Connection) -> u64 {
        let number = self.next_number;
        self.next_number += 1;
        if let Some(address) = connection.held.counted_address() {
            self.by_address.insert((address, number));
        }
        self.connections.insert(number, connection);
        number
    }

    fn remove(&mut self, number: u64) -> Option<Connection> {
        let connection = self.connections.remove(&number)?;
        if let Some(address) = connection.held.counted_address() {
            self.by_address.remove(&(address, number));
        }
        Some(connection)
    }

    fn displace_oldest(&mut self) -> Option<Held> {
        let (&oldest, _) = self.connections.first_key_value()?;
        self.displace(oldest)
    }

    fn displace_of(&mut self, address: IpAddr) -> Option<Held> {
        let &(_, oldest) = self.by_address.range((address, 0)..=(address, u64::MAX)).next()?;
        self.displace(oldest)
    }

    fn displace(&mut self, number: u64) -> Option<Held> {
        let Connection { held, abort } = self.remove(number)?;
        abort.abort();
        metrics::handshake("displaced");
        Some(held)
    }
}

impl Held {
    fn counted_address(&self) -> Option<IpAddr> {
        self.address.as_ref()?.address()
    }
}

impl ConnectionPermit {
    /// The client is authenticated: the connection keeps its place until its end.
    pub fn keep(&self) {
        let kept = self.pending.lock().remove(self.number);
        if let Some(connection) = kept {
            *self.kept.lock() = Some(connection.held);
        }
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let removed = self.pending.lock().remove(self.number);
        drop(removed);
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;
    use futures::future::{Abortable, pending};

    use super::*;

    fn is_closed(until: AbortRegistration) -> bool {
        Abortable::new(pending::<()>(), until).now_or_never().is_some()
    }

    #[test]
    fn the_oldest_pending_connection_makes_room() {
        let limiter = ConnectionLimiter::new(3, AddressLimiter::new(3));
        let (kept, _) = limiter.try_acquire(None).unwrap();
        let (oldest, until_oldest) = limiter.try_acquire(None).unwrap();
        let (younger, until_younger) = limiter.try_acquire(None).unwrap();
        kept.keep();
        let (new, _) = limiter.try_acquire(None).unwrap();
        assert!(is_closed(until_oldest) && !is_closed(until_younger));
        // Its task ends a little later.
        oldest.keep();
        drop(oldest);
        younger.keep();
        new.keep();
        assert!(limiter.try_acquire(None).is_err(), "every client is authenticated");
        drop(kept);
        assert!(limiter.try_acquire(None).is_ok());
        assert!(limiter.pending.lock().connections.is_empty());
    }

    #[test]
    fn pending_connections_of_an_address_keep_no_other_client_of_it_out() {
        let limiter = ConnectionLimiter::new(100, AddressLimiter::new(3));
        let address = |text: &str| Some(text.parse().unwrap());
        let (_other, until_other) = limiter.try_acquire(address("198.51.100.8")).unwrap();
        let (kept, _) = limiter.try_acquire(address("198.51.100.7")).unwrap();
        kept.keep();
        let mut flood = Vec::new();
        for _ in 0..10 {
            flood.push(limiter.try_acquire(address("198.51.100.7")).unwrap());
        }
        let (person, until_person) = limiter.try_acquire(address("198.51.100.7")).unwrap();
        person.keep();
        let closed: Vec<bool> = flood
            .into_iter()
            .map(|(permit, until)| {
                drop(permit);
                is_closed(until)
            })
            .collect();
        assert_eq!(closed.iter().filter(|closed| !**closed).count(), 1, "{closed:?}");
        assert_eq!(closed.last(), Some(&false), "the youngest stays");
        assert!(!is_closed(until_person) && !is_closed(until_other));
        let (third, _) = limiter.try_acquire(address("198.51.100.7")).unwrap();
        third.keep();
        let full = limiter.try_acquire(address("198.51.100.7")).unwrap_err();
        assert_eq!(full.code, Rejection::address_full().code);
        drop(person);
        assert!(limiter.try_acquire(address("198.51.100.7")).is_ok());
        let pending = limiter.pending.lock();
        assert_eq!((pending.connections.len(), pending.by_address.len()), (1, 1));
    }
}
