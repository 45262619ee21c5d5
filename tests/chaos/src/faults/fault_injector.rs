//! Injects the scheduled faults, repairs them, and checks the processes: a process that ends by itself is a finding.

pub mod upgrade;

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use contract::jetstream::storage;
use tokio::time::{Instant, sleep_until};

use crate::edge_addresses::EdgeAddresses;
use crate::faults::cpu_usage::CpuUsage;
use crate::faults::fault_schedule::{FaultAction, FaultKind, Part, PlannedFault};
use crate::records::run_log::{ClockStep, Fault, FaultId, RunLog, Since};
use crate::records::stats::Stats;
use callpulse_tests::servers::process::Service;
use callpulse_tests::servers::stack::Stack;
use callpulse_tests::terminal::screen::{LineKind, Screen};

/// The drain timeout of media-workers: their calls continue for a third of it, the rest is for storing.
pub const DRAIN: Duration = Duration::from_secs(18);
/// The deadline for an orderly stop exceeds the drain timeout by this.
const STOP_RESERVE: Duration = Duration::from_secs(5);
/// How often the processes are checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The target of the fault that leaves no nats-server.
const ALL_NODES: &str = "all nats-servers";

/// Owns the stack during the run.
#[derive(Debug)]
pub struct FaultInjector {
    stack: Stack,
    edge_addresses: EdgeAddresses,
    run_log: RunLog,
    stats: Stats,
    screen: Screen,
    usage: CpuUsage,
    /// The drain timeout of media-workers.
    drain: Duration,
    /// Processes that are down because of a fault.
    down: BTreeSet<String>,
}

/// A fault before its repair.
#[derive(Debug)]
struct ActiveFault {
    planned: PlannedFault,
    /// The index of the target; for the leader, the actual server.
    index: usize,
    /// None: a step of a clock, which excuses nothing.
    id: Option<FaultId>,
    mend_at: Instant,
}

impl FaultInjector {
    /// Takes ownership of the stack.
    pub fn new(
        stack: Stack,
        edge_addresses: EdgeAddresses,
        run_log: RunLog,
        stats: Stats,
        screen: Screen,
        drain: Duration,
    ) -> Result<Self> {
        let mut injector = Self {
            stack,
            edge_addresses,
            run_log,
            stats,
            screen,
            usage: CpuUsage::new(),
            drain,
            down: BTreeSet::new(),
        };
        injector.update_edge_addresses()?;
        injector.check_processes()?;
        Ok(injector)
    }

    /// Returns the stack.
    pub fn into_stack(self) -> Stack {
        self.stack
    }

    /// CPU time so far.
    pub fn usage(&self) -> &CpuUsage {
        &self.usage
    }

    /// Injects and repairs the scheduled faults until `until`, extended by the time that repairs took. Repairs all at the end.
    /// Fails if an injection or a repair fails: an error of the harness, or a service that does not start.
    pub async fn run(&mut self, schedule: &[PlannedFault], until: Duration) -> Result<()> {
        let started = Instant::now();
        // The time that repairs exceeded the plan, for example for an election. It is added, so that pauses stay as long.
        let mut delay = Duration::ZERO;
        let mut ahead = schedule.iter().copied().peekable();
        let mut open: Vec<ActiveFault> = Vec::new();
        let mut next_check = started;
        loop {
            let next_mend = open.iter().map(|open| open.mend_at).min();
            let next_injection = ahead.peek().map(|planned| started + planned.at + delay);
            let over = started + until + delay;
            let next = [next_mend, next_injection, Some(next_check), Some(over)];
            let next = next.into_iter().flatten().min().unwrap_or(over);
            sleep_until(next).await;
            let now = Instant::now();
            if now >= over {
                for fault in open.drain(..) {
                    self.restore(&fault).await?;
                }
                return Ok(());
            }
            if let Some(place) = open.iter().position(|open| open.mend_at <= now) {
                let fault = open.swap_remove(place);
                self.restore(&fault).await?;
                delay += fault.mend_at.elapsed();
            } else if next_injection.is_some_and(|at| at <= now) {
                if let Some(planned) = ahead.next() {
                    open.push(self.inject(planned).await?);
                }
            } else if next_check <= now {
                self.check_processes()?;
                next_check = now + CHECK_INTERVAL;
            }
        }
    }

