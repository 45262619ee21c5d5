//! Access to NATS and JetStream: one connection, the streams and buckets, and what is published and requested over them.

pub mod clock;
pub(crate) mod connection_log;
pub mod connection_state;
pub mod notice_publisher;
pub mod server_urls;

mod authentication;
pub mod check;
pub mod connection;
pub mod names;
pub mod storage;

pub mod request;

pub mod publish_condition;

pub mod batch;
pub(crate) mod commit;

pub mod fact_stream;

pub mod fact_store;
pub mod parking;

pub mod key_value;

pub mod bucket;

pub(crate) mod direct_reader;
pub(crate) mod last_message;
pub mod stored_messages;
