//! The TCP side of the media port (ICE over TCP, RFC 6544): connections that have proven nothing are few and short.
//!
//! mediasoup neither limits TCP connections nor closes idle ones. It therefore listens on loopback, and clients connect here. A
//! connection is relayed once its first frame is a STUN request to a transport of this process: its username fragment is
//! random, and only the party that has created the transport knows it.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use service::Acceptor;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::metrics;

/// Where mediasoup listens for the front.
pub(super) const INNER_IP: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Connections of one port whose first frame has not come. A further one takes the place of the oldest.
pub const MAX_PENDING: usize = 256;
/// How long the first frame may take. A client sends it at once.
const FIRST_FRAME_TIMEOUT: Duration = Duration::from_secs(5);
/// The longest first frame, in bytes: a STUN request of ICE has about a hundred.
const MAX_FIRST_FRAME: usize = 1_024;
/// Connections to one transport: more are no other network paths of the client.
const MAX_PER_UFRAG: usize = 8;
/// Username fragments of one transport: the current one, and the one before an ICE restart.
const MAX_UFRAGS: usize = 2;

/// RFC 8489 section 5: the header's length, the type of a binding request, and the magic cookie.
const STUN_HEADER: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
/// RFC 8489 section 14.3.
const USERNAME: u16 = 0x0006;

/// The transports that may be reached over TCP, and how many connections they have. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct TcpAdmission {
    ufrags: Arc<Mutex<HashMap<String, Ufrag>>>,
    connections: Arc<Semaphore>,
}

/// A username fragment of a living transport.
#[derive(Debug, Clone)]
struct Ufrag {
    permits: Arc<Semaphore>,
    closed: CancellationToken,
}

/// The fragments of one transport. Dropping it closes its connections.
#[derive(Debug)]
pub(super) struct Ufrags {
    admission: TcpAdmission,
    own: VecDeque<String>,
}

/// A connection that may be relayed.
struct Admitted {
    closed: CancellationToken,
    _permits: [OwnedSemaphorePermit; 2],
}

impl TcpAdmission {
    /// At most this many relayed connections at a time.
    pub(super) fn new(connections: usize) -> Self {
        Self {
            ufrags: Arc::default(),
            connections: Arc::new(Semaphore::new(connections)),
        }
    }

    /// The fragments of a new transport.
    pub(super) fn transport(&self, ufrag: &str) -> Ufrags {
        let mut own = Ufrags {
            admission: self.clone(),
            own: VecDeque::new(),
        };
        own.renew(ufrag);
        own
    }

    fn admit(&self, ufrag: &str) -> Option<Admitted> {
        let Ufrag { permits, closed } = self.ufrags.lock().get(ufrag).cloned()?;
        let permit = permits.try_acquire_owned().ok()?;
        let connection = Arc::clone(&self.connections).try_acquire_owned().ok()?;
        Some(Admitted {
            closed,
            _permits: [permit, connection],
        })
    }

    fn remove(&self, ufrag: &str) {
        if let Some(removed) = self.ufrags.lock().remove(ufrag) {
            removed.closed.cancel();
        }
    }
}

impl Ufrags {
    /// The transport has another fragment (an ICE restart). The one before stays valid.
    pub(super) fn renew(&mut self, ufrag: &str) {
        let new = Ufrag {
            permits: Arc::new(Semaphore::new(MAX_PER_UFRAG)),
            closed: CancellationToken::new(),
        };
        self.admission.ufrags.lock().insert(ufrag.to_owned(), new);
        self.own.push_back(ufrag.to_owned());
        while self.own.len() > MAX_UFRAGS {
            if let Some(oldest) = self.own.pop_front() {
                self.admission.remove(&oldest);
            }
        }
    }
}

impl Drop for Ufrags {
    fn drop(&mut self) {
        self.own.iter().for_each(|ufrag| self.admission.remove(ufrag));
    }
}

