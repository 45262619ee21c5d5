//! Processes: nats-servers, the services, and the proxies between them.

pub mod child;
pub mod commands;

pub mod nats_server;
pub mod process;
pub mod small_disk;

pub mod links;
pub mod proxy;

pub mod stack;
pub mod wallet;

pub mod wall_clock;
