//! Connections from `accept` to the end of their upgrade: capped in number, and each under one deadline.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use service::BoxError;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::connection::session::{self, Socket};
use crate::edge::Edge;
use crate::handshake::{Guest, Rejection};
use crate::ops;
use crate::settings::Limits;

/// The pause after a failed `accept`: out of file descriptors is not mended by trying faster.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us.
const BACKLOG: u32 = 1024;
/// The longest head of a request, in bytes: a token is about one of them.
const HEAD_BYTES: usize = 16 * 1024;
/// Connections beyond the cap that are told so at once; more are dropped without a word.
const MOST_REFUSED_AT_ONCE: usize = 64;
/// How long telling them may take, and any other refusal by a close.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// What is read of a client that was refused until it answers the close, in messages: it should have nothing to say.
const REFUSAL_MESSAGES: usize = 8;
/// Where a socket's writes are gathered, in bytes: a batch of notices.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// Binds the port.
///
/// # Errors
/// If it is taken.
pub fn bind(address: SocketAddr, limits: &Limits) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it. The kernel's own idea is megabytes for each client that does not read.
    socket.set_send_buffer_size(limits.send_buffer_bytes)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop` is cancelled, then waits until every socket is closed and every request done.
///
/// # Errors
/// None: what fails is one connection.
pub async fn serve(listener: TcpListener, edge: Edge, stop: CancellationToken) -> Result<(), BoxError> {
    let places = Arc::new(Semaphore::new(edge.limits.connections));
    let refusals = Arc::new(Semaphore::new(MOST_REFUSED_AT_ONCE));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                // Every message is small and somebody waits for it.
                if let Err(error) = stream.set_nodelay(true) {
                    tracing::debug!(%error, "a connection ended before it began");
                    continue;
                }
                match Arc::clone(&places).try_acquire_owned() {
                    Ok(place) => drop(
                        edge.tracker
                            .spawn(connection(edge.clone(), stream, place, stop.clone())),
                    ),
                    Err(_) => refuse(&edge, stream, &refusals),
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    edge.tracker.close();
    edge.tracker.wait().await;
    Ok(())
}

/// Who is at the other end of an upgrade.
enum Met {
    Guest(Guest),
    /// Counted already; to be closed with these words.
    Refused(CloseFrame),
}

/// What the handshake has made of a connection.
type Upgrading = Arc<Mutex<Option<(Met, OnUpgrade)>>>;

async fn connection(edge: Edge, stream: TcpStream, place: OwnedSemaphorePermit, stop: CancellationToken) {
    let deadline = Instant::now() + edge.limits.handshake_timeout();
    let answer = {
        let edge = edge.clone();
        move |upgrading: &Upgrading, request| answer(&edge, upgrading, request)
    };
    let shaking = Box::pin(shake_hands(&edge.limits, stream, answer));
    let shaken = tokio::select! {
        // One deadline for all of it: hyper's own does not cover the wait for the first byte.
        shaken = timeout_at(deadline, shaking) => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Some((Met::Guest(guest), socket))) => {
            count_handshake("ok");
            let _open = Open::count();
            match guest {
                Guest::Party(party) => session::run(edge, socket, party, stop).await,
                Guest::Operator(operator) => {
                    let (feed, node_id) = (edge.ops.clone(), &edge.calls.settings.node_id);
                    ops::session::run(feed, node_id, &edge.limits, socket, operator, stop).await;
                }
            }
        }
        Ok(Some((Met::Refused(frame), socket))) => {
            let latest = deadline.min(Instant::now() + REFUSAL_TIMEOUT);
            let _ = timeout_at(latest, Box::pin(say_goodbye(socket, frame))).await;
        }
        Ok(None) => {}
        Err(_) => count_handshake("timeout"),
    }
    drop(place);
}

async fn shake_hands<F>(limits: &Limits, stream: TcpStream, answer: F) -> Option<(Met, Socket)>
where
    F: Fn(&Upgrading, Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let upgrading = Upgrading::default();
    let answer = {
        let upgrading = Arc::clone(&upgrading);
        move |request| answer(&upgrading, request)
    };
    serve_http(stream, answer).await.ok()?;
    let (met, upgrade) = upgrading.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let config = Some(websocket_config(limits));
    Some((
        met,
        WebSocketStream::from_partially_read(stream, read, Role::Server, config).await,
    ))
}

/// Says why, and waits for the client to have read it: to go at once could take the frame back.
async fn say_goodbye(mut socket: Socket, frame: CloseFrame) {
    if socket.close(Some(frame)).await.is_ok() {
        let mut rest = socket.take(REFUSAL_MESSAGES);
        while let Some(Ok(_)) = rest.next().await {}
    }
}

async fn serve_http<F>(stream: TcpStream, answer: F) -> hyper::Result<()>
where
    F: Fn(Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let answer = service_fn(move |request| {
        let mut response = answer(request);
        // One request a connection. For the upgrade it must not be said: `Connection: Upgrade, close` is refused by clients.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            response
                .headers_mut()
                .insert(CONNECTION, HeaderValue::from_static("close"));
        }
        async move { Ok::<_, Infallible>(response) }
    });
    http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), answer)
        .with_upgrades()
        .await
}

/// A page where its path says so; anything else is for the door.
fn answer(edge: &Edge, upgrading: &Upgrading, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let page = edge.pages.as_ref().and_then(|pages| pages.answer(&request));
    page.unwrap_or_else(|| admit(edge, upgrading, request))
}

fn admit(edge: &Edge, upgrading: &Upgrading, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let admission = edge.door.admit(&request).and_then(|admission| {
        if edge.calls.connected() {
            Ok(admission)
        } else {
            Err(Rejection::unavailable("NATS is away; try again"))
        }
    });
    match admission {
        Ok(admission) => {
            upgrade(upgrading, &mut request, Met::Guest(admission.guest));
            admission.response
        }
        Err(rejection) => {
            count_handshake(rejection.code);
            turn_away(upgrading, &mut request, &rejection)
        }
    }
}

fn turn_away(upgrading: &Upgrading, request: &mut Request<Incoming>, rejection: &Rejection) -> Response<Full<Bytes>> {
    match rejection.farewell(request) {
        Some(farewell) => {
            upgrade(upgrading, request, Met::Refused(farewell.frame));
            farewell.response
        }
        None => rejection.response(),
    }
}

fn upgrade(upgrading: &Upgrading, request: &mut Request<Incoming>, met: Met) {
    let upgrade = hyper::upgrade::on(request);
    *upgrading.lock().unwrap_or_else(PoisonError::into_inner) = Some((met, upgrade));
}

fn refuse(edge: &Edge, stream: TcpStream, refusals: &Arc<Semaphore>) {
    count_handshake("full");
    let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else {
        return;
    };
    let limits = edge.limits.clone();
    let answer = |upgrading: &Upgrading, mut request: Request<Incoming>| {
        let full = Rejection::unavailable("this node is full; try another");
        turn_away(upgrading, &mut request, &full)
    };
    let told = async move {
        if let Some((Met::Refused(frame), socket)) = shake_hands(&limits, stream, answer).await {
            say_goodbye(socket, frame).await;
        }
    };
    edge.tracker.spawn(async move {
        let _ = timeout(REFUSAL_TIMEOUT, Box::pin(told)).await;
        drop(permit);
    });
}

fn websocket_config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(limits.read_buffer_bytes)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // Room for one message beyond a full buffer, and for the close after it.
        .max_write_buffer_size(WRITE_BUFFER_BYTES + 2 * limits.message_bytes.max(WRITE_BUFFER_BYTES))
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes))
}

fn count_handshake(outcome: &'static str) {
    metrics::counter!("callpulse_ws_handshakes_total", "outcome" => outcome).increment(1);
}

/// A socket in the gauge, for as long as it is open.
struct Open;

impl Open {
    fn count() -> Self {
        metrics::gauge!("callpulse_ws_connections").increment(1.0);
        Self
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        metrics::gauge!("callpulse_ws_connections").decrement(1.0);
    }
}
