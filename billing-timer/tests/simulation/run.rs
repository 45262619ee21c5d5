//! One run: instances as tasks of an executor that polls them in any order, freezes them, and drops them between two polls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use billing_timer::Settings;
use billing_timer::domain::terms::Charge;
use billing_timer::world::World;
use contract::buckets::billing_index::ActiveBilling;
use contract::buckets::leases::Leases;
use contract::jetstream::connection::Link;
use contract::{FactStore, NodeId, Source};
use futures::future::BoxFuture;
use service::{BoxError, Health};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::core::{Core, Event, Order, Shared, micros};
use crate::dice::Dice;
use crate::faults::SimulatedVoice;
use crate::network::Sender;
use crate::oracle;
use crate::plan::Plan;
use crate::report::Report;
use crate::server::bucket::SimulatedKeys;
use crate::server::consumer::SimulatedFeed;
use crate::server::stream::SimulatedFactStream;
use crate::server::{Flaw, Server, Which};
use crate::site::{Site, clock};

/// An instance that was asked to stop gets this long.
const DRAIN: Duration = Duration::from_secs(10);
/// The longest that a site is without an instance.
const LONGEST_VACANCY: Duration = Duration::from_secs(20);
/// From the last fault and the last fact until every call is settled and off the book.
pub(crate) const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// And then for so long nothing more may happen.
const WATCHED_FOR: Duration = Duration::from_secs(12);
/// More of them without time going on is a loop that burns a core.
const MOST_POLLS_AT_A_MOMENT: u64 = 50_000;

struct TaskWaker {
    index: usize,
    queued: AtomicBool,
    /// In the tasks' order: in which they are woken is not always the same (`tokio::sync::watch` shuffles).
    ready: Arc<Mutex<BTreeSet<usize>>>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.ready.lock().unwrap().insert(self.index);
        }
    }
}

struct Task {
    site: usize,
    part: &'static str,
    future: BoxFuture<'static, Result<(), BoxError>>,
    waker: Arc<TaskWaker>,
}

struct Instance {
    stop: CancellationToken,
    health: Health,
    tasks: Vec<usize>,
    crash_after: Option<u64>,
}

struct Run {
    shared: Shared,
    zero: Instant,
    ready: Arc<Mutex<BTreeSet<usize>>>,
    tasks: Vec<Option<Task>>,
    instances: Vec<Option<Instance>>,
    polls: u64,
    polls_at_this_moment: (u64, u64),
    crashes: u64,
}

/// What came of a seed, and its trace if it was asked for.
pub(crate) fn run(seed: u64, flaw: Option<Flaw>, traced: bool) -> (Report, Vec<String>) {
    let mut dice = Dice::new(seed);
    let plan = Plan::new(&mut dice);
    let sites = (0..plan.instances).map(|_| Site::new()).collect();
    let instances = plan.instances;
    let core = Core::new(dice, plan, Server::new(flaw), sites, traced);
    let mut run = Run {
        shared: Shared::new(core),
        zero: Instant::now(),
        ready: Arc::default(),
        tasks: Vec::new(),
        instances: (0..instances).map(|_| None).collect(),
        polls: 0,
        polls_at_this_moment: (0, 0),
        crashes: 0,
    };
    run.shared.lock().set_going();
    run.until_quiet();
    let mut report = oracle::judge(&run.shared.lock());
    report.crashes = run.crashes;
    report.polls = run.polls;
    run.instances.clear();
    run.tasks.clear();
    let lines = run.shared.lock().lines().to_vec();
    (report, lines)
}

