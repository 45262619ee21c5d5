//! A service as its supervisor sees it: announcement, readiness, signals, exit codes. The program runs the checks, and starts
//! itself as the service under test.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test; clippy does not see that without a harness"
)]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;
use nix::libc;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use service::{
    App, BoxError, CommonSettings, DescriptorNeed, Secret, ServiceArgs, ServiceContext, ServiceSettings, Validate,
};

const APP: App = App::new("sample-service", "1.2.3");
const BOUND: Duration = Duration::from_secs(20);

#[derive(Clone, Copy, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Mode {
    /// Ends on request.
    #[default]
    Good,
    /// A task fails at once.
    Fail,
    /// A task does not end, but the service observes the drain deadline.
    StuckTask,
    /// The service does not end.
    StuckService,
    /// A condition never holds.
    Unready,
    /// Every thread of the runtime is blocked.
    Blocked,
    /// Logs without end.
    Chatty,
}

#[derive(Default, Serialize, Deserialize, JsonSchema)]
struct Settings {
    mode: Mode,
    key: Secret,
    nats: String,
    connections: u64,
    #[serde(flatten)]
    common: CommonSettings,
}

impl Validate for Settings {}

impl ServiceSettings for Settings {
    fn common(&self) -> &CommonSettings {
        &self.common
    }

    fn descriptors(&self) -> Vec<DescriptorNeed> {
        vec![DescriptorNeed {
            key: "connections",
            descriptors: self.connections,
        }]
    }
}

async fn run(settings: Settings, context: ServiceContext) -> Result<(), BoxError> {
    let mut tasks = context.tasks();
    let stop = context.stop.clone();
    if matches!(settings.mode, Mode::Unready) {
        context.health.condition("dependency");
    }
    tasks.spawn("work", async move {
        match settings.mode {
            Mode::Fail => return Err("as asked"),
            Mode::StuckTask => std::future::pending().await,
            Mode::Chatty => {
                while !stop.is_cancelled() {
                    tracing::debug!("a line");
                    tokio::task::yield_now().await;
                }
            }
            Mode::Good | Mode::StuckService | Mode::Unready | Mode::Blocked => stop.cancelled().await,
        }
        Ok(())
    });
    context.announce([("work", "127.0.0.1:1")]);
    if matches!(settings.mode, Mode::Blocked) {
        // The runtime has as many threads as processors; this one is not among them.
        let threads = std::thread::available_parallelism()?.get();
        for _ in 0..threads * 2 {
            tokio::spawn(async { std::thread::sleep(2 * BOUND) });
        }
    }
    tasks.join().await?;
    if matches!(settings.mode, Mode::StuckService) {
        std::future::pending::<()>().await;
    }
    Ok(())
}

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    service: ServiceArgs,
    #[command(subcommand)]
    command: Option<Sub>,
}

#[derive(clap::Subcommand)]
enum Sub {
    /// Prints the mode's key.
    Key,
}

fn main() -> ExitCode {
    if std::env::var_os("SERVICE_UNDER_TEST").is_some() {
        let cli = Cli::parse();
        return match cli.command {
            None => service::serve(APP, &cli.service, run),
            Some(Sub::Key) => service::command(APP, &cli.service, |settings: Settings, _stop| async move {
                println!("{}", settings.key.expose());
                Ok::<_, BoxError>(())
            }),
        };
    }
    for (name, check) in CHECKS {
        check();
        println!("check {name} ... ok");
    }
    ExitCode::SUCCESS
}

