//! Requests that ws-edge answers itself.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{IntoStaticStr, VariantNames};

use super::requests_macro::requests;
use super::{Done, RequestDeclaration, RequestedBy, SchemaFn, SchemaOf};
use crate::wire::id::{CallId, OtomoId, RequestKey};
use crate::wire::notice::Notice;
use crate::wire::time::Timestamp;

/// The payload has no other fields.
type Alone<P> = P;

requests! {
    /// What a party requests about its socket, in a call or not.
    SocketRequest as Alone {
        /// The socket lives until the new token expires. The token has the same `sub` and `role`; errors `token_expired`,
        /// `token_invalid`.
        TokenRefresh(TokenRefresh) -> TokenRefreshed, by Both, repeat "yes";
    }
}

requests! {
    /// What a party requests about a call itself.
    SignallingRequest as Alone {
        /// WS-C01: a user calls an otomo.
        CallRequest(CallRequest) -> CallRequested<'static>, by User,
            repeat "with the same `requestKey`: the same call. Without one, no: the second one is `busy`";
        /// WS-C02: the otomo accepts.
        CallAccept(OfCall) -> CallTaken<'static>, by Otomo, repeat "harmless: `wrong_state` if the first one succeeded";
        /// WS-C02: the otomo declines.
        CallReject(OfCall) -> CallOver<'static>, by Otomo, repeat "yes";
        /// WS-C02: the user gives up while it rings.
        CallCancel(OfCall) -> CallOver<'static>, by User, repeat "yes";
        /// WS-C02: either party ends an accepted call.
        CallHangup(OfCall) -> CallOver<'static>, by Both, repeat "yes";
        /// How a call ended, for a client whose socket was replaced when `call_ended` was sent.
        CallStatus(OfCall) -> CallStatus<'static>, by Both, repeat "yes";
        /// The heartbeat: browsers do not show WebSocket pings to scripts.
        Ping(Ping) -> Done, by Both, repeat "yes";
    }
}

/// A new token of the same party.
#[derive(Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRefresh {
    /// With the same `sub` and `role` as the socket's first one.
    pub token: String,
}

/// Without the token, which is a secret.
impl fmt::Debug for TokenRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRefresh").finish_non_exhaustive()
    }
}

/// Response to `token_refresh`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TokenRefreshed {
    /// When the token expires. Without another one, the socket is closed then (4401).
    pub expires_at: Timestamp,
}

/// WS-C01, of a user.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequest {
    /// The otomo to call.
    pub otomo_id: OtomoId,
    /// A new one for every call. The same key again, on any socket, is answered with the same call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_key: Option<RequestKey>,
}

/// The payload of `ping`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
pub struct Ping {}

/// Response to `call_request`: the call rings.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallRequested<'a> {
    /// The call that rings.
    pub call_id: &'a CallId,
    /// When it stops ringing, by the edge's clock.
    pub expires_at: Timestamp,
    /// With credit control: the duration that is granted so far, from `connectedAt`, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until_ms: Option<u64>,
}

/// WS-C02
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OfCall {
    /// The call that the request is about.
    pub call_id: CallId,
}

/// Response to `call_accept`: the call is accepted, and its media can be set up.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallTaken<'a> {
    /// The accepted call.
    pub call_id: &'a CallId,
    /// When it was accepted, by the edge's clock.
    pub accepted_at: Timestamp,
}

/// Response to `call_reject`, `call_cancel` and `call_hangup`: the call is over.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallOver<'a> {
    /// The call that is over.
    pub call_id: &'a CallId,
    /// End of the call, as stored in `ended`.
    pub ended_at: Timestamp,
}

/// Response to `call_status`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CallStatus<'a> {
    /// The call that the request is about.
    pub call_id: &'a CallId,
    /// Its `call_ended`, as it was sent; null if it will follow: the call is not over, or not settled.
    pub notice: Option<Notice>,
}
