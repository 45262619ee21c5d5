//! How many connections an address may have at a time.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use parking_lot::Mutex;

/// The connections of this node, by address. Clones share them.
#[derive(Debug, Clone)]
pub struct AddressLimiter {
    max: usize,
    connections: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// One connection; dropping it frees its place.
#[derive(Debug)]
pub struct AddressPermit {
    /// `None` for an address without a limit.
    counted: Option<(AddressLimiter, IpAddr)>,
}

impl AddressLimiter {
    /// At most `max` connections of an address at a time.
    pub fn new(max: usize) -> Self {
        Self {
            max,
            connections: Arc::default(),
        }
    }

    /// A place for a connection of an address; `None` if all its places are taken. Loopback has no limit: behind it is a proxy
    /// that is not declared as one, or a test.
    pub fn try_acquire(&self, address: IpAddr) -> Option<AddressPermit> {
        let address = Self::counted(address);
        if address.is_loopback() {
            return Some(AddressPermit { counted: None });
        }
        let mut connections = self.connections.lock();
        let count = connections.entry(address).or_default();
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(AddressPermit {
            counted: Some((self.clone(), address)),
        })
    }

    /// What is counted as one address: an IPv6 host chooses freely among the addresses of its /64 network (RFC 6177, RFC 8981).
    pub fn counted(address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                let network = u128::from(address) >> 64 << 64;
                Ipv6Addr::from(network).into()
            }
            address => address,
        }
    }
}

impl AddressPermit {
    /// The address, as [`AddressLimiter::counted`]; `None` if it has no limit.
    pub fn address(&self) -> Option<IpAddr> {
        self.counted.as_ref().map(|(_, address)| *address)
    }
}

impl Drop for AddressPermit {
    fn drop(&mut self) {
        let Some((limiter, address)) = &self.counted else {
            return;
        };
        let mut connections = limiter.connections.lock();
        if let Some(count) = connections.get_mut(address) {
            *count -= 1;
            if *count == 0 {
                connections.remove(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn an_address_has_its_connections_and_no_more() {
        let limiter = AddressLimiter::new(2);
        let first = limiter.try_acquire(address("198.51.100.7")).unwrap();
        let _second = limiter.try_acquire(address("::ffff:198.51.100.7")).unwrap();
        assert!(limiter.try_acquire(address("198.51.100.7")).is_none());
        assert!(limiter.try_acquire(address("198.51.100.8")).is_some());
        drop(first);
        assert!(limiter.try_acquire(address("198.51.100.7")).is_some());
    }

    #[test]
    fn an_ipv6_network_counts_as_one_address() {
        let limiter = AddressLimiter::new(1);
        let _permit = limiter.try_acquire(address("2001:db8::1")).unwrap();
        assert!(limiter.try_acquire(address("2001:db8::2")).is_none());
        assert!(limiter.try_acquire(address("2001:db8:0:1::1")).is_some());
    }

    #[test]
    fn loopback_has_no_limit_and_closed_connections_leave_no_entry() {
        let limiter = AddressLimiter::new(1);
        let permits: Vec<_> = ["127.0.0.1", "127.0.0.1", "::1", "::1"]
            .iter()
            .map(|loopback| limiter.try_acquire(address(loopback)).unwrap())
            .collect();
        drop(permits);
        drop(limiter.try_acquire(address("198.51.100.7")).unwrap());
        assert!(limiter.connections.lock().is_empty());
    }
}
