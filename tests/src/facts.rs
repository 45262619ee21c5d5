//! Facts: built, published, read and checked.

pub mod contract_client;

pub mod later_version;
pub mod reader;
pub mod record;
