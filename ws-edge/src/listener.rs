//! Connections from `accept` to the end of their upgrade: capped in number, and each under one deadline.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

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
use tokio::time::{sleep, timeout};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};
use tokio_util::sync::CancellationToken;

use crate::edge::Edge;
use crate::handshake::{Guest, Rejection};
use crate::ops;
use crate::session::{self, Socket};
use crate::settings::Limits;

/// The pause after a failed `accept`: out of file descriptors is not mended by trying faster.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Connections that the kernel keeps for us.
const BACKLOG: u32 = 1024;
/// The longest head of a request, in bytes: a token is about one of them.
const HEAD_BYTES: usize = 16 * 1024;
/// Connections beyond the cap that are told so at once; more are dropped without a word.
const MOST_REFUSED_AT_ONCE: usize = 64;
/// How long telling them may take.
const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);
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

/// What the handshake has made of a connection.
type Admitted = Arc<Mutex<Option<(Guest, OnUpgrade)>>>;

async fn connection(edge: Edge, stream: TcpStream, place: OwnedSemaphorePermit, stop: CancellationToken) {
    let shaken = tokio::select! {
        // One deadline for all of it: hyper's own does not cover the wait for the first byte.
        shaken = timeout(edge.limits.handshake_timeout(), Box::pin(shake_hands(&edge, stream))) => shaken,
        () = stop.cancelled() => return,
    };
    match shaken {
        Ok(Some((guest, socket))) => {
            count_handshake("ok");
            let _open = Open::count();
            match guest {
                Guest::Party(party) => session::run(edge, socket, party, stop).await,
                Guest::Operator(operator) => ops::session::run(edge, socket, operator, stop).await,
            }
        }
        Ok(None) => {}
        Err(_) => count_handshake("timeout"),
    }
    drop(place);
}

async fn shake_hands(edge: &Edge, stream: TcpStream) -> Option<(Guest, Socket)> {
    let admitted = Admitted::default();
    let answer = {
        let (edge, admitted) = (edge.clone(), Arc::clone(&admitted));
        move |request| answer(&edge, &admitted, request)
    };
    serve_http(stream, answer).await.ok()?;
    let (guest, upgrade) = admitted.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    let parts = upgrade.await.ok()?.downcast::<TokioIo<TcpStream>>().ok()?;
    let (stream, read) = (parts.io.into_inner(), parts.read_buf.to_vec());
    let config = Some(websocket_config(&edge.limits));
    Some((
        guest,
        WebSocketStream::from_partially_read(stream, read, Role::Server, config).await,
    ))
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
fn answer(edge: &Edge, admitted: &Admitted, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let page = edge.pages.as_ref().and_then(|pages| pages.answer(&request));
    page.unwrap_or_else(|| admit(edge, admitted, request))
}

fn admit(edge: &Edge, admitted: &Admitted, mut request: Request<Incoming>) -> Response<Full<Bytes>> {
    let admission = edge.door.admit(&request).and_then(|admission| {
        if edge.calls.connected() {
            Ok(admission)
        } else {
            Err(Rejection::unavailable("NATS is away; try again"))
        }
    });
    match admission {
        Ok(admission) => {
            let upgrade = hyper::upgrade::on(&mut request);
            *admitted.lock().unwrap_or_else(PoisonError::into_inner) = Some((admission.guest, upgrade));
            admission.response
        }
        Err(rejection) => {
            count_handshake(rejection.code);
            rejection.response()
        }
    }
}

fn refuse(edge: &Edge, stream: TcpStream, refusals: &Arc<Semaphore>) {
    count_handshake("full");
    let Ok(permit) = Arc::clone(refusals).try_acquire_owned() else {
        return;
    };
    let told = serve_http(stream, |_| {
        Rejection::unavailable("this node is full; try another").response()
    });
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
