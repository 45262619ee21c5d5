//! ws-edge and what would be taken instead, each a process with the same nats-server in the same configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::nats_server::{NatsServer, Sync};
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token;
use callpulse_tests::wait::let_time_pass;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::time::timeout;

use crate::clients::Protocol;
use crate::usage;

const EDGE: &str = "ws-edge";
/// Connections that a node may have in a measurement.
pub const CONNECTIONS: usize = 12_000;
/// The deadline for a peer to print its port.
const STARTED_WITHIN: Duration = Duration::from_secs(20);
/// From the start to the first measurement of an idle process.
const SETTLING: Duration = Duration::from_secs(1);

/// A server of notices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerKind {
    /// Ours.
    Edge,
    /// Node with the package `ws`.
    Node,
    /// uWebSockets, as Bun ships it.
    Bun,
    /// nats-server's own WebSocket listener: the floor, without authentication of parties or any other work.
    NatsWebSocket,
}

impl ServerKind {
    /// Its name in the tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Edge => super::figures::OURS,
            Self::Node => "Node ws",
            Self::Bun => "uWebSockets (Bun)",
            Self::NatsWebSocket => "nats-server WebSocket",
        }
    }

    /// Starts it with its nats-server. Our release builds are in `services`.
    pub async fn start(self, services: &Path) -> Result<Running> {
        let folder = tempfile::Builder::new().prefix("callpulse-bench-").tempdir()?;
        let running = match self {
            Self::Edge => Running::edge(&services.join(EDGE), folder, &[("limits.connections", CONNECTIONS)]).await,
            Self::Node => Running::script("node", &node()?, "ws.js", folder).await,
            Self::Bun => Running::script("bun", &bun()?, "bun.js", folder).await,
            Self::NatsWebSocket => Running::nats(folder).await,
        };
        let running = running.with_context(|| format!("starting {}", self.name()))?;
        let_time_pass("an idle process must be idle", SETTLING).await;
        Ok(running)
    }
}

/// A running server. Dropping it kills its processes.
#[derive(Debug)]
pub struct Running {
    /// Where clients connect.
    pub address: SocketAddr,
    /// What it speaks.
    pub protocol: Protocol,
    /// The process whose CPU and memory are measured.
    pub pid: u32,
    /// More of the same, if it was started several times: address and process.
    pub others: Vec<(SocketAddr, u32)>,
    /// Where notices are published.
    pub nats_port: u16,
    processes: Processes,
    _folder: TempDir,
}

#[derive(Debug)]
#[allow(dead_code, reason = "held until the end of a measurement")]
enum Processes {
    Stack(Box<Stack>),
    Script(Child, NatsServer),
    Nats(NatsServer),
}

impl Running {
    /// Starts ws-edge with these settings.
    pub async fn edge(binary: &Path, folder: TempDir, settings: &[(&str, usize)]) -> Result<Self> {
        Self::edges(1, binary, folder, settings).await
    }

    /// Starts several ws-edges with these settings.
    pub async fn edges(count: usize, binary: &Path, folder: TempDir, settings: &[(&str, usize)]) -> Result<Self> {
        let stack = StackBuilder::default().workers(0).edges(count).timers(0);
        let stack = stack.folder(folder.path());
        let stack = stack.binary(EDGE, binary);
        let set = |stack: StackBuilder, (key, value): &(&str, usize)| stack.set(EDGE, key, value);
        let stack = settings.iter().fold(stack, set).start().await?;
        let edges = stack.edges.iter();
        let edges = edges.map(|edge| anyhow::Ok((edge.address("ws")?, edge.child().pid())));
        let mut others = edges.collect::<Result<Vec<_>>>()?;
        let (address, pid) = others.remove(0);
        Ok(Self {
            address,
            protocol: Protocol::Callpulse,
            pid,
            others,
            nats_port: stack.nats.port(),
            processes: Processes::Stack(Box::new(stack)),
            _folder: folder,
        })
    }

    /// CPU time of all its processes.
    pub fn cpu_nanos(&self) -> Result<u64> {
        let others = self.others.iter().map(|(_, pid)| *pid);
        others.chain([self.pid]).map(usage::cpu_nanos).sum()
    }

    /// A metric of ws-edge; 0 if there is none of this name and these labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let Processes::Stack(stack) = &self.processes else {
            anyhow::bail!("not ws-edge");
        };
        let edge = stack.edges.first().context("no edge")?;
        Ok(edge.metric(name).await?.unwrap_or_default())
    }

    async fn script(name: &str, program: &Path, script: &str, folder: TempDir) -> Result<Self> {
        let nats = NatsServer::start(folder.path(), Sync::Always).await?;
        let mut command = Command::new(program);
        command
            .arg(peers().join(script))
            .env("NATS_URL", nats.url().trim_start_matches("nats://"))
            .env("JWT_SECRET", token::SECRET)
            .env("JWT_AUDIENCE", token::AUDIENCE)
            .env("NODE_ENV", "production");
        let mut child = Child::start(name, &mut command, &folder.path().join(name))?;
        let mut line = String::new();
        let mut lines = BufReader::new(child.take_stdout()?);
        let read = timeout(STARTED_WITHIN, lines.read_line(&mut line)).await;
        read.with_context(|| format!("no port within {STARTED_WITHIN:?}"))??;
        let port: u16 = line.trim().parse().with_context(|| child.log_tail())?;
        Ok(Self {
            address: ([127, 0, 0, 1], port).into(),
            protocol: Protocol::Callpulse,
            pid: child.pid(),
            others: Vec::new(),
            nats_port: nats.port(),
            processes: Processes::Script(child, nats),
            _folder: folder,
        })
    }

    async fn nats(folder: TempDir) -> Result<Self> {
        let (mut nats, port) = NatsServer::start_with_websocket(folder.path(), CONNECTIONS).await?;
        let pid = nats.children_mut().next().context("no server")?.pid();
        Ok(Self {
            address: ([127, 0, 0, 1], port).into(),
            protocol: Protocol::Nats,
            pid,
            others: Vec::new(),
            nats_port: nats.port(),
            processes: Processes::Nats(nats),
            _folder: folder,
        })
    }
}

/// The folder of the peers.
pub fn peers() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../peers")
}

/// Node of `.tools`, the same for every machine.
pub fn node() -> Result<PathBuf> {
    installed(peers().join("../../.tools/bin/node"), "make setup")
}

fn bun() -> Result<PathBuf> {
    let modules = peers().join("node_modules/@oven");
    let found = std::fs::read_dir(&modules).ok().and_then(|mut found| found.next());
    let folder = found.context("no Bun: run make bench-build")??.path();
    installed(folder.join("bin/bun"), "make bench-build")
}

fn installed(path: PathBuf, command: &str) -> Result<PathBuf> {
    path.canonicalize()
        .with_context(|| format!("no {}: run {command}", path.display()))
}
