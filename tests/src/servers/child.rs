//! A child process that ends with its parent, and whose log is printed when a test fails.

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

/// The lines of a log that a failing test prints.
const SHOWN_LOG_LINES: usize = 60;

/// Shorter values are no secrets, but would be found by chance.
const SHORTEST_SECRET: usize = 8;
/// How the first two parts of every JWT begin: `{"` in base64.
const TOKEN_PART: &str = "eyJ";

/// A running process with its log. Dropping it kills it and waits for its end, and fails a test whose log has a secret.
#[derive(Debug)]
pub struct Child {
    name: String,
    inner: StdChild,
    log: PathBuf,
    secrets: Vec<String>,
}

impl Child {
    /// Starts `command` with its standard error appended to `log`.
    ///
    /// The child gets SIGKILL from the kernel when the *thread* that started it ends, so start it from a test's own
    /// thread or a runtime's worker, never from a short-lived thread.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::null());
        Self::spawn(name, command, log)
    }

    /// Like [`start`](Self::start), with a standard input: see [`take_stdin`](Self::take_stdin).
    pub fn start_with_stdin(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        command.stdin(Stdio::piped());
        Self::spawn(name, command, log)
    }

    fn spawn(name: &str, command: &mut Command, log: &Path) -> Result<Self> {
        let stderr = File::options().create(true).append(true).open(log);
        let stderr = stderr.with_context(|| format!("opening {}", log.display()))?;
        command.stdout(Stdio::piped()).stderr(stderr);
        command.process_group(0); // Ctrl-C in the terminal reaches only this process, which stops its children in order
        die_with_parent(command);
        let inner = command
            .spawn()
            .with_context(|| format!("starting {name} ({:?})", command.get_program()))?;
        Ok(Self {
            name: name.to_owned(),
            inner,
            log: log.to_owned(),
            secrets: Vec::new(),
        })
    }

    /// The name it was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its process ID.
    pub fn pid(&self) -> u32 {
        self.inner.id()
    }

    /// Where its standard error goes.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Its standard output.
    /// Fails on the second call.
    pub fn take_stdout(&mut self) -> Result<pipe::Receiver> {
        let stdout = self.inner.stdout.take().context("standard output was taken before")?;
        Ok(pipe::Receiver::from_owned_fd(OwnedFd::from(stdout))?)
    }

    /// Its standard input.
    /// Fails on the second call, or after [`start`](Self::start).
    pub fn take_stdin(&mut self) -> Result<pipe::Sender> {
        let stdin = self.inner.stdin.take().context("no standard input, or taken before")?;
        Ok(pipe::Sender::from_owned_fd(OwnedFd::from(stdin))?)
    }

    /// Its exit status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(self.inner.try_wait()?)
    }

    /// Sends SIGKILL and waits for the end. No error if the process has already ended.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.inner.kill()?;
        Ok(self.inner.wait()?)
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.send_sigterm()?;
        self.until_ended(within).await
    }

    /// Sends SIGTERM without waiting.
    pub fn send_sigterm(&mut self) -> Result<()> {
        match self.ended()? {
            None => self.signal(Signal::SIGTERM),
            Some(_) => Ok(()),
        }
    }

    /// Waits for the end, after [`send_sigterm`](Self::send_sigterm).
    pub async fn until_ended(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("the end of {} after SIGTERM", self.name);
        eventually(&what, within, async || self.ended()?.context("still running")).await
    }

    /// Sends SIGSTOP: the process keeps its sockets and does nothing. Returns when it is stopped.
    pub fn freeze(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        // A signal sent before the process is stopped may be handled first.
        let stopped_or_ended = WaitPidFlag::WSTOPPED | WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT;
        match waitid(Id::Pid(self.raw_pid()?), stopped_or_ended)? {
            WaitStatus::Stopped(..) => Ok(()),
            other => bail!("{} did not freeze: {other:?}", self.name),
        }
    }

    /// Sends SIGCONT, after [`freeze`](Self::freeze).
    pub fn resume(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    /// The process was given these; its log must have none of them.
    pub fn keep_secret(&mut self, secrets: impl IntoIterator<Item = String>) {
        let long = secrets.into_iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
        self.secrets.extend(long);
    }

    /// The first line of its log with a secret or a token.
    fn leak(&self) -> Option<String> {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let leak = text
            .lines()
            .find(|line| has_token(line) || self.secrets.iter().any(|secret| line.contains(secret.as_str())));
        leak.map(str::to_owned)
    }

    /// The last lines of its log.
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
    #[allow(clippy::print_stderr, reason = "prints the log of a failing test")]
    fn drop(&mut self) {
        let _ = self.inner.kill();
        let _ = self.inner.wait();
        if std::thread::panicking() {
            eprintln!("---- {} (pid {}) logged:\n{}", self.name, self.pid(), self.log_tail());
        } else {
            assert_eq!(self.leak(), None, "{} logged a secret", self.name);
        }
    }
}

