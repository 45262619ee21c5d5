//! Credit control, after RFC 8506 but in time instead of money: what the wallet is asked, and how it answers.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::wire::id::GrantId;
use crate::wire::party::Parties;
use crate::wire::payload;
use crate::wire::terms::Terms;

/// The longest `code` of a denial, in bytes.
pub const MAX_DENIAL_CODE_BYTES: usize = 64;
/// The longest `message` of a denial, in characters.
pub const MAX_DENIAL_MESSAGE_CHARS: usize = 256;

/// Time that is granted to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The grant: a repetition of the same one changes nothing.
    pub grant_id: GrantId,
    /// The duration that is granted in all, from `connectedAt`, in milliseconds.
    pub until_ms: u64,
}

impl Grant {
    /// Checks the duration against the interval by which the call is billed.
    ///
    /// # Errors
    /// [`InvalidGrant`]
    pub fn check(&self, interval_ms: u64) -> Result<(), InvalidGrant> {
        let until_ms = self.until_ms;
        if until_ms == 0 {
            Err(InvalidGrant::Nothing)
        } else if !until_ms.is_multiple_of(interval_ms) {
            Err(InvalidGrant::NotWhole { until_ms, interval_ms })
        } else {
            Ok(())
        }
    }
}

/// A grant that a payload may have, as its fields. One of them alone is an error: a call whose limit is lost would have none.
pub(in crate::wire) mod optional_grant {
    use serde::de::{Deserializer, Error};
    use serde::{Deserialize, Serialize, Serializer};

    use super::Grant;
    use crate::wire::id::GrantId;

    #[derive(Serialize, Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Fields {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        until_ms: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grant_id: Option<GrantId>,
    }

    pub(in crate::wire) fn serialize<S: Serializer>(grant: &Option<Grant>, serializer: S) -> Result<S::Ok, S::Error> {
        let (until_ms, grant_id) = grant.clone().map(|grant| (grant.until_ms, grant.grant_id)).unzip();
        Fields { until_ms, grant_id }.serialize(serializer)
    }

    pub(in crate::wire) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Grant>, D::Error> {
        match Fields::deserialize(deserializer)? {
            Fields {
                until_ms: Some(until_ms),
                grant_id: Some(grant_id),
            } => Ok(Some(Grant { grant_id, until_ms })),
            Fields {
                until_ms: None,
                grant_id: None,
            } => Ok(None),
            _ => Err(D::Error::custom("grantId and untilMs belong together")),
        }
    }
}

/// Why the duration of a grant is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidGrant {
    /// It is 0.
    #[error("untilMs: must be above 0")]
    Nothing,
    /// It exceeds the maximum duration of a call.
    #[error("untilMs: {until_ms} is beyond the maximum duration of a call, {max_ms}")]
    TooLong {
        /// The granted duration, in milliseconds.
        until_ms: u64,
        /// The maximum duration of a call, in milliseconds.
        max_ms: u64,
    },
    /// It is no multiple of the interval that is billed.
    #[error("untilMs: {until_ms} is no multiple of intervalMs, {interval_ms}")]
    NotWhole {
        /// The granted duration, in milliseconds.
        until_ms: u64,
        /// The interval by which the call is billed, in milliseconds.
        interval_ms: u64,
    },
}

/// Whether the user can pay for this call, asked before it rings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Authorize {
    /// The call and its parties.
    #[serde(flatten)]
    pub parties: Parties,
}

/// Reply to [`Authorize`]: `{"allow": true, "grantId", "untilMs", "terms"?}` or `{"allow": false, "code", "message"}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "AuthorizationFields", into = "AuthorizationFields")]
pub enum Authorization {
    /// The call may ring.
    Allowed {
        /// The first grant.
        grant: Grant,
        /// The terms of this call, instead of the fleet's.
        terms: Option<Terms>,
    },
    /// The call is denied.
    Denied(Denial),
}

