//! A real nats-server with its own port, store and configuration, or a cluster of three.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use crate::servers::child::Child;

pub use configuration::USERS;

use configuration::Passwords;
use node::Node;

mod cluster;
mod configuration;
mod node;

/// Servers of a cluster: the smallest that survives the loss of one.
const CLUSTER_NODES: usize = 3;
/// Another process may take a port of a cluster before its server does; then all ports are chosen again.
const CLUSTER_ATTEMPTS: usize = 3;

/// When an acknowledged write is synced to the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before the acknowledgement, as in production.
    #[default]
    Always,
    /// Every two minutes. Faster; acknowledged writes survive the death of the server, not of the machine.
    Lazy,
}

/// NATS on loopback, with the repository's configuration and its users: one server, or a cluster. Dropping it kills it.
///
/// Connections without a user are `admin`.
#[derive(Debug)]
pub struct NatsServer {
    passwords: Passwords,
    nodes: Vec<Node>,
}

impl NatsServer {
    /// Starts a server that keeps everything below `folder`, on a free port.
    pub async fn start(folder: &Path, sync: Sync) -> Result<Self> {
        Self::start_on(folder, sync, None).await
    }

    /// Like [`start`](Self::start), on a given port.
    pub async fn start_on(folder: &Path, sync: Sync, port: Option<u16>) -> Result<Self> {
        Self::single(&prepared(folder, "dev.conf", sync)?, port).await
    }

    /// Starts one with the configuration in its folder.
    async fn single(folder: &Path, port: Option<u16>) -> Result<Self> {
        let passwords = Passwords::new();
        let mut node = Node::new("nats-server", folder, port, passwords.environment());
        node.start().await?;
        let nodes = vec![node];
        Ok(Self { passwords, nodes })
    }

    /// Like [`start`](Self::start), with a WebSocket listener and room for so many clients. Returns the listener's port, too.
    pub async fn start_with_websocket(folder: &Path, clients: usize) -> Result<(Self, u16)> {
        let folder = prepared(folder, "dev.conf", Sync::Always)?;
        let port = configuration::add_websocket(&folder.join("server.conf"), clients)?;
        Ok((Self::single(&folder, None).await?, port))
    }

