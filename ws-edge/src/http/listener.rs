//! Connections from `accept` to the end of their handshake: capped in number, each under one deadline, and limited while they are processed.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use contract::{Nats, NodeId};
use futures::StreamExt;
use futures::future::Abortable;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::upgrade::OnUpgrade;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use service::{Acceptor, BoxError};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::address_limiter::{AddressLimiter, AddressPermit};
use super::connection_limiter::{ConnectionLimiter, ConnectionPermit};
use super::pages::Pages;
use crate::addresses::client_address::TrustedProxies;
use crate::connection;
use crate::connection::handshake_limiter::HandshakeLimiter;
use crate::connection::rate_limited_stream::RateLimitedStream;
use crate::connection::session::{self, Socket};
use crate::connection::staggered_close::StaggeredClose;
use crate::handshake::token::Verified;
use crate::handshake::{Authenticator, Principal, Rejection};
use crate::metrics;
use crate::ops::{self, OpsFeed};
use crate::settings::Limits;
use crate::tls::ClientStream;

/// Connections that the kernel queues before `accept`.
const BACKLOG: u32 = 4096;
/// The longest head of a request, in bytes: room for a token of about 1 kB and a browser's headers.
const HEAD_BYTES: usize = 16 * 1024;
/// Connections beyond the cap that get an answer at the same time; further ones are dropped without one.
const MAX_CONCURRENT_REFUSALS: usize = 64;
/// How long such an answer, or any rejection by a close, may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
/// Messages that are read from a rejected client until it answers the close.
const MAX_REFUSAL_MESSAGES: usize = 8;
/// A socket's write buffer, in bytes: room for a batch of notices.
const WRITE_BUFFER_BYTES: usize = 16 * 1024;

/// The dependencies of the listener.
pub struct Deps {
    /// Decides which requests may be upgraded.
    pub authenticator: Authenticator,
    /// Where this node itself speaks TLS.
    pub tls: Option<TlsAcceptor>,
    /// The pages, where they are enabled.
    pub pages: Option<Pages>,
    /// Where the addresses of clients come from.
    pub proxies: TrustedProxies,
    /// The connections of each address.
    pub addresses: AddressLimiter,
    /// Limits the handshakes that are processed at a time.
    pub handshakes: HandshakeLimiter,
    /// The limits of each connection and of all together.
    pub limits: Limits,
    /// Handshakes are refused while NATS is not connected.
    pub nats: Nats,
    /// The dependencies of the parties' sockets.
    pub sessions: Arc<connection::Deps>,
    /// The operations feed, for the sockets of operators.
    pub ops: OpsFeed,
    /// This node.
    pub node_id: NodeId,
    /// Tracks sockets and requests; shutdown waits for them.
    pub tracker: TaskTracker,
}

/// Binds the port.
///
/// # Errors
/// If the port is taken.
pub fn bind(address: SocketAddr, limits: &Limits) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Accepted sockets inherit it. The kernel's default is megabytes for each client that does not read.
    socket.set_send_buffer_size(limits.send_buffer_bytes)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Accepts until `stop` is cancelled, then closes the sockets one group after the other, waits until every socket is closed and
/// every request is done, and cancels `drained`.
///
/// # Errors
/// None: a failure concerns one connection.
pub async fn serve(
    listener: TcpListener,
    deps: Arc<Deps>,
    stop: CancellationToken,
    drained: CancellationToken,
) -> Result<(), BoxError> {
    let _drained = drained.drop_guard();
    let closing = Arc::new(StaggeredClose::new(deps.limits.close_spread()));
    let limiter = ConnectionLimiter::new(deps.limits.connections, deps.addresses.clone());
    let refusals = Arc::new(Semaphore::new(MAX_CONCURRENT_REFUSALS));
    let mut acceptor = Acceptor::public(listener, "listen");
    loop {
        let (stream, peer) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = acceptor.accept() => accepted,
        };
        // Messages are small and urgent.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "connection closed before its handshake");
            continue;
        }
        let counted = Some(peer.ip()).filter(|address| !deps.proxies.contains(*address));
        match limiter.try_acquire(counted) {
            Ok((permit, until)) => {
                let (deps, closing, stop) = (Arc::clone(&deps), Arc::clone(&closing), stop.clone());
                let tracker = deps.tracker.clone();
                let connection = connection(deps, stream, peer.ip(), permit, (stop, closing));
                tracker.spawn(Abortable::new(connection, until));
            }
            Err(rejection) => refuse(&deps, stream, rejection, &refusals),
        }
    }
    drop(acceptor);
    deps.tracker.close();
    tokio::select! {
        () = closing.close_all() => {}
        // No socket is left: the other groups are empty.
        () = deps.tracker.wait() => {}
    }
    deps.tracker.wait().await;
    Ok(())
}

