//! The stack for development: known ports, tokens to copy, and every fact as it is stored.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use async_nats::jetstream::consumer::pull;
use clap::Parser;
use tokio::time::interval;

use crate::demo::scenario::{OTOMO, USER};
use crate::facts::contract_client::ContractClient;
use crate::facts::reader::Facts;
use crate::servers::process::{self, Service};
use crate::servers::stack::{Stack, StackBuilder};
use crate::servers::wallet::{Wallet, WalletHome, WalletOptions};
use crate::terminal::event_printer::EventPrinter;
use crate::terminal::interrupt::interrupted;
use crate::terminal::screen::{LineKind, Screen};
use crate::token::{self, Role};

/// The default ports of the services. A taken port is replaced by a free one.
const NATS_PORT: u16 = 4222;
const EDGE_PORTS: [u16; 2] = [4001, 4003];
const RTC_PORT: u16 = 40_000;
/// Operations ports: of the edges, the media-worker, the billing-timer.
const OPS_PORTS: [(&str, u16); 4] = [
    ("ws-edge-1", 4002),
    ("ws-edge-2", 4004),
    ("media-worker-1", 4012),
    ("billing-timer-1", 4022),
];

/// How often the processes are checked.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The operator of the printed token.
const OPERATOR: &str = "operator_1";
/// Of an interval, for the wallet.
const PRICE: u64 = 10;
/// The intervals that the balance of each user covers at first, and that a call reserves.
const INTERVALS: u64 = 10;
/// The longest call, in intervals: four hours of minutes.
const MAX_INTERVALS: u64 = 240;
/// The limits of `credit_low_ms`.
const CREDIT_LOW_MS: (u64, u64) = (1_000, 3_600_000);
/// The lifetime of the printed tokens.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// The command line.
#[derive(Debug, Clone, Parser)]
#[command(about = "Runs nats-server, a media-worker, two ws-edge nodes, a billing-timer and a wallet until Ctrl-C")]
pub struct Options {
    /// The length of a minute, in milliseconds
    #[arg(long, default_value_t = 60_000, value_parser = clap::value_parser!(u64).range(100..=86_400_000))]
    pub tick_interval_ms: u64,
    /// A page's origin that may connect, such as http://localhost:5173; may be given several times
    #[arg(long = "allow-origin", value_name = "ORIGIN")]
    pub allowed_origins: Vec<String>,
}

