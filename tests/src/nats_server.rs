//! A real nats-server with a port, a store and a configuration of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;
use tokio::net::TcpStream;

use crate::child::Child;
use crate::eventually::{Hopeless, eventually};

/// How long a server may take until it accepts connections.
const START_WITHIN: Duration = Duration::from_secs(20);
/// How long an orderly stop may take.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// More than any test stores.
const MAX_FILE_STORE: &str = "4GB";

/// When an acknowledged write is on the disk itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// Before the acknowledgement: what production runs with.
    #[default]
    Always,
    /// Now and then: survives the server's death, not the machine's. Faster.
    Lazy,
}

/// The users of `nats/conf/accounts.conf`. A service's user is named like its program.
pub const USERS: [&str; 6] = [
    "admin",
    "media-worker",
    "ws-edge",
    "billing-timer",
    "observer",
    "wallet",
];

/// Passwords by user, thought up for one server.
type Passwords = BTreeMap<&'static str, String>;

/// One nats-server on loopback, with the repository's configuration and its users. Dropping it kills it.
///
/// Who names no user is `admin` here: a test may look at everything, and set anything up.
#[derive(Debug)]
pub struct NatsServer {
    folder: PathBuf,
    port: u16,
    passwords: Passwords,
    child: Child,
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
        fs::create_dir_all(folder)?;
        let folder = folder.canonicalize()?;
        fs::write(folder.join("server.conf"), configuration(&folder, sync)?)?;
        let passwords = USERS.map(|user| (user, password())).into();
        let mut child = spawn(&folder, port, &passwords)?;
        let port = bound_port(&mut child, &folder).await?;
        Ok(Self {
            folder,
            port,
            passwords,
            child,
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// The password of one of [`USERS`].
    ///
    /// # Errors
    /// When there is no such user.
    pub fn password(&self, user: &str) -> Result<&str> {
        let password = self.passwords.get(user);
        password.map(String::as_str).with_context(|| format!("no user {user}"))
    }

    /// The settings with which a service connects as itself.
    ///
    /// # Errors
    /// When `program` has no user.
    pub fn settings_of(&self, program: &str) -> Result<[(&'static str, String); 3]> {
        Ok([
            ("nats.url", self.url()),
            ("nats.user", program.to_owned()),
            ("nats_password", self.password(program)?.to_owned()),
        ])
    }

    /// Its port, the same after every restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The process, for its log or a freeze.
    #[must_use]
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// The process, to ask whether it has ended.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// SIGKILL, as a crash.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()
    }

    /// An orderly stop.
    ///
    /// # Errors
    /// When it still runs after 10 s.
    pub async fn stop(&mut self) -> Result<ExitStatus> {
        self.child.terminate(STOP_WITHIN).await
    }

    /// Starts it again on the same port and the same store. Kills it first if it still runs.
    ///
    /// # Errors
    /// When it does not accept connections in time, or somebody took its port.
    pub async fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        self.child = spawn(&self.folder, Some(self.port), &self.passwords)?;
        let port = bound_port(&mut self.child, &self.folder).await?;
        ensure!(port == self.port, "restarted on port {port} instead of {}", self.port);
        Ok(())
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

fn spawn(folder: &Path, port: Option<u16>, passwords: &Passwords) -> Result<Child> {
    let mut command = Command::new(program()?);
    command.arg("-c").arg(folder.join("server.conf"));
    command
        .arg("-p")
        .arg(port.map_or_else(|| "-1".to_owned(), |port| port.to_string()));
    command.arg("--ports_file_dir").arg(folder);
    let passwords = passwords.iter().map(|(user, password)| {
        let user = user.replace('-', "_").to_uppercase();
        (format!("NATS_{user}_PASSWORD"), password)
    });
    command.envs(passwords).env("NATS_MAX_FILE_STORE", MAX_FILE_STORE);
    // Quoted: the server reads a variable as it reads its file, and a folder's name may hold what means something there.
    command.env("NATS_STORE_DIR", format!("\"{}\"", folder.join("store").display()));
    Child::start("nats-server", &mut command, &folder.join("nats-server.log"))
}

/// The repository's configuration, and what only a test wants.
fn configuration(folder: &Path, sync: Sync) -> Result<String> {
    // The server looks for an included file below the folder of the including one, even if its path is absolute.
    let root = "../".repeat(folder.components().count() - 1);
    let conf = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../nats/conf")
        .canonicalize()?;
    let conf = format!("{root}{}", conf.strip_prefix("/")?.display());
    let lazy = match sync {
        Sync::Always => String::new(),
        Sync::Lazy => format!("jetstream {{\n  include \"{conf}/store.conf\"\n  sync_interval: \"2m\"\n}}\n"),
    };
    Ok(format!("include \"{conf}/dev.conf\"\nno_auth_user: admin\n{lazy}"))
}

/// A letter first: the server would read digits as a number, which is no password.
fn password() -> String {
    format!("p{:032x}", rand::random::<u128>())
}

#[derive(Deserialize)]
struct PortsFile {
    nats: Vec<String>,
}

/// The server writes its ports to `<program>_<pid>.ports` once they are bound.
async fn bound_port(child: &mut Child, folder: &Path) -> Result<u16> {
    let suffix = format!("_{}.ports", child.pid());
    eventually("nats-server accepting connections", START_WITHIN, async || {
        if let Some(status) = child.ended()? {
            bail!(Hopeless(format!("it ended ({status}): {}", child.log_tail())));
        }
        let written = fs::read_dir(folder)?.filter_map(Result::ok).map(|entry| entry.path());
        let mut written = written.filter(|path| path.to_string_lossy().ends_with(&suffix));
        let path = written.next().context("no ports file yet")?;
        let ports: PortsFile = serde_json::from_slice(&fs::read(path)?)?;
        let port = ports
            .nats
            .first()
            .and_then(|url| url.rsplit(':').next())
            .context("no client port")?;
        let port: u16 = port.parse()?;
        TcpStream::connect(("127.0.0.1", port)).await?;
        Ok(port)
    })
    .await
}
