//! `callctl workers`, `cordon`, `uncordon` and `drain`: which media-workers accept calls.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use contract::buckets::media_workers::{WorkerChange, WorkerStatus};
use contract::jetstream::request::{self, CommandError};
use contract::views::tail::{self, BucketChange, Tail};
use contract::wire::command::{Command, Cordon, CordonState, Uncordon};
use contract::{Timestamp, TraceParent, WorkerId};
use tokio::time::{Instant, sleep, timeout_at};

use crate::connection::Connection;
use crate::out;

/// Deadline of a worker's reply; a person waits for it.
const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// Interval at which `drain` reads the worker's heartbeat.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// The options of `workers`.
#[derive(Debug, Args)]
pub(crate) struct Workers {
    /// One JSON object per line
    #[arg(long)]
    json: bool,
}

/// The options of `cordon` and `uncordon`.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The worker, as `callctl workers` lists it
    worker: WorkerId,
}

/// The options of `drain`.
#[derive(Debug, Args)]
pub(crate) struct Drain {
    #[command(flatten)]
    target: Target,
    /// Longest wait in seconds: by default the longest call, and a minute
    #[arg(long, value_name = "SECONDS", default_value_t = 14_460, value_parser = clap::value_parser!(u64).range(1..=604_800))]
    within: u64,
}

impl Workers {
    /// Prints the workers.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let mut fleet = Fleet::new(connection);
        fleet.update().await?;
        let mut stdout = out::standard();
        if self.json {
            for worker in fleet.workers.values() {
                out::json_line(&mut stdout, worker)?;
            }
        } else if fleet.workers.is_empty() {
            writeln!(stdout, "no workers")?;
        } else {
            let now = Timestamp::now();
            let mut table = out::table(["WORKER", "STATE", "CALLS", "CAPACITY", "UP", "SEEN"]);
            for worker in fleet.workers.values() {
                table.add_row([
                    worker.worker_id.to_string(),
                    state(worker).to_owned(),
                    worker.calls.to_string(),
                    worker.capacity.to_string(),
                    out::duration(now.millis_since(worker.started_on_server())),
                    out::duration(now.millis_since(worker.at_on_server())),
                ]);
            }
            out::write_table(&mut stdout, &table)?;
        }
        Ok(stdout.flush()?)
    }
}

impl Target {
    /// Keeps new calls from the worker.
    pub(crate) async fn cordon(self, connection: &Connection) -> Result<()> {
        print(&self.worker, ask(connection, &self.worker, &Cordon {}).await?)
    }

    /// Lets the worker accept calls again.
    pub(crate) async fn uncordon(self, connection: &Connection) -> Result<()> {
        print(&self.worker, ask(connection, &self.worker, &Uncordon {}).await?)
    }
}

impl Drain {
    /// Cordons the worker, and waits until it hosts no call.
    pub(crate) async fn run(self, connection: &Connection) -> Result<()> {
        let deadline = Instant::now() + Duration::from_secs(self.within);
        let worker = &self.target.worker;
        let mut fleet = Fleet::new(connection);
        fleet.update().await?;
        let started_at = fleet
            .workers
            .get(worker)
            .map(|status| status.started_at)
            .with_context(|| format!("{worker} does not run; `callctl workers` lists those that do"))?;
        let CordonState { calls, .. } = ask(connection, worker, &Cordon {}).await?;
        out::message(&format!("{worker} is cordoned and hosts {}", count(calls)));
        let (mut last, mut was_cordoned) = (calls, false);
        let drained = async {
            // The worker itself has answered, and takes no further call.
            while last > 0 {
                if let Some(outcome) = progress(
                    fleet.workers.get(worker),
                    worker,
                    started_at,
                    (&mut last, &mut was_cordoned),
                ) {
                    return outcome;
                }
                sleep(POLL_INTERVAL).await;
                // A drain takes hours, in which NATS may be unreachable for a while.
                if let Err(error) = fleet.update().await {
                    out::message(&format!("{error}: retrying"));
                }
            }
            Ok(())
        };
        match timeout_at(deadline, drained).await {
            Ok(outcome) => outcome?,
            Err(_) => bail!(
                "{worker} still hosts {} after {} s; it stays cordoned",
                count(last),
                self.within
            ),
        }
        let mut stdout = out::standard();
        writeln!(
            stdout,
            "{worker} hosts no call and stays cordoned: stop it, or uncordon it"
        )?;
        Ok(stdout.flush()?)
    }
}

