//! A disk that a test can fill, in a mount namespace of the test's thread and the processes that it starts.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Room for the streams and buckets of a test.
const BYTES: usize = 24 << 20;
/// The size of one write that fills it: a smaller remainder has room for no fact.
const PIECE: usize = 64;

/// The disk.
#[derive(Debug)]
pub struct SmallDisk {
    ballast: PathBuf,
}

impl SmallDisk {
    /// Mounts it at a folder, for this thread and its children alone. The mount ends with them.
    /// Fails if this process may not mount anything.
    pub fn mount(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        unshare(CloneFlags::CLONE_NEWNS)?;
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
        let size = format!("size={BYTES}");
        mount(
            Some("tmpfs"),
            folder,
            Some("tmpfs"),
            MsFlags::empty(),
            Some(size.as_str()),
        )?;
        Ok(Self {
            ballast: folder.join("ballast"),
        })
    }

    /// Fills it.
    pub fn fill(&self) -> Result<()> {
        let mut file = File::create(&self.ballast)?;
        for piece in [BYTES / 100, PIECE] {
            loop {
                match file.write_all(&vec![1; piece]) {
                    Ok(()) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => bail!(error),
                }
            }
        }
        Ok(())
    }

    /// Makes room again.
    pub fn free(&self) -> Result<()> {
        Ok(fs::remove_file(&self.ballast)?)
    }
}
