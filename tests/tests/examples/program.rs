//! An example that runs.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::skip::skipped;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::net::unix::pipe;
use tokio::time::timeout;

/// A cold start of an interpreter on a busy machine.
const SOON: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    Python,
    TypeScript,
    Rust,
}

/// A running example. Dropping it kills it.
pub(crate) struct Program {
    child: Child,
    lines: Lines<BufReader<pipe::Receiver>>,
}

impl Language {
    pub(crate) const ALL: [Self; 3] = [Self::Python, Self::TypeScript, Self::Rust];

    pub(crate) fn files(self) -> Vec<PathBuf> {
        match self {
            Self::Python => ["facts", "wake"]
                .map(|name| examples().join(format!("python/{name}.py")))
                .to_vec(),
            Self::TypeScript => vec![examples().join("typescript/facts.ts")],
            Self::Rust => ["subscribe", "replay", "terminate"]
                .map(|name| examples().join(format!("rust/{name}.rs")))
                .to_vec(),
        }
    }

    /// Whether its packages are installed; prints the reason if they are not.
    pub(crate) fn is_available(self) -> bool {
        let installed = examples().join("typescript/node_modules/.package-lock.json");
        let is_available = self != Self::TypeScript || installed.is_file();
        if !is_available {
            skipped(
                "the packages of the TypeScript example are not installed: deploy/setup/npm.sh examples deploy/examples/typescript",
            );
        }
        is_available
    }

    fn command(self, arguments: &[&str]) -> Result<Command> {
        let tool = |name: &str| root().join(".tools/bin").join(name);
        let (program, arguments) = match (self, arguments) {
            (Self::Python, ["wake"]) => (tool("python"), vec![examples().join("python/wake.py")]),
            (Self::Python, _) => {
                let file = examples().join("python/facts.py");
                (tool("python"), [&[file], &paths(arguments)[..]].concat())
            }
            (Self::TypeScript, _) => (tool("node"), [&self.files(), &paths(arguments)[..]].concat()),
            // One program for both kinds of subscription, and one for each of the others.
            (Self::Rust, ["live" | "durable"]) => (built("subscribe")?, paths(arguments)),
            (Self::Rust, [name, arguments @ ..]) => (built(name)?, paths(arguments)),
            (Self::Rust, []) => (built("subscribe")?, Vec::new()),
        };
        let mut command = Command::new(program);
        command.args(arguments);
        Ok(command)
    }
}

impl Program {
    /// Starts it as a NATS user.
    pub(crate) fn start(language: Language, arguments: &[&str], stack: &Stack, user: &str) -> Result<Self> {
        let mut command = language.command(arguments)?;
        command
            .env("NATS_URL", stack.nats.url())
            .env("NATS_USER", user)
            .env("NATS_PASSWORD", stack.nats.password(user)?);
        let log = stack.folder().join("example.log");
        let mut child = Child::start("the example", &mut command, &log)?;
        let lines = BufReader::new(child.take_stdout()?).lines();
        Ok(Self { child, lines })
    }

    /// Its next line.
    pub(crate) async fn line(&mut self) -> Result<String> {
        let line = timeout(SOON, self.lines.next_line()).await;
        let line = line.with_context(|| format!("no line: {}", self.child.log_tail()))??;
        line.with_context(|| format!("it has ended: {}", self.child.log_tail()))
    }

    /// The subject of the next fact.
    pub(crate) async fn subject_within(&mut self, within: Duration) -> Result<String> {
        let line = timeout(within, self.line()).await.context("no line yet")??;
        let (subject, fact) = line.split_once(' ').with_context(|| line.clone())?;
        let fact: serde_json::Value = serde_json::from_str(fact)?;
        ensure!(subject.contains(fact["callId"].as_str().unwrap_or("no call")), "{line}");
        Ok(subject.to_owned())
    }

    /// The subjects of the next facts.
    pub(crate) async fn subjects(&mut self, count: usize) -> Result<Vec<String>> {
        let mut subjects = Vec::new();
        while subjects.len() < count {
            subjects.push(self.subject_within(SOON).await?);
        }
        Ok(subjects)
    }

    /// Waits until it has ended with success, and without another line.
    pub(crate) async fn until_ended(&mut self) -> Result<()> {
        let status = self.child.until_ended(SOON).await?;
        ensure!(status.success(), "{status}: {}", self.child.log_tail());
        let line = self.lines.next_line().await?;
        ensure!(line.is_none(), "{line:?}");
        Ok(())
    }
}

fn paths(arguments: &[&str]) -> Vec<PathBuf> {
    arguments.iter().map(PathBuf::from).collect()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn examples() -> PathBuf {
    root().join("deploy/examples")
}

/// An example of this crate, which `cargo test` builds.
fn built(name: &str) -> Result<PathBuf> {
    let test = env::current_exe()?;
    let target = test.ancestors().nth(2).context("no target folder")?;
    let example = target.join("examples").join(name);
    ensure!(example.is_file(), "no {name}: run `cargo build --workspace --examples`");
    Ok(example)
}