/// What the last heartbeat says of a drain; `None` while it goes on. Updates the last number of calls, and whether a heartbeat
/// has had the cordon.
fn progress(
    status: Option<&WorkerStatus>,
    worker: &WorkerId,
    started_at: Timestamp,
    (last, was_cordoned): (&mut u32, &mut bool),
) -> Option<Result<()>> {
    let Some(status) = status else {
        return Some(Err(anyhow!("{worker} stopped; last reported {}", count(*last))));
    };
    if status.started_at != started_at {
        return Some(Err(anyhow!("{worker} was restarted and accepts calls")));
    }
    if !status.cordoned {
        // The heartbeat of the cordon is on its way, unless one was read already.
        return was_cordoned.then(|| Err(anyhow!("{worker} was uncordoned by another operator")));
    }
    *was_cordoned = true;
    if status.calls != *last {
        *last = status.calls;
        out::message(&count(status.calls));
    }
    (status.calls == 0).then_some(Ok(()))
}

/// The heartbeats of all workers.
struct Fleet {
    heartbeats: Tail<BucketChange<WorkerChange>>,
    workers: BTreeMap<WorkerId, WorkerStatus>,
}

impl Fleet {
    fn new(connection: &Connection) -> Self {
        Self {
            heartbeats: tail::workers_at(connection.client.clone(), &connection.api_prefix),
            workers: BTreeMap::new(),
        }
    }

    async fn update(&mut self) -> Result<()> {
        loop {
            let changes = self.heartbeats.poll().await.context(
                "reading workers needs the NATS user operator: --nats-user operator --api-prefix CALLPULSE.API",
            )?;
            for change in changes {
                match change {
                    Ok(WorkerChange::Alive(status)) => drop(self.workers.insert(status.worker_id.clone(), status)),
                    Ok(WorkerChange::Gone(worker)) => drop(self.workers.remove(&worker)),
                    Err(error) => out::message(&error.to_string()),
                }
            }
            if !self.heartbeats.is_behind() {
                return Ok(());
            }
        }
    }
}

async fn ask<C>(connection: &Connection, worker: &WorkerId, command: &C) -> Result<CordonState>
where
    C: Command<Recipient = WorkerId, Reply = CordonState>,
{
    let asked = request::ask(
        &connection.client,
        worker,
        command,
        TraceParent::generate(),
        REPLY_TIMEOUT,
    )
    .await;
    asked.map_err(|error| match error {
        CommandError::Unreachable { error, .. } => anyhow!(
            "{worker} does not reply ({error}): it does not run, or the NATS user may not send this; the user operator may"
        ),
        error => error.into(),
    })
}

fn print(worker: &WorkerId, state: CordonState) -> Result<()> {
    let mut stdout = out::standard();
    let accepts = if state.cordoned {
        "is cordoned: it accepts no new call"
    } else {
        "accepts calls"
    };
    writeln!(stdout, "{worker} {accepts}, and hosts {}", count(state.calls))?;
    Ok(stdout.flush()?)
}

fn count(calls: u32) -> String {
    match calls {
        1 => "1 call".to_owned(),
        calls => format!("{calls} calls"),
    }
}

fn state(worker: &WorkerStatus) -> &'static str {
    match (worker.draining, worker.cordoned) {
        (true, _) => "draining",
        (false, true) => "cordoned",
        (false, false) => "active",
    }
}
