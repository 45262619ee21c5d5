//! `ws-edge` serves; `ws-edge token` mints a token for a client.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use contract::{Party, Role};
use service::{App, BoxError, ServiceArgs};
use ws_edge::Settings;
use ws_edge::handshake::token::{Minter, Operator, TokenRole, parse_lifetime, parse_role};

#[derive(Parser)]
#[command(
    version = service::VERSION,
    about = "WebSocket edge: authentication, signalling and the delivery of notices"
)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Print a token that this service accepts, signed with its own secret
    Token {
        /// user, otomo, or ops for the operations page
        #[arg(long, value_parser = parse_role)]
        role: TokenRole,
        /// Name of the party or operator, such as user_001
        #[arg(long)]
        sub: String,
        /// Lifetime: 90s, 15m, 1h, 7d
        #[arg(long, default_value = "1h", value_parser = parse_lifetime)]
        ttl: Duration,
    },
}

fn main() -> ExitCode {
    let app = App::new("ws-edge", service::VERSION).with_nice_runtime(ws_edge::RUNTIME_NICE);
    let cli = Cli::parse();
    match cli.command {
        None => service::serve(app, &cli.service, ws_edge::run),
        Some(Command::Token { role, sub, ttl }) => {
            service::command(app, &cli.service, |settings: Settings, _| async move {
                let minter = Minter::new(&settings.jwt)?;
                let token = match role {
                    TokenRole::User => minter.mint(&Party::new(Role::User, &sub)?, ttl),
                    TokenRole::Otomo => minter.mint(&Party::new(Role::Otomo, &sub)?, ttl),
                    TokenRole::Ops => minter.mint_operator(&Operator::new(&sub)?, ttl),
                }?;
                match writeln!(std::io::stdout(), "{token}") {
                    Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
                    _ => {}
                }
                Ok::<_, BoxError>(())
            })
        }
    }
}
