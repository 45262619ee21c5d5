//! A callpulse service as a process: the built program, settings from the environment only, addresses from its announcement.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::unix::pipe;
use tokio::time::timeout;

use crate::servers::child::Child;
use crate::servers::wall_clock::WallClock;
use crate::wait::{PermanentError, eventually};

/// The deadline for a service to announce its addresses.
const ANNOUNCED_WITHIN: Duration = Duration::from_secs(20);
/// The deadline for a service to be ready.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// The deadline for an answer of the operations port.
const OPS_WITHIN: Duration = Duration::from_secs(5);
/// The longest answer of the operations port that is read, in bytes.
const LONGEST_OPS_ANSWER: u64 = 4 << 20;

/// Settings by key, such as `ops.listen`.
pub type Settings = BTreeMap<String, String>;

/// A service process. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    program: String,
    binary: PathBuf,
    settings: Settings,
    clock: Option<WallClock>,
    child: Child,
    announced: Value,
}

impl Service {
    /// Starts `program` (such as `ws-edge`) and waits for the line with its addresses.
    pub async fn start(program: &str, name: &str, settings: Settings, logs: &Path) -> Result<Self> {
        Self::start_binary(built(program)?, program, name, settings, logs, None).await
    }

    /// As [`start`](Self::start), from another build of `program`, and with a clock that can be stepped.
    pub async fn start_binary(
        binary: PathBuf,
        program: &str,
        name: &str,
        settings: Settings,
        logs: &Path,
        clock: Option<WallClock>,
    ) -> Result<Self> {
        let mut command = Command::new(&binary);
        // Variables of the developer must not change a test.
        command
            .env_clear()
            .envs(settings.iter().map(|(key, value)| (variable(program, key), value)));
        for kept in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(kept) {
                command.env(kept, value);
            }
        }
        command.env("RUST_BACKTRACE", "1");
        if let Some(clock) = &clock {
            clock.apply_to(&mut command);
        }
        let mut child = Child::start(name, &mut command, &logs.join(format!("{name}.log")))?;
        let secrets = settings.iter().filter(|(key, _)| is_secret(key));
        child.keep_secret(secrets.map(|(_, value)| value.clone()));
        let stdout = child.take_stdout()?;
        let announced = match announcement(stdout).await {
            Ok(announced) => announced,
            Err(error) => {
                let _ = child.kill();
                bail!("{name} announced nothing: {error:#}; it logged:\n{}", child.log_tail());
            }
        };
        Ok(Self {
            program: program.to_owned(),
            binary,
            settings,
            clock,
            child,
            announced,
        })
    }

    /// Its process.
    pub fn child(&self) -> &Child {
        &self.child
    }

    /// Its process, mutable.
    pub fn child_mut(&mut self) -> &mut Child {
        &mut self.child
    }

    /// An address from its announcement, such as `ws` or `ops`.
    pub fn address(&self, name: &str) -> Result<SocketAddr> {
        let address = self.announced.get(name).and_then(Value::as_str);
        let address =
            address.with_context(|| format!("{} announced no {name}: {}", self.child.name(), self.announced))?;
        Ok(address.parse()?)
    }

    /// A setting that it was started with.
    pub fn setting(&self, key: &str) -> Option<&str> {
        self.settings.get(key).map(String::as_str)
    }

    /// Changes a setting, from the next start on.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        self.settings.insert(key.to_owned(), value.to_string());
    }

    /// Sets its wall clock this far ahead of the true time, also for the next start. Negative: behind.
    /// Fails if it was started without a clock that can be stepped.
    pub fn set_clock_offset(&self, ms: i64) -> Result<()> {
        let clock = self.clock.as_ref();
        let clock = clock.with_context(|| format!("{} has the machine's clock", self.child.name()))?;
        clock.set_offset(ms)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) -> Result<ExitStatus> {
        self.child.kill()
    }

    /// Sends SIGTERM and waits for the end.
    pub async fn terminate(&mut self, within: Duration) -> Result<ExitStatus> {
        self.child.terminate(within).await
    }

    /// Sends SIGSTOP: it keeps its sockets and does nothing.
    pub fn freeze(&self) -> Result<()> {
        self.child.freeze()
    }

    /// Sends SIGCONT, after [`freeze`](Self::freeze).
    pub fn resume(&self) -> Result<()> {
        self.child.resume()
    }

    /// Restarts it with the same settings. Kills a running process first. Free ports change.
    pub async fn restart(&mut self) -> Result<()> {
        self.child.kill()?;
        let logs = self.child.log().parent().context("a log without a folder")?.to_owned();
        let (binary, settings, clock) = (self.binary.clone(), self.settings.clone(), self.clock.clone());
        *self = Self::start_binary(binary, &self.program, self.child.name(), settings, &logs, clock).await?;
        Ok(())
    }

    /// Waits until `/readyz` answers 200.
    /// Fails at the deadline, or when the process has ended; the error has the last answer.
    pub async fn ready(&mut self) -> Result<()> {
        let ops = self.address("ops")?;
        let what = format!("{} being ready", self.child.name());
        eventually(&what, READY_WITHIN, async || {
            if let Some(status) = self.child.ended()? {
                bail!(PermanentError(format!(
                    "it ended ({status}): {}",
                    self.child.log_tail()
                )));
            }
            let (status, body) = get(ops, "/readyz").await?;
            ensure!(status == 200, "/readyz answers {status}: {body}");
            Ok(())
        })
        .await
    }

    /// The answer of its operations port: status and body.
    pub async fn ops(&self, path: &str) -> Result<(u16, String)> {
        get(self.address("ops")?, path).await
    }

    /// [`sum_of_series`] of its metrics.
    pub async fn metric(&self, series: &str) -> Result<Option<f64>> {
        let (status, page) = self.ops("/metrics").await?;
        ensure!(status == 200, "/metrics answers {status}: {page}");
        Ok(sum_of_series(&page, series))
    }

    /// Waits until a [`metric`](Self::metric) has a value that fits.
    pub async fn metric_becomes(&self, series: &str, within: Duration, fits: impl Fn(f64) -> bool) -> Result<()> {
        eventually(series, within, async || {
            let value = self.metric(series).await?;
            ensure!(value.is_some_and(&fits), "{value:?}");
            Ok(())
        })
        .await
    }
}

