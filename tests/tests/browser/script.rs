//! A running script: what it says, what it is told, and its end, with which its browser ends, too.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use callpulse_tests::child::Child;
use callpulse_tests::wait::eventually;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::ground::Ground;

/// How long a script may take from one word to the next: longer than it waits for anything itself.
const NEXT_WORD_WITHIN: Duration = Duration::from_secs(60);
/// How long the browser may take to go once its script is gone.
const GONE_WITHIN: Duration = Duration::from_secs(10);
/// How long a failed test's script may take to keep what its windows look like.
const PICTURES_WITHIN: Duration = Duration::from_secs(10);
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(crate) struct Script {
    child: Child,
    words: Lines<BufReader<pipe::Receiver>>,
    /// None once nothing more is to be said.
    ear: Option<pipe::Sender>,
    /// Profiles and whatever else the browser writes. Its name is on the browser's command line, and on no other.
    temporary: TempDir,
}

impl Script {
    /// Starts one with Node, and tells it where to play.
    pub(crate) async fn start(ground: &Ground, name: &str, folder: &Path, mut scene: Value) -> Result<Self> {
        let temporary = tempfile::Builder::new().prefix("callpulse-browser-").tempdir()?;
        let mut command = Command::new(&ground.node);
        command
            .arg(ground.scripts.join(name).with_extension("ts"))
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .env("HOME", temporary.path())
            .env("TMPDIR", temporary.path());
        let mut child = Child::start_listening(name, &mut command, &folder.join(format!("{name}.script.log")))?;
        let words = BufReader::new(child.take_stdout()?).lines();
        let ear = Some(child.take_stdin()?);
        let mut script = Self {
            child,
            words,
            ear,
            temporary,
        };
        scene["chromium"] = json!(ground.chromium);
        scene["folder"] = json!(folder);
        script.say(&scene).await?;
        Ok(script)
    }

    /// The next thing that it says, which must be this, and what it has seen.
    pub(crate) async fn hear(&mut self, what: &str) -> Result<Value> {
        self.hear_within(what, NEXT_WORD_WITHIN).await
    }

    /// As [`hear`](Self::hear), for what takes longer.
    pub(crate) async fn hear_within(&mut self, what: &str, within: Duration) -> Result<Value> {
        let word = timeout(within, self.words.next_line()).await;
        let word = word.with_context(|| format!("nothing said of {what} within {within:?}"))??;
        let word = word.with_context(|| format!("it ended before {what}: {}", self.child.log_tail()))?;
        let mut word: Value = serde_json::from_str(&word).with_context(|| format!("{word:?} is no JSON"))?;
        if word["what"] == "failed" {
            bail!(
                "the script failed before {what}: {}",
                word["seen"]["error"].as_str().unwrap_or_default()
            );
        }
        ensure!(word["what"] == what, "{what} was awaited, it says {word}");
        Ok(word["seen"].take())
    }

    /// What it asked for is done.
    pub(crate) async fn done(&mut self, what: &str) -> Result<()> {
        self.say(&json!(what)).await
    }

    /// Waits for its end and that of its browser. Gives what it has seen of each window.
    pub(crate) async fn end(mut self) -> Result<Value> {
        let seen = self.hear("done").await?;
        let status = self.child.until_ended(GONE_WITHIN).await?;
        ensure!(status.success(), "the script ended with {status}");
        eventually("the end of the browser", GONE_WITHIN, async || {
            let left = self.browser();
            ensure!(left.is_empty(), "processes {left:?} are left");
            Ok(())
        })
        .await?;
        Ok(seen)
    }

    async fn say(&mut self, word: &Value) -> Result<()> {
        let ear = self.ear.as_mut().context("it is not spoken to any more")?;
        ear.write_all(format!("{word}\n").as_bytes()).await?;
        Ok(())
    }

    /// The browser's processes: those whose command line has the folder that only they were given.
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
        self.ear = None;
        if thread::panicking() {
            // It takes pictures of its windows now, and ends.
            let deadline = Instant::now() + PICTURES_WITHIN;
            while Instant::now() < deadline && matches!(self.child.ended(), Ok(None)) {
                thread::sleep(LOOK_INTERVAL);
            }
        }
        let _ = self.child.kill();
        // The browser ends by itself when its script does; not one that hangs.
        for id in self.browser() {
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
}
