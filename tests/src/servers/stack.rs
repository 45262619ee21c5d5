//! The whole system on loopback: nats-servers, media-workers, edges and billing-timers, each a process.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::future::try_join_all;
use tempfile::TempDir;

use crate::servers::links::Links;
use crate::servers::nats_server::{NatsServer, Sync};
use crate::servers::process::{self, Service, Settings};
use crate::servers::wall_clock::WallClock;
use crate::token;

const MEDIA_WORKER: &str = "media-worker";
const WS_EDGE: &str = "ws-edge";
const BILLING_TIMER: &str = "billing-timer";

/// The drain timeout of media-workers: stopping a stack does not wait long for its calls.
const DRAIN: Duration = Duration::from_secs(10);
/// The time over which edges close their sockets, for the same reason.
const CLOSE_SPREAD: Duration = Duration::from_millis(200);
/// How long edges accept calls in a stack without billing-timers.
const WITHOUT_TIMERS: Duration = Duration::from_secs(24 * 3600);
/// The deadline for a service to drain and stop.
const STOP_WITHIN: Duration = Duration::from_secs(15);

/// The processes to start, and their settings.
#[derive(Debug, Clone)]
#[must_use]
pub struct StackBuilder {
    workers: usize,
    edges: usize,
    timers: usize,
    sync: Sync,
    folder: Option<PathBuf>,
    nats_port: Option<u16>,
    cluster: bool,
    absent: Vec<usize>,
    proxied: bool,
    own_clocks: bool,
    /// Program (or the name of one process, such as `ws-edge-2`), key, value.
    overrides: Vec<(String, String, String)>,
    /// By program.
    binaries: BTreeMap<String, PathBuf>,
}

/// Running processes. Dropping it kills them, the server last, and removes the temporary folder.
#[derive(Debug)]
pub struct Stack {
    /// One process each.
    pub workers: Vec<Service>,
    /// One process each.
    pub edges: Vec<Service>,
    /// One process each.
    pub timers: Vec<Service>,
    /// Their server, or cluster.
    pub nats: NatsServer,
    /// By process.
    links: BTreeMap<String, Links>,
    folder: PathBuf,
    /// For processes that are added.
    builder: StackBuilder,
    _temporary: Option<TempDir>,
}

impl Default for StackBuilder {
    fn default() -> Self {
        Self {
            workers: 1,
            edges: 1,
            timers: 1,
            sync: Sync::Always,
            folder: None,
            nats_port: None,
            cluster: false,
            absent: Vec::new(),
            proxied: false,
            own_clocks: false,
            overrides: Vec::new(),
            binaries: BTreeMap::new(),
        }
    }
}

impl StackBuilder {
    /// The number of media-workers.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// The number of ws-edge nodes.
    pub fn edges(mut self, edges: usize) -> Self {
        self.edges = edges;
        self
    }

    /// The number of billing-timers.
    pub fn timers(mut self, timers: usize) -> Self {
        self.timers = timers;
        self
    }

    /// When the server syncs its writes to the disk.
    pub fn sync(mut self, sync: Sync) -> Self {
        self.sync = sync;
        self
    }

    /// The folder for logs and the server's store. Without it, they are temporary.
    pub fn folder(mut self, folder: impl Into<PathBuf>) -> Self {
        self.folder = Some(folder.into());
        self
    }

    /// The server's port. Without it, a free one.
    pub fn nats_port(mut self, port: u16) -> Self {
        self.nats_port = Some(port);
        self
    }

    /// Three servers, and three replicas of every stream.
    pub fn cluster(mut self) -> Self {
        self.cluster = true;
        self
    }

    /// Servers of the [`cluster`](Self::cluster) that are not started: [`NatsServer::restart_node`] starts them later.
    /// [`start`](Self::start) then does not wait for readiness: see [`Stack::ready`].
    pub fn absent(mut self, nodes: &[usize]) -> Self {
        self.absent = nodes.to_vec();
        self
    }

    /// Every service has its own wall clock: see [`Service::set_clock_offset`].
    pub fn own_clocks(mut self) -> Self {
        self.own_clocks = true;
        self
    }

    /// Every service connects to each server through its own proxy: see [`Stack::links`].
    pub fn proxied(mut self) -> Self {
        self.proxied = true;
        self
    }

    /// A setting of every process of a program, or of one: `ws-edge-2` is the second edge.
    pub fn set(mut self, program_or_process: &str, key: &str, value: impl ToString) -> Self {
        self.overrides
            .push((program_or_process.to_owned(), key.to_owned(), value.to_string()));
        self
    }

