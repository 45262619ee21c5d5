//! `make chaos`: see `chaos --help`.

use std::process::ExitCode;

use anyhow::Result;
use callpulse_chaos as chaos;
use callpulse_chaos::options::Options;
use callpulse_tests::servers::process;
use clap::Parser;

fn main() -> Result<ExitCode> {
    let options = Options::parse();
    chaos::workdir::prepare(&process::run_folder("chaos"))?;
    let runtime = tokio::runtime::Runtime::new()?;
    Ok(runtime.block_on(chaos::main(options)))
}