impl Run {
    fn until_quiet(&mut self) {
        let (deadline, mut quiet_since) = {
            let core = self.shared.lock();
            let from = core.plan.calm_at.max(core.plan.last_fact_at());
            (from + micros(QUIET_WITHIN), None)
        };
        let mut next_look = self.shared.lock().plan.calm_at;
        loop {
            self.obey();
            if self.poll_one() {
                continue;
            }
            let event = self.shared.lock().next_event();
            match event {
                Some(Event::Wake(waker)) => waker.wake(),
                Some(Event::Run(run)) => run(&mut self.shared.lock()),
                None => return,
            }
            let now = self.shared.lock().now;
            if now < next_look {
                continue;
            }
            next_look = now + 100_000;
            let unfinished = oracle::unfinished(&self.shared.lock());
            match (unfinished.is_empty(), quiet_since) {
                (true, None) => quiet_since = Some(now),
                (true, Some(since)) if now > since + micros(WATCHED_FOR) => {
                    self.check_health();
                    self.shared
                        .lock()
                        .note("quiet", since, || "all calls are settled".to_owned());
                    return;
                }
                (false, Some(_)) => quiet_since = None,
                _ => {}
            }
            if !unfinished.is_empty() && now > deadline {
                unfinished
                    .into_iter()
                    .for_each(|what| self.shared.lock().violation(what));
                return;
            }
            if !self.shared.lock().violations.is_empty() {
                return;
            }
        }
    }