    /// Another build of a program, such as a release build. Otherwise the one beside the running program is started.
    pub fn binary(mut self, program: &str, path: impl Into<PathBuf>) -> Self {
        self.binaries.insert(program.to_owned(), path.into());
        self
    }

    /// Starts all processes and waits until they are ready.
    pub async fn start(self) -> Result<Stack> {
        let temporary = match &self.folder {
            Some(_) => None,
            None => Some(tempfile::Builder::new().prefix("callpulse-").tempdir()?),
        };
        let folder = temporary
            .as_ref()
            .map(|folder| folder.path().to_owned())
            .or_else(|| self.folder.clone());
        let folder = folder.context("no folder")?;
        std::fs::create_dir_all(&folder)?;
        let nats = self.servers(&folder.join("nats")).await?;
        let links = self.links(&nats).await?;
        let (workers, edges, timers) = tokio::try_join!(
            self.processes(MEDIA_WORKER, &nats, &links, &folder),
            self.processes(WS_EDGE, &nats, &links, &folder),
            self.processes(BILLING_TIMER, &nats, &links, &folder),
        )?;
        let mut stack = Stack {
            workers,
            edges,
            timers,
            nats,
            links,
            folder,
            builder: self.clone(),
            _temporary: temporary,
        };
        if self.absent.is_empty() {
            stack.ready().await?;
        }
        Ok(stack)
    }

    async fn servers(&self, folder: &Path) -> Result<NatsServer> {
        if self.cluster {
            ensure!(self.nats_port.is_none(), "a cluster takes free ports");
            NatsServer::start_cluster(folder, self.sync, &self.absent).await
        } else {
            NatsServer::start_on(folder, self.sync, self.nats_port).await
        }
    }

    async fn links(&self, nats: &NatsServer) -> Result<BTreeMap<String, Links>> {
        let programs = [MEDIA_WORKER, WS_EDGE, BILLING_TIMER].into_iter();
        let processes = programs
            .filter(|_| self.proxied)
            .flat_map(|program| self.names(program));
        let links = processes.map(async |process| anyhow::Ok((process, Links::to(nats).await?)));
        Ok(try_join_all(links).await?.into_iter().collect())
    }

    /// The processes of a program: `ws-edge-1`, `ws-edge-2`, …
    fn names(&self, program: &str) -> Vec<String> {
        let count = match program {
            MEDIA_WORKER => self.workers,
            WS_EDGE => self.edges,
            _ => self.timers,
        };
        (1..=count).map(|number| format!("{program}-{number}")).collect()
    }

    async fn processes(
        &self,
        program: &str,
        nats: &NatsServer,
        links: &BTreeMap<String, Links>,
        logs: &Path,
    ) -> Result<Vec<Service>> {
        let services = self.names(program).into_iter().map(|name| {
            let links = links.get(&name);
            async move { self.process(program, &name, nats, links, logs).await }
        });
        try_join_all(services).await
    }

    async fn process(
        &self,
        program: &str,
        name: &str,
        nats: &NatsServer,
        links: Option<&Links>,
        logs: &Path,
    ) -> Result<Service> {
        let settings = self.settings(program, name, nats, links)?;
        let binary = self.binaries.get(program).cloned();
        let binary = binary.map_or_else(|| process::built(program), Ok)?;
        let clock = self.own_clocks.then(|| logs.join(format!("{name}.clock")));
        let clock = clock.map(|file| WallClock::new(&file)).transpose()?;
        Service::start_binary(binary, program, name, settings, logs, clock).await
    }

    fn settings(&self, program: &str, name: &str, nats: &NatsServer, links: Option<&Links>) -> Result<Settings> {
        let any_port = "127.0.0.1:0";
        let mut settings = nats.settings_of(program)?.to_vec();
        // The later of two settings with the same key wins.
        settings.extend(links.map(|links| ("nats.url", links.url())));
        settings.push(("nats.replicas", nats.nodes().to_string()));
        settings.push(("ops.listen", any_port.to_owned()));
        match program {
            MEDIA_WORKER => settings.extend([
                ("worker_id", name.to_owned()),
                ("listen_ip", "127.0.0.1".to_owned()),
                ("drain_timeout_ms", DRAIN.as_millis().to_string()),
            ]),
            WS_EDGE => settings.extend([
                ("node_id", name.to_owned()),
                ("listen", any_port.to_owned()),
                ("jwt.secret", token::SECRET.to_owned()),
                ("jwt.audience", token::AUDIENCE.to_owned()),
                ("limits.close_spread_ms", CLOSE_SPREAD.as_millis().to_string()),
            ]),
            _ => settings.push(("instance_id", name.to_owned())),
        }
        if program == WS_EDGE && self.timers == 0 {
            settings.push(("billing_timeout_ms", WITHOUT_TIMERS.as_millis().to_string()));
        }
        // Calls have the minutes of their edge's terms.
        let interval = self
            .overrides
            .iter()
            .filter(|(of, key, _)| of == BILLING_TIMER && key == "tick_interval_ms");
        if program == WS_EDGE {
            settings.extend(interval.map(|(.., value)| ("terms.interval_ms", value.clone())));
        }
        let overrides = self.overrides.iter().filter(|(of, _, _)| of == program || of == name);
        let settings = settings.into_iter().map(|(key, value)| (key.to_owned(), value));
        Ok(settings
            .chain(overrides.map(|(_, key, value)| (key.clone(), value.clone())))
            .collect())
    }
}

