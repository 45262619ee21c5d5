//! The records of a run: what the clients and the injector observed, and what the services logged and stored.

pub mod timestamp;

pub mod run_log;
pub mod stats;

pub mod cpu_steal;
pub mod service_logs;

pub mod artifacts;
