//! One nats-server process with its own folder, and the same ports after every restart.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::servers::child::Child;
use crate::wait::{PermanentError, eventually};

use super::program;

/// The deadline for a server to accept connections.
const START_WITHIN: Duration = Duration::from_secs(20);
/// The deadline for an orderly stop.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The environment variables of the process.
pub(super) type Environment = BTreeMap<String, String>;

#[derive(Debug)]
pub(super) struct Node {
    name: String,
    folder: PathBuf,
    port: Option<u16>,
    monitoring: Option<SocketAddr>,
    environment: Environment,
    child: Option<Child>,
    frozen: bool,
}

fn store(folder: &Path) -> PathBuf {
    folder.join("store")
}

impl Node {
    /// Without a port, it takes a free one at its first start.
    pub(super) fn new(name: &str, folder: &Path, port: Option<u16>, mut environment: Environment) -> Self {
        // Quoted, because the server parses variables like its configuration file.
        let store = format!("\"{}\"", store(folder).display());
        environment.insert("NATS_STORE_DIR".to_owned(), store);
        Self {
            name: name.to_owned(),
            folder: folder.to_owned(),
            port,
            monitoring: None,
            environment,
            child: None,
            frozen: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Where its streams are.
    pub(super) fn store(&self) -> PathBuf {
        store(&self.folder)
    }

    /// 0 before the first start, unless a port was given.
    pub(super) fn port(&self) -> u16 {
        self.port.unwrap_or_default()
    }

    pub(super) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port())
    }

    /// The address of its monitoring endpoint, if configured.
    pub(super) fn monitoring(&self) -> Option<SocketAddr> {
        self.monitoring
    }

    /// Started by the harness, and not killed, stopped or frozen since.
    pub(super) fn is_up(&self) -> bool {
        self.child.is_some() && !self.frozen
    }

    pub(super) fn child_mut(&mut self) -> Option<&mut Child> {
        self.child.as_mut()
    }

    /// Kills a running process first.
    pub(super) async fn start(&mut self) -> Result<()> {
        self.kill()?;
        let child = self.child.insert(self.spawn()?);
        let ports = bound_ports(child, &self.folder).await?;
        let port = ports.client()?;
        ensure!(
            self.port.is_none_or(|wanted| wanted == port),
            "{} is on port {port} instead of {:?}",
            self.name,
            self.port
        );
        self.port = Some(port);
        self.monitoring = ports.monitoring()?;
        Ok(())
    }

    /// Does nothing if it is not running.
    pub(super) fn kill(&mut self) -> Result<()> {
        self.frozen = false;
        let child = self.child.take();
        child.map_or(Ok(()), |mut child| child.kill().map(drop))
    }

    pub(super) async fn stop(&mut self) -> Result<()> {
        self.resume()?;
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let status = child.terminate(STOP_WITHIN).await?;
        ensure!(status.success(), "{} stopped with {status}", self.name);
        Ok(())
    }

    pub(super) fn freeze(&mut self) -> Result<()> {
        self.child.as_ref().context("it is not running")?.freeze()?;
        self.frozen = true;
        Ok(())
    }

    pub(super) fn resume(&mut self) -> Result<()> {
        if std::mem::take(&mut self.frozen) {
            self.child.as_ref().context("it is not running")?.resume()?;
        }
        Ok(())
    }

    fn spawn(&self) -> Result<Child> {
        let mut command = Command::new(program()?);
        command.arg("-c").arg(self.folder.join("server.conf"));
        command
            .arg("-p")
            .arg(self.port.map_or_else(|| "-1".to_owned(), |port| port.to_string()));
        command.arg("--ports_file_dir").arg(&self.folder);
        command.envs(&self.environment);
        Child::start(&self.name, &mut command, &self.folder.join("nats-server.log"))
    }
}

#[derive(Deserialize)]
struct Ports {
    nats: Vec<String>,
    #[serde(default)]
    monitoring: Vec<String>,
}

impl Ports {
    fn client(&self) -> Result<u16> {
        let port = self.nats.first().and_then(|url| url.rsplit(':').next());
        Ok(port.context("no client port")?.parse()?)
    }

    fn monitoring(&self) -> Result<Option<SocketAddr>> {
        let address = self.monitoring.first().and_then(|url| url.rsplit('/').next());
        Ok(address.map(str::parse).transpose()?)
    }
}

/// The server writes its bound ports to `<program>_<pid>.ports`.
async fn bound_ports(child: &mut Child, folder: &Path) -> Result<Ports> {
    let suffix = format!("_{}.ports", child.pid());
    eventually("nats-server accepting connections", START_WITHIN, async || {
        if let Some(status) = child.ended()? {
            bail!(PermanentError(format!("it ended ({status}): {}", child.log_tail())));
        }
        let written = fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
        let mut written = written.filter(|path| path.to_string_lossy().ends_with(&suffix));
        let path = written.next().context("no ports file yet")?;
        let ports: Ports = serde_json::from_slice(&fs::read(path)?)?;
        TcpStream::connect(("127.0.0.1", ports.client()?)).await?;
        Ok(ports)
    })
    .await
}
