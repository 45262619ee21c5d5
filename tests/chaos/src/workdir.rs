//! Runs copies of the programs, so that a build during the run changes nothing.

use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use callpulse_tests::servers::process;

/// The programs of the stack.
const PROGRAMS: [&str; 3] = ["media-worker", "ws-edge", "billing-timer"];

/// Copies this program and the services below `folder`, and executes the copy. Returns if this process is the copy.
///
/// A hard link is not enough: a build may overwrite the file in place.
pub fn prepare(folder: &Path) -> Result<()> {
    let own = std::env::current_exe()?;
    let bin = folder.join("bin");
    if own.parent() == Some(bin.as_path()) {
        return Ok(());
    }
    std::fs::create_dir_all(&bin)?;
    let name = own.file_name().context("a program without a name")?;
    let copy = |from: &Path, name: &Path| -> Result<()> {
        let to = bin.join(name);
        std::fs::copy(from, &to).with_context(|| format!("copying {} to {}", from.display(), to.display()))?;
        Ok(())
    };
    for program in PROGRAMS {
        copy(&process::built(program)?, Path::new(program))?;
    }
    copy(&own, Path::new(name))?;
    let failed: io::Error = Command::new(bin.join(name)).args(std::env::args_os().skip(1)).exec();
    Err(failed).context("executing the copy")
}
