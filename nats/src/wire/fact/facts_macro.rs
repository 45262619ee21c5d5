//! The macro that turns the table of facts into [`Fact`](super::Fact), [`FactKind`](super::FactKind) and their
//! [`Declaration`]s.

use serde::Serialize;

use crate::wire::notice::NoticeKind;
use crate::wire::service::Service;

/// How often a call may have a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Occurrence {
    /// At most once per call.
    Once,
    /// At most once per call and value of this field.
    OncePer(&'static str),
    /// Any number of times. Occurrences with the same value of this field differ in their time.
    ManyPer(&'static str),
}

/// The publishers of a fact, its occurrence and the notices that follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Declaration {
    /// The services that may publish it.
    pub publishers: &'static [Service],
    /// The number of occurrences.
    pub occurrence: Occurrence,
    /// The notices that its publisher sends once it is stored.
    pub notices: &'static [NoticeKind],
    /// In a sentence.
    pub meaning: &'static str,
}

macro_rules! occurrence {
    (once) => {
        Occurrence::Once
    };
    (once per $key:ident) => {
        Occurrence::OncePer(stringify!($key))
    };
    (many per $key:ident) => {
        Occurrence::ManyPer(stringify!($key))
    };
}

macro_rules! facts {
    ($($(#[doc = $doc:literal])* $fact:ident: $often:ident $(per $key:ident)?, by [$($by:ident),+], at $at:ident $(or $else_at:ident)?, notices [$($notice:ident),*];)*) => {
        /// The kinds of facts; the last token of the subject.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Display, EnumString, IntoStaticStr, VariantArray)]
        #[strum(serialize_all = "snake_case")]
        pub enum FactKind {
            $($(#[doc = $doc])* $fact,)*
        }

        impl FactKind {
            /// Every kind, in the order in which a call goes through them.
            pub const ALL: &[Self] = Self::VARIANTS;

            /// The kind as it is written in subjects.
            pub fn as_str(self) -> &'static str {
                self.into()
            }

            /// Its publishers, occurrence and notices.
            pub fn declaration(self) -> Declaration {
                match self {
                    $(Self::$fact => Declaration {
                        publishers: &[$(Service::$by),+],
                        occurrence: occurrence!($often $(per $key)?),
                        notices: &[$(NoticeKind::$notice),*],
                        meaning: concat!($($doc),*),
                    },)*
                }
            }

            /// The type of its payload.
            pub fn payload(self) -> PayloadType {
                match self { $(Self::$fact => PayloadType::of::<$fact>(),)* }
            }

            /// The fields of its payload.
            pub(in crate::wire) fn fields(self) -> HashSet<String> {
                let schema = match self { $(Self::$fact => schemars::schema_for!($fact),)* };
                let properties = schema.get("properties").and_then(Value::as_object);
                properties.into_iter().flat_map(|fields| fields.keys().cloned()).collect()
            }
        }

        /// A fact of any kind.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Fact {
            $($(#[doc = $doc])* $fact($fact),)*
        }

        $(impl From<$fact> for Fact {
            fn from(fact: $fact) -> Self {
                Self::$fact(fact)
            }
        })*

        impl Fact {
            /// The kind of the fact, as in its subject.
            pub fn kind(&self) -> FactKind {
                match self { $(Self::$fact(_) => FactKind::$fact,)* }
            }

            /// The call and its parties.
            pub fn parties(&self) -> &Parties {
                match self { $(Self::$fact(fact) => &fact.parties,)* }
            }

            /// The time of the event, which may be long before it was stored.
            pub fn occurred_at(&self) -> Timestamp {
                match self { $(Self::$fact(fact) => fact.$at$(.or(fact.$else_at).unwrap_or(Timestamp::UNIX_EPOCH))?,)* }
            }

            /// The notice that its publisher sends once it is stored, if the fact alone determines it.
            pub fn notice(&self) -> Option<Notice> {
                match self { $(Self::$fact(fact) => fact.notice(),)* }
            }

            /// The value of the field that distinguishes occurrences within a call.
            pub(in crate::wire) fn key(&self) -> Option<String> {
                match self { $(Self::$fact(_fact) => None::<String>$(.or(Some(_fact.$key.to_string())))?,)* }
            }

            pub(in crate::wire) fn to_json(&self) -> serde_json::Result<Vec<u8>> {
                match self { $(Self::$fact(fact) => serde_json::to_vec(fact),)* }
            }

            pub(in crate::wire) fn from_json(kind: FactKind, payload: &[u8]) -> serde_json::Result<Self> {
                match kind { $(FactKind::$fact => serde_json::from_slice(payload).map(Self::$fact),)* }
            }
        }
    };
}

pub(super) use {facts, occurrence};
