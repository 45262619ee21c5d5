//! What is due and what is billed: pure decisions from facts and `now`, without NATS and without a clock.
//!
//! In reading order: the fleet's [`terms`], the [`last_tick`] of a call, how facts merge into its [`entry`], the next [`step`] of
//! one call, its [`call_facts`] and the [`settlement`] that follows from them, the [`timer_queue`], and the [`scheduler`] of all calls, which hands out [`work`]. Which
//! calls an instance schedules: [`partition`]s, the [`lease`]s on them, and the [`partitioned_index`] of all entries.

pub mod terms;

pub mod last_tick;

pub mod entry;
pub mod step;

pub mod call_facts;
pub mod settlement;

pub mod timer_queue;

pub mod scheduler;
pub mod work;

pub mod partition;

pub mod lease;
pub mod partitioned_index;

#[cfg(test)]
mod simulation;
