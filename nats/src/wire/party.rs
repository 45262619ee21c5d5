//! The parties of a call.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::IntoStaticStr;

use crate::wire::id::{CallId, InvalidId, OtomoId, UserId};

/// Which side of a call.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, IntoStaticStr,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case")]
pub enum Role {
    /// The party that calls and pays.
    User,
    /// The party that is called.
    Otomo,
}

impl Role {
    /// Both, the user first.
    pub const BOTH: [Self; 2] = [Self::User, Self::Otomo];

    /// The role of the other party.
    pub fn peer(self) -> Self {
        match self {
            Self::User => Self::Otomo,
            Self::Otomo => Self::User,
        }
    }

    /// The form in subjects and tokens.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call and its parties, part of every fact.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parties {
    /// Identifier of the call, which the edge assigns.
    pub call_id: CallId,
    /// The caller.
    pub user_id: UserId,
    /// The called party.
    pub otomo_id: OtomoId,
}

impl Parties {
    /// The party on a side.
    pub fn party(&self, role: Role) -> Party {
        match role {
            Role::User => Party::User(self.user_id.clone()),
            Role::Otomo => Party::Otomo(self.otomo_id.clone()),
        }
    }

    /// The side of `party`; `None` for a third party.
    pub fn role_of(&self, party: &Party) -> Option<Role> {
        Role::BOTH.into_iter().find(|role| self.party(*role) == *party)
    }
}

/// A party: a side and an identifier. A user and an otomo with the same identifier are different parties.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// A user.
    User(UserId),
    /// An otomo.
    Otomo(OtomoId),
}

impl Party {
    /// A party of a side and an identifier.
    ///
    /// # Errors
    /// [`InvalidId`]
    pub fn new(role: Role, id: &str) -> Result<Self, InvalidId> {
        Ok(match role {
            Role::User => Self::User(id.parse()?),
            Role::Otomo => Self::Otomo(id.parse()?),
        })
    }

    /// Whether the party is a user or an otomo.
    pub fn role(&self) -> Role {
        match self {
            Self::User(_) => Role::User,
            Self::Otomo(_) => Role::Otomo,
        }
    }

    /// The identifier, without the side.
    pub fn id(&self) -> &str {
        match self {
            Self::User(id) => id.as_str(),
            Self::Otomo(id) => id.as_str(),
        }
    }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.role(), self.id())
    }
}
