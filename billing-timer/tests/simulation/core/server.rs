//! The simulated server: a stream with publish conditions, its durable consumer, and key-value buckets.
//!
//! It follows the NATS documentation and measurements of a real server, not the needs of its client. It shares only the traits
//! of the ports with the code under test.

pub(crate) mod stream;

pub(crate) mod consumer;

pub(crate) mod bucket;

use self::bucket::Bucket;
use self::consumer::Consumer;
use self::stream::Stream;

/// A deliberate bug of the server. The checker must detect each of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerBug {
    /// Expected sequences are ignored.
    IgnoresConditions,
    /// Some batches are acknowledged but not stored.
    LosesBatches,
    /// Messages are never redelivered.
    NoRedelivery,
    /// Keys do not expire.
    NoExpiry,
}

#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) stream: Stream,
    pub(crate) consumer: Consumer,
    pub(crate) active_billing: Bucket,
    pub(crate) leases: Bucket,
    /// There is no leader until then; requests wait.
    pub(crate) stalled_until: u64,
    /// Elections so far.
    pub(crate) leader: u64,
    pub(crate) bug: Option<ServerBug>,
    subscriptions: u64,
}

/// The name of a bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BucketName {
    ActiveBilling,
    Leases,
}

impl Server {
    pub(crate) fn new(bug: Option<ServerBug>) -> Self {
        Self {
            stream: Stream::default(),
            consumer: Consumer::default(),
            active_billing: Bucket::default(),
            leases: Bucket::default(),
            stalled_until: 0,
            leader: 0,
            bug,
            subscriptions: 0,
        }
    }

    pub(crate) fn bucket(&mut self, which: BucketName) -> &mut Bucket {
        match which {
            BucketName::ActiveBilling => &mut self.active_billing,
            BucketName::Leases => &mut self.leases,
        }
    }

    pub(crate) fn next_subscription(&mut self) -> u64 {
        self.subscriptions += 1;
        self.subscriptions
    }

    /// A host is disconnected: its watchers miss changes from now on.
    pub(crate) fn mark_gap(&mut self, host: usize) {
        self.active_billing.mark_gap(host);
        self.leases.mark_gap(host);
    }

    /// Drops the watchers of an instance that has ended.
    pub(crate) fn forget(&mut self, host: usize) {
        self.active_billing.forget(host);
        self.leases.forget(host);
    }
}
