//! Calls from networks that let little pass: without UDP, with 443/tcp alone, with IPv6 alone.

use std::fs;
use std::net::SocketAddr;
use std::path::Path as FilePath;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::party::Party;
use callpulse_tests::facts::reader::Facts;
use callpulse_tests::servers::child::Child;
use callpulse_tests::servers::stack::StackBuilder;
use callpulse_tests::skip::skipped_optionally;
use callpulse_tests::token::{self, Role};
use callpulse_tests::wait::eventually;
use serde_json::json;
use tokio::net::TcpStream;

use crate::call::{RINGS_WITHIN, ring_and_answer};
use crate::caller::{OTOMO, USER};
use crate::topology::{Path, SERVER, SERVER_IPV6, TURN_SERVER, Topology};

const SOON: Duration = Duration::from_secs(20);
const TURN_SECRET: &str = "only-for-tests-on-this-machine";
const TURN_PORT: u16 = 3478;
const HTTPS: u16 = 443;

/// Row 8: no UDP, and no TCP but to the edge and to the TURN server.
pub(crate) async fn turn_tcp(networks: &Topology) -> Result<()> {
    let Some(_turn) = TurnServer::start().await? else {
        return Ok(());
    };
    let stack = servers()
        .set("ws-edge-1", "listen", format!("{SERVER}:0"))
        .set(
            "ws-edge",
            "turn.urls",
            format!("turn:{TURN_SERVER}:{TURN_PORT}?transport=tcp"),
        )
        .set("ws-edge", "turn.secret", TURN_SECRET);
    let paths = call(networks, stack, "http", |edge| {
        networks.block(Path::Wifi, "oifname out meta l4proto udp")?;
        let open = format!("{{ {}, {TURN_PORT} }}", edge.port());
        networks.block(Path::Wifi, &format!("oifname out tcp dport != {open}"))
    })
    .await?;
    check_paths("WithoutUdp", &paths, |path| path.starts_with("relay tcp"))
}

/// Row 8, with 443/tcp alone: the page and its socket by HTTPS from the edge itself, TURN by TLS.
pub(crate) async fn turn_tls(networks: &Topology) -> Result<()> {
    let Some(turn) = TurnServer::start().await? else {
        return Ok(());
    };
    let stack = servers()
        .set("ws-edge-1", "listen", format!("{SERVER}:{HTTPS}"))
        .set("ws-edge-1", "tls.certificate_file", turn.file("tls.crt"))
        .set("ws-edge-1", "tls.key_file", turn.file("tls.key"))
        .set(
            "ws-edge",
            "turn.urls",
            format!("turns:{TURN_SERVER}:{HTTPS}?transport=tcp"),
        )
        .set("ws-edge", "turn.secret", TURN_SECRET);
    let paths = call(networks, stack, "https", |_| {
        networks.block(Path::Wifi, "oifname out meta l4proto udp")?;
        networks.block(Path::Wifi, &format!("oifname out tcp dport != {HTTPS}"))
    })
    .await?;
    check_paths("Only443", &paths, |path| path.starts_with("relay tls"))
}

/// Row 9: the client has IPv6 alone, the otomo is on IPv4.
pub(crate) async fn ipv6_only(networks: &Topology) -> Result<()> {
    networks.only_ipv6()?;
    let stack =
        servers()
            .set("ws-edge-1", "listen", "[::]:0")
            .set("media-worker", "more_listen_addresses", SERVER_IPV6);
    let paths = call(networks, stack, "http", |_| Ok(())).await?;
    check_paths("OnlyIpv6", &paths, |path| path.contains(SERVER_IPV6))
}

fn check_paths(row: &str, paths: &[String], fits: impl Fn(&str) -> bool) -> Result<()> {
    eprintln!("{row}: the audio takes {paths:?}");
    ensure!(paths.len() == 2 && paths.iter().all(|path| fits(path)), "{paths:?}");
    Ok(())
}

