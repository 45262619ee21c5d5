//! A proxy that understands the NATS protocol, and drops messages of the server.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, copy};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// Decides from a message's headers and payload whether it is dropped.
type Drops = dyn Fn(&str) -> bool + Send + Sync;

/// Listens until it is dropped.
pub(crate) struct LossyProxy {
    address: SocketAddr,
    _task: JoinSet<Result<()>>,
}

impl LossyProxy {
    pub(crate) async fn to(port: u16, drops: impl Fn(&str) -> bool + Send + Sync + 'static) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let drops: Arc<Drops> = Arc::new(drops);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await?;
                connections.spawn(relay(client, port, Arc::clone(&drops)));
            }
        });
        Ok(Self { address, _task: task })
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
}

async fn relay(mut client: TcpStream, port: u16, drops: Arc<Drops>) -> Result<()> {
    let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let (mut from_client, to_client) = client.split();
    let (from_server, mut to_server) = server.split();
    let up = async { Ok(copy(&mut from_client, &mut to_server).await.map(drop)?) };
    tokio::try_join!(up, down(from_server, to_client, &*drops)).map(drop)
}

/// Source: NATS client protocol, `MSG` and `HMSG`.
async fn down(from: ReadHalf<'_>, mut to: WriteHalf<'_>, drops: &Drops) -> Result<()> {
    let mut from = BufReader::new(from);
    let mut line = String::new();
    while from.read_line(&mut line).await? > 0 {
        if line.starts_with("MSG ") || line.starts_with("HMSG ") {
            let size = line.split_whitespace().next_back().context("no size")?;
            let mut content = vec![0; size.parse::<usize>()? + "\r\n".len()];
            from.read_exact(&mut content).await?;
            if !drops(&String::from_utf8_lossy(&content)) {
                to.write_all(line.as_bytes()).await?;
                to.write_all(&content).await?;
            }
        } else {
            to.write_all(line.as_bytes()).await?;
        }
        line.clear();
    }
    Ok(to.shutdown().await?)
}
