//! The media-worker process.

use std::process::ExitCode;

use clap::Parser;
use service::{App, ServiceArgs};

/// Hosts calls on mediasoup, sees the first RTP packet, publishes the fact.
#[derive(Debug, Parser)]
#[command(version = service::VERSION)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
}

fn main() -> ExitCode {
    let app = App::new(media_worker::NAME, service::VERSION);
    service::serve(app, &Cli::parse().service, media_worker::run)
}
