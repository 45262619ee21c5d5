//! The state of the connection to NATS.

/// Whether the connection is up, and whether messages may have been missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectionState {
    /// Connected at this moment.
    pub connected: bool,
    /// The number of connections so far. Every subscription may have missed messages before the last one.
    pub connections: u64,
    /// The number of messages dropped by full subscriptions. Consumers and watches of JetStream detect such a gap themselves;
    /// for plain subscriptions it is known only here.
    pub overflows: u64,
}
