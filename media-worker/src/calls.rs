//! The calls on this worker: opened, found, ended. There is one path to the end of a call, and it is here.

mod call;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallOpened, Requester};
use contract::{CallId, Parties, TraceParent, WorkerId};
use tokio::sync::watch;

use crate::detection::ConnectPolicy;
use crate::liveness::Limits;
use crate::meters;
use crate::outbox::{Ending, Outbox, Post};
use crate::sfu::{HostId, Observer, Sfu};

use call::Stage;
pub use call::{Call, Fate, Visit};

/// How calls are treated here.
#[derive(Debug, Clone)]
pub struct Rules {
    /// This worker.
    pub worker_id: WorkerId,
    /// Calls at the same time.
    pub capacity: u32,
    /// When a call is connected.
    pub connect_policy: ConnectPolicy,
    /// When its media is dead.
    pub limits: Limits,
}

/// The table of calls.
pub struct Calls {
    rules: Rules,
    sfu: Arc<Sfu>,
    post: Arc<Post>,
    table: Mutex<HashMap<CallId, Arc<Call>>>,
    count: watch::Sender<usize>,
    draining: AtomicBool,
    myself: Weak<Self>,
}

impl Calls {
    /// No calls yet.
    pub fn new(rules: Rules, sfu: Arc<Sfu>, post: Arc<Post>) -> Arc<Self> {
        Arc::new_cyclic(|myself| Self {
            rules,
            sfu,
            post,
            table: Mutex::default(),
            count: watch::Sender::new(0),
            draining: AtomicBool::new(false),
            myself: myself.clone(),
        })
    }

    /// How calls are treated here.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The way to NATS.
    pub fn post(&self) -> &Post {
        &self.post
    }

    /// How many calls there are, to be watched.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// From now on no call is taken.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// Whether no call is taken: this worker stops, or too many facts wait for NATS.
    pub fn takes_none(&self) -> bool {
        self.draining.load(Ordering::Relaxed) || self.post.is_crowded()
    }

    /// Gives a call a room. Asked again for the same call it answers the same.
    ///
    /// # Errors
    /// `draining`, `at_capacity`, `wrong_state` if the call is over or has other parties.
    pub async fn open(&self, parties: Parties, trace: TraceParent) -> Result<CallOpened, Refusal> {
        let call = self.enter(parties, trace)?;
        let mut stage = call.stage.lock().await;
        match &*stage {
            Stage::Open(_) => {}
            Stage::Over => return Err(Refusal::new(RefusalCode::WrongState, "the call is over")),
            Stage::Opening => {
                let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&call) as Arc<dyn Observer>));
                match self.sfu.room(observer).await {
                    Ok(room) => {
                        call.hosted_by(room.host());
                        tracing::info!(call_id = %call.parties.call_id, host = room.host(), "opened");
                        *stage = Stage::Open(Box::new(room));
                    }
                    Err(refusal) => {
                        *stage = Stage::Over;
                        call.outbox.over(None);
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(CallOpened {
            media_deadline: call.media_deadline,
        })
    }

    fn enter(&self, parties: Parties, trace: TraceParent) -> Result<Arc<Call>, Refusal> {
        let mut table = self.table();
        if let Some(call) = table.get(&parties.call_id) {
            let same = call.parties == parties;
            let other = || Refusal::new(RefusalCode::WrongState, "the call is open here with other parties");
            return same.then(|| Arc::clone(call)).ok_or_else(other);
        }
        if self.draining.load(Ordering::Relaxed) {
            return Err(Refusal::new(RefusalCode::Draining, "the worker is being shut down"));
        }
        if self.post.is_crowded() {
            return Err(Refusal::new(RefusalCode::AtCapacity, "too many facts wait for NATS"));
        }
        if table.len() >= usize::try_from(self.rules.capacity).unwrap_or(usize::MAX) {
            return Err(Refusal::new(RefusalCode::AtCapacity, "the worker is full"));
        }
        let call_id = parties.call_id.clone();
        let (myself, over) = (self.myself.clone(), call_id.clone());
        let on_over = move || {
            if let Some(calls) = myself.upgrade() {
                calls.forget(&over);
            }
        };
        let outbox = Outbox::open(Arc::clone(&self.post), parties.clone(), trace, on_over);
        let call = Arc::new(Call::new(parties, outbox, &self.rules));
        table.insert(call_id, Arc::clone(&call));
        self.recount(table.len());
        Ok(call)
    }

    fn forget(&self, call_id: &CallId) {
        let mut table = self.table();
        table.remove(call_id);
        self.recount(table.len());
    }

    fn recount(&self, count: usize) {
        meters::calls(count);
        self.count.send_replace(count);
    }

    /// A call that is here.
    ///
    /// # Errors
    /// `unknown_call`
    pub fn find(&self, call_id: &CallId) -> Result<Arc<Call>, Refusal> {
        let call = self.table().get(call_id).cloned();
        call.ok_or_else(|| Refusal::new(RefusalCode::UnknownCall, "no such call on this worker"))
    }

    /// Lets a party of a call at its media, one at a time.
    ///
    /// # Errors
    /// `unknown_call`, `not_a_party`, `wrong_state` if too many wait already.
    pub async fn visit(&self, asker: &Requester) -> Result<Visit, Refusal> {
        let call = self.find(&asker.call_id)?;
        if call.parties.party(asker.role).id() != asker.party_id {
            return Err(Refusal::new(
                RefusalCode::NotAParty,
                "only the call's two parties may touch its media",
            ));
        }
        call.visit(asker.role).await
    }

    /// Every call that is here.
    pub fn all(&self) -> Vec<Arc<Call>> {
        self.table().values().cloned().collect()
    }

    /// The calls on one mediasoup worker.
    pub fn on_host(&self, host: HostId) -> Vec<Arc<Call>> {
        self.table()
            .values()
            .filter(|call| call.host() == Some(host))
            .cloned()
            .collect()
    }

    fn table(&self) -> MutexGuard<'_, HashMap<CallId, Arc<Call>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Ends a call: its media stops now, its end is stored when what came before it is. Without an ending nothing is
/// stored. Only the first time counts.
pub async fn end(call: &Call, ending: Option<Ending>) {
    let before = std::mem::replace(&mut *call.stage.lock().await, Stage::Over);
    if matches!(before, Stage::Over) {
        return;
    }
    // The media first: no minute of it is left out of the record.
    drop(before);
    call.outbox.over(ending);
}