/// The outcome of a handshake that ends in an upgrade.
enum Handshaken {
    Accepted(Verified<Principal>, Option<AddressPermit>),
    /// Counted already; to be closed with this frame.
    Rejected(CloseFrame),
}

/// Set by the request handler if the connection is to be upgraded.
type PendingUpgrade = Arc<Mutex<Option<(Handshaken, OnUpgrade)>>>;

async fn connection(
    deps: Arc<Deps>,
    stream: TcpStream,
    peer: IpAddr,
    permit: ConnectionPermit,
    (stop, closing): (CancellationToken, Arc<StaggeredClose>),
) {
    let deadline = Instant::now() + deps.limits.handshake_timeout();
    let permit = Arc::new(permit);
    let answer = {
        let (deps, permit) = (Arc::clone(&deps), Arc::clone(&permit));
        move |pending: &PendingUpgrade, request| {
            let response = answer(&deps, peer, pending, request);
            if matches!(&*pending.lock(), Some((Handshaken::Accepted(..), _))) {
                permit.keep();
            }
            response
        }
    };
    let handshake = Box::pin(async {
        // Without a byte of the client there is nothing to do.
        stream.readable().await.ok()?;
        let handshake = handshake(&deps.limits, deps.tls.as_ref(), stream, answer);
        let (outcome, handshake_permit) = deps.handshakes.run(handshake).await;
        outcome.map(|(handshaken, socket)| (handshaken, socket, handshake_permit))
    });
    let handshaken = tokio::select! {
        // One deadline for all of it: hyper's own does not cover the wait for the first byte.
        handshaken = timeout_at(deadline, handshake) => handshaken,
        () = stop.cancelled() => return,
    };
    match handshaken {
        Ok(Some((Handshaken::Accepted(principal, _address), socket, handshake_permit))) => {
            metrics::handshake("ok");
            let (_open, stop) = (OpenSocket::count(), closing.assign());
            match principal.owner.clone() {
                Principal::Party(party) => {
                    let party = principal.map(|_| party);
                    session::run(Arc::clone(&deps.sessions), socket, party, handshake_permit, stop).await;
                }
                Principal::Operator(operator) => {
                    drop(handshake_permit);
                    let (feed, operator) = (deps.ops.clone(), principal.map(|_| operator));
                    ops::session::run(feed, &deps.node_id, &deps.limits, socket, operator, stop).await;
                }
            }
        }
        Ok(Some((Handshaken::Rejected(frame), socket, handshake_permit))) => {
            drop(handshake_permit);
            let latest = deadline.min(Instant::now() + REFUSAL_TIMEOUT);
            let _ = timeout_at(latest, Box::pin(close_rejected(socket, frame))).await;
        }
        Ok(None) => {}
        Err(_) => metrics::handshake("timeout"),
    }
    drop(permit);
}

async fn handshake<F>(
    limits: &Limits,
    tls: Option<&TlsAcceptor>,
    stream: TcpStream,
    answer: F,
) -> Option<(Handshaken, Socket)>
where
    F: Fn(&PendingUpgrade, Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let stream = ClientStream::accept(tls, stream).await.ok()?;
    let pending = PendingUpgrade::default();
    let answer = {
        let pending = Arc::clone(&pending);
        move |request| answer(&pending, request)
    };
    serve_http(stream, answer).await.ok()?;
    let (outcome, upgrade) = pending.lock().take()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<ClientStream>>().ok()?;
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let config = Some(websocket_config(limits));
    Some((
        outcome,
        WebSocketStream::from_partially_read(RateLimitedStream::new(stream), read, Role::Server, config).await,
    ))
}

/// Sends the close frame, and waits for the client's answer: closing the TCP connection at once could discard the frame.
async fn close_rejected(mut socket: Socket, frame: CloseFrame) {
    if socket.close(Some(frame)).await.is_ok() {
        let mut rest = socket.take(MAX_REFUSAL_MESSAGES);
        while let Some(Ok(_)) = rest.next().await {}
    }
}

