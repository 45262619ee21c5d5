//! A real nats-server with a port, a store and a configuration of its own; or three of them that are one cluster.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use crate::child::Child;

pub use configuration::USERS;

use configuration::Passwords;
use node::Node;

mod cluster;
mod configuration;
mod node;

/// Servers of a cluster: the fewest that go on when one is lost.
const CLUSTER_NODES: usize = 3;
/// Somebody may take a port of a cluster before its server does; then all are chosen anew.
const CLUSTER_ATTEMPTS: usize = 3;

/// When an acknowledged write is on the disk itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before the acknowledgement: what production runs with.
    #[default]
    Always,
    /// Now and then: survives the server's death, not the machine's. Faster.
    Lazy,
}

/// NATS on loopback, with the repository's configuration and its users: one server, or a cluster. Dropping it kills it.
///
/// Who names no user is `admin` here: a test may look at everything, and set anything up.
#[derive(Debug)]
pub struct NatsServer {
    passwords: Passwords,
    nodes: Vec<Node>,
}

impl NatsServer {
    /// Starts a server that keeps everything below `folder`, on a free port.
    ///
    /// # Errors
    /// When there is no `nats-server` to start, or it does not accept connections in time.
    pub async fn start(folder: &Path, sync: Sync) -> Result<Self> {
        Self::start_on(folder, sync, None).await
    }

    /// The same on a port of choice; none means a free one.
    ///
    /// # Errors
    /// As [`start`](Self::start); and when the port is taken.
    pub async fn start_on(folder: &Path, sync: Sync, port: Option<u16>) -> Result<Self> {
        let passwords = Passwords::new();
        let folder = prepared(folder, "dev.conf", sync)?;
        let mut node = Node::new("nats-server", &folder, port, passwords.environment());
        node.start().await?;
        let nodes = vec![node];
        Ok(Self { passwords, nodes })
    }

    /// Starts a cluster of three, and waits until it has elected who leads it.
    ///
    /// Those whose indices are `absent` have their places and are not started; [`restart_node`](Self::restart_node)
    /// does. Without the majority there is nothing to wait for.
    ///
    /// # Errors
    /// As [`start`](Self::start); and when nobody is elected in time.
    pub async fn start_cluster(folder: &Path, sync: Sync, absent: &[usize]) -> Result<Self> {
        let mut attempt = 1;
        loop {
            // Each in a folder of its own: a server that came up has written to its store.
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
            cluster.elected().await?;
        }
        Ok(cluster)
    }

    /// Where clients connect: one server that runs, the first if none does.
    #[must_use]
    pub fn url(&self) -> String {
        let running = self.nodes.iter().find(|node| node.is_up());
        running.or(self.nodes.first()).map(Node::url).unwrap_or_default()
    }

    /// Where all of its servers are, running or not.
    #[must_use]
    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Node::url).collect()
    }

    /// The password of one of [`USERS`].
    ///
    /// # Errors
    /// When there is no such user.
    pub fn password(&self, user: &str) -> Result<&str> {
        self.passwords.of(user)
    }

    /// The settings with which a service connects as itself.
    ///
    /// # Errors
    /// When `program` has no user.
    pub fn settings_of(&self, program: &str) -> Result<[(&'static str, String); 3]> {
        Ok([
            ("nats.url", self.urls().join(",")),
            ("nats.user", program.to_owned()),
            ("nats_password", self.password(program)?.to_owned()),
        ])
    }

    /// The first server's port, the same after every restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.nodes.first().map(Node::port).unwrap_or_default()
    }

    /// The ports of all servers, running or not.
    pub fn ports(&self) -> impl Iterator<Item = u16> {
        self.nodes.iter().map(Node::port)
    }

    /// How many servers it is: one, or three.
    #[must_use]
    pub fn nodes(&self) -> usize {
        self.nodes.len()
    }

    /// The processes that run, to ask whether one has ended.
    pub fn children_mut(&mut self) -> impl Iterator<Item = &mut Child> {
        self.nodes.iter_mut().filter_map(Node::child_mut)
    }

    /// SIGKILL to all, as a crash.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<()> {
        self.nodes.iter_mut().try_for_each(Node::kill)
    }

    /// An orderly stop of all.
    ///
    /// # Errors
    /// When one still runs after 10 s, or stops without success.
    pub async fn stop(&mut self) -> Result<()> {
        try_join_all(self.nodes.iter_mut().map(Node::stop)).await.map(drop)
    }

    /// Starts all again on the same ports and the same stores. Kills first what still runs.
    ///
    /// # Errors
    /// When one does not accept connections in time, or somebody took its port.
    pub async fn restart(&mut self) -> Result<()> {
        self.kill()?;
        try_join_all(self.nodes.iter_mut().map(Node::start)).await.map(drop)
    }

    /// SIGKILL to one.
    ///
    /// # Errors
    /// When there is no such server, or the system refuses.
    pub fn kill_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.kill()
    }

    /// Starts one again, or for the first time, on the same port and the same store. Kills it first if it still runs.
    ///
    /// # Errors
    /// When it does not accept connections in time, or somebody took its port.
    pub async fn restart_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.start().await
    }

    /// SIGSTOP to one: it keeps its sockets and does nothing.
    ///
    /// # Errors
    /// When it does not run.
    pub fn freeze_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.freeze()
    }

    /// SIGCONT, after [`freeze_node`](Self::freeze_node).
    ///
    /// # Errors
    /// When it does not run.
    pub fn thaw_node(&mut self, index: usize) -> Result<()> {
        self.node_mut(index)?.thaw()
    }

    fn node(&self, index: usize) -> Result<&Node> {
        self.nodes.get(index).with_context(|| format!("no server {index}"))
    }

    fn node_mut(&mut self, index: usize) -> Result<&mut Node> {
        self.nodes.get_mut(index).with_context(|| format!("no server {index}"))
    }
}

/// The server's program: `$NATS_SERVER`, or what `make setup` installed.
///
/// # Errors
/// When it is not there.
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
    fs::write(folder.join("server.conf"), configuration::server(&folder, base, sync)?)?;
    Ok(folder)
}
