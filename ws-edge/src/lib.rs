//! The WebSocket edge: authentication, signalling, and the delivery of notices.
//!
//! A connection flows through the modules in this order: [`listener`] accepts it, [`handshake`] looks at its [`token`] and
//! upgrades it, [`session`] serves the socket and its [`outbox`], [`directory`] brings its party's notices. What a client
//! sends is read by [`protocol`] and done by [`calls`], with [`placement`] choosing a worker and `media` relaying to it.
//! What a browser asks for before it has a socket comes from [`pages`].
//! [`snapshot`] tells who comes back where the call stands; [`deadlines`] ends what nobody ends; [`ops`] shows operators all of it.

pub mod settings;

pub mod listener;

pub mod handshake;
pub mod pages;
pub mod token;

pub mod directory;
pub mod outbox;
pub mod session;

pub mod protocol;

pub mod calls;
mod media;
pub mod placement;

pub mod deadlines;
pub mod snapshot;

pub mod ops;

pub mod edge;
mod resync;
pub mod run;

pub use run::run;
pub use settings::Settings;