/// A port that is bound, for which mediasoup does not listen yet.
#[derive(Debug)]
pub(super) struct BoundTcpProxy {
    listener: TcpListener,
    /// What clients connect to.
    announced: String,
    port: u16,
}

/// A port in service. Dropping it closes it and its connections.
#[derive(Debug)]
pub(super) struct TcpProxy {
    /// mediasoup's port.
    pub(super) inner_port: u16,
    /// The address in ICE candidates.
    pub(super) announced: String,
    /// The port in ICE candidates.
    pub(super) port: u16,
    _open: DropGuard,
}

impl BoundTcpProxy {
    /// Binds the port; 0 is any.
    ///
    /// # Errors
    /// It is taken.
    pub(super) async fn bind(address: SocketAddr, announced: Option<&str>) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let port = listener.local_addr()?.port();
        let announced = announced.map_or_else(|| address.ip().to_string(), str::to_owned);
        Ok(Self {
            listener,
            announced,
            port,
        })
    }

    /// Relays admitted connections to mediasoup until `stop`.
    pub(super) fn serve(self, inner_port: u16, admission: TcpAdmission, stop: &CancellationToken) -> TcpProxy {
        let open = stop.child_token();
        let inner = SocketAddr::new(INNER_IP, inner_port);
        let (listener, closing) = (self.listener, open.clone());
        tokio::spawn(async move { closing.run_until_cancelled(accept(listener, inner, admission)).await });
        TcpProxy {
            inner_port,
            announced: self.announced,
            port: self.port,
            _open: open.drop_guard(),
        }
    }
}

async fn accept(listener: TcpListener, inner: SocketAddr, admission: TcpAdmission) {
    let mut acceptor = Acceptor::public(listener, "rtc_port");
    // Dropping it ends the connections.
    let mut connections = JoinSet::new();
    let pending = Arc::new(Mutex::new(VecDeque::<AbortHandle>::new()));
    loop {
        let (client, _) = acceptor.accept().await;
        while connections.try_join_next().is_some() {}
        let (admission, waiting) = (admission.clone(), Arc::clone(&pending));
        let mut pending = pending.lock();
        let handle = connections.spawn(async move {
            let outcome = connection(client, inner, &admission, || {
                let own = tokio::task::try_id();
                waiting.lock().retain(|handle| Some(handle.id()) != own);
            });
            metrics::tcp_connection(outcome.await);
        });
        pending.retain(|handle| !handle.is_finished());
        if pending.len() >= MAX_PENDING
            && let Some(oldest) = pending.pop_front()
        {
            oldest.abort();
            metrics::tcp_connection("evicted");
        }
        pending.push_back(handle);
    }
}

/// Returns the outcome for the metric, when the connection is over or was not admitted.
async fn connection(
    mut client: TcpStream,
    inner: SocketAddr,
    admission: &TcpAdmission,
    proven: impl FnOnce(),
) -> &'static str {
    let frame = match tokio::time::timeout(FIRST_FRAME_TIMEOUT, first_frame(&mut client)).await {
        Ok(Ok(frame)) => frame,
        Ok(Err(_)) => return "not_ice",
        Err(_) => return "timeout",
    };
    let ufrag = frame.get(2..).and_then(username_fragment);
    let Some(admitted) = ufrag.and_then(|ufrag| admission.admit(ufrag)) else {
        return "refused";
    };
    proven();
    let relay = relay(&mut client, inner, &frame);
    let _ = admitted.closed.run_until_cancelled(relay).await;
    "relayed"
}

async fn relay(client: &mut TcpStream, inner: SocketAddr, first: &[u8]) -> io::Result<()> {
    let mut server = TcpStream::connect(inner).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    server.write_all(first).await?;
    copy_bidirectional(client, &mut server).await.map(drop)
}

