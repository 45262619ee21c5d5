//! Addresses that settings name: origins of pages, clients behind proxies, documents.

pub mod client_address;
pub mod fetch;
pub mod origin;