/// Whether a text has the head and the claims of a JWT.
fn has_token(text: &str) -> bool {
    let mut rest = text;
    while let Some((_, head)) = rest.split_once(TOKEN_PART) {
        if head
            .split_once('.')
            .is_some_and(|(_, claims)| claims.starts_with(TOKEN_PART))
        {
            return true;
        }
        rest = head;
    }
    false
}

#[allow(
    unsafe_code,
    reason = "the parent's death signal can only be set between fork and exec"
)]
fn die_with_parent(command: &mut Command) {
    let parent = getpid();
    // SAFETY: the closure only makes two system calls, and does not allocate.
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

/// The resident memory of a process, in bytes.
pub fn resident_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmRSS:")
}

/// The most resident memory that a process had so far, in bytes.
pub fn peak_resident_bytes(pid: u32) -> Result<u64> {
    memory_bytes(pid, "VmHWM:")
}

fn memory_bytes(pid: u32, key: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix(key));
    let kilobytes = line.and_then(|line| line.split_whitespace().next());
    Ok(kilobytes.with_context(|| format!("no {key}"))?.parse::<u64>()? * 1024)
}

/// The CPU time of a process, in ticks of 10 ms: USER_HZ is 100 on all supported architectures.
pub fn cpu_ticks(pid: u32) -> Result<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // `utime` and `stime`, the 14th and 15th field; the second may hold blanks and is in parentheses (proc_pid_stat(5)).
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let times = fields.split_whitespace().skip(11).take(2);
    Ok(times.map(str::parse::<u32>).sum::<Result<u32, _>>()?)
}

/// The number of descriptors that a process has open.
pub fn open_descriptors(pid: u32) -> Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
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
    async fn a_process_ends_by_signal_before_the_deadline() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = sleeper(folder.path());
        child.freeze().unwrap();
        assert!(
            child.terminate(Duration::from_millis(100)).await.is_err(),
            "a frozen process cannot stop"
        );
        child.resume().unwrap();
        assert!(!child.terminate(Duration::from_secs(5)).await.unwrap().success());
        assert!(!child.kill().unwrap().success(), "killing an ended process is no error");
    }

    #[test]
    fn a_dropped_process_is_dead() {
        let folder = tempfile::tempdir().unwrap();
        let child = sleeper(folder.path());
        let pid = child.pid();
        assert!(exists(pid));
        drop(child);
        assert!(!exists(pid));
    }

    #[test]
    fn a_secret_in_the_log_fails_the_test() {
        let folder = tempfile::tempdir().unwrap();
        for (name, logged, fails) in [
            ("clean", "connected to NATS", false),
            ("password", "nats://u:hunter2-hunter2@h", true),
            ("token", "bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ1In0.c2ln", true),
            ("half", "eyJ is no token. Neither is eyJ.", false),
        ] {
            let log = folder.path().join(name);
            let mut child = Child::start(name, Command::new("sleep").arg("600"), &log).unwrap();
            child.keep_secret(["hunter2-hunter2".to_owned(), "u".to_owned()]);
            fs::write(&log, logged).unwrap();
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(child)));
            assert_eq!(dropped.is_err(), fails, "{name}");
        }
    }

    #[test]
    fn a_process_dies_with_the_thread_that_started_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_owned();
        let mut child = std::thread::spawn(move || sleeper(&path)).join().unwrap();
        assert_eq!(
            std::os::unix::process::ExitStatusExt::signal(&child.inner.wait().unwrap()),
            Some(9)
        );
    }
}
