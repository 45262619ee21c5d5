//! The fixture of a scenario: its own stack with two nodes, and page addresses with tokens.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::reader::{Fact, Facts};
use callpulse_tests::servers::process::run_folder;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::token::{self, Role};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::prerequisites::Prerequisites;
use crate::script::Script;

/// The length of a minute, in milliseconds.
pub(crate) const INTERVAL_MS: i64 = 1_500;
pub(crate) const SOON: Duration = Duration::from_secs(10);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// One scenario at a time: a browser needs the whole machine.
static MUTEX: Mutex<()> = Mutex::const_new(());

/// Fields drop in this order: the folder last, when no process writes to it.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) stack: Stack,
    pub(crate) facts: Facts,
    prerequisites: Prerequisites,
    folder: Evidence,
    _guard: MutexGuard<'static, ()>,
}

/// A folder below `.run` that is kept only if the test fails.
#[derive(Debug)]
struct Evidence(PathBuf);

impl Fixture {
    /// Two nodes and short minutes. None without a browser.
    pub(crate) async fn start(name: &str) -> Result<Option<Self>> {
        let stack = StackBuilder::default().set("billing-timer", "tick_interval_ms", INTERVAL_MS);
        Self::start_with(name, stack).await
    }

    /// Two nodes of the given stack.
    pub(crate) async fn start_with(name: &str, stack: StackBuilder) -> Result<Option<Self>> {
        let Some(prerequisites) = Prerequisites::find() else {
            return Ok(None);
        };
        let guard = MUTEX.lock().await;
        let folder = Evidence(run_folder("browser").join(name));
        let stack = stack.edges(2).folder(&folder.0).start().await?;
        let facts = Facts::connect(&stack.nats.url()).await?;
        Ok(Some(Self {
            stack,
            facts,
            prerequisites,
            folder,
            _guard: guard,
        }))
    }

    /// Starts a script of `ws-edge/web/e2e/src` on this stack, the user on the first node and the otomo on the last.
    pub(crate) async fn run_script(&self, script: &str) -> Result<Script> {
        let addresses = self.addresses(&self.stack.edge(0)?.to_string())?;
        self.run_script_at(script, addresses).await
    }

    /// Like [`run_script`](Self::run_script), with the given addresses.
    pub(crate) async fn run_script_at(&self, script: &str, addresses: Value) -> Result<Script> {
        Script::start(&self.prerequisites, script, self.folder.path(), addresses).await
    }

    /// The pages by name. `first` is the address of the user's node.
    pub(crate) fn addresses(&self, first: &str) -> Result<Value> {
        let last = self.stack.edge(self.stack.edges.len() - 1)?;
        let user = token::valid_for(Role::User, "user_001", TOKEN_LIFETIME)?;
        let otomo = token::valid_for(Role::Otomo, "otomo_777", TOKEN_LIFETIME)?;
        let operator = token::operator("operator_1", TOKEN_LIFETIME)?;
        Ok(json!({
            "user": format!("http://{first}/?role=user#token={user}"),
            "otomo": format!("http://{last}/?role=otomo#token={otomo}"),
            "both": format!("http://{first}/#user={user}&otomo={otomo}"),
            "ops": format!("http://{last}/ops#token={operator}"),
        }))
    }

    /// The only requested call.
    pub(crate) async fn call_id(&self) -> Result<String> {
        let stored = self.facts.all().await?;
        let mut requested = stored.into_iter().filter(|fact| fact.name == "requested");
        let first = requested.next().context("no call was requested")?;
        ensure!(requested.next().is_none(), "more than one call");
        Ok(first.call_id)
    }

    /// Waits until a script has connected a call of both sides and checks the time that they show; returns the call.
    pub(crate) async fn expect_connected(&self, script: &mut Script) -> Result<String> {
        let connected = script.expect("connected").await?;
        let detected = self.expect_shown_time(&connected, &["user", "otomo"]).await?;
        Ok(detected.call_id)
    }

    /// Checks that these sides show exactly the stored time of the connection, and returns that fact.
    pub(crate) async fn expect_shown_time(&self, seen: &Value, sides: &[&str]) -> Result<Fact> {
        let detected = self.facts.expect(&self.call_id().await?, "rtp_detected", SOON).await?;
        let stored = detected.text("connectedAt")?;
        for side in sides {
            let shown = &seen[*side];
            ensure!(shown["exact"] == stored, "{side} shows {shown}, stored is {stored}");
            ensure!(
                shown["read"] == time_of_day(stored),
                "{side} displays {shown}, stored is {stored}"
            );
        }
        Ok(detected)
    }
}

impl Evidence {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Evidence {
    #[allow(clippy::print_stderr, reason = "the path belongs beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- screenshots, consoles and logs are in {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
            // Fails if another scenario has kept its folder.
            let _ = self.0.parent().map(fs::remove_dir);
        }
    }
}

/// A time as the pages show it, in the time zone of the tests' browser: UTC.
pub(crate) fn time_of_day(stored: &str) -> String {
    let after_date = stored.split_once('T').map_or(stored, |(_, time)| time);
    after_date.trim_end_matches('Z').to_owned()
}

/// A finished time span as the pages show it: `00:42.123`.
pub(crate) fn span(ms: i64) -> String {
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}
