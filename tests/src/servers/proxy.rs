//! A TCP proxy between one process and one server, which can reset or stall its connections.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::Result;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The limit of simultaneous connections, stalled ones included. Further ones are reset.
const MAX_CONNECTIONS: usize = 256;
/// The buffer for each direction of a connection, in bytes. The rest waits in the sender's socket.
const HELD_BYTES: usize = 16 * 1024;

const ACCEPT_AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Open,
    Stalled,
    Cut,
}

/// Forwards bytes between clients of [`address`](Self::address) and the target.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    _task: JoinSet<()>,
}

impl Proxy {
    /// Listens on a free port of loopback. The target may be down.
    pub async fn to(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Open);
        let mut task = JoinSet::new();
        task.spawn(serve(listener, target, watched));
        Ok(Self {
            address,
            mode,
            _task: task,
        })
    }

    /// The address to connect to instead of the target.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Resets all connections, and new ones immediately, as after the death of a machine.
    pub fn cut(&self) {
        self.mode.send_replace(Mode::Cut);
    }

    /// Forwards nothing and closes nothing; accepts new connections without forwarding. As if packets are dropped.
    pub fn stall(&self) {
        self.mode.send_replace(Mode::Stalled);
    }

    /// Forwards again. Bytes of a stall arrive late and in order, as TCP retransmits them.
    pub fn restore(&self) {
        self.mode.send_replace(Mode::Open);
    }
}

async fn serve(listener: TcpListener, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut connections = JoinSet::new();
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Out of file descriptors. Some may be free after the pause.
            tokio::time::sleep(ACCEPT_AGAIN).await;
            continue;
        };
        while connections.try_join_next().is_some() {}
        if connections.len() >= MAX_CONNECTIONS {
            let _ = client.set_zero_linger();
            continue;
        }
        connections.spawn(carry(client, target, mode.clone()));
    }
}

/// Forwards one connection. A disorderly end of one side is a reset of the other.
async fn carry(mut client: TcpStream, target: SocketAddr, mode: watch::Receiver<Mode>) {
    let mut watched = mode.clone();
    let mut server = None;
    let outcome = tokio::select! {
        outcome = pass(&mut client, &mut server, target, mode) => outcome,
        _ = watched.wait_for(|mode| *mode == Mode::Cut) => Err(io::ErrorKind::ConnectionReset.into()),
    };
    if outcome.is_err() {
        let _ = client.set_zero_linger();
        if let Some(server) = server {
            let _ = server.set_zero_linger();
        }
    }
}

async fn pass(
    client: &mut TcpStream,
    server: &mut Option<TcpStream>,
    target: SocketAddr,
    mut mode: watch::Receiver<Mode>,
) -> io::Result<()> {
    opened(&mut mode).await?;
    let server = server.insert(TcpStream::connect(target).await?);
    for stream in [&*client, &*server] {
        stream.set_nodelay(true)?;
    }
    let (from_client, to_client) = client.split();
    let (from_server, to_server) = server.split();
    let up = pump(from_client, to_server, mode.clone());
    let down = pump(from_server, to_client, mode);
    tokio::try_join!(up, down).map(drop)
}

/// One direction, until its end.
async fn pump(mut from: ReadHalf<'_>, mut to: WriteHalf<'_>, mut mode: watch::Receiver<Mode>) -> io::Result<()> {
    let mut buffer = vec![0; HELD_BYTES];
    let mut held = 0..0;
    loop {
        opened(&mut mode).await?;
        if !held.is_empty() {
            tokio::select! {
                biased;
                _ = mode.changed() => {}
                written = to.write(buffer.get(held.clone()).unwrap_or_default()) => held.start += written?,
            }
            continue;
        }
        let read = tokio::select! {
            biased;
            _ = mode.changed() => continue,
            read = from.read(&mut buffer) => read?,
        };
        if read == 0 {
            // The end waits for the end of a stall too.
            opened(&mut mode).await?;
            return to.shutdown().await;
        }
        held = 0..read;
    }
}

async fn opened(mode: &mut watch::Receiver<Mode>) -> io::Result<()> {
    let open = mode.wait_for(|mode| *mode == Mode::Open).await;
    open.map(drop).map_err(|_| io::ErrorKind::ConnectionReset.into())
}

