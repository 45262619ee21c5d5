//! Minute ticks and settlements.

pub mod domain;
#[cfg(test)]
mod testing;