/// The user's edge, and one beside the otomo, on IPv4.
fn servers() -> StackBuilder {
    StackBuilder::default()
        .edges(2)
        .set("media-worker", "listen_ip", SERVER)
}

/// A call from the client's network, as it is after `limit`. Returns the ways of the user's audio.
async fn call(
    networks: &Topology,
    stack: StackBuilder,
    scheme: &str,
    limit: impl FnOnce(SocketAddr) -> Result<()>,
) -> Result<Vec<String>> {
    let folder = tempfile::tempdir()?;
    let stack = stack.start().await?;
    let facts = Facts::connect(&stack.nats.url()).await?;
    let edge = stack.edge(0)?;
    limit(edge)?;
    let otomo = Party::connect(stack.edge(1)?, Role::Otomo, OTOMO).await?;
    otomo.expect_notice("welcome").await?;
    let host = match edge {
        SocketAddr::V4(_) => edge.to_string(),
        SocketAddr::V6(_) => format!("[{SERVER_IPV6}]:{}", edge.port()),
    };
    let user = token::valid(Role::User, USER)?;
    let fixture = json!({ "user": format!("{scheme}://{host}/?role=user#token={user}") });
    let (mut script, call_id, mut speaker) = ring_and_answer(networks, "reach", folder.path(), fixture, &otomo).await?;
    otomo.expect_notice_within("rtc_new_producer", RINGS_WITHIN).await?;
    speaker.listen(&otomo).await?;
    let hears = script.expect("hears").await?;
    eventually("the otomo hearing the user", SOON, async || {
        ensure!(speaker.received() > 0);
        Ok(())
    })
    .await?;
    script.end().await?;
    facts.expect(&call_id, "settled", SOON).await?;
    let paths = hears["paths"].as_array().context("no paths")?;
    Ok(paths
        .iter()
        .map(|path| path.as_str().unwrap_or_default().to_owned())
        .collect())
}

/// coturn.
struct TurnServer {
    folder: tempfile::TempDir,
    _child: Child,
}

impl TurnServer {
    /// Starts it; none, with a message, where it is not installed.
    async fn start() -> Result<Option<Self>> {
        if Command::new("turnserver").arg("--version").output().is_err() {
            skipped_optionally("no turnserver (Debian: coturn)");
            return Ok(None);
        }
        let folder = tempfile::tempdir()?;
        let file = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let issued = rcgen::generate_simple_self_signed(vec![SERVER.to_owned(), TURN_SERVER.to_owned()])?;
        fs::write(file("tls.crt"), issued.cert.pem())?;
        fs::write(file("tls.key"), issued.signing_key.serialize_pem())?;
        let mut command = Command::new("turnserver");
        command.args([
            "-n",
            "--use-auth-secret",
            "--realm=turn.example",
            "--no-cli",
            "--log-file=stdout",
        ]);
        command.args([
            format!("--static-auth-secret={TURN_SECRET}"),
            format!("--listening-ip={TURN_SERVER}"),
            format!("--relay-ip={TURN_SERVER}"),
            format!("--listening-port={TURN_PORT}"),
            format!("--tls-listening-port={HTTPS}"),
            format!("--cert={}", file("tls.crt")),
            format!("--pkey={}", file("tls.key")),
            format!("--userdb={}", file("users")),
            format!("--pidfile={}", file("pid")),
        ]);
        let log = FilePath::new(&file("turn.log")).to_owned();
        let mut child = Child::start("turnserver", &mut command, &log)?;
        // Its log: a full pipe would block it.
        let mut output = child.take_stdout()?;
        tokio::spawn(async move { tokio::io::copy(&mut output, &mut tokio::io::sink()).await });
        eventually("the TURN server", SOON, async || {
            TcpStream::connect((TURN_SERVER, HTTPS)).await?;
            Ok(())
        })
        .await?;
        Ok(Some(Self { folder, _child: child }))
    }

    fn file(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }
}
