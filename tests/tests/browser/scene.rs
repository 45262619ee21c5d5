//! Where a script plays: a stack of its own, two nodes, and addresses with tokens in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::facts::{Fact, Facts};
use callpulse_tests::process::run_folder;
use callpulse_tests::stack::{Stack, StackBuilder};
use callpulse_tests::token::{self, Role};
use serde_json::{Value, json};
use tokio::sync::{Mutex, MutexGuard};

use crate::ground::Ground;
use crate::script::Script;

/// The length of a minute, in milliseconds.
pub(crate) const INTERVAL_MS: i64 = 1_500;
pub(crate) const SOON: Duration = Duration::from_secs(10);
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);

/// A browser wants a whole machine: one scenario at a time.
static TURN: Mutex<()> = Mutex::const_new(());

/// Dropped in this order: the folder goes when nobody writes to it any more.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) stack: Stack,
    pub(crate) facts: Facts,
    ground: Ground,
    folder: Evidence,
    _turn: MutexGuard<'static, ()>,
}

/// A folder below `.run` that stays only if the test fails.
#[derive(Debug)]
struct Evidence(PathBuf);

impl Scene {
    /// Two nodes and short minutes. None where there is no browser.
    pub(crate) async fn set(name: &str) -> Result<Option<Self>> {
        let stack = StackBuilder::default().set("billing-timer", "tick_interval_ms", INTERVAL_MS);
        Self::set_with(name, stack).await
    }

    /// Two nodes of a stack with settings of its own.
    pub(crate) async fn set_with(name: &str, stack: StackBuilder) -> Result<Option<Self>> {
        let Some(ground) = Ground::find() else {
            return Ok(None);
        };
        let turn = TURN.lock().await;
        let folder = Evidence(run_folder("browser").join(name));
        let stack = stack.edges(2).folder(&folder.0).start().await?;
        let facts = Facts::connect(&stack.nats.url()).await?;
        Ok(Some(Self {
            stack,
            facts,
            ground,
            folder,
            _turn: turn,
        }))
    }

    /// Starts a script of `ws-edge/web/e2e/src` on this stack, the user on the first node and the otomo on the last.
    pub(crate) async fn play(&self, script: &str) -> Result<Script> {
        let addresses = self.addresses(&self.stack.edge(0)?.to_string())?;
        self.play_at(script, addresses).await
    }

    /// As [`play`](Self::play), with the addresses that are given.
    pub(crate) async fn play_at(&self, script: &str, addresses: Value) -> Result<Script> {
        Script::start(&self.ground, script, self.folder.path(), addresses).await
    }

    /// The pages by name. `first` is how the user's node is reached.
    pub(crate) fn addresses(&self, first: &str) -> Result<Value> {
        let last = self.stack.edge(self.stack.edges.len() - 1)?;
        let user = token::good_for(Role::User, "user_001", TOKEN_LIFETIME)?;
        let otomo = token::good_for(Role::Otomo, "otomo_777", TOKEN_LIFETIME)?;
        let operator = token::operator("operator_1", TOKEN_LIFETIME)?;
        Ok(json!({
            "user": format!("http://{first}/?role=user#token={user}"),
            "otomo": format!("http://{last}/?role=otomo#token={otomo}"),
            "both": format!("http://{first}/#user={user}&otomo={otomo}"),
            "ops": format!("http://{last}/ops#token={operator}"),
        }))
    }

    /// The one call that was ever requested.
    pub(crate) async fn call_id(&self) -> Result<String> {
        let stored = self.facts.all().await?;
        let mut requested = stored.into_iter().filter(|fact| fact.name == "requested");
        let first = requested.next().context("nobody has called")?;
        ensure!(requested.next().is_none(), "more than one call");
        Ok(first.call_id)
    }

    /// The stored beginning of the one call, once these sides are found to show exactly its time.
    pub(crate) async fn shown_alike(&self, seen: &Value, sides: &[&str]) -> Result<Fact> {
        let detected = self.facts.expect(&self.call_id().await?, "rtp_detected", SOON).await?;
        let stored = detected.text("connectedAt")?;
        for side in sides {
            let shown = &seen[*side];
            ensure!(shown["exact"] == stored, "{side} is shown {shown}, stored is {stored}");
            ensure!(
                shown["read"] == time_of_day(stored),
                "{side} reads {shown}, stored is {stored}"
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
    #[allow(clippy::print_stderr, reason = "where to look belongs beside the failure")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("---- screenshots, consoles and logs are in {}", self.0.display());
        } else {
            let _ = fs::remove_dir_all(&self.0);
            // The run's own folder, unless another scenario has left something in it.
            let _ = self.0.parent().map(fs::remove_dir);
        }
    }
}

/// How the pages write a time, in the time zone of the tests' browser: UTC.
pub(crate) fn time_of_day(stored: &str) -> String {
    let after_date = stored.split_once('T').map_or(stored, |(_, time)| time);
    after_date.trim_end_matches('Z').to_owned()
}

/// How the pages write a span that is over: `00:42.123`.
pub(crate) fn span(ms: i64) -> String {
    format!("{:02}:{:02}.{:03}", ms / 60_000, ms / 1_000 % 60, ms % 1_000)
}