const CHECKS: [(&str, fn()); 18] = [
    ("announces its ports, is ready, and ends cleanly", good),
    ("SIGINT, SIGQUIT, SIGPWR and SIGXCPU stop it too", other_stops),
    ("a failed task exits with 1", failing),
    ("a stuck task is abandoned at the deadline", stuck_task),
    ("a stuck service is unready, and exits with 1", stuck_service),
    ("a second signal ends it at once", second_signal),
    ("no other signal ends or suspends it", other_signals),
    ("it continues when nobody reads its log", closed_log),
    (
        "it continues when its log reaches the limit of a file's size",
        limited_log,
    ),
    ("it continues when its log reader stalls", stalled_log),
    (
        "a line that is repeated without end does not fill the log",
        repeated_line,
    ),
    ("its log has colours on a terminal that wants them", colours),
    ("invalid settings exit with 2, all reported", bad_settings),
    (
        "descriptors are raised to the hard limit, which the settings must fit",
        descriptors,
    ),
    (
        "the service manager learns that it is ready, alive and stopping",
        service_manager,
    ),
    (
        "it is not ready for the service manager before /readyz is",
        unready_for_service_manager,
    ),
    ("a blocked runtime sends no heartbeat", blocked_runtime),
    ("prints settings without secrets, and runs subcommands", subcommands),
];

struct Running {
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(arguments)
            .env("SERVICE_UNDER_TEST", "1")
            .envs(environment.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Self { child, stdout }
    }

    /// Under a service manager with a watchdog of 0.3 s.
    fn managed(mode: &str, manager: &ServiceManager) -> Self {
        let socket = manager.folder.path().join("notify");
        let environment = [
            ("SAMPLE_SERVICE__MODE", mode),
            ("NOTIFY_SOCKET", socket.to_str().unwrap()),
            ("WATCHDOG_USEC", "300000"),
        ];
        Self::start(&[], &environment)
    }

    fn mode(mode: &str, drain_timeout_ms: &str) -> Self {
        let environment = [
            ("SAMPLE_SERVICE__MODE", mode),
            ("SAMPLE_SERVICE__DRAIN_TIMEOUT_MS", drain_timeout_ms),
        ];
        Self::start(&[], &environment)
    }

    /// The announcement, which is the only line on stdout.
    fn announced(&mut self) -> serde_json::Value {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap()
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
    }

    /// Its exit code, the rest of stdout, and its log.
    fn end(mut self) -> (Option<i32>, String, String) {
        eventually("the process ends", || self.child.try_wait().unwrap().is_some());
        let code = self.child.wait().unwrap().code();
        let (mut out, mut err) = (String::new(), String::new());
        self.stdout.read_to_string(&mut out).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut err).unwrap();
        (code, out, err)
    }
}

/// The socket of a service manager.
struct ServiceManager {
    folder: tempfile::TempDir,
    socket: UnixDatagram,
}

impl ServiceManager {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let socket = UnixDatagram::bind(folder.path().join("notify")).unwrap();
        Self { folder, socket }
    }

    /// The next message within this time.
    fn receive(&self, within: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(within)).unwrap();
        let size = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8(buffer[..size].to_vec()).unwrap())
    }

    /// The messages up to the first with this line, which is the last of them.
    fn until(&self, line: &str) -> Vec<String> {
        let mut received = Vec::new();
        while !received
            .last()
            .is_some_and(|last: &String| last.lines().any(|it| it == line))
        {
            received.push(
                self.receive(BOUND)
                    .unwrap_or_else(|| panic!("no {line} after {received:?}")),
            );
        }
        received
    }
}

fn service_manager() {
    let manager = ServiceManager::new();
    let mut service = Running::managed("good", &manager);
    service.announced();
    manager.until("READY=1");
    for _ in 0..3 {
        manager.until("WATCHDOG=1");
    }
    service.signal(Signal::SIGTERM);
    let last = manager.until("STOPPING=1");
    assert!(!last.iter().any(|message| message.contains("READY=1")), "{last:?}");
    assert_eq!(service.end().0, Some(0));
    // It is no failure that nobody listens.
    let mut service = Running::start(&[], &[("NOTIFY_SOCKET", "/nowhere"), ("WATCHDOG_USEC", "300000")]);
    service.announced();
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().0, Some(0));
}

fn unready_for_service_manager() {
    let manager = ServiceManager::new();
    let mut service = Running::managed("unready", &manager);
    service.announced();
    let mut before = manager.until("STATUS=waiting for dependency");
    service.signal(Signal::SIGTERM);
    before.extend(manager.until("STOPPING=1"));
    assert!(!before.iter().any(|message| message.contains("READY=1")), "{before:?}");
    assert_eq!(service.end().0, Some(0));
}

