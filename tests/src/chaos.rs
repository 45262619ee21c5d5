//! `make chaos`: many calls on the real stack while its parts are killed, frozen and cut off, and a judge of what came of them.

pub mod journal;
