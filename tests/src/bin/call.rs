//! `call`: plays one call against services that run, and prints what each party receives.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use callpulse_tests::clients::caller::Caller;
use callpulse_tests::clients::conversation::Conversation;
use callpulse_tests::clients::party::{Handshake, Party};
use callpulse_tests::terminal::interrupt;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use clap::Parser;
use serde_json::json;

/// From the end of the call to its bill.
const SETTLED_WITHIN: Duration = Duration::from_secs(20);

/// Plays one call against services that run: both talk over ICE, DTLS and SRTP until the first full minute, then the user hangs up
#[derive(Debug, Parser)]
#[command(
    name = "call",
    after_help = "`ws-edge token --role user --sub NAME` prints a token. Exit code 1: a step failed, or a notice was late or wrong."
)]
struct Options {
    /// Address of a ws-edge
    #[arg(long, default_value = "127.0.0.1:4001")]
    edge: SocketAddr,
    /// The `sub` of the user's token
    #[arg(long, default_value = "user_001")]
    user: String,
    /// Token of the user
    #[arg(long, env = "USER_TOKEN", hide_env_values = true)]
    user_token: String,
    /// The `sub` of the otomo's token
    #[arg(long, default_value = "otomo_777")]
    otomo: String,
    /// Token of the otomo
    #[arg(long, env = "OTOMO_TOKEN", hide_env_values = true)]
    otomo_token: String,
    /// Seconds from the connection within which the first minute must be full
    #[arg(long, default_value_t = 90)]
    within: u64,
}

#[tokio::main]
async fn main() -> ExitCode {
    let (options, screen) = (Options::parse(), Screen::new());
    interrupt::run(&screen, play(&options, &screen)).await
}

async fn play(options: &Options, screen: &Screen) -> Result<()> {
    let connect = async |name: &str, token: &str| {
        let connected = Party::connect_with(options.edge, name, &Handshake::bearer(token.to_owned())).await;
        connected.with_context(|| format!("the connection of {name}"))
    };
    let user = connect(&options.user, &options.user_token).await?;
    let otomo = connect(&options.otomo, &options.otomo_token).await?;
    let call = Conversation::ring(user, otomo).await?;
    screen.line(LineKind::Good, &format!("{} rings", call.call_id));
    call.accept().await?;
    let (mut user, mut otomo) = (Caller::join(&call.user).await?, Caller::join(&call.otomo).await?);
    screen.line(LineKind::Good, "accepted, and both have joined the media");
    user.start_talking().await?;
    notice_to_both(&call, screen, "call_connected", SETTLED_WITHIN).await?;
    otomo.start_talking().await?;
    user.listen(&call.user).await?;
    otomo.listen(&call.otomo).await?;
    screen.line(LineKind::Good, "each receives the other");
    notice_to_both(&call, screen, "tick", Duration::from_secs(options.within)).await?;
    call.user.request("call_hangup", call.id()).await?;
    let bill = notice_to_both(&call, screen, "call_ended", SETTLED_WITHIN).await?;
    let expected = json!({ "reason": "hangup", "billedMinutes": 1 });
    for key in ["reason", "billedMinutes"] {
        let (billed, expected) = (bill.get(key), expected.get(key));
        ensure!(billed == expected, "{key} is {billed:?}, not {expected:?}");
    }
    Ok(())
}

/// Both parties receive the same notice of this call.
async fn notice_to_both(
    call: &Conversation,
    screen: &Screen,
    kind: &str,
    within: Duration,
) -> Result<serde_json::Value> {
    let [user, otomo] = call.parties();
    let user = user.expect_notice_within(kind, within).await?;
    let otomo = otomo.expect_notice_within(kind, within).await?;
    let (received, other) = (user.payload(), otomo.payload());
    ensure!(
        received == other,
        "{kind}: the user received {received}, the otomo {other}"
    );
    ensure!(
        received.get("callId") == Some(&json!(call.call_id)),
        "{kind} of another call: {received}"
    );
    screen.line(LineKind::Good, &format!("{kind} to both: {received}"));
    Ok(received.clone())
}
