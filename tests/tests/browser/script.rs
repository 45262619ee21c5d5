//! A running script: its messages, the answers to it, and its end, which also ends its browser.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::servers::child::Child;
use callpulse_tests::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::prerequisites::Prerequisites;

/// Longest time between two messages of a script: longer than any timeout inside it.
const MESSAGE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the browser may take to exit after its script.
const EXIT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the script of a failed test may take to save screenshots.
const EVIDENCE_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Script {
    child: Child,
    messages: Lines<BufReader<pipe::Receiver>>,
    /// None once the test sends nothing more.
    stdin: Option<pipe::Sender>,
    /// The browser's files. Only the browser's command line contains this path.
    temporary: TempDir,
}

impl Script {
    /// Starts a script with Node, and sends it the fixture.
    pub(crate) async fn start(
        prerequisites: &Prerequisites,
        name: &str,
        folder: &Path,
        fixture: Value,
    ) -> Result<Self> {
        Self::start_by(Command::new(&prerequisites.node), prerequisites, name, folder, fixture).await
    }

    /// Like [`start`](Self::start), by another command that runs Node.
    pub(crate) async fn start_by(
        mut command: Command,
        prerequisites: &Prerequisites,
        name: &str,
        folder: &Path,
        mut fixture: Value,
    ) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("callpulse-browser-").tempdir()?;
        command
            .arg(prerequisites.scripts.join(name).with_extension("ts"))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", temporary.path())
            .env("TMPDIR", temporary.path());
        let mut child = Child::start_with_stdin(name, &mut command, &folder.join(format!("{name}.script.log")))?;
        let messages = BufReader::new(child.take_stdout()?).lines();
        let stdin = Some(child.take_stdin()?);
        let mut script = Self {
            child,
            messages,
            stdin,
            temporary,
        };
        fixture["chromium"] = json!(prerequisites.chromium);
        fixture["folder"] = json!(folder);
        script.send(&fixture).await?;
        Ok(script)
    }

    /// Waits for the next message, which must be `what`, and returns its content.
    pub(crate) async fn expect(&mut self, what: &str) -> Result<Value> {
        self.expect_within(what, MESSAGE_TIMEOUT).await
    }

    /// Like [`expect`](Self::expect), with a given timeout.
    pub(crate) async fn expect_within(&mut self, what: &str, within: Duration) -> Result<Value> {
        let message = timeout(within, self.messages.next_line()).await;
        let message = message.with_context(|| format!("no message {what} within {within:?}"))??;
        let message = message.with_context(|| format!("the script ended before {what}: {}", self.child.log_tail()))?;
        let mut message: Value = serde_json::from_str(&message).with_context(|| format!("{message:?} is not JSON"))?;
        if message["what"] == "failed" {
            bail!(
                "the script failed before {what}: {}",
                message["seen"]["error"].as_str().unwrap_or_default()
            );
        }
        ensure!(message["what"] == what, "expected {what}, received {message}");
        Ok(message["seen"].take())
    }

    /// Waits for something that the script causes. If the script fails, so does this, with the script's error.
    #[allow(dead_code, reason = "for tests that wait for an effect elsewhere")]
    pub(crate) async fn causes<T>(&mut self, caused: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            caused = caused => caused,
            message = self.expect("what it causes") => bail!("unexpected message: {:?}", message?),
        }
    }

    /// Confirms that the request `what` of the script is done.
    pub(crate) async fn done(&mut self, what: &str) -> Result<()> {
        self.send(&json!(what)).await
    }

    /// Waits for the end of the script and its browser. Returns what it recorded of each window.
    pub(crate) async fn end(mut self) -> Result<Value> {
        let seen = self.expect("done").await?;
        let status = self.child.until_ended(EXIT_TIMEOUT).await?;
        ensure!(status.success(), "the script ended with {status}");
        eventually("the end of the browser", EXIT_TIMEOUT, async || {
            let left = self.browser();
            ensure!(left.is_empty(), "processes {left:?} are still running");
            Ok(())
        })
        .await?;
        Ok(seen)
    }

    async fn send(&mut self, message: &Value) -> Result<()> {
        let stdin = self.stdin.as_mut().context("the script's input is closed")?;
        stdin.write_all(format!("{message}\n").as_bytes()).await?;
        Ok(())
    }

    /// The browser's processes: their command line contains the temporary folder.
    fn browser(&self) -> Vec<i32> {
        let folder = self.temporary.path().to_string_lossy();
        let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
        let ids = processes.filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
        ids.filter(|id| {
            let line = fs::read(format!("/proc/{id}/cmdline")).unwrap_or_default();
            String::from_utf8_lossy(&line).contains(&*folder)
        })
        .collect()
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.stdin = None;
        if thread::panicking() {
            // The script saves screenshots of its windows, and exits.
            let deadline = Instant::now() + EVIDENCE_TIMEOUT;
            while Instant::now() < deadline && matches!(self.child.ended(), Ok(None)) {
                thread::sleep(POLL_INTERVAL);
            }
        }
        let _ = self.child.kill();
        // The browser exits with its script, unless it hangs.
        for id in self.browser() {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