    /// Checks the processes until `work` is done.
    pub async fn run_with<T>(&mut self, work: impl Future<Output = T>) -> Result<T> {
        let mut work = std::pin::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return Ok(done),
                () = sleep_until(Instant::now() + CHECK_INTERVAL) => self.check_processes()?,
            }
        }
    }

    async fn inject(&mut self, planned: PlannedFault) -> Result<ActiveFault> {
        let FaultKind { part, action } = planned.kind;
        let index = match part {
            Part::Leader => self.stack.nats.stream_leader(storage::CALLS).await?,
            _ => planned.index,
        };
        let target = self.name(part, index)?;
        let number = self.stats.fault();
        let seconds = planned.lasts.as_secs_f64();
        self.screen.line(
            LineKind::Bad,
            &format!("#{number} {}: {target}, for {seconds:.1} s", planned.kind),
        );
        if matches!(action, FaultAction::Kill | FaultAction::Term) {
            self.down.insert(target.clone());
        }
        if planned.kind.is_clock_step() {
            self.step_clock(part, index, planned.clock_offset_ms)?;
            return Ok(ActiveFault {
                planned,
                index,
                id: None,
                mend_at: Instant::now() + planned.lasts,
            });
        }
        let id = self.run_log.injected(Fault {
            what: planned.kind.to_string(),
            target: target.clone(),
            injected_at: SystemTime::now(),
            repaired_at: None,
            total: part == Part::Cluster,
            since: match (part, action) {
                // Its calls continue until its drain deadline, so there is nothing to recover from before.
                (Part::Worker, FaultAction::Term) => Since::Repair,
                (_, FaultAction::Kill | FaultAction::Term) => Since::Injection,
                _ => Since::Repair,
            },
        });
        match (part, action) {
            (Part::Cluster, _) => self.stack.nats.kill()?,
            (Part::Server | Part::Leader, FaultAction::Freeze) => self.stack.nats.freeze_node(index)?,
            (Part::Server | Part::Leader, _) => self.stack.nats.kill_node(index)?,
            (_, FaultAction::Kill) => drop(self.service(part, index)?.kill()?),
            (_, FaultAction::Term) => self.service(part, index)?.child_mut().send_sigterm()?,
            (_, FaultAction::Freeze) => self.service(part, index)?.freeze()?,
            (_, FaultAction::Cut) => self.stack.links(&target)?.cut(),
            (_, FaultAction::Stall | FaultAction::Isolate) => self.stack.links(&target)?.stall(),
            (_, FaultAction::ClockStep) => {}
        }
        Ok(ActiveFault {
            planned,
            index,
            id: Some(id),
            mend_at: Instant::now() + planned.lasts,
        })
    }

    async fn restore(&mut self, open: &ActiveFault) -> Result<()> {
        let (FaultKind { part, action }, index) = (open.planned.kind, open.index);
        let target = self.name(part, index)?;
        match (part, action) {
            (Part::Cluster, _) => {
                self.stack.nats.restart().await?;
                // The services cannot recover before the election of a leader.
                if self.stack.nats.nodes() > 1 {
                    self.stack.nats.stream_leader(storage::CALLS).await?;
                }
            }
            (Part::Server | Part::Leader, FaultAction::Freeze) => self.stack.nats.resume_node(index)?,
            (Part::Server | Part::Leader, _) => self.stack.nats.restart_node(index).await?,
            (_, FaultAction::Kill | FaultAction::Term) => {
                if action == FaultAction::Term {
                    self.await_end(part, index).await?;
                }
                self.service(part, index)?.restart().await?;
                self.update_edge_addresses()?;
            }
            (_, FaultAction::Freeze) => self.service(part, index)?.resume()?,
            (_, FaultAction::Cut | FaultAction::Stall | FaultAction::Isolate) => self.stack.links(&target)?.restore(),
            (_, FaultAction::ClockStep) => self.step_clock(part, index, 0)?,
        }
        if let Some(id) = open.id {
            self.down.remove(&target);
            self.run_log.repaired(id, SystemTime::now());
            self.screen.line(LineKind::Quiet, &format!("   {target} is back"));
        }
        Ok(())
    }

    fn step_clock(&mut self, part: Part, index: usize, offset_ms: i64) -> Result<()> {
        let process = self.name(part, index)?;
        self.service(part, index)?.set_clock_offset(offset_ms)?;
        self.screen.line(
            LineKind::Quiet,
            &format!("   the clock of {process} is {offset_ms} ms ahead"),
        );
        self.run_log.clock_step(ClockStep {
            process,
            at: SystemTime::now(),
            offset_ms,
        });
        Ok(())
    }

    /// Waits for an orderly stop, which must succeed.
    async fn await_end(&mut self, part: Part, index: usize) -> Result<()> {
        let within = self.drain + STOP_RESERVE;
        let child = self.service(part, index)?.child_mut();
        let name = child.name().to_owned();
        let finding = match child.until_ended(within).await {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => format!("{name} stopped with {status} after SIGTERM"),
            Err(error) => format!("{error:#}"),
        };
        self.stats.finding(finding);
        Ok(())
    }

    /// A process that ended by itself is a finding.
    fn check_processes(&mut self) -> Result<()> {
        let Self {
            stack,
            usage,
            down,
            stats,
            ..
        } = self;
        let services = stack
            .edges
            .iter_mut()
            .chain(&mut stack.workers)
            .chain(&mut stack.timers);
        let all_nodes_down = down.contains(ALL_NODES);
        for child in services.map(Service::child_mut).chain(stack.nats.children_mut()) {
            usage.sample(child.name(), child.pid());
            let expected = down.contains(child.name()) || (all_nodes_down && child.name().starts_with("nats"));
            if let (Some(status), false) = (child.ended()?, expected) {
                let name = child.name().to_owned();
                stats.finding(format!(
                    "{name} ended by itself ({status}): {}",
                    last_line(&child.log_tail())
                ));
                down.insert(name); // reported once
            }
        }
        usage.sample("callers", std::process::id());
        Ok(())
    }

    fn update_edge_addresses(&self) -> Result<()> {
        let running = self.stack.edges.iter();
        let running = running.filter(|edge| !self.down.contains(edge.child().name()));
        let edge_addresses = running.map(|edge| edge.address("ws")).collect::<Result<_>>()?;
        self.edge_addresses.set(edge_addresses);
        Ok(())
    }

    fn services(&mut self, part: Part) -> Result<&mut Vec<Service>> {
        Ok(match part {
            Part::Edge => &mut self.stack.edges,
            Part::Worker => &mut self.stack.workers,
            Part::Timer => &mut self.stack.timers,
            Part::Server | Part::Leader | Part::Cluster => bail!("a nats-server is not a service"),
        })
    }

    fn service(&mut self, part: Part, index: usize) -> Result<&mut Service> {
        let service = self.services(part)?.get_mut(index);
        service.with_context(|| format!("no service {index}"))
    }

    fn name(&mut self, part: Part, index: usize) -> Result<String> {
        match part {
            Part::Cluster => Ok(ALL_NODES.to_owned()),
            Part::Server | Part::Leader => Ok(format!("nats-{index}")),
            _ => Ok(self.service(part, index)?.child().name().to_owned()),
        }
    }
}

fn last_line(text: &str) -> &str {
    text.lines().next_back().unwrap_or_default()
}