#[cfg(test)]
mod tests {
    use tokio::time::timeout;

    use super::*;
    use crate::wait::stays_pending;

    const SOON: Duration = Duration::from_secs(5);
    const SILENCE: Duration = Duration::from_millis(200);

    /// An echo server, and the results of its connections.
    async fn echo() -> (SocketAddr, tokio::sync::mpsc::UnboundedReceiver<io::Result<u64>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ends, ended) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let ends = ends.clone();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    ends.send(tokio::io::copy(&mut from, &mut to).await).ok();
                });
            }
        });
        (address, ended)
    }

    async fn echoes(stream: &mut TcpStream, bytes: &[u8]) {
        stream.write_all(bytes).await.unwrap();
        receives(stream, bytes).await;
    }

    async fn receives(stream: &mut TcpStream, bytes: &[u8]) {
        let mut answer = vec![0; bytes.len()];
        timeout(SOON, stream.read_exact(&mut answer)).await.unwrap().unwrap();
        assert_eq!(answer, bytes);
    }

    #[tokio::test]
    async fn bytes_and_the_end_of_a_stream_are_forwarded() {
        let (target, mut ended) = echo().await;
        let proxy = Proxy::to(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut stream, &vec![7; 3 * HELD_BYTES]).await;
        stream.shutdown().await.unwrap();
        assert_eq!(
            timeout(SOON, ended.recv()).await.unwrap().unwrap().unwrap(),
            3 * HELD_BYTES as u64
        );
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_cut_resets_open_and_new_connections() {
        let (target, mut ended) = echo().await;
        let proxy = Proxy::to(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut stream, b"before").await;
        proxy.cut();
        let error = timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
        timeout(SOON, ended.recv()).await.unwrap().unwrap().unwrap_err();
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        timeout(SOON, next.read(&mut [0; 8])).await.unwrap().unwrap_err();
        proxy.restore();
        let mut next = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut next, b"after").await;
    }

    #[tokio::test]
    async fn a_stall_delays_all_bytes_until_it_ends() {
        let (target, mut ended) = echo().await;
        let proxy = Proxy::to(target).await.unwrap();
        let mut old = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut old, b"before").await;
        proxy.stall();
        let mut new = TcpStream::connect(proxy.address()).await.unwrap();
        let mut gone = TcpStream::connect(proxy.address()).await.unwrap();
        for stream in [&mut old, &mut new, &mut gone] {
            stream.write_all(b"late").await.unwrap();
            stays_pending("held back", SILENCE, stream.read(&mut [0; 8]))
                .await
                .unwrap();
        }
        gone.shutdown().await.unwrap();
        stays_pending("the end is held back", SILENCE, ended.recv())
            .await
            .unwrap();
        proxy.restore();
        for stream in [&mut old, &mut new, &mut gone] {
            receives(stream, b"late").await;
        }
        assert_eq!(timeout(SOON, ended.recv()).await.unwrap().unwrap().unwrap(), 4);
    }

    #[tokio::test]
    async fn a_cut_drops_the_bytes_of_a_stall() {
        let (target, mut ended) = echo().await;
        let proxy = Proxy::to(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut stream, b"before").await;
        proxy.stall();
        stream.write_all(b"lost").await.unwrap();
        proxy.cut();
        timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_err();
        assert!(timeout(SOON, ended.recv()).await.unwrap().unwrap().is_err());
    }

    #[tokio::test]
    async fn a_connection_to_an_absent_target_is_reset() {
        let unused = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        let proxy = Proxy::to(unused).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        timeout(SOON, stream.read(&mut [0; 8])).await.unwrap().unwrap_err();
    }

    #[tokio::test]
    async fn connections_end_with_the_proxy() {
        let (target, mut ended) = echo().await;
        let proxy = Proxy::to(target).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        echoes(&mut stream, b"before").await;
        let address = proxy.address();
        drop(proxy);
        // By a close or a reset, depending on the order in which the tasks are dropped.
        let end = timeout(SOON, stream.read(&mut [0; 8])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
        assert!(timeout(SOON, ended.recv()).await.unwrap().is_some());
        TcpStream::connect(address).await.unwrap_err();
    }
}
