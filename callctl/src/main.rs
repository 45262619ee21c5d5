//! `callctl`: what is stored of calls, for people at a terminal and for scripts. It reads, and changes nothing.

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::export::Export;
use crate::link::LinkArgs;
use crate::list::List;
use crate::show::Show;
use crate::watch::Watch;

mod link;
mod out;

mod list;
mod show;
mod watch;

mod export;
mod period;

/// The exit code of bad arguments is clap's own, 2.
const FAILED: u8 = 1;

#[derive(Debug, Parser)]
#[command(
    version,
    about = "Looks at calls: which are live, what happened in one, what happens now, and what was settled",
    after_help = "It connects to NATS by itself and needs no more than the `observer` user of nats/conf:\n  \
                  CALLCTL_NATS_PASSWORD=… callctl --nats-user observer --api-prefix CALLPULSE.API list"
)]
struct Cli {
    #[command(flatten)]
    link: LinkArgs,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The calls that are not over, and where each stands
    List(List),
    /// One call from its first fact to its last, and whether its minutes add up
    Show(Show),
    /// Every fact from now on, as it is stored, until Ctrl-C
    Watch(Watch),
    /// The settled calls of a period, as CSV or JSON lines: the legal record
    Export(Export),
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = async {
        let link = cli.link.connect().await?;
        match cli.command {
            Command::List(list) => list.run(&link).await,
            Command::Show(show) => show.run(&link).await,
            Command::Watch(watch) => watch.run(&link).await,
            Command::Export(export) => export.run(&link).await,
        }
    };
    match outcome.await {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has enough: `callctl list | head`.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            out::complain(&format!("{error:#}"));
            ExitCode::from(FAILED)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let mut causes = error.chain().filter_map(|cause| cause.downcast_ref::<io::Error>());
    causes.any(|error| error.kind() == io::ErrorKind::BrokenPipe)
}
