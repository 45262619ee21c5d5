//! Who is in a call: two sides, one person on each.

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
    /// Who calls and pays.
    User,
    /// Who is called.
    Otomo,
}

impl Role {
    /// Both, the user first.
    pub const BOTH: [Self; 2] = [Self::User, Self::Otomo];

    /// The other side.
    pub fn peer(self) -> Self {
        match self {
            Self::User => Self::Otomo,
            Self::Otomo => Self::User,
        }
    }

    /// As it is written in subjects and tokens.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A call and who is in it: what every fact says first.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Parties {
    /// The call.
    pub call_id: CallId,
    /// Who calls.
    pub user_id: UserId,
    /// Who is called.
    pub otomo_id: OtomoId,
}

impl Parties {
    /// Who is on that side.
    pub fn party(&self, role: Role) -> Party {
        match role {
            Role::User => Party::User(self.user_id.clone()),
            Role::Otomo => Party::Otomo(self.otomo_id.clone()),
        }
    }

    /// On which side `party` is; `None` for a third party.
    pub fn role_of(&self, party: &Party) -> Option<Role> {
        Role::BOTH.into_iter().find(|role| self.party(*role) == *party)
    }
}

/// One person as the system knows them: by side and identifier.
///
/// A user and an otomo may bear the same identifier, and are two people all the same.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Party {
    /// A user.
    User(UserId),
    /// An otomo.
    Otomo(OtomoId),
}

impl Party {
    /// From a side and an identifier.
    ///
    /// # Errors
    /// [`InvalidId`] if `id` is no identifier.
    pub fn new(role: Role, id: &str) -> Result<Self, InvalidId> {
        Ok(match role {
            Role::User => Self::User(id.parse()?),
            Role::Otomo => Self::Otomo(id.parse()?),
        })
    }

    /// Which side.
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
