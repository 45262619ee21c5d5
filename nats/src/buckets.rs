//! State that services share in key-value buckets. All of it is derived: it can be rebuilt from facts, or expires.

pub mod active_calls;
pub mod billing_index;
pub mod fleet;
pub mod leases;
