//! `make chaos`: many calls on the real stack while its parts are killed, frozen and cut off, and a checker of the outcome.
//!
//! In reading order:
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`options`] | the command line, and derived values |
//! | [`rng`] | seeded random numbers |
//! | [`edge_addresses`] | the addresses that clients connect to |
//! | [`load`] | pairs of clients that call each other by plans drawn from the seed |
//! | [`faults`] | the fault schedule drawn from the seed, and the injector |
//! | [`records`] | the run log, statistics, CPU steal, errors in service logs, and the artifacts of a failed run |
//! | [`checker`] | the invariants, checked against the stored stream and the run log |
//! | [`report`] | findings, counts, and the recovery time of each fault |

pub mod edge_addresses;
pub mod options;
pub mod rng;
pub mod workdir;

pub mod load;

pub mod faults;

pub mod records;

pub mod checker;

pub mod report;

use std::fmt;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, ensure};
use async_nats::jetstream;
use contract::FactKind;
use contract::jetstream::storage;
use contract::wire::subject;
use futures::TryStreamExt;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use callpulse_tests::servers::process;
use callpulse_tests::servers::stack::{Stack, StackBuilder};
use callpulse_tests::servers::wall_clock::WallClock;
use callpulse_tests::terminal::interrupt::interrupted;
use callpulse_tests::terminal::screen::{LineKind, Screen};
use callpulse_tests::wait::eventually;
use edge_addresses::EdgeAddresses;
use faults::fault_injector::{DRAIN, FaultInjector};
use load::call_plan::CallPlan;
use load::connected_calls::ConnectedCalls;
use load::pair::{MEDIA_TIMEOUT, RING_TIMEOUT, RTP_LOST_AFTER, RTP_TIMEOUT};
use load::pairs::{self, Load};
use load::wallets::Wallets;
use options::Options;
use records::run_log::RunLog;
use records::stats::Stats;
use report::Report;
use report::recovery::Recovery;

/// In an upgrade: the time for the last pairs to connect, before it and after it.
const CONNECTING: Duration = Duration::from_secs(5);
/// In an upgrade: the part of a media-worker's drain that it keeps for storing, and a reserve.
const STORING_TIME: Duration = Duration::from_secs(20);
/// The deadline for the last calls to end. A pair that exceeds it is stuck.
const HUNG_UP_WITHIN: Duration = Duration::from_secs(120);
/// The deadline for the last settlements, once all processes are ready.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// The services' warning before the end of the granted time.
const CREDIT_LOW: Duration = Duration::from_secs(3);
/// The calm that the checker needs at the end of the run, with a reserve.
const CALM: Duration = Duration::from_millis(checker::NOTICE_DEADLINE_MS as u64 + 1_000);
/// The exit code of shells for Ctrl-C.
const INTERRUPTED: u8 = 130;

/// The outcome of a run.
#[derive(Debug)]
pub struct Outcome {
    /// The report of the checker.
    pub report: Report,
    /// The findings of the harness: stuck pairs, processes that ended by themselves, errors in logs.
    pub findings: Vec<String>,
    /// Requested calls, and calls that both parties saw connected.
    pub calls: (u64, u64),
    connected_calls: ConnectedCalls,
    usage: String,
    faults: usize,
}

/// Executes the command line: 0 if all runs are clean, 1 if not, 130 if interrupted.
pub async fn main(options: Options) -> ExitCode {
    let (screen, folder) = (Screen::new(), process::run_folder("chaos"));
    let clean = tokio::select! {
        clean = run_all(&options, screen, &folder) => clean,
        interrupted = interrupted() => {
            let _ = interrupted;
            screen.line(LineKind::Bad, "interrupted; all processes are stopped");
            return ExitCode::from(INTERRUPTED);
        }
    };
    match clean {
        Ok(true) => {
            if !options.keep {
                let _ = std::fs::remove_dir_all(&folder);
            }
            ExitCode::SUCCESS
        }
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let error = format!("{error:#}; logs and stores are in {}", folder.display());
            screen.line(LineKind::Bad, &error);
            ExitCode::FAILURE
        }
    }
}

