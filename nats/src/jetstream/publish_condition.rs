//! The condition under which the stream stores a fact.

/// What a call must have stored, or not, for a fact of it to be stored.
///
/// The leader of a cluster's stream compares the condition with what it has stored. It also rejects a message whose
/// condition is the same, on the same subjects, as that of a message in flight. It does not notice that a message in flight
/// is *among* the subjects of another one's condition. Facts that exclude each other must therefore use the same subjects:
/// all conditions but [`PublishCondition::First`] come down to the call's last fact of any kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishCondition {
    /// The call has no fact of this kind yet. For the fact that begins a call: no other fact of it can be in flight.
    First,
    /// The call's last fact of *any* kind has this sequence: nothing happened in between.
    CallUnchangedSince(u64),
    /// The call has no fact of this kind and no end yet; and no connection, if the fact is an end without one.
    OnceWhileOpen,
    /// The call has no end yet. For facts that may occur many times: a retry is recognised by its event ID within the
    /// duplicate window.
    WhileOpen,
    /// In a batch: directly after the previous entry, which is of the same call and has a condition of its own.
    AfterPreviousEntry,
}

impl PublishCondition {
    /// The sequence that it expects, if it determines one by itself.
    pub(crate) fn expected(self) -> Option<ExpectedSequence> {
        match self {
            Self::First => Some(ExpectedSequence::NoneOfItsKind),
            Self::CallUnchangedSince(sequence) => Some(ExpectedSequence::LastOfCall(sequence)),
            Self::OnceWhileOpen | Self::WhileOpen | Self::AfterPreviousEntry => None,
        }
    }
}

/// The condition in the form that the server checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ExpectedSequence {
    NoneOfItsKind,
    LastOfCall(u64),
}
