//! What is due, and what is owed: pure decisions over facts and `now`. Nothing here knows NATS or a clock.
//!
//! In reading order: the fleet's [`terms`], the stored [`chain`] of a call's ticks, the [`settlement`], the next [`step`]
//! of one call, how facts meet in its [`entry`], the time-ordered [`schedule`], and the [`ledger`] of all calls, which
//! hands out [`work`]. Which calls are on it: [`partition`]s, who holds which ([`lease`]), and the [`shelf`] of all entries.

pub mod terms;

pub mod chain;
pub mod settlement;
pub mod step;

pub mod entry;

pub mod schedule;

pub mod ledger;
pub mod work;

pub mod partition;

pub mod lease;
pub mod shelf;

#[cfg(test)]
mod simulation;