/// The sum of the series of a metric with these labels, such as `callpulse_ws_closed_total{reason="slow"}`, in a page of
/// metrics; `None` if there are none.
pub fn sum_of_series(page: &str, series: &str) -> Option<f64> {
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    let labels = labels.trim_end_matches('}');
    let of_metric = page.lines().filter_map(|line| line.strip_prefix(name));
    let of_series = of_metric.filter(|rest| rest.starts_with([' ', '{']) && rest.contains(labels));
    let values = of_series.filter_map(|rest| rest.rsplit(' ').next()?.parse::<f64>().ok());
    values.reduce(|sum, value| sum + value)
}

/// The built program of the workspace, from the same target folder as the running test.
pub fn built(program: &str) -> Result<PathBuf> {
    let own = std::env::current_exe()?;
    let folders = own.ancestors().skip(1).take(2); // target/debug/deps/<test> or target/debug/<demo>
    let found = folders.map(|folder| folder.join(program)).find(|path| path.is_file());
    found.with_context(|| {
        format!(
            "no built {program} beside {}: run `cargo build --workspace --bins`",
            own.display()
        )
    })
}

/// A new folder below `.run`, for the logs and stores of this run.
pub fn run_folder(name: &str) -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests
        .parent()
        .unwrap_or(tests)
        .join(".run")
        .join(format!("{name}-{}", std::process::id()))
}

fn is_secret(key: &str) -> bool {
    key.ends_with("password") || key.ends_with("secret")
}

/// `ops.listen` of `ws-edge` is `WS_EDGE__OPS__LISTEN`.
pub(super) fn variable(program: &str, key: &str) -> String {
    format!("{}__{}", program.replace('-', "_"), key.replace('.', "__")).to_uppercase()
}

async fn announcement(stdout: pipe::Receiver) -> Result<Value> {
    let mut lines = BufReader::new(stdout);
    let mut line = String::new();
    let read = timeout(ANNOUNCED_WITHIN, lines.read_line(&mut line)).await;
    let length = read.with_context(|| format!("no line within {ANNOUNCED_WITHIN:?}"))??;
    ensure!(length > 0, "standard output was closed");
    let announced = serde_json::from_str(&line).with_context(|| format!("{line:?} is not JSON"))?;
    // A full pipe would block the process.
    tokio::spawn(async move { tokio::io::copy(&mut lines, &mut tokio::io::sink()).await });
    Ok(announced)
}

/// A minimal HTTP/1.1 GET, which shares no code with the services.
pub(crate) async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let answer = timeout(OPS_WITHIN, async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(LONGEST_OPS_ANSWER).read_to_end(&mut answer).await?;
        anyhow::Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    let answer = answer
        .await
        .with_context(|| format!("no answer of {address}{path} within {OPS_WITHIN:?}"))??;
    let (head, body) = answer.split_once("\r\n\r\n").context("no HTTP answer")?;
    let status = head.split_whitespace().nth(1).context("no HTTP status")?.parse()?;
    Ok((status, body.to_owned()))
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[test]
    fn settings_become_variables() {
        assert_eq!(variable("ws-edge", "ops.listen"), "WS_EDGE__OPS__LISTEN");
        assert_eq!(
            variable("billing-timer", "tick_interval_ms"),
            "BILLING_TIMER__TICK_INTERVAL_MS"
        );
    }

    #[test]
    fn the_error_for_a_missing_program_has_the_build_command() {
        let error = built("no-such-service").unwrap_err().to_string();
        assert!(error.contains("cargo build --workspace --bins"), "{error}");
    }

    #[tokio::test]
    async fn a_response_has_status_and_body() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            stream
                .write_all(b"HTTP/1.1 503 Service Unavailable\r\n\r\nnats")
                .await
                .unwrap();
        });
        assert_eq!(get(address, "/readyz").await.unwrap(), (503, "nats".to_owned()));
    }
}
