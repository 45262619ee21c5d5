//! A client that stays connected: it reconnects to any edge, and continues from `welcome`.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, anyhow, bail, ensure};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::edge_addresses::EdgeAddresses;
use crate::load::client_view::ClientView;
use crate::records::run_log::{Attempt, ReceivedMessage, RunLog};
use callpulse_tests::clients::party::{Answer, MessageHandler, Party};
use callpulse_tests::token::Role;

/// The deadline for a connection, including its `welcome`.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);
/// The deadline for an answer. A connection that exceeds it counts as dead.
const ANSWERED_WITHIN: Duration = Duration::from_secs(7);
/// The delay after which a closed connection is noticed.
const NOTICED_WITHIN: Duration = Duration::from_millis(500);
/// The first delay before a reconnect. It doubles with each failure, with jitter.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest delay before a reconnect.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// The error of a step whose connection ended.
const LOST: &str = "the connection was lost";
/// The error of a step without a connection.
const AWAY: &str = "not connected";
/// Longer than any run.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// A request to drop the connection: for a planned time, or because it seems dead.
type Order = Option<Duration>;

/// A client with its current connection. Dropping it drops the connection.
#[derive(Debug)]
pub struct Client {
    shared: Arc<Shared>,
    orders: mpsc::Sender<Order>,
    _keeper: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    role: Role,
    name: String,
    edge_addresses: EdgeAddresses,
    run_log: RunLog,
    view: watch::Sender<ClientView>,
    party: Mutex<Option<Arc<Party>>>,
    last_received: Mutex<SystemTime>,
    /// Steps whose last attempt failed.
    failed: Mutex<BTreeSet<&'static str>>,
    /// The number of the current connection. Messages of older ones are ignored.
    generation: AtomicU64,
}

/// Handles the messages of one connection.
#[derive(Debug)]
struct ConnectionHandler {
    shared: Arc<Shared>,
    generation: u64,
}

impl Client {
    /// Connects, and stays connected until it is dropped.
    pub fn new(role: Role, name: String, edge_addresses: EdgeAddresses, run_log: RunLog) -> Self {
        let shared = Arc::new(Shared {
            role,
            name,
            edge_addresses,
            run_log,
            view: watch::Sender::new(ClientView::default()),
            party: Mutex::default(),
            last_received: Mutex::new(SystemTime::now()),
            failed: Mutex::default(),
            generation: AtomicU64::new(0),
        });
        let (orders, queue) = mpsc::channel(1);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep_connected(Arc::clone(&shared), queue));
        Self {
            shared,
            orders,
            _keeper: keeper,
        }
    }

    /// Its role.
    pub fn role(&self) -> Role {
        self.shared.role
    }

    /// The subject of its token.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Its current view.
    pub fn view(&self) -> ClientView {
        self.shared.view.borrow().clone()
    }

    /// Waits until a condition holds in its view. False: at the deadline.
    pub async fn until(&self, within: Duration, holds: impl Fn(&ClientView) -> bool) -> bool {
        let mut view = self.shared.view.subscribe();
        timeout(within, view.wait_for(|view| holds(view))).await.is_ok()
    }

    /// Drops the connection without a close, for a time.
    pub fn drop_out(&self, away: Duration) {
        let _ = self.orders.try_send(Some(away)); // a pending order is enough
    }

    /// Drops the connection, and connects again.
    pub fn reconnect(&self) {
        let _ = self.orders.try_send(None);
    }

    /// Sends a request over the current connection.
    /// Fails if it is refused, or the connection ends before the answer. At the deadline, the client also reconnects.
    pub async fn ask(&self, step: &'static str, payload: Value) -> Result<Value> {
        let began = SystemTime::now();
        let asked = self
            .on_party(ANSWERED_WITHIN, async |party| match party.ask(step, payload).await? {
                Answer::Response(payload) => Ok(payload),
                Answer::Refusal { code, message, .. } => bail!("{code}: {message}"),
            })
            .await;
        // A refusal because of the call's state is a valid answer.
        self.note(
            step,
            began,
            asked.as_ref().err().filter(|error| !is_state_conflict(error)),
        );
        if let (Ok(payload), "call_request") = (&asked, step) {
            self.shared.run_log.received(ReceivedMessage {
                at: SystemTime::now(),
                role: self.shared.role,
                party: self.shared.name.clone(),
                message: json!({ "type": "response", "payload": payload }),
            });
            let call = payload.get("callId").and_then(Value::as_str).unwrap_or_default();
            self.shared.view.send_modify(|view| view.requested(call));
        }
        asked
    }

    /// Runs `work` on the current connection while it is open.
    /// Fails with the error of `work`, at the end of the connection, or at the deadline.
    pub async fn on_party<T>(&self, within: Duration, work: impl AsyncFnOnce(&Party) -> Result<T>) -> Result<T> {
        let party = self.shared.party().clone().context(AWAY)?;
        let connection = self.view().connections;
        let mut view = self.shared.view.subscribe();
        let work = work(&party);
        tokio::select! {
            done = timeout(within, work) => match done {
                Ok(done) => done,
                Err(_) => {
                    self.reconnect();
                    bail!("no answer within {within:?}")
                }
            },
            _ = view.wait_for(|view| !view.online || view.connections != connection) => bail!(LOST),
        }
    }

    /// Records the outcome of a step.
    pub fn note(&self, step: &'static str, began: SystemTime, failed: Option<&anyhow::Error>) {
        self.shared.note(step, began, failed);
    }

    /// The call is over: its failed steps are not needed any more.
    pub fn forget_steps(&self) {
        self.forget(&["connect", "call_request"]);
    }

    /// There is no further call: a failed `call_request` is not needed any more.
    pub fn give_up(&self) {
        self.forget(&["connect"]);
    }

    fn forget(&self, except: &[&str]) {
        let failed: Vec<&'static str> = self.shared.failed().iter().copied().collect();
        for step in failed {
            if !except.contains(&step) {
                self.note(step, SystemTime::now(), None);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.party().take(); // breaks the reference cycle between the connection and its handler
    }
}

impl Shared {
    fn party(&self) -> MutexGuard<'_, Option<Arc<Party>>> {
        self.party.lock()
    }

    fn last_received(&self) -> MutexGuard<'_, SystemTime> {
        self.last_received.lock()
    }

    fn failed(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.failed.lock()
    }

    fn note(&self, step: &'static str, began: SystemTime, failed: Option<&anyhow::Error>) {
        // The outage is recorded, and ends with the next `welcome`.
        if failed.is_some_and(|error| error.to_string() == AWAY) {
            return;
        }
        let first_line = |error: &anyhow::Error| format!("{error:#}").lines().next().unwrap_or_default().to_owned();
        match failed {
            Some(_) => self.failed().insert(step),
            None => self.failed().remove(step),
        };
        let now = SystemTime::now();
        // A step that a lost connection broke was fine until then.
        let broken = failed.is_some_and(|error| {
            let text = error.to_string();
            text.contains(LOST) || text.contains("can no longer come")
        });
        self.run_log.attempt(Attempt {
            began: if broken { now } else { began },
            at: now,
            party: self.name.clone(),
            step,
            failed: failed.map(first_line),
        });
    }

    /// Returns after `welcome`.
    async fn connect(self: &Arc<Self>) -> Result<Arc<Party>> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let handler = Arc::new(ConnectionHandler {
            shared: Arc::clone(self),
            generation,
        });
        let party = Party::connect_with_handler(self.edge_addresses.any()?, self.role, &self.name, handler).await?;
        let party = Arc::new(party);
        *self.party() = Some(Arc::clone(&party));
        let mut view = self.view.subscribe();
        tokio::select! {
            _ = view.wait_for(|view| view.online) => Ok(party),
            ended = party.until_closed(FOR_EVER) => bail!("instead of a welcome: {}", ended?),
        }
    }

    /// The current connection has ended.
    fn lost(&self, by_choice: bool, broke: bool) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.party().take();
        if self.view.borrow().online {
            if by_choice {
                self.run_log.left(&self.name, SystemTime::now());
            } else {
                // A reset is noticed at once, a silent connection at the deadline of a request.
                let earliest = SystemTime::now() - if broke { NOTICED_WITHIN } else { ANSWERED_WITHIN };
                self.run_log
                    .disconnected(&self.name, earliest.max(*self.last_received()));
            }
            self.view.send_modify(|view| view.online = false);
        }
    }
}