/// Executes the runs, and returns whether they are clean.
async fn run_all(options: &Options, screen: Screen, folder: &Path) -> Result<bool> {
    let first = options.seed.unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let (mut clean, mut recoveries) = (true, Vec::new());
    for number in 0..options.runs {
        let seed = first.wrapping_add(u64::from(number));
        let folder = folder.join(format!("seed-{seed}"));
        let outcome = run(options, seed, screen, &folder).await?;
        screen.heading("Report");
        screen.plain(LineKind::Info, &outcome.to_string());
        if outcome.is_clean() && !options.keep {
            let _ = std::fs::remove_dir_all(&folder);
        } else {
            screen.line(LineKind::Quiet, &format!("logs and stores are in {}", folder.display()));
        }
        clean &= outcome.is_at_most_slow();
        recoveries.push(outcome.report.recovery);
    }
    let recovery = Recovery::of_runs(recoveries);
    let complaints = recovery.complaints();
    clean &= complaints.is_empty();
    if options.runs > 1 {
        screen.heading(&format!("All {} runs", options.runs));
        screen.plain(LineKind::Info, recovery.to_string().trim_end());
        for complaint in complaints {
            screen.line(LineKind::Bad, &complaint);
        }
        let verdict = if clean {
            "the runs are clean"
        } else {
            "the runs are NOT clean"
        };
        screen.plain(LineKind::Info, verdict);
    }
    Ok(clean)
}

/// Executes one run of `seed`, with its logs and stores below `folder`.
/// Fails only if the run itself fails: violations are in the outcome.
pub async fn run(options: &Options, seed: u64, screen: Screen, folder: &Path) -> Result<Outcome> {
    let schedule = options.schedule_options().schedule(seed);
    screen.heading(&format!(
        "Seed {seed}: {} calls at once for {} s, {} faults",
        options.calls,
        options.duration,
        schedule.len()
    ));
    let stack = start(options, folder, screen).await.context("starting the stack")?;
    let (edge_addresses, run_log, stats) = (EdgeAddresses::default(), RunLog::default(), Stats::new(options.pairs()));
    let wallets = Wallets::start(&stack.nats, options.interval(), &run_log).await;
    let wallets = wallets.context("starting the wallets")?;
    let client = async_nats::connect(stack.nats.urls())
        .await
        .context("connecting to NATS")?;
    let (addresses, log) = (edge_addresses.clone(), run_log.clone());
    let mut injector = FaultInjector::new(stack, addresses, log, stats.clone(), screen, drain(options))?;
    let mut watching = JoinSet::new();
    watching.spawn(records::cpu_steal::watch(run_log.clone()));
    let mut load = Load::start(options, seed, &edge_addresses, &run_log, &stats);
    let (started, mut connected_calls) = (Instant::now(), ConnectedCalls::new(options.calls));
    let disturbing = async {
        if !options.upgrade {
            return injector.run(&schedule, options.duration()).await;
        }
        injector.run(&[], options.full_after() + CONNECTING).await?;
        injector.upgrade().await?;
        injector.run(&[], CONNECTING).await
    };
    tokio::select! {
        outcome = disturbing => outcome.context("injecting and repairing faults")?,
        () = pairs::follow(screen, &stats, &client, started, options.full_after(), &mut connected_calls) => {}
    }
    screen.heading("Hanging up");
    let usage = injector.usage().to_string();
    let left = injector.run_with(load.finish(HUNG_UP_WITHIN)).await?;
    if left > 0 {
        stats.finding(format!(
            "stuck: {left} of {} pairs have not ended within {HUNG_UP_WITHIN:?}",
            load.pairs()
        ));
    }
    let mut stack = injector.into_stack();
    for outcome in [stack.ready().await, stack.nats.synced().await, settled(&client).await] {
        if let Err(error) = outcome {
            stats.finding(format!("{error:#}"));
        }
    }
    sleep(CALM).await;
    run_log.over(SystemTime::now());
    drop((load, wallets, watching));
    screen.heading("Checking");
    let report = checker::check(client.clone(), &run_log, options.interval())
        .await
        .context("checking")?;
    if !report.is_clean() || !stats.found().0.is_empty() {
        records::artifacts::save(&client, &run_log, folder)
            .await
            .context("saving the artifacts")?;
    }
    if let Err(error) = stack.stop().await {
        stats.finding(format!("{error:#}"));
    }
    let (mut findings, more) = stats.found();
    findings.extend((more > 0).then(|| format!("and {more} more")));
    findings.extend(records::service_logs::complaints(folder)?);
    findings.extend(options.upgrade.then(|| ended_by_the_upgrade(&report)).flatten());
    Ok(Outcome {
        report,
        findings,
        calls: stats.calls(),
        connected_calls,
        usage,
        faults: stats.faults() as usize,
    })
}

