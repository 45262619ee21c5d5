//! Counts what a later version has stored and this one does not know: kinds of facts, fields, reasons.
//!
//! Readers keep such things as text and continue: the contract grows while services of several versions run.

use std::collections::{BTreeMap, HashSet};
use std::ops::AddAssign;
use std::sync::LazyLock;

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::IgnoredAny;

use crate::wire::fact::{Fact, FactKind};
use crate::wire::fact_codec::DecodeError;

/// The unknown things in stored messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
pub struct Unknown {
    /// Messages of an unknown kind.
    pub kinds: u64,
    /// Fields that the kind does not have.
    pub fields: u64,
    /// Reasons of an end.
    pub reasons: u64,
}

/// The fields of each kind, without those of nested objects.
static FIELDS: LazyLock<Vec<HashSet<String>>> =
    LazyLock::new(|| FactKind::ALL.iter().map(|kind| kind.fields()).collect());

impl Unknown {
    /// Of one message.
    pub fn of(fact: &Result<Fact, DecodeError>, payload: &[u8]) -> Self {
        match fact {
            Ok(fact) => Self::of_fact(fact, payload),
            Err(DecodeError::UnknownKind { .. }) => Self {
                kinds: 1,
                ..Self::default()
            },
            Err(_) => Self::default(),
        }
    }

    /// Of the message of this fact.
    pub fn of_fact(fact: &Fact, payload: &[u8]) -> Self {
        // Not worth an error: the fact itself was decoded from it.
        let stored: BTreeMap<String, IgnoredAny> = serde_json::from_slice(payload).unwrap_or_default();
        let known = FIELDS.get(fact.kind() as usize);
        let fields = stored
            .keys()
            .filter(|field| known.is_some_and(|known| !known.contains(*field)));
        Self {
            kinds: 0,
            fields: u64::try_from(fields.count()).unwrap_or(u64::MAX),
            reasons: fact.reason().is_some_and(|reason| !reason.is_known()).into(),
        }
    }

    /// Whether there is nothing unknown.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// The counts by name.
    pub fn counts(self) -> [(&'static str, u64); 3] {
        [("kind", self.kinds), ("field", self.fields), ("reason", self.reasons)]
    }
}

impl AddAssign for Unknown {
    fn add_assign(&mut self, other: Self) {
        self.kinds += other.kinds;
        self.fields += other.fields;
        self.reasons += other.reasons;
    }
}
