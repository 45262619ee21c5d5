//! What a client sends: within its rate, read, and done one after the other.

use std::collections::VecDeque;
use std::future::pending;
use std::num::NonZeroU32;

use contract::Party;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use metrics::Counter;
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

use crate::connection::send_queue::{Closing, Outbox};
use crate::edge::Edge;
use crate::protocol::{self, Code, Problem, Request, RequestId, Unread};

/// What follows from a message.
#[derive(Debug)]
pub(super) enum Heard {
    /// Nothing at once.
    Fine,
    /// An answer.
    Answer(Utf8Bytes),
    /// That is enough.
    Close(Closing),
}

/// One client's messages.
pub(super) struct Intake {
    edge: Edge,
    party: Party,
    outbox: Outbox,
    limiter: DefaultDirectRateLimiter,
    refused_in_a_row: u32,
    running: Option<JoinHandle<()>>,
    waiting: VecDeque<(RequestId, Request)>,
    received: Counter,
}

impl Intake {
    pub(super) fn new(edge: Edge, party: Party, outbox: Outbox) -> Self {
        let limits = &edge.limits;
        let nonzero = |number| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota = Quota::per_second(nonzero(limits.messages_per_second)).allow_burst(nonzero(limits.message_burst));
        Self {
            limiter: RateLimiter::direct(quota),
            edge,
            party,
            outbox,
            refused_in_a_row: 0,
            running: None,
            waiting: VecDeque::new(),
            received: metrics::counter!("callpulse_ws_messages_total", "direction" => "in"),
        }
    }

    pub(super) fn edge(&self) -> &Edge {
        &self.edge
    }

    pub(super) fn hear(&mut self, message: Message) -> Heard {
        let text = match message {
            Message::Text(text) => Some(text),
            Message::Binary(_) => None,
            Message::Ping(_) => return self.hear_ping(),
            Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Heard::Fine,
        };
        self.received.increment(1);
        if !self.within_rate() {
            if self.refused_in_a_row >= self.edge.limits.flood_limit {
                return Heard::Close(Closing::Flood);
            }
            return told(
                None,
                &Problem::new(Code::RateLimited, "too many messages; this one is not read"),
            );
        }
        match text {
            Some(text) => self.read(&text),
            None => told(None, &Problem::new(Code::BinaryUnsupported, "messages are text")),
        }
    }

    /// The protocol's own pings are answered, and count all the same: each costs a write.
    fn hear_ping(&mut self) -> Heard {
        if !self.within_rate() && self.refused_in_a_row >= self.edge.limits.flood_limit {
            return Heard::Close(Closing::Flood);
        }
        Heard::Fine
    }

    fn within_rate(&mut self) -> bool {
        let within = self.limiter.check().is_ok();
        if within {
            self.refused_in_a_row = 0;
        } else {
            self.refused_in_a_row = self.refused_in_a_row.saturating_add(1);
            metrics::counter!("callpulse_ws_rate_limited_total").increment(1);
        }
        within
    }

    fn read(&mut self, text: &str) -> Heard {
        match protocol::parse(text) {
            Ok((id, _)) if self.waiting.len() >= self.edge.limits.pending_requests => told(
                Some(&id),
                &Problem::new(Code::RateLimited, "too many requests are waiting for their answers"),
            ),
            Ok(request) => {
                self.waiting.push_back(request);
                if self.running.is_none() {
                    self.start_next();
                }
                Heard::Fine
            }
            Err(Unread { id, problem }) => {
                if problem.code == Code::SelfReportForbidden {
                    metrics::counter!("callpulse_ws_self_reports_total").increment(1);
                    tracing::warn!(party = %self.party, problem.message, "a client reports what is not its to report");
                }
                metrics::counter!("callpulse_ws_unread_total", "code" => problem.code.as_str()).increment(1);
                told(id.as_ref(), &problem)
            }
        }
    }

    fn start_next(&mut self) {
        self.running = self.waiting.pop_front().map(|(id, request)| {
            let (edge, party, outbox) = (self.edge.clone(), self.party.clone(), self.outbox.clone());
            let is_about_the_call = !matches!(request, Request::Media(_));
            self.edge.tracker.spawn(async move {
                let answer = match edge.calls.handle(&party, request).await {
                    Ok(payload) => {
                        if is_about_the_call {
                            edge.directory.granted(&party);
                        }
                        protocol::response(&id, &payload)
                    }
                    Err(problem) => protocol::error(Some(&id), &problem),
                };
                outbox.send(answer);
            })
        });
    }

    /// Waits for the request that runs, and starts the next one. Waits for ever if there is none.
    pub(super) async fn next_done(&mut self) {
        match self.running.as_mut() {
            // Its answer is in the outbox. A panic would have been logged by the hook.
            Some(running) => drop(running.await),
            None => pending().await,
        }
        self.running = None;
        self.start_next();
    }

    /// Waits for the request that runs; those that wait are dropped.
    pub(super) async fn finish(&mut self) {
        self.waiting.clear();
        if let Some(running) = self.running.take() {
            let _ = running.await;
        }
    }
}

fn told(id: Option<&RequestId>, problem: &Problem) -> Heard {
    Heard::Answer(protocol::error(id, problem))
}
