//! The faults: their seeded schedule, and the injector that applies and reverts them.

pub mod fault_schedule;

pub mod cpu_usage;
pub mod fault_injector;
