//! One viewer's socket: what is new goes out, questions about calls come in.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::Duration;

use contract::{CallId, NodeId, Timestamp};
use futures::{SinkExt, StreamExt};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Bytes, Error, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::{Seat, timeline};
use crate::connection::send_queue::Closing;
use crate::connection::session::Socket;
use crate::edge::Edge;
use crate::handshake::token::Operator;
use crate::protocol::{self, Code, Problem, RequestId};

/// Questions a second of one viewer, in the long run.
const QUESTIONS_A_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Questions at once: the pages of the longest timeline, and some more.
const QUESTIONS_AT_ONCE: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// Questions refused in a row until the viewer is closed.
const FLOOD_LIMIT: u32 = 100;
/// How long a viewer may take to answer a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The longest `id` of a question, in characters.
const MAX_REQUEST_ID_CHARS: usize = 64;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Welcome<'a> {
    session_id: &'a str,
    node_id: &'a NodeId,
    at: Timestamp,
}

#[derive(Deserialize)]
struct Question {
    #[serde(rename = "type")]
    kind: String,
    id: Value,
    #[serde(default)]
    payload: Value,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TimelineOf {
    call_id: CallId,
    /// The `next` of the page before.
    #[serde(default)]
    from: u64,
}

/// How a viewer goes.
enum End {
    /// By itself, or it does not read any more.
    Gone,
    /// The server closes.
    Close(Closing),
}

struct Session {
    edge: Edge,
    socket: Socket,
    limiter: DefaultDirectRateLimiter,
    refused_in_a_row: u32,
    /// Written one by one, so that a long snapshot does not keep the node from stopping.
    waiting: VecDeque<Utf8Bytes>,
}

/// Serves one viewer until its end.
pub(crate) async fn run(edge: Edge, socket: Socket, operator: Operator, stop: CancellationToken) {
    let session_id = format!("ops_{}", uuid::Uuid::now_v7().simple());
    let seat = edge.ops.join();
    let mut session = Session {
        limiter: RateLimiter::direct(Quota::per_second(QUESTIONS_A_SECOND).allow_burst(QUESTIONS_AT_ONCE)),
        edge,
        socket,
        refused_in_a_row: 0,
        waiting: VecDeque::new(),
    };
    let end = match seat {
        Some(seat) => {
            tracing::info!(%operator, session_id, "an operator watches");
            Box::pin(session.serve(seat, &session_id, &stop)).await
        }
        None => {
            tracing::warn!(%operator, "too many operators watch here");
            End::Close(Closing::Unavailable)
        }
    };
    let reason = match end {
        End::Gone => "client",
        End::Close(closing) => closing.reason(),
    };
    tracing::info!(%operator, session_id, reason, "an operator has gone");
    if let End::Close(closing) = end {
        session.close(closing).await;
    }
}

impl Session {
    async fn serve(&mut self, mut seat: Seat, session_id: &str, stop: &CancellationToken) -> End {
        let limits = &self.edge.limits;
        let (ping_interval, write_timeout) = (limits.ping_interval(), limits.write_timeout());
        self.waiting.push_back(protocol::message(
            "welcome",
            Welcome {
                session_id,
                node_id: &self.edge.calls.settings.node_id,
                at: Timestamp::now(),
            },
        ));
        let mut last_heard = Instant::now();
        let mut pings = interval_at(last_heard + ping_interval, ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let outcome = match self.waiting.pop_front() {
                Some(message) => tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(End::Close(Closing::Restart)),
                    written = write(&mut self.socket, Message::Text(message), write_timeout) => written,
                },
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(End::Close(Closing::Restart)),
                    frame = self.socket.next() => {
                        last_heard = Instant::now();
                        match frame {
                            Some(Ok(message)) => self.hear(message).await,
                            Some(Err(Error::Capacity(_))) => Err(End::Close(Closing::TooBig)),
                            Some(Err(_)) | None => Err(End::Gone),
                        }
                    }
                    batch = seat.next() => {
                        self.waiting.extend(batch.iter().cloned());
                        Ok(())
                    }
                    _ = pings.tick() => {
                        if last_heard.elapsed() > ping_interval * 2 {
                            Err(End::Close(Closing::Silent))
                        } else {
                            write(&mut self.socket, Message::Ping(Bytes::new()), write_timeout).await
                        }
                    }
                },
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// A question is answered before the next is read.
    async fn hear(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => Utf8Bytes::default(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
        };
        let answer = if self.limiter.check().is_ok() {
            self.refused_in_a_row = 0;
            self.answer(&text).await
        } else {
            self.refused_in_a_row += 1;
            if self.refused_in_a_row > FLOOD_LIMIT {
                return Err(End::Close(Closing::Flood));
            }
            protocol::error(
                None,
                &Problem::new(Code::RateLimited, "too many questions; this one is not read"),
            )
        };
        self.waiting.push_back(answer);
        Ok(())
    }

    async fn answer(&self, text: &str) -> Utf8Bytes {
        let question: Question = match serde_json::from_str(text) {
            Ok(question) => question,
            Err(error) => {
                let message = format!("expected an object with type, id and payload: {error}");
                return protocol::error(None, &Problem::new(Code::BadMessage, message));
            }
        };
        let id = match question.id {
            Value::String(id) if id.chars().count() <= MAX_REQUEST_ID_CHARS => RequestId::Text(id),
            Value::Number(id) => RequestId::Number(id),
            _ => {
                let message = format!("id: expected a number or a string of at most {MAX_REQUEST_ID_CHARS} characters");
                return protocol::error(None, &Problem::new(Code::BadMessage, message));
            }
        };
        let answer = match question.kind.as_str() {
            "timeline" => self.timeline(question.payload).await,
            _ => Err(Problem::new(Code::UnknownType, "the only question here is timeline")),
        };
        match answer {
            Ok(payload) => protocol::response(&id, &payload),
            Err(problem) => protocol::error(Some(&id), &problem),
        }
    }

    async fn timeline(&self, payload: Value) -> Result<Value, Problem> {
        let of: TimelineOf = serde_json::from_value(payload)
            .map_err(|error| Problem::new(Code::BadMessage, format!("payload: {error}")))?;
        let page = timeline::page(&self.edge.ops.0.history, &of.call_id, of.from).await?;
        serde_json::to_value(page).map_err(|error| Problem::new(Code::Unavailable, error.to_string()))
    }

    async fn close(&mut self, closing: Closing) {
        let frame = CloseFrame {
            code: closing.code(),
            reason: Utf8Bytes::from_static(closing.reason()),
        };
        let _ = timeout(CLOSE_TIMEOUT, async {
            if self.socket.close(Some(frame)).await.is_ok() {
                while self.socket.next().await.is_some() {}
            }
        })
        .await;
    }
}

async fn write(socket: &mut Socket, message: Message, limit: Duration) -> Result<(), End> {
    match timeout(limit, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}
