//! The pieces of work that the ledger hands out, and how they may go.

use contract::jetstream::fact_store::PublishCondition;
use contract::wire::fact::{Settled, Tick};
use contract::{CallId, TraceParent};

use super::chain::{Contradiction, LastTick};

/// A call's place in the ledger, for as long as it stays on the book.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// The call.
    pub call: CallId,
    pub(super) visit: u64,
}

/// What the stream says of a call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Position {
    /// Nothing was stored of the call after this.
    pub sequence: u64,
    /// Its last tick.
    pub last: Option<LastTick>,
    /// Its settlement.
    pub settled: Option<Settled>,
}

/// A tick to be stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DueTick {
    /// Whose.
    pub ticket: Ticket,
    /// What is stored.
    pub tick: Tick,
    /// Under which guard.
    pub guard: PublishCondition,
    /// The call's trace.
    pub trace: TraceParent,
}

/// A call to be taken off the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Closing {
    /// Which.
    pub ticket: Ticket,
    /// The entry's revision on the book.
    pub revision: u64,
    /// The call's record.
    pub settled: Settled,
    /// It is stored already.
    pub stored: bool,
    /// The sequence of the last tick that it counts with.
    pub last: Option<u64>,
    /// The call's trace.
    pub trace: TraceParent,
}

/// What came of a position that was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// A tick that we had sent without an answer is stored: the parties are to be told.
    pub confirmed: Option<Tick>,
    /// The call gets no more ticks.
    pub contradiction: Option<Contradiction>,
}

/// Why a batch is not known to be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotWritten {
    /// The server refused it.
    Refused,
    /// Nobody answered.
    Unanswered,
}
