//! The example wallet (`deploy/examples/wallet`): a process of another team, with its database in a folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use async_nats::jetstream::consumer::pull;
use contract::jetstream::storage;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::servers::child::Child;
use crate::servers::nats_server::NatsServer;

const SOON: Duration = Duration::from_secs(20);
/// The user, and the consumer that `callctl team add` creates for it.
const USER: &str = "wallet";

/// What it reserves and charges, and for how long.
#[derive(Debug, Clone)]
pub struct WalletOptions {
    /// Of one interval.
    pub price: u64,
    /// As in the terms of the calls.
    pub interval_ms: u64,
    /// Reserved before a call rings.
    pub first_intervals: u64,
    /// Reserved on each `credit_low`.
    pub renew_intervals: u64,
    /// Until a reservation without a stored `requested` is released.
    pub release_after: Duration,
    /// The longest duration that it grants.
    pub max_ms: u64,
    /// Of a user who is seen for the first time.
    pub opening_balance: u64,
}

impl WalletOptions {
    /// A price of 10 for an interval of this length; two intervals are reserved at first, then one at a time.
    pub fn new(interval_ms: u64) -> Self {
        Self {
            price: 10,
            interval_ms,
            first_intervals: 2,
            renew_intervals: 1,
            release_after: Duration::from_secs(60),
            max_ms: 14_400_000,
            opening_balance: 0,
        }
    }
}

/// An account.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Account {
    /// Its owner.
    pub user_id: String,
    /// What is not reserved.
    pub balance: i64,
    /// All deposits.
    pub deposited: i64,
    /// What is reserved for calls.
    pub reserved: i64,
    /// What was charged for settled calls.
    pub charged: i64,
}

/// A running wallet. Dropping it kills it.
#[derive(Debug)]
pub struct Wallet {
    child: Child,
    _output: JoinSet<()>,
}

/// The wallet's database and its options. Any number of wallets may run on it.
#[derive(Debug, Clone)]
pub struct WalletHome {
    options: WalletOptions,
    database: PathBuf,
    log: PathBuf,
    url: String,
    password: String,
}

impl WalletHome {
    /// Creates the wallet's consumer of facts, and a database in `folder`.
    pub async fn new(nats: &NatsServer, folder: &Path, options: WalletOptions) -> Result<Self> {
        let admin = jetstream::new(async_nats::connect(nats.url()).await?);
        let config = pull::Config {
            durable_name: Some(USER.to_owned()),
            ack_wait: Duration::from_secs(2),
            ..Default::default()
        };
        let calls = admin.get_stream(storage::CALLS).await?;
        calls.create_consumer(config).await?;
        Ok(Self {
            options,
            database: folder.join("wallet.sqlite"),
            log: folder.join("wallet.log"),
            url: nats.url(),
            password: nats.password(USER)?.to_owned(),
        })
    }

    /// Starts a wallet, and waits until it answers questions. With `crash_at` it dies at that point.
    pub async fn start(&self, crash_at: Option<&str>) -> Result<Wallet> {
        let mut command = self.command()?;
        let release_after = self.options.release_after.as_secs_f64().to_string();
        // The URL for a user of its own: the server's has the administrator's name.
        let address = self.url.rsplit('@').next().unwrap_or(&self.url);
        let address = address.trim_start_matches("nats://");
        command
            .args(["serve", "--release-after-s", &release_after])
            .args(["--nats-url", &format!("nats://{address}")])
            .env("NATS_WALLET_PASSWORD", &self.password);
        if let Some(point) = crash_at {
            command.args(["--crash-at", point]);
        }
        let mut child = Child::start(USER, &mut command, &self.log)?;
        let mut lines = BufReader::new(child.take_stdout()?).lines();
        let first = timeout(SOON, lines.next_line()).await.context("no output")??;
        ensure!(
            first.as_deref().is_some_and(|line| line.contains("ready")),
            "{first:?}: {}",
            child.log_tail()
        );
        let mut output = JoinSet::new();
        output.spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Wallet { child, _output: output })
    }

    /// Adds to an account.
    pub fn deposit(&self, user: &str, amount: u64) -> Result<()> {
        let output = self.command()?.args(["deposit", user, &amount.to_string()]).output()?;
        ensure!(output.status.success(), "{output:?}");
        Ok(())
    }

    /// The account of a user.
    pub fn account(&self, user: &str) -> Result<Account> {
        let output = self.command()?.arg("balances").output()?;
        ensure!(output.status.success(), "{output:?}");
        let accounts = std::str::from_utf8(&output.stdout)?.lines();
        let accounts: Vec<Account> = accounts.map(serde_json::from_str).collect::<Result<_, _>>()?;
        let account = accounts.into_iter().find(|account| account.user_id == user);
        account.context("no such account")
    }

    fn command(&self) -> Result<Command> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let python = root.join(".tools/bin/python");
        ensure!(python.exists(), "no Python in .tools/bin: run `make setup`");
        let mut command = Command::new(python);
        let options = &self.options;
        // Its own source stays free of caches.
        command
            .arg("-B")
            .arg(root.join("deploy/examples/wallet/wallet.py"))
            .arg("--database")
            .arg(&self.database)
            .args(["--price", &options.price.to_string()])
            .args(["--interval-ms", &options.interval_ms.to_string()])
            .args(["--first-intervals", &options.first_intervals.to_string()])
            .args(["--renew-intervals", &options.renew_intervals.to_string()])
            .args(["--max-ms", &options.max_ms.to_string()])
            .args(["--opening-balance", &options.opening_balance.to_string()]);
        Ok(command)
    }

    /// Its database.
    pub fn database(&self) -> &Path {
        &self.database
    }
}

impl Wallet {
    /// Kills it.
    pub fn kill(&mut self) -> Result<()> {
        self.child.kill().map(drop)
    }

    /// The process.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Stops it.
    pub async fn stop(mut self) -> Result<()> {
        let status = self.child.terminate(SOON).await?;
        ensure!(
            status.success(),
            "{USER} stopped with {status}: {}",
            self.child.log_tail()
        );
        Ok(())
    }

    /// Waits until it has died at its `crash_at`.
    pub async fn until_dead(&mut self) -> Result<()> {
        self.child.until_ended(SOON).await.map(drop)
    }
}