async fn serve_http<F>(stream: ClientStream, answer: F) -> hyper::Result<()>
where
    F: Fn(Request<Incoming>) -> Response<Full<Bytes>> + Send + Sync + 'static,
{
    let answer = service_fn(move |request| {
        let mut response = answer(request);
        // One request per connection. Not on the upgrade: clients refuse `Connection: Upgrade, close`.
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let headers = response.headers_mut();
            // A connection-specific field is named in `Connection` (RFC 9110 section 7.6.1).
            let options = if headers.contains_key(UPGRADE) {
                "upgrade, close"
            } else {
                "close"
            };
            headers.insert(CONNECTION, HeaderValue::from_static(options));
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

/// Pages by their path; anything else is a handshake.
fn answer(deps: &Deps, peer: IpAddr, pending: &PendingUpgrade, request: Request<Incoming>) -> Response<Full<Bytes>> {
    if let Err(problem) = service::http::authority(&request) {
        metrics::handshake("bad_request");
        return Rejection::bad_request(problem).response();
    }
    let page = deps.pages.as_ref().and_then(|pages| pages.answer(&request));
    page.unwrap_or_else(|| authenticate(deps, peer, pending, request))
}

fn authenticate(
    deps: &Deps,
    peer: IpAddr,
    pending: &PendingUpgrade,
    mut request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let admission = deps.authenticator.authenticate(&request).and_then(|admission| {
        if deps.nats.state().borrow().connected && deps.sessions.registry.is_connected() {
            Ok((admission, client_permit(deps, peer, &request)?))
        } else {
            Err(Rejection::unavailable("NATS is unreachable; try again"))
        }
    });
    match admission {
        Ok((admission, permit)) => {
            upgrade(pending, &mut request, Handshaken::Accepted(admission.principal, permit));
            admission.response
        }
        Err(rejection) => {
            metrics::handshake(rejection.code);
            reject(pending, &mut request, &rejection)
        }
    }
}

/// The place of a trusted proxy's client.
fn client_permit<B>(deps: &Deps, peer: IpAddr, request: &Request<B>) -> Result<Option<AddressPermit>, Rejection> {
    if !deps.proxies.contains(peer) {
        return Ok(None);
    }
    let client = deps.proxies.client(peer, request.headers());
    // The proxy itself, such as its probes, has no limit.
    if deps.proxies.contains(client) {
        return Ok(None);
    }
    deps.addresses
        .try_acquire(client)
        .ok_or_else(Rejection::address_full)
        .map(Some)
}

fn reject(pending: &PendingUpgrade, request: &mut Request<Incoming>, rejection: &Rejection) -> Response<Full<Bytes>> {
    match rejection.close_response(request) {
        Some(close) => {
            upgrade(pending, request, Handshaken::Rejected(close.frame));
            close.response
        }
        None => rejection.response(),
    }
}

fn upgrade(pending: &PendingUpgrade, request: &mut Request<Incoming>, outcome: Handshaken) {
    let upgrade = hyper::upgrade::on(request);
    *pending.lock() = Some((outcome, upgrade));
}

fn refuse(deps: &Deps, stream: TcpStream, rejection: Rejection, refusals: &Arc<Semaphore>) {
    let is_full = rejection.code == Rejection::UNAVAILABLE;
    metrics::handshake(if is_full { "full" } else { rejection.code });
    let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else {
        return;
    };
    let (limits, tls) = (deps.limits.clone(), deps.tls.clone());
    let answer =
        move |pending: &PendingUpgrade, mut request: Request<Incoming>| reject(pending, &mut request, &rejection);
    let answered = async move {
        if let Some((Handshaken::Rejected(frame), socket)) = handshake(&limits, tls.as_ref(), stream, answer).await {
            close_rejected(socket, frame).await;
        }
    };
    deps.tracker.spawn(async move {
        let _ = timeout(REFUSAL_TIMEOUT, Box::pin(answered)).await;
        drop(permit);
    });
}

fn websocket_config(limits: &Limits) -> WebSocketConfig {
    WebSocketConfig::default()
        .read_buffer_size(limits.read_buffer_bytes)
        .write_buffer_size(WRITE_BUFFER_BYTES)
        // Room for one message beyond a full buffer, and for the close frame after it.
        .max_write_buffer_size(WRITE_BUFFER_BYTES + 2 * limits.message_bytes.max(WRITE_BUFFER_BYTES))
        .max_message_size(Some(limits.message_bytes))
        .max_frame_size(Some(limits.message_bytes))
}

/// Counts an open socket in the gauge until it is dropped.
struct OpenSocket;

impl OpenSocket {
    fn count() -> Self {
        metrics::socket_opened();
        Self
    }
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        metrics::socket_closed();
    }
}