/// A frame with its length (RFC 4571 section 2).
async fn first_frame(client: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut length = [0; 2];
    client.read_exact(&mut length).await?;
    let bytes = usize::from(u16::from_be_bytes(length));
    if !(STUN_HEADER..=MAX_FIRST_FRAME).contains(&bytes) {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut frame = length.to_vec();
    client
        .take(u64::try_from(bytes).unwrap_or_default())
        .read_to_end(&mut frame)
        .await?;
    if frame.len() == length.len() + bytes {
        Ok(frame)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

/// The receiver's username fragment in a STUN binding request: the part of USERNAME before the colon (RFC 8445 section 7.2.2).
fn username_fragment(packet: &[u8]) -> Option<&str> {
    let (header, mut attributes) = packet.split_first_chunk::<STUN_HEADER>()?;
    let [t0, t1, l0, l1, c0, c1, c2, c3, ..] = *header;
    let length = usize::from(u16::from_be_bytes([l0, l1]));
    if u16::from_be_bytes([t0, t1]) != BINDING_REQUEST || [c0, c1, c2, c3] != MAGIC_COOKIE || length != attributes.len()
    {
        return None;
    }
    while let Some((&[k0, k1, l0, l1], rest)) = attributes.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        if u16::from_be_bytes([k0, k1]) == USERNAME {
            let username = std::str::from_utf8(rest.get(..length)?).ok()?;
            return username.split_once(':').map(|(receiver, _)| receiver);
        }
        // Attributes are padded to four bytes.
        attributes = rest.get(length.next_multiple_of(4)..)?;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(value.len()).unwrap();
        let mut bytes = [kind.to_be_bytes(), length.to_be_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn request(attributes: &[Vec<u8>]) -> Vec<u8> {
        let attributes = attributes.concat();
        let length = u16::try_from(attributes.len()).unwrap();
        let head = [BINDING_REQUEST.to_be_bytes(), length.to_be_bytes()].concat();
        [head, MAGIC_COOKIE.to_vec(), vec![7; 12], attributes].concat()
    }

    #[test]
    fn the_ufrag_is_read_from_any_place() {
        let priority = attribute(0x0024, &[0, 0, 0, 1]);
        let username = attribute(USERNAME, b"ours:theirs");
        let odd = attribute(0x8022, b"odd");
        for attributes in [
            vec![username.clone()],
            vec![priority, odd, username.clone()],
            vec![attribute(0x0025, b""), username],
        ] {
            assert_eq!(username_fragment(&request(&attributes)), Some("ours"));
        }
    }

    #[test]
    fn anything_else_has_no_ufrag_and_causes_no_panic() {
        let good = request(&[attribute(USERNAME, b"ours:theirs")]);
        for length in 0..good.len() {
            assert_eq!(username_fragment(&good[..length]), None, "{length} bytes");
        }
        for wrong in [
            request(&[]),
            request(&[attribute(USERNAME, b"alone")]),
            request(&[attribute(USERNAME, b"\xff:\xff")]),
            request(&[vec![0, 6, 255, 255, b'a']]),
            [&good[..], b"more"].concat(),
            [&[1, 1], &good[2..]].concat(),
            [&good[..4], &[0; 4], &good[8..]].concat(),
        ] {
            assert_eq!(username_fragment(&wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_transport_has_few_connections_and_none_once_it_is_closed() {
        let admission = TcpAdmission::new(MAX_PER_UFRAG + 1);
        assert!(admission.admit("a").is_none());
        let mut first = admission.transport("a");
        let held: Vec<_> = std::iter::from_fn(|| admission.admit("a")).collect();
        assert_eq!(held.len(), MAX_PER_UFRAG);
        let second = admission.transport("b");
        let last = admission.admit("b").unwrap();
        assert!(
            admission.admit("b").is_none(),
            "all connections of the process are used"
        );
        drop(second);
        assert!(last.closed.is_cancelled());
        drop((held, last));
        for restarted in ["c", "d"] {
            first.renew(restarted);
        }
        assert!(admission.admit("a").is_none(), "the last but one");
        assert!(admission.admit("c").is_some() && admission.admit("d").is_some());
        drop(first);
        assert!(admission.admit("d").is_none());
    }
}
