//! Carries out the requests of parties: one task and one deadline each, its clean-up included.

use std::time::Duration;

use contract::wire::request::{Done, Request, SignallingRequest};
use contract::{Nats, Party, call_span};
use serde_json::Value;
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, Span};

use super::accept::CallAcceptor;
use super::end::CallEnder;
use super::end_requests;
use super::media_worker_client::nats_unreachable;
use super::pending_response::PendingResponse;
use super::request::CallSetup;
use super::rtc_relay::RtcRelay;
use super::status;
use super::unavailable;
use crate::metrics;
use crate::protocol::{Problem, payload};

/// How long a request may clean up after its deadline. JetStream may be away for minutes.
const CLEAN_UP_TIMEOUT: Duration = Duration::from_secs(600);

/// Carries out requests.
#[derive(Debug, Clone)]
pub struct RequestHandler {
    /// Tells whether this node is connected.
    pub nats: Nats,
    /// For `call_request`.
    pub setup: CallSetup,
    /// For `call_accept`.
    pub acceptor: CallAcceptor,
    /// For `call_reject`, `call_cancel` and `call_hangup`.
    pub ender: CallEnder,
    /// For the requests about media.
    pub relay: RtcRelay,
    /// How long a request may take until it is answered with `unavailable`.
    pub request_timeout: Duration,
}

impl RequestHandler {
    /// Carries out a request, and passes its answer to `send`, once, after at most the request timeout. Then cleans up; run
    /// this in a task that outlives the socket.
    pub async fn handle(
        &self,
        party: &Party,
        request: Request,
        send: impl FnOnce(Result<Value, Problem>) + Send + 'static,
    ) {
        let (name, requester, started) = (request.name(), party.clone(), Instant::now());
        let send = move |outcome: Result<Value, Problem>| {
            let label = outcome.as_ref().map_or_else(|problem| problem.code.as_str(), |_| "ok");
            metrics::request_answered(name, label);
            metrics::request_took(name, started.elapsed());
            if let Err(problem) = &outcome {
                tracing::info!(party = %requester, request = name, code = label, problem.message, "request refused");
            }
            send(outcome);
        };
        let deadline = Instant::now() + self.request_timeout;
        let mut answer = PendingResponse::new(deadline, send);
        if !self.nats.state().borrow().connected {
            return answer.send(Err(nats_unreachable()));
        }
        let work = self.carry_out(party, request, &mut answer);
        if timeout_at(deadline + CLEAN_UP_TIMEOUT, work).await.is_err() {
            tracing::error!(%party, request = name, "request not cleaned up: its call ends at its deadline; check JetStream");
        }
    }

    async fn carry_out(&self, party: &Party, request: Request, answer: &mut PendingResponse) {
        let ender = &self.ender;
        // Except for `call_request`, its parent is known once the call is.
        let span = match &request {
            Request::Socket(_) | Request::Signalling(SignallingRequest::Ping(_)) => Span::none(),
            request => call_span!("request", "server", otel.name = request.name(), callpulse.party = %party),
        };
        let outcome = match request {
            // Only the socket that it arrives on can answer it.
            Request::Socket(_) => Err(unavailable()),
            Request::Rtc(request) => match answer.before_deadline(self.relay.relay(party, request, &span)).await {
                Some(outcome) => outcome,
                None => return,
            },
            Request::Signalling(request) => match request {
                SignallingRequest::CallRequest(request) => {
                    self.setup.call(party, request, answer).instrument(span.clone()).await
                }
                SignallingRequest::Ping(_) => Ok(payload(Done {})),
                SignallingRequest::CallAccept(of) => self.acceptor.accept(party, &of.call_id, answer, &span).await,
                // An end that is stored late is stored all the same, and both parties are notified.
                SignallingRequest::CallReject(of) => {
                    answer
                        .run_to_completion(end_requests::reject(ender, party, &of.call_id, &span))
                        .await
                }
                SignallingRequest::CallCancel(of) => {
                    answer
                        .run_to_completion(end_requests::cancel(ender, party, &of.call_id, &span))
                        .await
                }
                SignallingRequest::CallHangup(of) => {
                    answer
                        .run_to_completion(end_requests::hangup(ender, party, &of.call_id, &span))
                        .await
                }
                SignallingRequest::CallStatus(of) => {
                    match answer
                        .before_deadline(status::read(&ender.storage, party, &of.call_id))
                        .await
                    {
                        Some(outcome) => outcome,
                        None => return,
                    }
                }
            },
        };
        span.in_scope(|| answer.send(outcome));
    }
}