    /// Starts one server with this configuration instead of the repository's. It has no passwords.
    pub async fn start_configured(folder: &Path, configuration: &str) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::write(folder.join("server.conf"), configuration)?;
        Self::single(&folder, None).await
    }

    /// Starts a cluster of three, and waits until it has elected a leader.
    ///
    /// Servers with an index in `absent` are configured but not started; [`restart_node`](Self::restart_node) starts them.
    /// Without a majority, it does not wait.
    pub async fn start_cluster(folder: &Path, sync: Sync, absent: &[usize]) -> Result<Self> {
        let mut attempt = 1;
        loop {
            // A new folder for each: a server of a failed attempt may have written to its store.
            match Self::launch_cluster(&folder.join(format!("cluster-{attempt}")), sync, absent).await {
                Err(_) if attempt < CLUSTER_ATTEMPTS => attempt += 1,
                outcome => return outcome,
            }
        }
    }

    async fn launch_cluster(folder: &Path, sync: Sync, absent: &[usize]) -> Result<Self> {
        let passwords = Passwords::new();
        let names: Vec<String> = (0..CLUSTER_NODES).map(|index| format!("nats-{index}")).collect();
        let members = names.iter().zip(configuration::cluster(&names)?);
        let nodes = members.map(|(name, (port, environment))| {
            let folder = prepared(&folder.join(name), "cluster.conf", sync)?;
            let environment = passwords.environment().into_iter().chain(environment).collect();
            anyhow::Ok(Node::new(name, &folder, Some(port), environment))
        });
        let mut nodes = nodes.collect::<Result<Vec<_>>>()?;
        let present = nodes
            .iter_mut()
            .enumerate()
            .filter(|(index, _)| !absent.contains(index));
        try_join_all(present.map(|(_, node)| node.start())).await?;
        let cluster = Self { passwords, nodes };
        if cluster.nodes.iter().filter(|node| node.is_up()).count() > CLUSTER_NODES / 2 {
            cluster.meta_leader_elected().await?;
        }
        Ok(cluster)
    }

    /// The URL of a running server, or of the first if none is running.
    pub fn url(&self) -> String {
        let running = self.nodes.iter().find(|node| node.is_up());
        running.or(self.nodes.first()).map(Node::url).unwrap_or_default()
    }

    /// The URLs of all servers, running or not.
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// The password of one of [`USERS`].
    pub fn password(&self, user: &str) -> Result<&str> {
        self.passwords.of(user)
    }

    /// The settings with which a service connects as itself.
    pub fn settings_of(&self, program: &str) -> Result<[(&'static str, String); 3]> {
        Ok([
            ("nats.url", self.urls().join(",")),
            ("nats.user", program.to_owned()),
            ("nats_password", self.password(program)?.to_owned()),
        ])
    }

    /// The first server's port, the same after every restart.
    pub fn port(&self) -> u16 {
        self.nodes.first().map(Node::port).unwrap_or_default()
    }

    /// The ports of all servers, running or not.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().map(Node::port)
    }

    /// The number of servers: one or three.
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The running processes.
    pub fn children_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.nodes.iter_mut().filter_map(Node::child_mut)
    }

    /// Sends SIGKILL to all.
    pub fn kill(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::kill)
    }

    /// Stops all in an orderly way.
    /// Fails if one still runs after 10 s, or stops without success.
    pub async fn stop(&mut self) -> Result<()> {
        try_join_all(self.nodes.iter_mut().map(Node::stop)).await.map(drop)
    }

    /// Restarts a single server with this content of `teams.conf`.
    pub async fn restart_with_teams(&mut self, teams: &str) -> Result<()> {
        let [node] = &mut self.nodes[..] else {
            bail!("a cluster has several configurations")
        };
        let configuration = configuration::server(node.folder(), "dev.conf", Sync::Always, teams)?;
        fs::write(node.folder().join("server.conf"), configuration)?;
        node.start().await
    }

    /// Restarts all on the same ports and stores. Kills running ones first.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        try_join_all(self.nodes.iter_mut().map(Node::start)).await.map(drop)
    }

    /// Stops one in an orderly way.
    /// Fails if it still runs after 10 s, or stops without success.
    pub async fn stop_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.stop().await
    }

    /// Removes the stores of all, which must not run: a replaced disk.
    pub fn erase(&mut self) -> Result<()> {
        for node in &self.nodes {
            fs::remove_dir_all(node.store())?;
        }
        Ok(())
    }

    /// Sends SIGKILL to one.
    pub fn kill_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.kill()
    }

    /// Starts one, for the first time or again, on its port and store. Kills a running one first.
    pub async fn restart_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.start().await
    }

    /// Sends SIGSTOP to one: it keeps its sockets and does nothing.
    pub fn freeze_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.freeze()
    }

    /// Sends SIGCONT to one, after [`freeze_node`](Self::freeze_node).
    pub fn resume_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.resume()
    }

    fn node(&self, index: usize) -> Result<&Node> {
        self.nodes.get(index).with_context(|| format!("no server {index}"))
    }

    fn node_mut(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes.get_mut(index).with_context(|| format!("no server {index}"))
    }
}

/// The server's program: `$NATS_SERVER`, or the one that `make setup` installs.
pub fn program() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("NATS_SERVER") {
        return Ok(path.into());
    }
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools/bin/nats-server");
    if !installed.exists() {
        bail!("no nats-server in .tools/bin: run `make setup`, or name one in NATS_SERVER");
    }
    Ok(installed.canonicalize()?)
}

/// A server's folder with its configuration in it.
fn prepared(folder: &Path, base: &str, sync: Sync) -> Result<PathBuf> {
    fs::create_dir_all(folder)?;
    let folder = folder.canonicalize()?;
    fs::write(
        folder.join("server.conf"),
        configuration::server(&folder, base, sync, "")?,
    )?;
    Ok(folder)
}
