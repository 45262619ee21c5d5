//! RTC requests: relayed to the worker that hosts the call, which judges the WebRTC parameters.

use contract::buckets::active_calls::{ActiveCall, Revised};
use contract::wire::command::{Relayed, Requester};
use contract::wire::request::{InCall, RtcRequest};
use contract::{CallId, Parties, Party, Timestamp, TraceParent, WorkerId, spans};
use serde_json::Value;
use tracing::{Instrument as _, Span};

use super::check_party;
use super::media_worker_client::MediaWorkerClient;
use super::storage::CallStorage;
use crate::protocol::{Code, Problem, payload};
use crate::turn::TurnServers;

/// Relays RTC requests.
#[derive(Debug, Clone)]
pub struct RtcRelay {
    /// Finds the call's worker.
    pub storage: CallStorage,
    /// Carry the requests out.
    pub workers: MediaWorkerClient,
    /// For clients that cannot reach them.
    pub turn: Option<TurnServers>,
}

impl RtcRelay {
    pub(super) async fn relay(
        &self,
        party: &Party,
        request: InCall<RtcRequest>,
        span: &Span,
    ) -> Result<Value, Problem> {
        let InCall { call_id, request } = request;
        let (parties, worker, trace) = self.host(party, call_id.as_ref()).await?;
        let trace = spans::child_of(span, trace);
        let requester = Requester {
            call_id: parties.call_id,
            role: party.role(),
            party_id: party.id().to_owned(),
        };
        let creates_transport = matches!(request, RtcRequest::RtcCreateTransport(_));
        let command = Relayed { requester, request };
        let reply = self
            .workers
            .ask(&worker, &command, trace)
            .instrument(span.clone())
            .await;
        let mut reply = reply.map_err(|error| self.workers.problem(&worker, error))?;
        if let (true, Some(turn)) = (creates_transport, &self.turn) {
            let servers = turn.for_party(party.id(), Timestamp::now());
            if let Some(fields) = reply.as_object_mut() {
                fields.insert("iceServers".to_owned(), payload(servers));
            }
        }
        Ok(reply)
    }

    /// The call that the request names, or else the party's only one, with its worker.
    async fn host(&self, party: &Party, call: Option<&CallId>) -> Result<(Parties, WorkerId, TraceParent), Problem> {
        let entry = self.storage.entry(party, call).await?;
        if let Some(Revised {
            value:
                ActiveCall {
                    parties,
                    accepted: Some(acceptance),
                    traceparent,
                    ..
                },
            ..
        }) = entry
        {
            check_party(&parties, party)?;
            return Ok((parties, acceptance.worker_id, traceparent));
        }
        let call = call.cloned().or_else(|| entry.map(|entry| entry.value.parties.call_id));
        let call = call.ok_or_else(|| Problem::new(Code::UnknownCall, "you are in no call"))?;
        // The entry is updated after the fact is stored: a recent acceptance may be in the stream only.
        let state = self.storage.state_for(party, &call).await?;
        match state.accepted {
            Some(accepted) => Ok((accepted.parties, accepted.worker_id, state.trace)),
            None => Err(Problem::new(
                Code::WrongState,
                "the call was not accepted yet: wait for call_accepted",
            )),
        }
    }
}
