//! What an upgrade does to a fleet under load: scales every service up, restarts every process in turn, and scales down again.
//! Nothing is killed, so no call may end by it.

use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

use super::FaultInjector;
use crate::faults::fault_schedule::Part;
use crate::records::run_log::{Fault, FaultId, Since};
use callpulse_tests::terminal::screen::LineKind;

/// The processes of each service while it is scaled up.
pub const SCALED: usize = 3;
/// The time between two steps, in which calls begin and end.
const BETWEEN: Duration = Duration::from_secs(2);
const SERVICES: [Part; 3] = [Part::Timer, Part::Edge, Part::Worker];

impl FaultInjector {
    /// Scales each service from its processes to [`SCALED`], restarts all processes and nats-servers one after the other, and scales
    /// back to one process each.
    pub async fn upgrade(&mut self) -> Result<()> {
        for part in SERVICES {
            while self.services(part)?.len() < SCALED {
                self.add(part).await?;
            }
        }
        for part in SERVICES {
            for index in 0..SCALED {
                self.stop(part, index, "restart").await?;
            }
        }
        for index in 0..self.stack.nats.nodes() {
            self.restart_node(index).await?;
        }
        for part in SERVICES {
            // The oldest, whose calls have to end or to move.
            while self.services(part)?.len() > 1 {
                self.stop(part, 0, "remove").await?;
            }
        }
        Ok(())
    }

    async fn add(&mut self, part: Part) -> Result<()> {
        let name = self.stack.add(program(part)?).await?;
        self.update_edge_addresses()?;
        self.screen.line(LineKind::Quiet, &format!("   {name} was added"));
        self.run(&[], BETWEEN).await
    }

    /// Stops a process in an orderly way, and starts or removes it.
    async fn stop(&mut self, part: Part, index: usize, what: &str) -> Result<()> {
        let target = self.name(part, index)?;
        let fault = self.begin(format!("{}-{what}", program(part)?), &target);
        self.down.insert(target.clone());
        self.service(part, index)?.child_mut().send_sigterm()?;
        if part == Part::Edge {
            // As a load balancer that asks `/readyz`.
            self.update_edge_addresses()?;
        }
        self.await_end(part, index).await?;
        if what == "remove" {
            drop(self.services(part)?.remove(index));
        } else {
            self.service(part, index)?.restart().await?;
            self.service(part, index)?.ready().await?;
        }
        self.down.remove(&target);
        self.update_edge_addresses()?;
        self.end(fault, &format!("{target}: {what}"));
        self.run(&[], BETWEEN).await
    }

    async fn restart_node(&mut self, index: usize) -> Result<()> {
        let target = self.name(Part::Server, index)?;
        let fault = self.begin("nats-restart".to_owned(), &target);
        self.down.insert(target.clone());
        self.stack.nats.stop_node(index).await?;
        self.stack.nats.restart_node(index).await?;
        self.stack.nats.synced().await?;
        self.down.remove(&target);
        self.end(fault, &format!("{target}: restart"));
        self.run(&[], BETWEEN).await
    }

    fn begin(&self, what: String, target: &str) -> FaultId {
        self.stats.fault();
        self.run_log.injected(Fault {
            what,
            target: target.to_owned(),
            injected_at: SystemTime::now(),
            repaired_at: None,
            total: false,
            since: Since::Injection,
        })
    }

    fn end(&self, fault: FaultId, what: &str) {
        self.run_log.repaired(fault, SystemTime::now());
        self.screen.line(LineKind::Quiet, &format!("   {what}"));
    }
}

fn program(part: Part) -> Result<&'static str> {
    match part {
        Part::Edge => Some("ws-edge"),
        Part::Worker => Some("media-worker"),
        Part::Timer => Some("billing-timer"),
        Part::Server | Part::Leader | Part::Cluster => None,
    }
    .context("a nats-server is not a service")
}
