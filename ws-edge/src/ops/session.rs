//! One viewer's socket: row updates out, requests for timelines in.

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::pin::pin;
use std::time::Duration;

use contract::{NodeId, Timestamp};
use futures::{SinkExt, StreamExt};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use serde_json::Value;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message, Utf8Bytes};
use tokio_util::sync::CancellationToken;

use super::message::{ErrorPayload, Message as ServerMessage, Welcome};
use super::timeline::{self, TimelineRequest};
use super::{OpsFeed, Subscription};
use crate::connection::send_queue::CloseReason;
use crate::connection::session::{Socket, close};
use crate::handshake::token::{Operator, Verified};
use crate::protocol::{self, Code, Envelope, Problem, RequestId, Unread};
use crate::settings::Limits;

/// Requests a second of one viewer, in the long run.
const REQUESTS_PER_SECOND: NonZeroU32 = NonZeroU32::MIN.saturating_add(9);
/// Requests at once: the pages of the longest timeline, and some more.
const REQUEST_BURST: NonZeroU32 = NonZeroU32::MIN.saturating_add(99);
/// Consecutive rejected requests until the viewer's socket is closed.
const FLOOD_LIMIT: u32 = 100;
/// How long a viewer may take to receive a close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// How a viewer's session ends.
enum End {
    /// The viewer closed, or no longer reads.
    Gone,
    /// The server closes.
    Close(CloseReason),
}

struct Session {
    ops: OpsFeed,
    socket: Socket,
    limiter: DefaultDirectRateLimiter,
    consecutive_rejections: u32,
    /// Written one by one, so that a long snapshot does not delay the node's shutdown.
    queue: VecDeque<Utf8Bytes>,
}

/// Serves one viewer until its end. `node_id` is this node's.
pub(crate) async fn run(
    ops: OpsFeed,
    node_id: &NodeId,
    limits: &Limits,
    socket: Socket,
    operator: Verified<Operator>,
    stop: CancellationToken,
) {
    let expires_at = Instant::now() + operator.remaining;
    let operator = operator.owner;
    let session_id = format!("ops_{}", uuid::Uuid::now_v7().simple());
    let subscription = ops.subscribe();
    let welcome = Welcome {
        session_id: &session_id,
        node_id,
        at: Timestamp::now(),
    };
    let mut session = Session {
        limiter: RateLimiter::direct(Quota::per_second(REQUESTS_PER_SECOND).allow_burst(REQUEST_BURST)),
        ops,
        socket,
        consecutive_rejections: 0,
        queue: VecDeque::from([ServerMessage::Welcome { payload: welcome }.encode()]),
    };
    let end = match subscription {
        Some(subscription) => {
            tracing::info!(%operator, session_id, "operator connected");
            Box::pin(session.serve(subscription, limits, expires_at, &stop)).await
        }
        None => {
            tracing::warn!(%operator, "operator rejected: too many viewers on this node");
            End::Close(CloseReason::Unavailable)
        }
    };
    let reason = match end {
        End::Gone => "client",
        End::Close(reason) => reason.as_str(),
    };
    tracing::info!(%operator, session_id, reason, "operator disconnected");
    if let End::Close(reason) = end {
        close(&mut session.socket, reason, CLOSE_TIMEOUT).await;
    }
}

impl Session {
    async fn serve(
        &mut self,
        mut subscription: Subscription,
        limits: &Limits,
        expires_at: Instant,
        stop: &CancellationToken,
    ) -> End {
        let (ping_interval, write_timeout) = (limits.ping_interval(), limits.write_timeout());
        let mut last_received = Instant::now();
        let mut pings = interval_at(last_received + ping_interval, ping_interval);
        pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut expiry = pin!(sleep_until(expires_at));
        loop {
            let outcome = match self.queue.pop_front() {
                Some(message) => tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(End::Close(CloseReason::Restart)),
                    written = write(&mut self.socket, Message::Text(message), write_timeout) => written,
                },
                None => tokio::select! {
                    biased;
                    () = stop.cancelled() => Err(End::Close(CloseReason::Restart)),
                    () = expiry.as_mut() => Err(End::Close(CloseReason::TokenExpired)),
                    frame = self.socket.next() => {
                        last_received = Instant::now();
                        match frame {
                            Some(Ok(message)) => self.receive(message).await,
                            Some(Err(error)) => Err(CloseReason::of(&error).map_or(End::Gone, End::Close)),
                            None => Err(End::Gone),
                        }
                    }
                    batch = subscription.next() => {
                        self.queue.extend(batch.iter().cloned());
                        Ok(())
                    }
                    _ = pings.tick() => {
                        if last_received.elapsed() > ping_interval * 2 {
                            Err(End::Close(CloseReason::Silent))
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

    /// Answers a request before the next one is read.
    async fn receive(&mut self, message: Message) -> Result<(), End> {
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => Utf8Bytes::default(),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => return Ok(()),
        };
        let answer = if self.limiter.check().is_ok() {
            self.consecutive_rejections = 0;
            self.answer(&text).await
        } else {
            self.consecutive_rejections += 1;
            if self.consecutive_rejections > FLOOD_LIMIT {
                return Err(End::Close(CloseReason::Flood));
            }
            let problem = Problem::new(Code::RateLimited, "too many messages; this one is ignored");
            rejection(protocol::id_of(&text), &problem)
        };
        self.queue.push_back(answer);
        Ok(())
    }

    async fn answer(&self, text: &str) -> Utf8Bytes {
        let read = |kind: &str, payload: Value| match kind {
            "timeline" => protocol::read(&payload),
            _ => Err(protocol::unknown_type(kind)),
        };
        let request = match Envelope::read(text) {
            Ok(envelope) => envelope.request(read),
            Err(problem) => return rejection(None, &problem),
        };
        let (id, request): (_, TimelineRequest) = match request {
            Ok(request) => request,
            Err(Unread { id, problem }) => return rejection(id, &problem),
        };
        match timeline::page(&self.ops.0.history, &request).await {
            Ok(page) => ServerMessage::Response {
                id,
                payload: Box::new(page),
            }
            .encode(),
            Err(problem) => rejection(Some(id), &problem),
        }
    }
}

async fn write(socket: &mut Socket, message: Message, limit: Duration) -> Result<(), End> {
    match timeout(limit, socket.send(message)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(End::Gone),
    }
}

fn rejection(id: Option<RequestId>, problem: &Problem) -> Utf8Bytes {
    let payload = ErrorPayload {
        code: problem.code.as_str(),
        message: &problem.message,
    };
    ServerMessage::Error { id, payload }.encode()
}
