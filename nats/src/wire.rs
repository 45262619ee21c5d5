//! The wire contract: every identifier, subject and payload, each declared once.

pub mod id;
pub mod party;
pub mod time;

pub mod subject;

pub mod fact;
pub mod notice;

pub mod command;

pub mod envelope;
