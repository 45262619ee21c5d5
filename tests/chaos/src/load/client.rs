//! A party that stays connected as a real client does: to any edge, again and again, going on from what it is told.

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
use callpulse_tests::party::{Answer, Ear, Party};
use callpulse_tests::token::Role;

/// How long a connection may take, its welcome included.
const CONNECTED_WITHIN: Duration = Duration::from_secs(4);
/// A request that is not answered by then was sent into a dead connection.
const ANSWERED_WITHIN: Duration = Duration::from_secs(7);
/// A connection that the other side closes, or its machine, is known to be gone this soon.
const NOTICED_WITHIN: Duration = Duration::from_millis(500);
/// The first wait before connecting again; each further one is twice as long, and all of them are jittered.
const BACKOFF: Duration = Duration::from_millis(100);
/// The longest wait before connecting again.
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// What a step fails with when its connection ends.
const LOST: &str = "the connection was lost";
/// What a step fails with that finds no connection.
const AWAY: &str = "not connected";
/// A connection lives no longer than the run.
const FOR_EVER: Duration = Duration::from_secs(24 * 3600);

/// To drop the connection: for a while of its own choice, or because it seems to be dead.
type Order = Option<Duration>;

/// A party and its connection of the timestamp. Dropping it drops the connection.
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
    last_heard: Mutex<SystemTime>,
    /// Steps whose last attempt failed.
    failed: Mutex<BTreeSet<&'static str>>,
    /// Of the connection that counts: what an older one still has to say is not heard.
    generation: AtomicU64,
}

/// What one connection hears.
#[derive(Debug)]
struct MessageHandler {
    shared: Arc<Shared>,
    generation: u64,
}