    fn check_health(&self) {
        for (site, instance) in self.instances.iter().enumerate() {
            let missing = instance.as_ref().map(|instance| instance.health.missing());
            if missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
                let mut core = self.shared.lock();
                core.violation(format!("site {site} is not ready: {missing:?}"));
            }
        }
    }

    /// Polls a task that is ready, whichever; no if there is none.
    fn poll_one(&mut self) -> bool {
        let index = {
            let (mut ready, mut core) = (self.ready.lock().unwrap(), self.shared.lock());
            let thawed: Vec<usize> = ready
                .iter()
                .copied()
                .filter(|index| {
                    let task = self.tasks[*index].as_ref();
                    task.is_none_or(|task| core.sites[task.site].frozen_until <= core.now)
                })
                .collect();
            if thawed.is_empty() {
                return false;
            }
            let index = thawed[core.dice.index(thawed.len())];
            ready.remove(&index);
            index
        };
        let Some(task) = &mut self.tasks[index] else {
            return true;
        };
        task.waker.queued.store(false, Ordering::Relaxed);
        let (site, part, waker) = (task.site, task.part, Waker::from(Arc::clone(&task.waker)));
        let outcome = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        self.polls += 1;
        self.guard_against_spinning(site, part);
        if let Poll::Ready(outcome) = outcome {
            self.ended(index, site, part, outcome);
        }
        if let Some(instance) = &mut self.instances[site] {
            match &mut instance.crash_after {
                Some(0) => self.crash(site),
                Some(polls) => *polls -= 1,
                None => {}
            }
        }
        true
    }

    fn guard_against_spinning(&mut self, site: usize, part: &'static str) {
        let mut core = self.shared.lock();
        if self.polls_at_this_moment.0 != core.now {
            self.polls_at_this_moment = (core.now, 0);
        }
        self.polls_at_this_moment.1 += 1;
        assert!(
            self.polls_at_this_moment.1 < MOST_POLLS_AT_A_MOMENT,
            "{part} of site {site} spins"
        );
        core.note("poll", self.polls, String::new);
    }

    fn ended(&mut self, index: usize, site: usize, part: &'static str, outcome: Result<(), BoxError>) {
        self.tasks[index] = None;
        let Some(instance) = &mut self.instances[site] else {
            return;
        };
        let asked = instance.stop.is_cancelled();
        instance.tasks.retain(|task| *task != index);
        let over = instance.tasks.is_empty();
        if !asked || outcome.is_err() {
            let mut core = self.shared.lock();
            core.violation(format!("{part} of site {site} ended, asked to: {asked}: {outcome:?}"));
        }
        if over {
            self.vacate(site, "stopped");
        }
    }

    fn obey(&mut self) {
        let orders = std::mem::take(&mut self.shared.lock().orders);
        for order in orders {
            match order {
                Order::Start(site) => self.start(site),
                Order::CrashAfter(site, polls) => {
                    if let Some(instance) = &mut self.instances[site] {
                        instance.crash_after.get_or_insert(polls);
                    }
                }
                Order::Stop(site) => {
                    let Some(instance) = &self.instances[site] else {
                        continue;
                    };
                    instance.stop.cancel();
                    let mut core = self.shared.lock();
                    let epoch = core.sites[site].epoch;
                    core.run_after(DRAIN, move |core| core.orders.push(Order::Abort(site, epoch)));
                }
                Order::Abort(site, epoch) => {
                    if self.instances[site].is_some() && self.shared.lock().sites[site].epoch == epoch {
                        self.vacate(site, "overran its drain");
                    }
                }
            }
        }
    }

    fn crash(&mut self, site: usize) {
        let core = self.shared.lock();
        if core.now >= core.plan.calm_at {
            if let Some(instance) = &mut self.instances[site] {
                instance.crash_after = None;
            }
            return;
        }
        drop(core);
        self.crashes += 1;
        self.vacate(site, "crashed");
    }

    fn vacate(&mut self, site: usize, how: &'static str) {
        let Some(instance) = self.instances[site].take() else {
            return;
        };
        for index in instance.tasks {
            let task = self.tasks[index].take();
            drop(task);
        }
        let mut core = self.shared.lock();
        core.note("vacant", site as u64, || format!("site {site}: its instance {how}"));
        core.sites[site].unsent.clear();
        core.server.forget(site);
        let latest = core.plan.calm_at.max(core.now + 1);
        let vacancy = core.dice.span(Duration::from_millis(1), LONGEST_VACANCY);
        let starts = (core.now + micros(vacancy)).min(latest);
        core.run_at(starts, move |core| core.orders.push(Order::Start(site)));
    }

    fn start(&mut self, site: usize) {
        if self.instances[site].is_some() {
            return;
        }
        let (stop, health) = (CancellationToken::new(), Health::default());
        let (world, settings, instance) = self.surroundings(site);
        let parts = billing_timer::parts(&world, &settings, &instance, &health, &stop);
        let mut tasks = Vec::new();
        for (part, future) in parts {
            let index = self.tasks.len();
            let waker = Arc::new(TaskWaker {
                index,
                queued: AtomicBool::new(false),
                ready: Arc::clone(&self.ready),
            });
            Arc::clone(&waker).wake();
            self.tasks.push(Some(Task {
                site,
                part,
                future,
                waker,
            }));
            tasks.push(index);
        }
        self.instances[site] = Some(Instance {
            stop,
            health,
            tasks,
            crash_after: None,
        });
    }

    fn surroundings(&self, site: usize) -> (World, Settings, NodeId) {
        let mut core = self.shared.lock();
        let plan = core.plan.clone();
        let here = &mut core.sites[site];
        here.epoch += 1;
        let (epoch, up) = (here.epoch, here.is_up());
        here.link = watch::Sender::new(Link { up, gaps: 1 });
        let link = here.link.subscribe();
        here.latest_shown = crate::core::moment(i64::MIN / 4_000_000);
        let name = if plan.keeps_name {
            format!("billing_{site}")
        } else {
            format!("billing_{site}_{epoch}")
        };
        let instance: NodeId = name.parse().unwrap();
        core.note("start", site as u64, || format!("site {site}: {instance}"));
        drop(core);
        let sender = Sender {
            shared: self.shared.clone(),
            site,
            name: instance.to_string(),
        };
        let clock = clock(&self.shared, site, self.zero);
        let keys = |which| {
            Arc::new(SimulatedKeys {
                sender: sender.clone(),
                which,
            })
        };
        let log = Arc::new(SimulatedFactStream(sender.clone()));
        let world = World {
            clock: clock.clone(),
            link,
            facts: FactStore::over(log, clock.clone(), Source::new("billing-timer", &instance)),
            book: ActiveBilling::over(keys(Which::Book)),
            leases: Leases::over(keys(Which::Leases), clock),
            feed: Arc::new(SimulatedFeed(sender.clone())),
            voice: Arc::new(SimulatedVoice(sender)),
        };
        let settings = Settings {
            tick_interval_ms: plan.interval_ms,
            charge: if plan.charged_at_start {
                Charge::Start
            } else {
                Charge::Full
            },
            max_call_duration_ms: plan.max_call_ms,
            lease_ttl_ms: plan.lease_ttl_ms,
            ..Settings::default()
        };
        (world, settings, instance)
    }
}
