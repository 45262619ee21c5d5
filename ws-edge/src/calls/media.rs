//! RTC-01 to RTC-06: relayed to the worker that hosts the call, which judges the WebRTC parameters.

use contract::jetstream::request::{self, CommandError, RefusalCode};
use contract::wire::command::{
    ConnectTransport, Consume, CreateTransport, GetCapabilities, MediaOperation as Command, Produce, Requester,
    ResumeConsumer,
};
use contract::{Party, TraceParent, WorkerId};
use serde_json::Value;

use crate::calls::Calls;
use crate::protocol::{Code, MediaOperation, MediaRequest, Problem};

impl Calls {
    pub(crate) async fn relay(&self, party: &Party, request: MediaRequest) -> Result<Value, Problem> {
        let (parties, worker, trace) = self.host(party, request.call_id.as_ref()).await?;
        let asker = Requester {
            call_id: parties.call_id,
            role: party.role(),
            party_id: party.id().to_owned(),
        };
        let worker = Route {
            calls: self,
            worker,
            trace,
        };
        match request.operation {
            MediaOperation::Capabilities => worker.ask(&GetCapabilities { asker }).await,
            MediaOperation::CreateTransport(direction) => worker.ask(&CreateTransport { asker, direction }).await,
            MediaOperation::ConnectTransport {
                transport_id,
                dtls_parameters,
            } => {
                worker
                    .ask(&ConnectTransport {
                        asker,
                        transport_id,
                        dtls_parameters,
                    })
                    .await
            }
            MediaOperation::Produce {
                transport_id,
                kind,
                rtp_parameters,
            } => {
                worker
                    .ask(&Produce {
                        asker,
                        transport_id,
                        kind,
                        rtp_parameters,
                    })
                    .await
            }
            MediaOperation::Consume {
                transport_id,
                rtp_capabilities,
            } => {
                worker
                    .ask(&Consume {
                        asker,
                        transport_id,
                        rtp_capabilities,
                    })
                    .await
            }
            MediaOperation::Resume { consumer_id } => worker.ask(&ResumeConsumer { asker, consumer_id }).await,
        }
    }
}

struct Route<'a> {
    calls: &'a Calls,
    worker: WorkerId,
    trace: TraceParent,
}

impl Route<'_> {
    async fn ask<C: Command>(&self, command: &C) -> Result<Value, Problem> {
        let Self { calls, worker, trace } = self;
        let patience = calls.settings.command_timeout;
        let asked = request::ask(&calls.nats.client, worker, command, trace.child(), patience);
        let reply = asked.await.map_err(|error| match error {
            CommandError::Refused(refusal) => refusal.into(),
            CommandError::Unreachable { .. } if !calls.connected() => {
                Problem::new(Code::Unavailable, "NATS is away; try again")
            }
            CommandError::Unreachable { .. } => {
                tracing::warn!(worker_id = %worker, %error, "a call's worker does not answer");
                Problem::new(Code::WorkerUnreachable, "the call's media-worker does not answer")
            }
            CommandError::Answer { .. } => {
                tracing::error!(worker_id = %worker, %error, "a worker of another version");
                internal()
            }
        })?;
        serde_json::to_value(reply).map_err(|_| internal())
    }
}

fn internal() -> Problem {
    Problem::new(
        Code::Worker(RefusalCode::Internal),
        "the media-worker's answer cannot be read",
    )
}
