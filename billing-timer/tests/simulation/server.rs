//! The simulated server: a stream with guards, its durable consumer, and key-value buckets.
//!
//! Written from NATS' documentation and what was measured of it, not from the client's needs; it shares no code with what runs
//! against it but the traits.

pub(crate) mod stream;

pub(crate) mod consumer;

pub(crate) mod bucket;

use self::bucket::Bucket;
use self::consumer::Consumer;
use self::stream::Stream;

/// How a server may be broken, to see that the oracle sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flaw {
    /// Expected sequences are not looked at.
    Unguarded,
    /// Now and then a batch is acknowledged and not stored.
    Forgetful,
    /// What was delivered once is never delivered again.
    NoRedelivery,
    /// Keys do not expire.
    NoExpiry,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) stream: Stream,
    pub(crate) consumer: Consumer,
    pub(crate) book: Bucket,
    pub(crate) leases: Bucket,
    /// No leader until then: what is sent waits.
    pub(crate) stalled_until: u64,
    pub(crate) flaw: Option<Flaw>,
    subscriptions: u64,
}

/// Which bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    Book,
    Leases,
}

impl Server {
    pub(crate) fn new(flaw: Option<Flaw>) -> Self {
        Self {
            stream: Stream::default(),
            consumer: Consumer::default(),
            book: Bucket::default(),
            leases: Bucket::default(),
            stalled_until: 0,
            flaw,
            subscriptions: 0,
        }
    }

    pub(crate) fn bucket(&mut self, which: Which) -> &mut Bucket {
        match which {
            Which::Book => &mut self.book,
            Which::Leases => &mut self.leases,
        }
    }

    pub(crate) fn next_subscription(&mut self) -> u64 {
        self.subscriptions += 1;
        self.subscriptions
    }

    /// A site's connection is cut: its watchers have a hole for ever, its deliveries do not arrive for now.
    pub(crate) fn deafen(&mut self, site: usize) {
        self.book.deafen(site);
        self.leases.deafen(site);
    }

    /// Nothing of what this incarnation has subscribed to is of any use any more.
    pub(crate) fn forget(&mut self, site: usize) {
        self.book.forget(site);
        self.leases.forget(site);
    }
}
