//! The harness of callpulse's end-to-end tests and its demo: real processes, real NATS, real sockets, real RTP.
//!
//! | module | content |
//! | --- | --- |
//! | [`wait`], [`inbox`] | bounded waits, and arrivals to wait for |
//! | [`percentile`] | of measured values |
//! | [`skip`] | what a machine lacks |
//! | [`servers`] | nats-servers and services as child processes, and proxies that can cut their connections |
//! | [`token`] | tokens for the WebSocket, valid and invalid |
//! | [`clients`] | the parties of a call: WebSocket and WebRTC clients |
//! | [`facts`] | a contract client, and readers of stored facts |
//! | [`terminal`] | output, and Ctrl-C |
//! | [`fuzz`] | mutated input for the readers of everything that comes from outside |
//! | [`demo`], [`up`] | one complete call with its latency, and the stack for development |
//! | [`scale`] | a billing-timer with many calls, killed and measured |
//!
//! It reads the wire as an outsider does: JSON values on the WebSocket, never the services' own types.

pub mod inbox;
pub mod percentile;
pub mod skip;
pub mod wait;

pub mod servers;

pub mod token;

pub mod clients;

pub mod facts;

pub mod terminal;

pub mod fuzz;

pub mod demo;
pub mod scale;
pub mod up;
