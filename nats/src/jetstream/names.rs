//! The names of the streams and buckets.

/// The stream of all facts.
pub const CALLS: &str = "CALLS";
/// The stream of messages that could not be decoded.
pub const PARKED: &str = "PARKED";
/// Bucket: one key per media-worker.
pub const MEDIA_WORKERS: &str = "media_workers";
/// Bucket: the calls that are not over, and their parties.
pub const ACTIVE_CALLS: &str = "active_calls";
/// Bucket: calls being billed.
pub const BILLING_ACTIVE: &str = "billing_active";
/// Bucket: the live billing-timers, and the partitions that each ticks.
pub const BILLING_LEASES: &str = "billing_leases";
