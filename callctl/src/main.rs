//! `callctl`: shows stored calls in a terminal and to scripts, keeps new calls from workers, and gives other teams access. It changes no
//! call.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::connection::ConnectionArgs;
use crate::export::Export;
use crate::list::List;
use crate::show::Show;
use crate::team::Team;
use crate::watch::Watch;
use crate::workers::{Drain, Target, Workers};

mod connection;
mod out;

mod list;
mod show;
mod watch;

mod csv_text;
mod export;
mod period;

mod workers;

mod team;

/// Exit code of a failure. Invalid arguments have clap's, 2.
const FAILED: u8 = 1;

#[derive(Debug, Parser)]
#[command(
    // As `service::VERSION`.
    version = concat!(env!("CARGO_PKG_VERSION"), env!("CALLPULSE_BUILD")),
    about = "Lists, shows, watches and exports calls, and cordons workers",
    after_help = "It connects to NATS, where the rights of the user `observer` of nats/conf are sufficient:\n  \
                  CALLCTL_NATS_PASSWORD=… callctl --nats-user observer --api-prefix CALLPULSE.API list\n\
                  `workers`, `cordon`, `uncordon` and `drain` need the user `operator`, which may also do all of the above; `team`\n\
                  needs `admin`."
)]
struct Cli {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The calls that have not ended, with their state
    List(List),
    /// The facts of one call, and a check of its minutes
    Show(Show),
    /// Every fact stored from now on, until Ctrl-C
    Watch(Watch),
    /// The settled calls of a period as CSV or JSON lines: the legal record
    Export(Export),
    /// The media-workers, with their calls and state
    Workers(Workers),
    /// Keep new calls from a worker, until it is uncordoned or restarted; its calls continue
    Cordon(Target),
    /// Let a worker accept calls again
    Uncordon(Target),
    /// Cordon a worker, and wait until it hosts no call
    Drain(Drain),
    /// Access for another team
    #[command(subcommand)]
    Team(Team),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = async {
        let connection = cli.connection.connect().await?;
        match cli.command {
            Command::List(list) => list.run(&connection).await,
            Command::Show(show) => show.run(&connection).await,
            Command::Watch(watch) => watch.run(&connection).await,
            Command::Export(export) => export.run(&connection).await,
            Command::Workers(workers) => workers.run(&connection).await,
            Command::Cordon(target) => target.cordon(&connection).await,
            Command::Uncordon(target) => target.uncordon(&connection).await,
            Command::Drain(drain) => drain.run(&connection).await,
            Command::Team(team) => team.run(&connection).await,
        }
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        // The reader has enough: `callctl list | head`.
        Err(_) if out::reader_is_gone() => ExitCode::SUCCESS,
        Err(error) => {
            out::message(&out::with_causes(&error));
            ExitCode::from(FAILED)
        }
    }
}