fn blocked_runtime() {
    let manager = ServiceManager::new();
    let mut service = Running::managed("blocked", &manager);
    service.announced();
    // What was sent before it blocked is still there.
    let since = Instant::now();
    while manager.receive(Duration::from_secs(1)).is_some() {
        assert!(since.elapsed() < BOUND, "signs of life of a blocked runtime");
    }
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let since = Instant::now();
    while !holds() {
        assert!(since.elapsed() < BOUND, "in time: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn get(ops: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(ops).unwrap();
    stream.set_read_timeout(Some(BOUND)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn good() {
    let mut service = Running::mode("good", "5000");
    let line = service.announced();
    assert_eq!(
        (&line["service"], &line["work"]),
        (&"sample-service".into(), &"127.0.0.1:1".into())
    );
    let ops = line["ops"].as_str().unwrap();
    eventually("it is ready", || get(ops, "/readyz").contains(r#""ready":true"#));
    assert!(get(ops, "/metrics").contains("# HELP callpulse_build_info 1, with the version"));
    service.signal(Signal::SIGTERM);
    let (code, out, err) = service.end();
    assert_eq!((code, out.as_str()), (Some(0), ""), "{err}");
}

fn other_stops() {
    for signal in [Signal::SIGINT, Signal::SIGQUIT, Signal::SIGPWR, Signal::SIGXCPU] {
        let mut service = Running::mode("good", "5000");
        service.announced();
        service.signal(signal);
        assert_eq!(service.end().0, Some(0), "{signal}");
    }
    // The kernel repeats SIGXCPU: it is no second request.
    let mut service = Running::mode("stuck_service", "2000");
    service.announced();
    for _ in 0..3 {
        service.signal(Signal::SIGXCPU);
    }
    let (code, _, err) = service.end();
    assert_eq!(code, Some(1));
    assert!(err.contains("did not end by its drain deadline"), "{err}");
}

fn failing() {
    let (code, _, err) = Running::mode("fail", "5000").end();
    assert_eq!(code, Some(1));
    assert!(err.contains("work failed: as asked"), "{err}");
}

fn stuck_task() {
    let mut service = Running::mode("stuck_task", "50");
    service.announced();
    service.signal(Signal::SIGTERM);
    let (code, _, err) = service.end();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.contains("WARN") && err.contains("not drained"), "{err}");
}

fn stuck_service() {
    let mut service = Running::mode("stuck_service", "300");
    let line = service.announced();
    service.signal(Signal::SIGTERM);
    eventually("it reports that it drains", || {
        get(line["ops"].as_str().unwrap(), "/readyz").contains(r#""ready":false,"draining":true"#)
    });
    let (code, _, err) = service.end();
    assert_eq!(code, Some(1));
    assert!(err.contains("did not end by its drain deadline"), "{err}");
}

fn second_signal() {
    let mut service = Running::mode("stuck_service", "600000");
    let line = service.announced();
    service.signal(Signal::SIGTERM);
    eventually("the first signal is handled", || {
        get(line["ops"].as_str().unwrap(), "/readyz").contains(r#""draining":true"#)
    });
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().0, Some(1));
}

fn other_signals() {
    // Those of faults end a process; SIGXFSZ has a check of its own.
    let left_out = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGILL,
        libc::SIGTRAP,
        libc::SIGABRT,
        libc::SIGBUS,
        libc::SIGFPE,
        libc::SIGSEGV,
        libc::SIGSYS,
        libc::SIGTERM,
        libc::SIGINT,
        libc::SIGQUIT,
        libc::SIGPWR,
        libc::SIGXCPU,
    ];
    let mut service = Running::mode("good", "5000");
    service.announced();
    let pid = service.child.id().to_string();
    let standard = 1..=31;
    for number in standard.chain(libc::SIGRTMIN()..=libc::SIGRTMAX()) {
        if !left_out.contains(&number) {
            let sent = Command::new("kill").args([&format!("-{number}"), &pid]).status();
            assert!(sent.unwrap().success(), "{number}");
        }
    }
    service.signal(Signal::SIGTERM);
    let (code, _, err) = service.end();
    assert_eq!(code, Some(0), "{err}");
    for ignored in ["SIGHUP", "SIGIO", "SIGTSTP", "SIGRT"] {
        assert!(err.contains(ignored), "{err}");
    }
}

/// Causes one log line.
fn log_a_line(service: &Running) {
    service.signal(Signal::SIGHUP);
}

fn closed_log() {
    let mut service = Running::mode("good", "5000");
    let line = service.announced();
    drop(service.child.stderr.take());
    loses_lines_and_serves(service, &line);
}

fn limited_log() {
    let mut service = Command::new(std::env::current_exe().unwrap());
    service
        .env("SERVICE_UNDER_TEST", "1")
        .stdout(Stdio::piped())
        .stderr(tempfile::tempfile().unwrap());
    let mut child = service.spawn().unwrap();
    let stdout = BufReader::new(child.stdout.take().unwrap());
    let mut service = Running { child, stdout };
    let line = service.announced();
    let pid = service.child.id().to_string();
    let limited = Command::new("prlimit").args(["--pid", &pid, "--fsize=100"]).status();
    assert!(limited.unwrap().success());
    loses_lines_and_serves(service, &line);
}

fn loses_lines_and_serves(mut service: Running, line: &serde_json::Value) {
    eventually("lost lines are counted, and it serves", || {
        log_a_line(&service);
        let metrics = get(line["ops"].as_str().unwrap(), "/metrics");
        metrics.contains(r#"callpulse_log_lines_lost_total{reason="write_failed"}"#)
    });
    service.signal(Signal::SIGTERM);
    eventually("the process ends", || service.child.try_wait().unwrap().is_some());
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}

fn colours() {
    // `script` runs a command on a terminal of its own.
    let logged = |variables: &[(&str, &str)]| {
        let mut terminal = Command::new("script");
        terminal
            .args(["-q", "-e", "-c"])
            .arg(std::env::current_exe().unwrap())
            .arg("/dev/null")
            .env_clear()
            .envs([("SERVICE_UNDER_TEST", "1"), ("SAMPLE_SERVICE__MODE", "fail")])
            .envs(variables.iter().copied())
            .stdin(Stdio::null());
        let log = String::from_utf8(terminal.output().unwrap().stdout).unwrap();
        assert!(log.contains("work failed: as asked"), "{log}");
        log
    };
    assert!(logged(&[("TERM", "xterm")]).contains('\u{1b}'));
    for plain in [
        &[("TERM", "xterm"), ("NO_COLOR", "1")][..],
        &[("TERM", "xterm"), ("NO_COLOR", "0")],
        &[("TERM", "dumb")],
    ] {
        let log = logged(plain);
        assert!(!log.contains('\u{1b}'), "{plain:?}: {log}");
    }
    assert!(logged(&[("TERM", "xterm"), ("NO_COLOR", "")]).contains('\u{1b}'));
}

fn repeated_line() {
    let mut service = Running::mode("good", "5000");
    let line = service.announced();
    eventually("repeated lines are left out", || {
        log_a_line(&service);
        let metrics = get(line["ops"].as_str().unwrap(), "/metrics");
        let repeated = metrics.split_once("\ncallpulse_log_lines_repeated_total ");
        repeated.is_some_and(|(_, lines)| !lines.starts_with('0'))
    });
    service.signal(Signal::SIGTERM);
    let (_, _, log) = service.end();
    // The interval may end meanwhile.
    assert!((50..=100).contains(&log.matches("SIGHUP").count()), "{log}");
    assert!(log.contains("SIGTERM"), "other lines are logged: {log}");
}

fn stalled_log() {
    // Its lines fill the pipe, which is not read.
    let environment = [
        ("SAMPLE_SERVICE__LOG__FILTER", "debug"),
        ("SAMPLE_SERVICE__MODE", "chatty"),
    ];
    let mut service = Running::start(&[], &environment);
    let line = service.announced();
    eventually("lines are dropped, and it serves", || {
        let metrics = get(line["ops"].as_str().unwrap(), "/metrics");
        let lost = r#"callpulse_log_lines_lost_total{reason="queue_full"} "#;
        metrics
            .split_once(lost)
            .is_some_and(|(_, lines)| !lines.starts_with('0'))
    });
    service.signal(Signal::SIGTERM);
    eventually("the process ends", || service.child.try_wait().unwrap().is_some());
    assert_eq!(service.child.wait().unwrap().code(), Some(0));
}

fn bad_settings() {
    let environment = [
        ("SAMPLE_SERVICE__MODE", "worse"),
        ("SAMPLE_SERVICE__OPS__LISTEM", "127.0.0.1:0"),
        ("SAMPLE_SERVICE__LOG__FILTER", "info,what=ever"),
    ];
    let (code, out, err) = Running::start(&["--check-config"], &environment).end();
    assert_eq!((code, out.as_str()), (Some(2), ""));
    assert_eq!(err.lines().count(), 4, "{err}");
    assert!(
        err.contains("mode (variable SAMPLE_SERVICE__MODE): expected one of `good`, `fail`"),
        "{err}"
    );
    assert!(err.contains("unknown key; did you mean ops.listen?"), "{err}");
    assert!(
        err.contains("log.filter (variable SAMPLE_SERVICE__LOG__FILTER): not log directives"),
        "{err}"
    );
    assert_eq!(Running::start(&["--no-such-option"], &[]).end().0, Some(2));
    assert_eq!(Running::start(&["--check-config"], &[]).end().0, Some(0));
}

fn descriptors() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, 128, hard).unwrap();
    let mut service = Running::start(&[], &[("SAMPLE_SERVICE__CONNECTIONS", "1")]);
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    service.announced();
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", service.child.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let fields: Vec<_> = line.split_whitespace().collect();
    assert_eq!(fields[3..5], [hard.to_string(), hard.to_string()], "{line}");
    service.signal(Signal::SIGTERM);
    assert_eq!(service.end().0, Some(0));

    // Lower than anything that this process needs later: only root could raise it again.
    setrlimit(Resource::RLIMIT_NOFILE, soft.min(4_096), hard.min(4_096)).unwrap();
    let too_many = [("SAMPLE_SERVICE__CONNECTIONS", "5000")];
    for arguments in [&[][..], &["--check-config"]] {
        let (code, out, err) = Running::start(arguments, &too_many).end();
        assert_eq!((code, out.as_str()), (Some(2), ""), "{err}");
        assert!(
            err.contains("connections (limits of this process): needs 5256 descriptors"),
            "{err}"
        );
    }
}

fn subcommands() {
    let environment = [
        ("SAMPLE_SERVICE__KEY", "hunter2"),
        ("SAMPLE_SERVICE__NATS", "nats://me:hunter2@127.0.0.1"),
    ];
    let (code, out, err) = Running::start(&["--print-config"], &environment).end();
    assert_eq!(code, Some(0), "{err}");
    assert!(!out.contains("hunter2"), "{out}");
    for line in [
        "# key = \"[redacted]\" # variable SAMPLE_SERVICE__KEY",
        "log.format = \"text\" # default",
        "nats = \"nats://[redacted]@127.0.0.1\" # variable SAMPLE_SERVICE__NATS",
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line} is missing in {out}");
    }
    // Without its secret, which a service may need to start.
    let (code, out, err) = Running::start(&["--print-config"], &[("SAMPLE_SERVICE__KEY_FILE", "/nowhere")]).end();
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("# key is missing: key_file"), "{out}");
    let (code, out, _) = Running::start(&["key"], &environment).end();
    assert_eq!((code, out.as_str()), (Some(0), "hunter2\n"));
}
