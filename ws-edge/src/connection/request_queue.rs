//! The requests of one client: its messages are rate-limited and decoded, and its requests carried out one after the other.

use std::collections::VecDeque;
use std::future::pending;
use std::num::NonZeroU32;
use std::sync::Arc;

use ::metrics::Counter;
use contract::Party;
use contract::wire::request::{Done, Request, SignallingRequest, SocketRequest, TokenRefresh, TokenRefreshed};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use super::Deps;
use super::send_queue::{CloseReason, SendQueue};
use crate::metrics;
use crate::protocol::{self, Code, Problem, RequestId, Unread};
use crate::settings::Limits;

/// The immediate reaction to a message.
#[derive(Debug)]
pub(super) enum Received {
    /// None: the answer follows.
    Nothing,
    /// Write this answer.
    Answer(Utf8Bytes),
    /// Close the socket.
    Close(CloseReason),
}

/// One client's messages and requests.
pub(super) struct RequestQueue {
    deps: Arc<Deps>,
    party: Party,
    queue: SendQueue,
    limiter: DefaultDirectRateLimiter,
    consecutive_refusals: u32,
    /// When the client's token is no longer accepted.
    expires_at: Instant,
    /// Completes when the running request is answered.
    running: Option<oneshot::Receiver<()>>,
    waiting: VecDeque<(RequestId, Request)>,
    received: Counter,
}

impl RequestQueue {
    pub(super) fn new(deps: Arc<Deps>, party: Party, queue: SendQueue, expires_at: Instant) -> Self {
        let limits = &deps.limits;
        let nonzero = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(nonzero(limits.messages_per_second)).allow_burst(nonzero(limits.message_burst));
        Self {
            limiter: RateLimiter::direct(quota),
            deps,
            party,
            queue,
            consecutive_refusals: 0,
            expires_at,
            running: None,
            waiting: VecDeque::new(),
            received: metrics::messages("in"),
        }
    }

    pub(super) fn limits(&self) -> &Limits {
        &self.deps.limits
    }

    /// When the socket must be closed.
    pub(super) fn expires_at(&self) -> Instant {
        self.expires_at
    }

    pub(super) fn receive(&mut self, message: Message) -> Received {
        let text = match message {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
            Message::Ping(_) | Message::Pong(_) => return self.receive_control(),
            Message::Close(_) | Message::Frame(_) => return Received::Nothing,
        };
        self.received.increment(1);
        if !self.is_within_rate() {
            if self.is_flood() {
                return Received::Close(CloseReason::Flood);
            }
            let id = text.as_deref().and_then(protocol::id_of);
            return refuse(
                id.as_ref(),
                &Problem::new(Code::RateLimited, "too many messages; this one is ignored"),
            );
        }
        match text {
            Some(text) => self.decode(&text),
            None => refuse(None, &Problem::new(Code::BinaryUnsupported, "messages are text")),
        }
    }

    /// The WebSocket layer answers protocol pings, but they count, and so do pongs: each is work.
    fn receive_control(&mut self) -> Received {
        if !self.is_within_rate() && self.is_flood() {
            return Received::Close(CloseReason::Flood);
        }
        Received::Nothing
    }

    fn is_within_rate(&mut self) -> bool {
        let is_within = self.limiter.check().is_ok();
        if is_within {
            self.consecutive_refusals = 0;
        } else {
            self.consecutive_refusals = self.consecutive_refusals.saturating_add(1);
            metrics::message_rate_limited();
        }
        is_within
    }

    fn is_flood(&self) -> bool {
        self.consecutive_refusals >= self.deps.limits.flood_limit
    }

    fn decode(&mut self, text: &str) -> Received {
        match protocol::parse(text) {
            Ok((id, Request::Socket(request))) => self.answer(&id, request),
            // At once: behind a request that takes long, the socket would seem dead.
            Ok((id, Request::Signalling(SignallingRequest::Ping(_)))) => {
                metrics::request_answered("ping", "ok");
                Received::Answer(protocol::response(&id, &protocol::payload(Done {})))
            }
            Ok((id, _)) if self.waiting.len() >= self.deps.limits.pending_requests => refuse(
                Some(&id),
                &Problem::new(Code::RateLimited, "too many requests are waiting for their answers"),
            ),
            Ok(request) => {
                self.waiting.push_back(request);
                if self.running.is_none() {
                    self.start_next();
                }
                Received::Nothing
            }
            Err(Unread { id, problem }) => {
                if problem.code == Code::SelfReportForbidden {
                    metrics::self_report();
                    tracing::warn!(party = %self.party, problem.message, "self-report refused: check the client");
                }
                metrics::message_unread(problem.code.as_str());
                refuse(id.as_ref(), &problem)
            }
        }
    }

    /// Answers a request about the socket itself, whatever else is running.
    fn answer(&mut self, id: &RequestId, request: SocketRequest) -> Received {
        let name: &'static str = (&request).into();
        let answer = match request {
            SocketRequest::TokenRefresh(request) => self.refresh_token(&request),
        };
        let outcome = answer.as_ref().map_or_else(|problem| problem.code.as_str(), |_| "ok");
        metrics::request_answered(name, outcome);
        Received::Answer(match answer {
            Ok(answer) => protocol::response(id, &protocol::payload(answer)),
            Err(problem) => protocol::error(Some(id), &problem),
        })
    }

    fn refresh_token(&mut self, request: &TokenRefresh) -> Result<TokenRefreshed, Problem> {
        let verified = self.deps.tokens.verify(&request.token)?;
        if verified.owner != self.party {
            let message = "the token is another party's: connect with it instead";
            return Err(Problem::new(Code::TokenInvalid, message));
        }
        self.expires_at = Instant::now() + verified.remaining;
        Ok(TokenRefreshed {
            expires_at: verified.expires_at,
        })
    }

    fn start_next(&mut self) {
        self.running = self.waiting.pop_front().map(|(id, request)| {
            let (answered, running) = oneshot::channel();
            let (registry, queue, party) = (self.deps.registry.clone(), self.queue.clone(), self.party.clone());
            let changes_call_state = !matches!(request, Request::Rtc(_));
            let send = move |outcome: Result<Value, Problem>| {
                let answer = match outcome {
                    Ok(payload) => {
                        if changes_call_state {
                            registry.call_state_changed(&party);
                        }
                        protocol::response(&id, &payload)
                    }
                    Err(problem) => protocol::error(Some(&id), &problem),
                };
                queue.send(answer);
                let _ = answered.send(());
            };
            let (deps, party) = (Arc::clone(&self.deps), self.party.clone());
            self.deps
                .tracker
                .spawn(async move { deps.handler.handle(&party, request, send).await });
            running
        });
    }

    /// Waits for the answer to the running request, and starts the next one. Waits for ever if none is running.
    pub(super) async fn next_answered(&mut self) {
        match self.running.as_mut() {
            // Either the answer is queued, or its sender was dropped with the runtime.
            Some(running) => drop(running.await),
            None => pending().await,
        }
        self.running = None;
        self.start_next();
    }

    /// Waits for the answer to the running request; drops the waiting ones.
    pub(super) async fn finish(&mut self) {
        self.waiting.clear();
        if let Some(running) = self.running.take() {
            let _ = running.await;
        }
    }
}

fn refuse(id: Option<&RequestId>, problem: &Problem) -> Received {
    Received::Answer(protocol::error(id, problem))
}
