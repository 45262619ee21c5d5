//! The wire contract: every identifier, subject and payload, each declared once.

pub mod id;
pub mod party;
pub mod payload;
pub mod reason;
pub mod service;
pub mod terms;
pub mod time;

pub mod fact;
pub mod notice;
pub mod subject;

pub mod fact_codec;
pub mod unknown;

pub mod rights;

pub mod request;

pub mod command;

pub mod credit;

pub mod envelope;
