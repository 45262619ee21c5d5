//! One run: an executor polls the instances' tasks in random order, freezes them, and drops them between two polls.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use billing_timer::Settings;
use billing_timer::deps::Deps;
use billing_timer::domain::terms::Charge;
use billing_timer::server_clock::ServerClock;
use contract::buckets::billing_active::ActiveBilling;
use contract::buckets::billing_leases::Leases;
use contract::jetstream::connection_state::ConnectionState;
use contract::{CallSettings, FactStore, NodeId, Source};
use futures::future::BoxFuture;
use service::{BoxError, Health};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::checker;
use crate::core::host::{Host, clock};
use crate::core::network::Sender;
use crate::core::server::bucket::SimulatedKeys;
use crate::core::server::consumer::SimulatedFactSource;
use crate::core::server::stream::SimulatedFactStream;
use crate::core::server::{BucketName, Server, ServerBug};
use crate::core::{Core, Event, Order, Shared};
use crate::faults::SimulatedNotices;
use crate::plan::Plan;
use crate::report::Report;
use crate::rng::Rng;
use crate::time::micros;

/// The drain deadline of an instance.
const DRAIN: Duration = Duration::from_secs(10);
/// The longest time that a host is without an instance.
const MAX_VACANCY: Duration = Duration::from_secs(20);
/// The deadline for all calls to be settled and removed, after the last fault and the last fact.
pub(crate) const QUIET_WITHIN: Duration = Duration::from_secs(60);
/// How long the run continues afterwards, during which nothing may change.
const OBSERVED_FOR: Duration = Duration::from_secs(12);
/// More polls than this without progress of time are a busy loop.
const MAX_POLLS_WITHOUT_PROGRESS: u64 = 50_000;

struct TaskWaker {
    index: usize,
    queued: AtomicBool,
    /// Ordered by task, because the order of wake-ups varies (`tokio::sync::watch` shuffles).
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
    host: usize,
    name: &'static str,
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
    polls_without_progress: (u64, u64),
    crashes: u64,
}