/// Runs until Ctrl-C (0) or until a process ends by itself (1).
pub async fn main(options: Options) -> ExitCode {
    let screen = Screen::new();
    let folder = process::run_folder("up");
    match run(&screen, &folder, &options).await {
        Ok(()) => {
            let _ = std::fs::remove_dir_all(&folder);
            ExitCode::SUCCESS
        }
        Err(error) => {
            screen.line(LineKind::Bad, &format!("{error:#}"));
            screen.line(LineKind::Bad, &format!("the logs are in {}", folder.display()));
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Screen, folder: &Path, options: &Options) -> Result<()> {
    let (mut stack, home, mut wallet) = tokio::select! {
        started = start(folder, options) => started?,
        outcome = interrupted() => return outcome,
    };
    let facts = Facts::connect(&stack.nats.url()).await?;
    let _printer = EventPrinter::new(*screen, &facts).await?;
    print_addresses(screen, &stack)?;
    print_balances(screen, &home);
    print_team_access(screen, &stack).await?;
    print_links(screen, &stack)?;
    tokio::select! {
        outcome = interrupted() => outcome?,
        outcome = until_a_process_ends(&mut stack, &mut wallet) => outcome?,
    }
    screen.heading("Stopping");
    wallet.stop().await?;
    stack.stop().await
}

async fn start(folder: &Path, options: &Options) -> Result<(Stack, WalletHome, Wallet)> {
    let interval_ms = options.tick_interval_ms;
    let max_ms = MAX_INTERVALS * interval_ms;
    let mut builder = StackBuilder::default()
        .edges(EDGE_PORTS.len())
        .folder(folder)
        .set("billing-timer", "tick_interval_ms", interval_ms)
        .set("ws-edge", "credit.enabled", true)
        .set("ws-edge", "max_call_duration_ms", max_ms)
        .set("billing-timer", "max_call_duration_ms", max_ms)
        .set(
            "media-worker",
            "credit_low_ms",
            interval_ms.clamp(CREDIT_LOW_MS.0, CREDIT_LOW_MS.1),
        );
    if is_free(NATS_PORT) {
        builder = builder.nats_port(NATS_PORT);
    }
    if is_free(RTC_PORT) {
        builder = builder.set("media-worker-1", "rtc_port", RTC_PORT);
    }
    let edges = EDGE_PORTS
        .iter()
        .zip(["ws-edge-1", "ws-edge-2"])
        .map(|(port, name)| (name, "listen", *port));
    let ops = OPS_PORTS.iter().map(|(name, port)| (*name, "ops.listen", *port));
    for (name, key, port) in edges.chain(ops).filter(|(_, _, port)| is_free(*port)) {
        builder = builder.set(name, key, format!("127.0.0.1:{port}"));
    }
    if !options.allowed_origins.is_empty() {
        builder = builder.set("ws-edge", "allowed_origins", options.allowed_origins.join(","));
    }
    let stack = builder.start().await?;
    let options = WalletOptions {
        price: PRICE,
        first_intervals: INTERVALS,
        max_ms,
        opening_balance: INTERVALS * PRICE,
        ..WalletOptions::new(interval_ms)
    };
    let home = WalletHome::new(&stack.nats, folder, options).await?;
    // Its account is there before the first deposit.
    home.deposit(USER, 0)?;
    let wallet = home.start(None).await.context("starting the wallet")?;
    Ok((stack, home, wallet))
}

/// Whether a port is free now. If another process takes it first, the service fails to start.
fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

fn print_addresses(screen: &Screen, stack: &Stack) -> Result<()> {
    let print = |text: &str| screen.plain(LineKind::Quiet, text);
    screen.heading("Up, until Ctrl-C");
    print(&format!("  nats-server        {}", stack.nats.url()));
    for edge in &stack.edges {
        let (ws, ops) = (edge.address("ws")?, edge.address("ops")?);
        print(&format!(
            "  {:<18} ws://{ws}/ws   http://{ops}/metrics",
            edge.child().name()
        ));
    }
    for service in stack.workers.iter().chain(&stack.timers) {
        print(&format!(
            "  {:<18} http://{}/metrics",
            service.child().name(),
            service.address("ops")?
        ));
    }
    print(&format!("  logs and store     {}", stack.folder().display()));
    screen.heading("Tokens for 12 hours: Authorization: Bearer …, or subprotocols callpulse.v1 and bearer.…");
    for (role, name, kind) in [
        (Role::User, USER, LineKind::User),
        (Role::Otomo, OTOMO, LineKind::Otomo),
    ] {
        screen.plain(
            kind,
            &format!("  {name}: {}", token::valid_for(role, name, TOKEN_LIFETIME)?),
        );
    }
    print(&format!(
        "  more: WS_EDGE__JWT__SECRET={} target/debug/ws-edge token --role user --sub user_002",
        token::SECRET
    ));
    Ok(())
}

fn print_balances(screen: &Screen, home: &WalletHome) {
    let command = format!(
        "WALLET_DATABASE={} .tools/bin/python deploy/examples/wallet/wallet.py",
        home.database().display()
    );
    screen.heading(&format!(
        "A wallet (docs/src/credit.md): a minute costs {PRICE}, and every user begins with {}",
        INTERVALS * PRICE
    ));
    screen.plain(LineKind::Quiet, &format!("  {command} deposit {USER} {}", 2 * PRICE));
    screen.plain(LineKind::Quiet, &format!("  {command} balances"));
}

/// Another team's access: the user `observer`, with its consumer.
async fn print_team_access(screen: &Screen, stack: &Stack) -> Result<()> {
    const TEAM: &str = "observer";
    let client = ContractClient::open(&stack.nats).await?;
    let config = pull::Config {
        durable_name: Some(TEAM.to_owned()),
        ..pull::Config::default()
    };
    client.storage.calls.create_consumer(config).await?;
    screen.heading("For another team's programs: docs/src/other-teams.md");
    screen.plain(
        LineKind::Quiet,
        &format!(
            "  NATS_URL={} NATS_USER={TEAM} NATS_PASSWORD={} .tools/bin/python deploy/examples/python/facts.py live",
            stack.nats.url(),
            stack.nats.password(TEAM)?
        ),
    );
    Ok(())
}

/// Links to the pages. The tokens are in the URL fragment, which browsers do not send.
fn print_links(screen: &Screen, stack: &Stack) -> Result<()> {
    let (first, last) = (stack.edge(0)?, stack.edge(EDGE_PORTS.len() - 1)?);
    let user = token::valid_for(Role::User, USER, TOKEN_LIFETIME)?;
    let otomo = token::valid_for(Role::Otomo, OTOMO, TOKEN_LIFETIME)?;
    screen.heading("To call: open one of these in a browser");
    for (what, kind, url) in [
        (
            "both sides",
            LineKind::Good,
            format!("http://{first}/#user={user}&otomo={otomo}"),
        ),
        (
            "the user's window",
            LineKind::User,
            format!("http://{first}/?role=user&call={OTOMO}#token={user}"),
        ),
        (
            "the otomo's window",
            LineKind::Otomo,
            format!("http://{last}/?role=otomo#token={otomo}"),
        ),
    ] {
        screen.plain(kind, &format!("  {what:<18} {url}"));
    }
    let operator = token::operator(OPERATOR, TOKEN_LIFETIME)?;
    screen.plain(
        LineKind::Quiet,
        &format!("  {:<18} http://{last}/ops#token={operator}", "operations"),
    );
    screen.heading("Every fact, as it is stored");
    Ok(())
}

/// Returns an error when a process has ended by itself.
async fn until_a_process_ends(stack: &mut Stack, wallet: &mut Wallet) -> Result<()> {
    let mut ticks = interval(CHECK_INTERVAL);
    loop {
        ticks.tick().await;
        let services = stack
            .edges
            .iter_mut()
            .chain(&mut stack.workers)
            .chain(&mut stack.timers);
        let children = services.map(Service::child_mut).chain(stack.nats.children_mut());
        for child in children.chain([wallet.child_mut()]) {
            if let Some(status) = child.ended().context("checking the processes")? {
                bail!("{} ended by itself ({status}):\n{}", child.name(), child.log_tail());
            }
        }
    }
}
