//! State that services share in key-value buckets, each in the module of its name. All of it is derived: it can be rebuilt from
//! facts, or expires.

pub mod active_calls;
pub mod billing_active;
pub mod billing_leases;
pub mod last_heartbeats;
pub mod media_workers;