/// The drain timeout of media-workers. In an upgrade, it is as long as the longest call.
fn drain(options: &Options) -> Duration {
    if options.upgrade {
        MEDIA_TIMEOUT + CallPlan::longest_talk(Duration::from_secs(options.talk)) + STORING_TIME
    } else {
        DRAIN
    }
}

/// In an upgrade, calls end by the choice of their parties.
fn ended_by_the_upgrade(report: &Report) -> Option<String> {
    let by_choice = ["hangup", "rejected", "cancelled", "no_answer"];
    let others = report.reasons.iter();
    let others: Vec<_> = others
        .filter(|(reason, _)| !by_choice.contains(&reason.as_str()))
        .collect();
    (!others.is_empty()).then(|| format!("calls ended by other reasons than their parties: {others:?}"))
}

async fn start(options: &Options, folder: &Path, screen: Screen) -> Result<Stack> {
    let [workers, edges, timers] = options.processes();
    let mut builder = StackBuilder::default();
    if WallClock::is_available() {
        builder = builder.own_clocks();
    } else {
        screen.line(
            LineKind::Bad,
            "no C compiler (cc): the clocks of services are not stepped",
        );
    }
    builder = builder
        .workers(workers)
        .edges(edges)
        .timers(timers)
        .folder(folder)
        .set("billing-timer", "tick_interval_ms", options.interval_ms)
        .set("ws-edge", "ring_timeout_ms", RING_TIMEOUT.as_millis())
        // The wallet lets the credit of some calls run out.
        .set("ws-edge", "credit.enabled", !options.upgrade)
        .set("media-worker", "credit_low_ms", CREDIT_LOW.as_millis())
        .set("ws-edge-1", "terms.charge", "start")
        .set("ws-edge-1", "terms.silence", "deduct_any")
        .set("ws-edge-1", "terms.free_ms", 1_500)
        .set("ws-edge-1", "terms.minimum_ms", 5_000)
        .set("ws-edge", "limits.calls_per_minute_of_pair", 600)
        .set("ws-edge", "limits.calls_per_minute_of_user", 600)
        .set("ws-edge", "limits.calls_per_minute_to_otomo", 600)
        .set("media-worker", "media_timeout_ms", MEDIA_TIMEOUT.as_millis())
        .set("media-worker", "rtp_lost_after_ms", RTP_LOST_AFTER.as_millis())
        .set("media-worker", "rtp_timeout_ms", RTP_TIMEOUT.as_millis())
        .set("media-worker", "drain_timeout_ms", drain(options).as_millis());
    if !options.upgrade {
        builder = builder.proxied();
    }
    if !options.single {
        builder = builder.cluster();
    }
    builder.start().await
}

/// Waits until every requested call is settled.
async fn settled(client: &async_nats::Client) -> Result<()> {
    let jetstream = jetstream::new(client.clone());
    let calls_with = async |kind: FactKind| -> Result<usize> {
        let stream = jetstream.get_stream(storage::CALLS).await?;
        let subjects = stream.info_with_subjects(subject::facts_of_kind(kind)).await?;
        Ok(subjects.try_collect::<Vec<_>>().await?.len())
    };
    eventually("the settlement of all calls", SETTLED_WITHIN, async || {
        let (requested, settled) = (
            calls_with(FactKind::Requested).await?,
            calls_with(FactKind::Settled).await?,
        );
        ensure!(requested == settled, "{settled} of {requested} calls are settled");
        Ok(())
    })
    .await
}

impl Outcome {
    /// Whether neither the checker nor the harness has a finding.
    pub fn is_clean(&self) -> bool {
        self.report.is_clean() && self.findings.is_empty()
    }

    /// Whether slow recovery is the only finding.
    pub fn is_at_most_slow(&self) -> bool {
        self.report.is_at_most_slow() && self.findings.is_empty()
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (requested, connected) = self.calls;
        writeln!(f, "{}", self.report)?;
        writeln!(
            f,
            "calls made     {requested} requested, {connected} connected for both parties; {} faults",
            self.faults
        )?;
        writeln!(f, "connected      {}", self.connected_calls)?;
        writeln!(f, "processor      {}", self.usage)?;
        for finding in &self.findings {
            writeln!(f, "✗ {finding}")?;
        }
        f.write_str(match (self.is_clean(), self.is_at_most_slow()) {
            (true, _) => "the run is clean",
            (_, true) => "the run is clean except recovery",
            _ => "the run is NOT clean",
        })
    }
}
