//! The wall clock of a process, which a test steps. A preloaded library (`wall_clock.c`) moves it; the monotonic clock stays true.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const SOURCE: &str = include_str!("wall_clock.c");

/// The wall clock of one process, also after a restart.
#[derive(Debug, Clone)]
pub struct WallClock {
    library: PathBuf,
    offset: PathBuf,
}

impl WallClock {
    /// Whether this machine can compile the library.
    pub fn is_available() -> bool {
        let asked = Command::new("cc").arg("--version").output();
        asked.is_ok_and(|asked| asked.status.success())
    }

    /// A true clock, with its offset in `file`.
    pub fn new(file: &Path) -> Result<Self> {
        let clock = Self {
            library: library()?,
            offset: file.to_owned(),
        };
        clock.set_offset(0)?;
        Ok(clock)
    }

    /// Sets the clock this far ahead of the true time, at once. Negative: behind.
    pub fn set_offset(&self, ms: i64) -> Result<()> {
        let words = [ms.to_ne_bytes(), (!ms).to_ne_bytes()].concat();
        // Not truncated: the process has mapped it.
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&self.offset);
        let file = file.with_context(|| format!("opening {}", self.offset.display()))?;
        Ok(file.write_all_at(&words, 0)?)
    }

    /// Starts `command` with this clock.
    pub fn apply_to(&self, command: &mut Command) {
        command
            .env("LD_PRELOAD", &self.library)
            .env("WALL_CLOCK_OFFSET", &self.offset);
    }
}

/// Compiles the library beside the tests, unless it is there.
fn library() -> Result<PathBuf> {
    let mut hasher = DefaultHasher::new();
    SOURCE.hash(&mut hasher);
    let folder = std::env::current_exe()?;
    let folder = folder.parent().context("a program without a folder")?;
    let library = folder.join(format!("wall_clock-{:016x}.so", hasher.finish()));
    if library.is_file() {
        return Ok(library);
    }
    // Other tests may compile it too. The last one replaces the file, which has the same content.
    let own = tempfile::tempdir_in(folder)?;
    let (source, compiled) = (own.path().join("wall_clock.c"), own.path().join("wall_clock.so"));
    fs::write(&source, SOURCE)?;
    let mut command = Command::new("cc");
    command.args(["-std=gnu11", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o"]);
    let output = command.arg(&compiled).arg(&source).arg("-ldl").output();
    let output = output.context("no C compiler (cc)")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    fs::rename(&compiled, &library)?;
    Ok(library)
}

#[cfg(test)]
mod tests {
    use chrono::Utc;

    use super::*;
    use crate::skip::skipped;

    /// The seconds that a process with this clock reads.
    fn seconds(clock: &WallClock) -> i64 {
        let mut command = Command::new("date");
        clock.apply_to(command.arg("+%s"));
        String::from_utf8(command.output().unwrap().stdout)
            .unwrap()
            .trim()
            .parse()
            .unwrap()
    }

    #[test]
    fn a_process_reads_the_moved_clock() {
        if !WallClock::is_available() {
            return skipped("no C compiler (cc)");
        }
        let folder = tempfile::tempdir().unwrap();
        let clock = WallClock::new(&folder.path().join("clock")).unwrap();
        for offset in [0, 3_600_000, -3_600_000, 20_500] {
            clock.set_offset(offset).unwrap();
            let before = Utc::now().timestamp_millis() + offset;
            let read = seconds(&clock);
            let after = Utc::now().timestamp_millis() + offset;
            assert!((before / 1000..=after / 1000).contains(&read), "{offset}");
        }
    }
}