/// Runs a seed and returns its report and its trace.
pub(crate) fn run(seed: u64, bug: Option<ServerBug>, traced: bool) -> (Report, Vec<String>) {
    let mut rng = Rng::new(seed);
    let plan = Plan::new(&mut rng);
    let hosts = (0..plan.instances).map(|_| Host::new()).collect();
    let instances = plan.instances;
    let core = Core::new(rng, plan, Server::new(bug), hosts, traced);
    let mut run = Run {
        shared: Shared::new(core),
        zero: Instant::now(),
        ready: Arc::default(),
        tasks: Vec::new(),
        instances: (0..instances).map(|_| None).collect(),
        polls: 0,
        polls_without_progress: (0, 0),
        crashes: 0,
    };
    run.shared.lock().schedule_plan();
    run.until_quiet();
    let mut report = checker::check(&run.shared.lock());
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
            let from = core.plan.faults_end_at.max(core.plan.last_fact_at());
            (from + micros(QUIET_WITHIN), None)
        };
        let mut next_check = self.shared.lock().plan.faults_end_at;
        loop {
            self.run_orders();
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
            if now < next_check {
                continue;
            }
            next_check = now + 100_000;
            let unfinished = checker::unfinished(&self.shared.lock());
            match (unfinished.is_empty(), quiet_since) {
                (true, None) => quiet_since = Some(now),
                (true, Some(since)) if now > since + micros(OBSERVED_FOR) => {
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
                    .for_each(|violation| self.shared.lock().violation(violation));
                return;
            }
            if !self.shared.lock().violations.is_empty() {
                return;
            }
        }
    }

    fn check_health(&self) {
        for (host, instance) in self.instances.iter().enumerate() {
            let missing = instance.as_ref().map(|instance| instance.health.missing());
            if missing.as_ref().is_none_or(|missing| !missing.is_empty()) {
                let mut core = self.shared.lock();
                core.violation(format!("host {host} is not ready: {missing:?}"));
            }
        }
    }

    /// Polls a random task that is ready. Returns false if there is none.
    fn poll_one(&mut self) -> bool {
        let index = {
            let (mut ready, mut core) = (self.ready.lock().unwrap(), self.shared.lock());
            let runnable: Vec<usize> = ready
                .iter()
                .copied()
                .filter(|index| {
                    let task = self.tasks[*index].as_ref();
                    task.is_none_or(|task| core.hosts[task.host].frozen_until <= core.now)
                })
                .collect();
            if runnable.is_empty() {
                return false;
            }
            let index = runnable[core.rng.index(runnable.len())];
            ready.remove(&index);
            index
        };
        let Some(task) = &mut self.tasks[index] else {
            return true;
        };
        task.waker.queued.store(false, Ordering::Relaxed);
        let (host, name, waker) = (task.host, task.name, Waker::from(Arc::clone(&task.waker)));
        let outcome = task.future.as_mut().poll(&mut Context::from_waker(&waker));
        self.polls += 1;
        self.check_progress(host, name);
        if let Poll::Ready(outcome) = outcome {
            self.ended(index, host, name, outcome);
        }
        if let Some(instance) = &mut self.instances[host] {
            match &mut instance.crash_after {
                Some(0) => self.crash(host),
                Some(polls) => *polls -= 1,
                None => {}
            }
        }
        true
    }

    fn check_progress(&mut self, host: usize, name: &'static str) {
        let mut core = self.shared.lock();
        if self.polls_without_progress.0 != core.now {
            self.polls_without_progress = (core.now, 0);
        }
        self.polls_without_progress.1 += 1;
        assert!(
            self.polls_without_progress.1 < MAX_POLLS_WITHOUT_PROGRESS,
            "{name} of host {host} spins"
        );
        core.note("poll", self.polls, String::new);
    }

    fn ended(&mut self, index: usize, host: usize, name: &'static str, outcome: Result<(), BoxError>) {
        self.tasks[index] = None;
        let Some(instance) = &mut self.instances[host] else {
            return;
        };
        let stop_requested = instance.stop.is_cancelled();
        instance.tasks.retain(|task| *task != index);
        let over = instance.tasks.is_empty();
        if !stop_requested || outcome.is_err() {
            let mut core = self.shared.lock();
            core.violation(format!(
                "{name} of host {host} ended, stop requested: {stop_requested}: {outcome:?}"
            ));
        }
        if over {
            self.remove_instance(host, "stopped");
        }
    }

    fn run_orders(&mut self) {
        let orders = std::mem::take(&mut self.shared.lock().orders);
        for order in orders {
            match order {
                Order::Start(host) => self.start(host),
                Order::CrashAfter(host, polls) => {
                    if let Some(instance) = &mut self.instances[host] {
                        instance.crash_after.get_or_insert(polls);
                    }
                }
                Order::Stop(host) => {
                    let Some(instance) = &self.instances[host] else {
                        continue;
                    };
                    instance.stop.cancel();
                    let mut core = self.shared.lock();
                    let epoch = core.hosts[host].epoch;
                    core.run_after(DRAIN, move |core| core.orders.push(Order::Abort(host, epoch)));
                }
                Order::Abort(host, epoch) => {
                    if self.instances[host].is_some() && self.shared.lock().hosts[host].epoch == epoch {
                        self.remove_instance(host, "overran its drain");
                    }
                }
            }
        }
    }

    fn crash(&mut self, host: usize) {
        let core = self.shared.lock();
        if core.now >= core.plan.faults_end_at {
            if let Some(instance) = &mut self.instances[host] {
                instance.crash_after = None;
            }
            return;
        }
        drop(core);
        self.crashes += 1;
        self.remove_instance(host, "crashed");
    }

    fn remove_instance(&mut self, host: usize, how: &'static str) {
        let Some(instance) = self.instances[host].take() else {
            return;
        };
        for index in instance.tasks {
            let task = self.tasks[index].take();
            drop(task);
        }
        let mut core = self.shared.lock();
        core.note("vacant", host as u64, || format!("host {host}: its instance {how}"));
        core.hosts[host].unsent.clear();
        core.server.forget(host);
        let latest = core.plan.faults_end_at.max(core.now + 1);
        let vacancy = core.rng.span(Duration::from_millis(1), MAX_VACANCY);
        let starts = (core.now + micros(vacancy)).min(latest);
        core.run_at(starts, move |core| core.orders.push(Order::Start(host)));
    }

    fn start(&mut self, host: usize) {
        if self.instances[host].is_some() {
            return;
        }
        let (stop, health) = (CancellationToken::new(), Health::default());
        let (deps, settings, instance) = self.environment(host);
        let named = billing_timer::tasks(&deps, &settings, &instance, &health, &stop);
        let mut tasks = Vec::new();
        for (name, future) in named {
            let index = self.tasks.len();
            let waker = Arc::new(TaskWaker {
                index,
                queued: AtomicBool::new(false),
                ready: Arc::clone(&self.ready),
            });
            Arc::clone(&waker).wake();
            self.tasks.push(Some(Task {
                host,
                name,
                future,
                waker,
            }));
            tasks.push(index);
        }
        self.instances[host] = Some(Instance {
            stop,
            health,
            tasks,
            crash_after: None,
        });
    }

    fn environment(&self, host: usize) -> (Deps, Settings, NodeId) {
        let mut core = self.shared.lock();
        let plan = core.plan.clone();
        let here = &mut core.hosts[host];
        here.epoch += 1;
        let (epoch, up) = (here.epoch, here.is_up());
        here.nats_state = watch::Sender::new(ConnectionState {
            connected: up,
            connections: 1,
            overflows: 0,
        });
        let nats_state = here.nats_state.subscribe();
        let name = if plan.keeps_name {
            format!("billing_{host}")
        } else {
            format!("billing_{host}_{epoch}")
        };
        let instance: NodeId = name.parse().unwrap();
        core.note("start", host as u64, || format!("host {host}: {instance}"));
        drop(core);
        let sender = Sender {
            shared: self.shared.clone(),
            host,
            name: instance.to_string(),
        };
        let clock = clock(&self.shared, host, self.zero);
        let keys = |which| {
            Arc::new(SimulatedKeys {
                sender: sender.clone(),
                which,
            })
        };
        let stream = Arc::new(SimulatedFactStream(sender.clone()));
        let deps = Deps {
            clock: clock.clone(),
            server_clock: ServerClock::default(),
            nats_state,
            facts: FactStore::with_port(stream, clock.clone(), Source::new("billing-timer", &instance)),
            active_billing: ActiveBilling::with_port(keys(BucketName::ActiveBilling)),
            leases: Leases::with_port(keys(BucketName::Leases), clock),
            fact_source: Arc::new(SimulatedFactSource(sender.clone())),
            notices: Arc::new(SimulatedNotices(sender.clone())),
            terminations: Arc::new(SimulatedNotices(sender)),
        };
        let settings = Settings {
            tick_interval_ms: plan.interval_ms,
            charge: if plan.charged_at_start {
                Charge::Start
            } else {
                Charge::Full
            },
            calls: CallSettings {
                max_call_duration_ms: plan.max_call_ms,
            },
            lease_ttl_ms: plan.lease_ttl_ms,
            ..Settings::default()
        };
        (deps, settings, instance)
    }
}