impl MessageHandler for ConnectionHandler {
    fn handle(&self, at: SystemTime, message: &Value) {
        let shared = &self.shared;
        if shared.generation.load(Ordering::Relaxed) != self.generation {
            return;
        }
        *shared.last_received() = at;
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "response" | "error") {
            return;
        }
        shared.run_log.received(ReceivedMessage {
            at,
            role: shared.role,
            party: shared.name.clone(),
            message: message.clone(),
        });
        if kind == "welcome" {
            shared.run_log.connected(&shared.name, at);
        }
        shared.view.send_modify(|view| view.apply(message));
    }
}

async fn keep_connected(shared: Arc<Shared>, mut orders: mpsc::Receiver<Order>) {
    let mut failures = 0;
    loop {
        let began = SystemTime::now();
        let connected = timeout(CONNECTED_WITHIN, shared.connect()).await;
        let connected = connected.unwrap_or_else(|_| Err(anyhow!("no welcome within {CONNECTED_WITHIN:?}")));
        shared.note("connect", began, connected.as_ref().err());
        let (mut away, mut broke) = (None, false);
        if let Ok(party) = connected {
            failures = 0;
            tokio::select! {
                _ = party.until_closed(FOR_EVER) => broke = true,
                order = orders.recv() => match order {
                    Some(order) => away = order,
                    None => return,
                },
            }
        } else {
            failures += 1;
        }
        shared.lost(away.is_some(), broke);
        sleep(away.unwrap_or_default() + backoff(failures)).await;
        while orders.try_recv().is_ok() {} // orders for the previous connection
    }
}

/// With jitter of one half, so that clients do not reconnect together.
fn backoff(failures: u32) -> Duration {
    let longest = (BACKOFF * 2_u32.saturating_pow(failures.min(8))).min(BACKOFF_MAX);
    longest.mul_f64(0.5 + f64::from(rand::random::<u16>()) / f64::from(u16::MAX) / 2.0)
}

/// The payload of requests about a call.
pub fn call_payload(call: &str) -> Value {
    json!({ "callId": call })
}

/// An error unless the awaited step arrived.
pub fn arrived(it: bool, what: &str) -> Result<()> {
    ensure!(it, "{what} did not arrive");
    Ok(())
}

/// Whether a request was refused because of the state of the call.
pub fn is_state_conflict(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    let codes = ["wrong_state", "unknown_call", "not_a_party"];
    codes.iter().any(|code| text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_without_a_connection_is_not_recorded_as_a_failure() {
        let run_log = RunLog::default();
        let client = Client::new(Role::User, "u".to_owned(), EdgeAddresses::default(), run_log.clone());
        let error = client.ask("call_hangup", call_payload("c")).await.unwrap_err();
        assert_eq!(error.to_string(), AWAY);
        client.note("join", SystemTime::now(), Some(&anyhow!("no room")));
        let steps = run_log.read(|entries| entries.attempts.iter().map(|it| it.step).collect::<BTreeSet<_>>());
        assert!(steps.contains("join") && !steps.contains("call_hangup"), "{steps:?}");
    }
}
