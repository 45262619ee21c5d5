//! RTC requests: relayed to the worker that hosts the call, which judges the WebRTC parameters.

use contract::Party;
use contract::jetstream::request::{self, CommandError, RefusalCode};
use contract::wire::command::{Relayed, Requester};
use contract::wire::request::{InCall, RtcRequest};
use serde_json::Value;

use crate::calls::Calls;
use crate::protocol::{Code, Problem};

impl Calls {
    pub(crate) async fn relay(&self, party: &Party, request: InCall<RtcRequest>) -> Result<Value, Problem> {
        let InCall { call_id, request } = request;
        let (parties, worker, trace) = self.host(party, call_id.as_ref()).await?;
        let requester = Requester {
            call_id: parties.call_id,
            role: party.role(),
            party_id: party.id().to_owned(),
        };
        let command = Relayed { requester, request };
        let timeout = self.settings.command_timeout;
        let reply = request::ask(&self.nats.client, &worker, &command, trace.child(), timeout).await;
        reply.map_err(|error| match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Unreachable { .. } if !self.connected() => {
                Problem::new(Code::Unavailable, "NATS is away; try again")
            }
            CommandError::Unreachable { .. } => {
                tracing::warn!(worker_id = %worker, %error, "a call's media-worker does not reply");
                Problem::new(Code::WorkerUnreachable, "the call's media-worker does not answer")
            }
            CommandError::Undecodable { .. } => {
                tracing::error!(worker_id = %worker, %error, "a media-worker's reply cannot be read: check its version");
                Problem::new(
                    Code::Worker(RefusalCode::Internal),
                    "the media-worker's answer cannot be read",
                )
            }
        })
    }
}
