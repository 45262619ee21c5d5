//! The stack for a developer to play with: friendly ports, tokens to copy, every fact as it is stored.

use std::net::{Ipv4Addr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use tokio::time::interval;

use crate::demo::onlooker::Onlooker;
use crate::demo::screen::{Screen, Tone};
use crate::demo::story::{OTOMO, USER};
use crate::facts::Facts;
use crate::interrupt::interrupted;
use crate::process::{self, Service};
use crate::stack::{Stack, StackBuilder};
use crate::token::{self, Role};

/// Ports as the services' own defaults have them; a taken one is replaced by a free one.
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

/// How often the processes are looked after.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Who watches.
const OPERATOR: &str = "operator_1";
/// How long the printed tokens are good for.
const TOKEN_LIFETIME: Duration = Duration::from_secs(12 * 3600);

/// What can be chosen.
#[derive(Debug, Clone, Parser)]
#[command(about = "Runs nats-server, a media-worker, two ws-edge nodes and a billing-timer until Ctrl-C")]
pub struct Options {
    /// The length of a minute, in milliseconds
    #[arg(long, default_value_t = 60_000)]
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
            screen.line(Tone::Bad, &format!("{error:#}"));
            screen.line(Tone::Bad, &format!("the logs are in {}", folder.display()));
            ExitCode::FAILURE
        }
    }
}

async fn run(screen: &Screen, folder: &Path, options: &Options) -> Result<()> {
    let mut stack = tokio::select! {
        stack = start(folder, options) => stack?,
        outcome = interrupted() => return outcome,
    };
    let facts = Facts::connect(&stack.nats.url()).await?;
    let _onlooker = Onlooker::new(*screen, &facts).await?;
    introduce(screen, &stack)?;
    invite(screen, &stack)?;
    tokio::select! {
        outcome = interrupted() => outcome?,
        outcome = look_after(&mut stack) => outcome?,
    }
    screen.heading("Stopping");
    stack.stop().await
}

async fn start(folder: &Path, options: &Options) -> Result<Stack> {
    let mut builder = StackBuilder::default().edges(EDGE_PORTS.len()).folder(folder).set(
        "billing-timer",
        "tick_interval_ms",
        options.tick_interval_ms,
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
    builder.start().await
}

/// Free a moment ago; if somebody takes it first, the service says so.
fn is_free(port: u16) -> bool {
    let address = (Ipv4Addr::LOCALHOST, port);
    TcpListener::bind(address).is_ok() && UdpSocket::bind(address).is_ok()
}

fn introduce(screen: &Screen, stack: &Stack) -> Result<()> {
    let say = |text: &str| screen.plain(Tone::Quiet, text);
    screen.heading("Up, until Ctrl-C");
    say(&format!("  nats-server        {}", stack.nats.url()));
    for edge in &stack.edges {
        let (ws, ops) = (edge.address("ws")?, edge.address("ops")?);
        say(&format!(
            "  {:<18} ws://{ws}/ws   http://{ops}/metrics",
            edge.child().name()
        ));
    }
    for service in stack.workers.iter().chain(&stack.timers) {
        say(&format!(
            "  {:<18} http://{}/metrics",
            service.child().name(),
            service.address("ops")?
        ));
    }
    say(&format!("  logs and store     {}", stack.folder().display()));
    screen.heading("Tokens for 12 hours: Authorization: Bearer …, or subprotocols callpulse.v1 and bearer.…");
    for (role, name, tone) in [(Role::User, USER, Tone::User), (Role::Otomo, OTOMO, Tone::Otomo)] {
        screen.plain(
            tone,
            &format!("  {name}: {}", token::good_for(role, name, TOKEN_LIFETIME)?),
        );
    }
    say(&format!(
        "  more: WS_EDGE__JWT__SECRET={} target/debug/ws-edge token --role user --sub user_002",
        token::SECRET
    ));
    Ok(())
}

/// Addresses to click on: nodes and tokens are in them, behind the `#`, which no browser sends.
fn invite(screen: &Screen, stack: &Stack) -> Result<()> {
    let (first, last) = (stack.edge(0)?, stack.edge(EDGE_PORTS.len() - 1)?);
    let user = token::good_for(Role::User, USER, TOKEN_LIFETIME)?;
    let otomo = token::good_for(Role::Otomo, OTOMO, TOKEN_LIFETIME)?;
    screen.heading("To call from: open one of these in a browser");
    for (what, tone, url) in [
        (
            "both sides",
            Tone::Good,
            format!("http://{first}/#user={user}&otomo={otomo}"),
        ),
        (
            "the user's window",
            Tone::User,
            format!("http://{first}/?role=user&call={OTOMO}#token={user}"),
        ),
        (
            "the otomo's window",
            Tone::Otomo,
            format!("http://{last}/?role=otomo#token={otomo}"),
        ),
    ] {
        screen.plain(tone, &format!("  {what:<18} {url}"));
    }
    let watching = token::operator(OPERATOR, TOKEN_LIFETIME)?;
    screen.plain(
        Tone::Quiet,
        &format!("  {:<18} http://{last}/ops#token={watching}", "to watch it all"),
    );
    screen.heading("Every fact, as it is stored");
    Ok(())
}

/// Returns, with an error, when a process has ended by itself.
async fn look_after(stack: &mut Stack) -> Result<()> {
    let mut ticks = interval(LOOK_INTERVAL);
    loop {
        ticks.tick().await;
        let services = stack
            .edges
            .iter_mut()
            .chain(&mut stack.workers)
            .chain(&mut stack.timers);
        for child in services.map(Service::child_mut).chain(stack.nats.children_mut()) {
            if let Some(status) = child.ended().context("looking after the processes")? {
                bail!("{} ended by itself ({status}):\n{}", child.name(), child.log_tail());
            }
        }
    }
}