impl Client {
    /// Begins to connect, and stays connected until it is dropped.
    #[must_use]
    pub fn new(role: Role, name: String, edge_addresses: EdgeAddresses, run_log: RunLog) -> Self {
        let shared = Arc::new(Shared {
            role,
            name,
            edge_addresses,
            run_log,
            view: watch::Sender::new(ClientView::default()),
            party: Mutex::default(),
            last_heard: Mutex::new(SystemTime::now()),
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

    /// Who it is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.shared.role
    }

    /// The subject of its token.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// What it believes now.
    #[must_use]
    pub fn view(&self) -> ClientView {
        self.shared.view.borrow().clone()
    }

    /// Waits until it believes that; false if it does not in time.
    pub async fn until(&self, within: Duration, believes: impl Fn(&ClientView) -> bool) -> bool {
        let mut view = self.shared.view.subscribe();
        timeout(within, view.wait_for(|view| believes(view))).await.is_ok()
    }

    /// Its network is gone for so long: the connection is dropped without a goodbye.
    pub fn drop_out(&self, away: Duration) {
        let _ = self.orders.try_send(Some(away)); // one such order is enough
    }

    /// It takes its connection for dead, and looks for another.
    pub fn reconnect(&self) {
        let _ = self.orders.try_send(None);
    }

    /// Asks for something over the connection of the timestamp.
    ///
    /// # Errors
    /// When it is refused, the connection ends before the answer, or there is none in time: then the client takes the
    /// connection for dead and connects anew.
    pub async fn ask(&self, step: &'static str, payload: Value) -> Result<Value> {
        let began = SystemTime::now();
        let asked = self
            .on_party(ANSWERED_WITHIN, async |party| match party.ask(step, payload).await? {
                Answer::Response(payload) => Ok(payload),
                Answer::Refusal { code, message } => bail!("{code}: {message}"),
            })
            .await;
        // That the call stands otherwise than it thought is an answer.
        self.note(step, began, asked.as_ref().err().filter(|error| !is_of_state(error)));
        if let (Ok(payload), "call_request") = (&asked, step) {
            self.shared.run_log.told(ReceivedMessage {
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

    /// Does something with the connection of the timestamp, for as long as it stands.
    ///
    /// # Errors
    /// What `work` fails with; that the connection has ended; that it took too long.
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

    /// Writes down how a step went.
    pub fn note(&self, step: &'static str, began: SystemTime, failed: Option<&anyhow::Error>) {
        self.shared.note(step, began, failed);
    }

    /// The call is over: the steps of it that have failed so far are needed no more.
    pub fn forget_steps(&self) {
        self.forget(&["connect", "call_request"]);
    }

    /// There will be no other call: none is asked for again.
    pub fn give_up(&self) {
        self.forget(&["connect"]);
    }

    fn forget(&self, but: &[&str]) {
        let failed: Vec<&'static str> = self.shared.failed().iter().copied().collect();
        for step in failed {
            if !but.contains(&step) {
                self.note(step, SystemTime::now(), None);
            }
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.party().take(); // the connection knows its ear, and that knows the connection
    }
}

impl Shared {
    fn party(&self) -> MutexGuard<'_, Option<Arc<Party>>> {
        self.party.lock()
    }

    fn last_heard(&self) -> MutexGuard<'_, SystemTime> {
        self.last_heard.lock()
    }

    fn failed(&self) -> MutexGuard<'_, BTreeSet<&'static str>> {
        self.failed.lock()
    }

    fn note(&self, step: &'static str, began: SystemTime, failed: Option<&anyhow::Error>) {
        // The outage is written down already, and ends with the next welcome; a step that is not taken again would not.
        if failed.is_some_and(|error| error.to_string() == AWAY) {
            return;
        }
        let first_line = |error: &anyhow::Error| format!("{error:#}").lines().next().unwrap_or_default().to_owned();
        match failed {
            Some(_) => self.failed().insert(step),
            None => self.failed().remove(step),
        };
        let now = SystemTime::now();
        // What the loss of the connection broke was well until then.
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

    /// Returns when the edge has said welcome.
    async fn connect(self: &Arc<Self>) -> Result<Arc<Party>> {
        let generation = self.generation.fetch_add(1, Ordering::Relaxed) + 1;
        let ear = Arc::new(MessageHandler {
            shared: Arc::clone(self),
            generation,
        });
        let party = Party::connect_heard(self.edge_addresses.any()?, self.role, &self.name, ear).await?;
        let party = Arc::new(party);
        *self.party() = Some(Arc::clone(&party));
        let mut view = self.view.subscribe();
        tokio::select! {
            _ = view.wait_for(|view| view.online) => Ok(party),
            ended = party.until_closed(FOR_EVER) => bail!("instead of a welcome: {}", ended?),
        }
    }

    /// There is no connection any more, or none that counts.
    fn lost(&self, by_choice: bool, broke: bool) {
        self.generation.fetch_add(1, Ordering::Relaxed);
        self.party().take();
        if self.view.borrow().online {
            if by_choice {
                self.run_log.left(&self.name, SystemTime::now());
            } else {
                // A connection that breaks says so at once; one that is only silent was taken for dead after a while.
                let earliest = SystemTime::now() - if broke { NOTICED_WITHIN } else { ANSWERED_WITHIN };
                self.run_log.disconnected(&self.name, earliest.max(*self.last_heard()));
            }
            self.view.send_modify(|view| view.online = false);
        }
    }
}

impl Ear for MessageHandler {
    fn hear(&self, at: SystemTime, message: &Value) {
        let shared = &self.shared;
        if shared.generation.load(Ordering::Relaxed) != self.generation {
            return;
        }
        *shared.last_heard() = at;
        let kind = message.get("type").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "response" | "error") {
            return;
        }
        shared.run_log.told(ReceivedMessage {
            at,
            role: shared.role,
            party: shared.name.clone(),
            message: message.clone(),
        });
        if kind == "welcome" {
            shared.run_log.connected(&shared.name, at);
        }
        shared.view.send_modify(|view| view.hear(message));
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
        while orders.try_recv().is_ok() {} // meant for the connection that is gone
    }
}

/// Half of it is chance, so that those who were cut off together do not come back together.
fn backoff(failures: u32) -> Duration {
    let longest = (BACKOFF * 2_u32.saturating_pow(failures.min(8))).min(BACKOFF_MAX);
    longest.mul_f64(0.5 + f64::from(rand::random::<u16>()) / f64::from(u16::MAX) / 2.0)
}

/// The payload of requests about a call.
#[must_use]
pub fn about(call: &str) -> Value {
    json!({ "callId": call })
}

/// Fails if what is awaited did not come.
///
/// # Errors
/// If it is false.
pub fn came(it: bool, what: &str) -> Result<()> {
    ensure!(it, "{what} did not come");
    Ok(())
}

/// Whether a request was refused because of where the call stands.
#[must_use]
pub fn is_of_state(error: &anyhow::Error) -> bool {
    let text = error.to_string();
    let codes = ["wrong_state", "unknown_call", "not_a_party"];
    codes.iter().any(|code| text.starts_with(code))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_step_without_a_connection_is_no_failure_beside_the_outage() {
        let run_log = RunLog::default();
        let client = Client::new(Role::User, "u".to_owned(), EdgeAddresses::default(), run_log.clone());
        let error = client.ask("call_hangup", about("c")).await.unwrap_err();
        assert_eq!(error.to_string(), AWAY);
        client.note("join", SystemTime::now(), Some(&anyhow!("no room")));
        let steps = run_log.read(|entries| entries.attempts.iter().map(|it| it.step).collect::<BTreeSet<_>>());
        assert!(steps.contains("join") && !steps.contains("call_hangup"), "{steps:?}");
    }
}
