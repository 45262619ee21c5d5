//! A child process that dies with whoever started it, and whose log is shown when a test fails.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child as StdChild, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid, getppid};
use tokio::net::unix::pipe;

use crate::wait::eventually;

/// How much of a log a failing test prints, in lines.
const SHOWN_LOG_LINES: usize = 60;

/// A running process with its log. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Child {
    name: String,
    inner: StdChild,
    log: PathBuf,
}

impl Child {
    /// Starts `command` with its standard error appended to `log`.
    ///
    /// The child gets SIGKILL from the kernel when the *thread* that started it ends, so start it from a test's own
    /// thread or a runtime's worker, never from a thread that is soon given back.
    ///
    /// # Errors
    /// When the log cannot be written or the program cannot be started.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::spawn(name, command, log)
    }

    /// As [`start`](Self::start), with a standard input to write to: see [`take_stdin`](Self::take_stdin).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_listening(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::piped());
        Self::spawn(name, command, log)
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("opening {}", log.display()))?;
        command.stdout(Stdio::piped()).stderr(stderr);
        command.process_group(0); // a Ctrl-C in the terminal is ours alone: we stop them in order
        die_with_parent(command);
        let inner = command
            .spawn()
            .with_context(|| format!("starting {name} ({:?})", command.get_program()))?;
        Ok(Self {
            name: name.to_owned(),
            inner,
            log: log.to_owned(),
        })
    }

    /// The name it was started under.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Where its standard error goes.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its standard output, once.
    ///
    /// # Errors
    /// When it was taken before.
    pub fn take_stdout(&mut self) -> Result<pipe::Receiver> {
        let stdout = self.inner.stdout.take().context("standard output was taken before")?;
        Ok(pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?)
    }

    /// Its standard input, once.
    ///
    /// # Errors
    /// When it was taken before, or there is none.
    pub fn take_stdin(&mut self) -> Result<pipe::Sender> {
        let stdin = self.inner.stdin.take().context("no standard input, or taken before")?;
        Ok(pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?)
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When the system cannot say.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.inner.try_wait()?)
    }

    /// SIGKILL, as a crash, and waits for the end. Fine on a process that ended already.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.inner.kill()?;
        Ok(self.inner.wait()?)
    }

    /// SIGTERM, as an orderly stop, and waits for the end.
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.ask_to_end()?;
        self.until_ended(within).await
    }

    /// SIGTERM, and does not wait.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn ask_to_end(&mut self) -> Result<()> {
        match self.ended()? {
            None => self.signal(Signal::SIGTERM),
            Some(_) => Ok(()),
        }
    }

    /// Waits for the end, after [`ask_to_end`](Self::ask_to_end).
    ///
    /// # Errors
    /// When it still runs after `within`.
    pub async fn until_ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} after SIGTERM", self.name);
        eventually(&what, within, async || self.ended()?.context("still running")).await
    }

    /// SIGSTOP: it keeps its sockets and does nothing. Returns when it stands still.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // A signal sent before it stands still might be served first.
        let stopped_or_ended = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.raw_pid()?), stopped_or_ended)? {
            WaitStatus::Stopped(..) => Ok(()),
            other => bail!("{} did not freeze: {other:?}", self.name),
        }
    }

    /// SIGCONT, after [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let skipped = lines.len().saturating_sub(SHOWN_LOG_LINES);
        lines.into_iter().skip(skipped).collect::<Vec<_>>().join("\n")
    }

    fn raw_pid(&self) -> Result<Pid> {
        Ok(Pid::from_raw(i32::try_from(self.pid())?))
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = self.raw_pid()?;
        match kill(pid, signal) {
            Ok(()) => Ok(()),
            Err(error) => bail!("{signal} to {} ({pid}): {error}", self.name),
        }
    }
}

impl Drop for Child {
    #[allow(
        clippy::print_stderr,
        reason = "the log of a failing test belongs beside its failure"
    )]
    fn drop(&mut self) {
        let _ = self.inner.kill();
        let _ = self.inner.wait();
        if std::thread::panicking() {
            eprintln!("---- {} (pid {}) logged:\n{}", self.name, self.pid(), self.log_tail());
        }
    }
}

#[allow(
    unsafe_code,
    reason = "asking for the parent's death signal is only possible between fork and exec"
)]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure makes two system calls and allocates nothing, as a forked child must.
    unsafe {
        command.pre_exec(move || {
            prctl::set_pdeathsig(Signal::SIGKILL)?;
            // The parent may have died before the line above took effect.
            if getppid() == parent {
                Ok(())
            } else {
                Err(std::io::ErrorKind::BrokenPipe.into())
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(folder: &Path) -> Child {
        Child::start("sleep", Command::new("sleep").arg("600"), &folder.join("sleep.log")).unwrap()
    }

    fn exists(pid: u32) -> bool {
        kill(Pid::from_raw(i32::try_from(pid).unwrap()), None).is_ok()
    }

    #[tokio::test]
    async fn ends_by_signal_within_the_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path());
        child.freeze().unwrap();
        assert!(
            child.terminate(Duration::from_millis(100)).await.is_err(),
            "a frozen process cannot stop"
        );
        child.thaw().unwrap();
        assert!(!child.terminate(Duration::from_secs(5)).await.unwrap().success());
        assert!(!child.kill().unwrap().success(), "killing the dead is no error");
    }

    #[test]
    fn never_outlives_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let child = sleeper(folder.path());
        let pid = child.pid();
        assert!(exists(pid));
        drop(child);
        assert!(!exists(pid));
    }

    #[test]
    fn dies_with_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut child = std::thread::spawn(move || sleeper(&path)).join().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.inner.wait().unwrap()),
            Some(9)
        );
    }
}