/// Why a wallet denies a call, as the caller receives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    /// For programs: letters, digits, `_` and `-`, for example `insufficient_balance`.
    pub code: String,
    /// The wallet's explanation, for people.
    pub message: String,
}

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Authorization")]
struct AuthorizationFields {
    /// Whether the call may ring.
    allow: bool,
    /// Of a permission: the grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    grant_id: Option<GrantId>,
    /// Of a permission: the duration that is granted in all, from `connectedAt`, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until_ms: Option<u64>,
    /// Of a permission: the terms of the call, instead of the edge's.
    #[serde(
        default,
        deserialize_with = "payload::optional_object",
        skip_serializing_if = "Option::is_none"
    )]
    terms: Option<Terms>,
    /// Of a denial: the reason for programs, 1 to 64 letters, digits, `_` and `-`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    code: Option<String>,
    /// Of a denial: the reason for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    message: Option<String>,
}

impl TryFrom<AuthorizationFields> for Authorization {
    type Error = &'static str;

    fn try_from(fields: AuthorizationFields) -> Result<Self, Self::Error> {
        if fields.allow {
            let (Some(grant_id), Some(until_ms)) = (fields.grant_id, fields.until_ms) else {
                return Err("a permission needs grantId and untilMs");
            };
            let (grant, terms) = (Grant { grant_id, until_ms }, fields.terms);
            return Ok(Self::Allowed { grant, terms });
        }
        let code = fields.code.ok_or("a denial needs a code")?;
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        if code.is_empty() || code.len() > MAX_DENIAL_CODE_BYTES || !code.chars().all(allowed) {
            return Err("the code of a denial has 1 to 64 letters, digits, _ and -");
        }
        let message = fields.message.unwrap_or_default();
        let message = message.chars().take(MAX_DENIAL_MESSAGE_CHARS);
        let message = message.map(payload::printable).collect();
        Ok(Self::Denied(Denial { code, message }))
    }
}

impl From<Authorization> for AuthorizationFields {
    fn from(authorization: Authorization) -> Self {
        let (allow, grant, terms, denial) = match authorization {
            Authorization::Allowed { grant, terms } => (true, Some(grant), terms, None),
            Authorization::Denied(denial) => (false, None, None, Some(denial)),
        };
        let (grant_id, until_ms) = grant.map(|grant| (grant.grant_id, grant.until_ms)).unzip();
        let (code, message) = denial.map(|denial| (denial.code, denial.message)).unzip();
        Self {
            allow,
            grant_id,
            until_ms,
            terms,
            code,
            message,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incomplete_answer_of_a_wallet_is_rejected() {
        let read = |text: &str| serde_json::from_str::<Authorization>(text);
        let allowed = read(r#"{"allow":true,"grantId":"g-1","untilMs":60000,"later":[]}"#).unwrap();
        assert!(matches!(allowed, Authorization::Allowed { grant, terms: None } if grant.until_ms == 60_000));
        let denied = read(r#"{"allow":false,"code":"insufficient_balance","message":"a\nb"}"#).unwrap();
        assert!(matches!(denied, Authorization::Denied(denial) if denial.message == "a b"));
        for rubbish in [
            "",
            "7",
            "[]",
            "{}",
            r#"{"allow":1}"#,
            r#"{"allow":true}"#,
            r#"{"allow":true,"grantId":"g"}"#,
            r#"{"allow":true,"untilMs":60000}"#,
            r#"{"allow":true,"grantId":"a.b","untilMs":60000}"#,
            r#"{"allow":true,"grantId":"g","untilMs":-60000}"#,
            r#"{"allow":true,"grantId":"g","untilMs":1.5}"#,
            r#"{"allow":true,"grantId":"g","untilMs":1e99}"#,
            r#"{"allow":false}"#,
            r#"{"allow":false,"code":""}"#,
            r#"{"allow":false,"code":"a b"}"#,
        ] {
            assert!(read(rubbish).is_err(), "{rubbish}");
        }
    }
}