impl Stack {
    /// Starts one of each.
    pub async fn start() -> Result<Self> {
        StackBuilder::default().start().await
    }

    /// The WebSocket address of an edge; 0 is the first.
    pub fn edge(&self, index: usize) -> Result<SocketAddr> {
        let edge = self
            .edges
            .get(index)
            .with_context(|| format!("only {} edges", self.edges.len()))?;
        edge.address("ws")
    }

    /// The links of one process (`ws-edge-2` is the second edge) to NATS.
    /// Fails if the stack is not [`proxied`](StackBuilder::proxied).
    pub fn links(&self, process: &str) -> Result<&Links> {
        let links = self.links.get(process);
        links.with_context(|| format!("{process} has no proxies, only {:?}", self.links.keys()))
    }

    /// Starts one more process of a program, waits until it is ready, and returns its name.
    pub async fn add(&mut self, program: &str) -> Result<String> {
        let services = match program {
            MEDIA_WORKER => &mut self.workers,
            WS_EDGE => &mut self.edges,
            _ => &mut self.timers,
        };
        let name = format!("{program}-{}", services.len() + 1);
        let taken = services.iter().any(|service| service.child().name() == name);
        ensure!(!taken, "{name} runs already");
        let mut service = self
            .builder
            .process(program, &name, &self.nats, None, &self.folder)
            .await?;
        service.ready().await?;
        services.push(service);
        Ok(name)
    }

    /// The folder of the logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The processes of all services, in the order in which they are stopped.
    pub fn services_mut(&mut self) -> impl Iterator<Item = &mut Service> {
        self.edges.iter_mut().chain(&mut self.timers).chain(&mut self.workers)
    }

    /// Stops everything in order: edges first, the server last.
    /// Fails if a process overruns its deadline or fails; the others are stopped too.
    pub async fn stop(mut self) -> Result<()> {
        let mut failures = Vec::new();
        for service in self.services_mut() {
            let name = service.child().name().to_owned();
            match service.terminate(STOP_WITHIN).await {
                Ok(status) if status.success() => {}
                Ok(status) => failures.push(format!("{name} stopped with {status}")),
                Err(error) => failures.push(format!("{error:#}")),
            }
        }
        self.nats.stop().await?;
        ensure!(failures.is_empty(), "{}", failures.join("; "));
        Ok(())
    }

    /// Waits until every process is ready.
    pub async fn ready(&mut self) -> Result<()> {
        let all = self.workers.iter_mut().chain(&mut self.edges).chain(&mut self.timers);
        try_join_all(all.map(Service::ready)).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_setting_of_one_process_does_not_affect_the_others() {
        let folder = tempfile::tempdir().unwrap();
        let nats = NatsServer::start(folder.path(), Sync::Lazy).await.unwrap();
        let stack = StackBuilder::default()
            .set(WS_EDGE, "ring_timeout_ms", 700)
            .set("ws-edge-2", "listen", "[::1]:0");
        let of = |name| stack.settings(WS_EDGE, name, &nats, None).unwrap();
        assert_eq!(of("ws-edge-1")["ring_timeout_ms"], "700");
        assert_eq!(
            (of("ws-edge-1")["listen"].as_str(), of("ws-edge-2")["listen"].as_str()),
            ("127.0.0.1:0", "[::1]:0")
        );
        assert_eq!(of("ws-edge-2")["nats.url"], nats.url());
        let timer = stack.settings(BILLING_TIMER, "billing-timer-1", &nats, None).unwrap();
        assert!(!timer.contains_key("jwt.secret"));
        assert_eq!(timer["nats.user"], BILLING_TIMER);
        assert_ne!(timer["nats_password"], of("ws-edge-1")["nats_password"]);
    }
}
