//! The terminal of the demo, `up` and chaos.

pub mod screen;

pub mod event_printer;

pub mod interrupt;
