//! The calls on this worker: opened, found, ended. Every call ends through [`end`].

pub mod admission;
pub mod call;
pub mod credit;
pub mod credit_timer;
pub mod media_access;

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use contract::jetstream::request::{Refusal, RefusalCode};
use contract::wire::command::{CallOpened, Requester};
use contract::wire::credit::Grant;
use contract::wire::terms::Terms;
use contract::{CallId, Fact, FactKind, Parties, TraceParent, WorkerId};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::clock_reading::ClockReading;
use crate::credit::{Credit, CreditSettings};
use crate::detection::ConnectPolicy;
use crate::fact_publisher::{self, CallEnd, FactQueue};
use crate::liveness::MediaTimeouts;
use crate::metrics;
use crate::sfu::{Observer, SfuWorkerId, WorkerPool};

use admission::Admission;
pub use call::Call;
use call::MediaState;
use media_access::MediaAccess;

/// The settings that apply to every call.
#[derive(Debug, Clone)]
pub struct HostSettings {
    /// This worker.
    pub worker_id: WorkerId,
    /// Start of this process.
    pub started: ClockReading,
    /// The most calls at the same time.
    pub capacity: u32,
    /// The parties whose first packet connects a call.
    pub connect_policy: ConnectPolicy,
    /// When its media counts as lost, and when that ends it.
    pub timeouts: MediaTimeouts,
    /// The limits of grants.
    pub credit: CreditSettings,
}

/// The table of calls.
pub struct Calls {
    settings: HostSettings,
    admission: Admission,
    pool: Arc<WorkerPool>,
    publisher: Arc<fact_publisher::Deps>,
    table: Mutex<HashMap<CallId, Arc<Call>>>,
    count: watch::Sender<usize>,
    weak: Weak<Self>,
}

impl Calls {
    /// An empty table.
    pub fn new(settings: HostSettings, pool: Arc<WorkerPool>, publisher: Arc<fact_publisher::Deps>) -> Arc<Self> {
        Arc::new_cyclic(|weak| Self {
            admission: Admission::new(settings.capacity, Arc::clone(&publisher.backlog)),
            settings,
            pool,
            publisher,
            table: Mutex::default(),
            count: watch::Sender::new(0),
            weak: weak.clone(),
        })
    }

    /// The settings that apply to every call.
    pub fn settings(&self) -> &HostSettings {
        &self.settings
    }

    /// Decides whether the worker accepts new calls.
    pub fn admission(&self) -> &Admission {
        &self.admission
    }

    /// Keeps new calls away or lets them in again, and returns the number of calls: none is inserted in between.
    pub fn set_cordoned(&self, cordoned: bool) -> usize {
        let table = self.table.lock();
        self.admission.set_cordoned(cordoned);
        metrics::set_cordoned(cordoned);
        table.len()
    }

    /// The number of calls; the receiver sees each change.
    pub fn count(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Opens a call: creates its router. Idempotent for the same parties.
    ///
    /// # Errors
    /// `draining`, `at_capacity`, `invalid_grant`, `wrong_state` if the call is over or has other parties.
    pub async fn open(
        &self,
        parties: Parties,
        terms: Option<Terms>,
        grant: Option<Grant>,
        trace: TraceParent,
    ) -> Result<CallOpened, Refusal> {
        let call = self.insert(parties, terms, grant, trace)?;
        let mut media = call.media.lock().await;
        match &*media {
            MediaState::Open(_) => {}
            MediaState::Closed => return Err(Refusal::new(RefusalCode::WrongState, "the call is over")),
            MediaState::Opening => {
                let observer: Weak<dyn Observer> = Arc::downgrade(&(Arc::clone(&call) as Arc<dyn Observer>));
                match self.pool.create_router(observer).await {
                    Ok(router) => {
                        call.set_sfu_worker(router.sfu_worker_id());
                        tracing::info!(call_id = %call.parties.call_id, sfu_worker = router.sfu_worker_id(), "call opened");
                        *media = MediaState::Open(Box::new(router));
                    }
                    Err(refusal) => {
                        *media = MediaState::Closed;
                        call.facts.end(None);
                        return Err(refusal);
                    }
                }
            }
        }
        Ok(CallOpened {
            media_deadline: call.media_deadline,
            media_timeout_ms: u64::try_from(self.settings.timeouts.media_timeout.as_millis()).ok(),
            worker_started_at: Some(self.settings.started.wall),
        })
    }

    fn insert(
        &self,
        parties: Parties,
        terms: Option<Terms>,
        grant: Option<Grant>,
        trace: TraceParent,
    ) -> Result<Arc<Call>, Refusal> {
        let mut table = self.table.lock();
        if let Some(call) = table.get(&parties.call_id) {
            let other_parties = || Refusal::new(RefusalCode::WrongState, "the call is open here with other parties");
            return (call.parties == parties)
                .then(|| Arc::clone(call))
                .ok_or_else(other_parties);
        }
        self.admission.admit(table.len())?;
        // Without terms there is no interval to check.
        let interval_ms = terms.as_ref().map_or(1, |terms| terms.interval_ms);
        let credit = grant.map(|grant| Credit::new(self.settings.credit.clone(), interval_ms, grant));
        let credit = credit.transpose()?;
        let call_id = parties.call_id.clone();
        let (calls, ended) = (self.weak.clone(), call_id.clone());
        let on_end = move || {
            if let Some(calls) = calls.upgrade() {
                calls.remove(&ended);
            }
        };
        let facts = FactQueue::open(Arc::clone(&self.publisher), parties.clone(), terms, trace, on_end);
        let call = Arc::new(Call::new(parties, credit, facts, &self.settings));
        if call.has_credit_control() {
            tokio::spawn(credit_timer::run(Arc::clone(&call)));
        }
        table.insert(call_id, Arc::clone(&call));
        self.publish_count(table.len());
        Ok(call)
    }

    fn remove(&self, call_id: &CallId) {
        let mut table = self.table.lock();
        if let Some(call) = table.remove(call_id) {
            call.set_removed();
        }
        self.publish_count(table.len());
    }

    fn publish_count(&self, count: usize) {
        metrics::set_calls(count);
        self.count.send_replace(count);
    }

    /// Finds a call.
    ///
    /// # Errors
    /// `unknown_call`
    pub fn find(&self, call_id: &CallId) -> Result<Arc<Call>, Refusal> {
        let call = self.table.lock().get(call_id).cloned();
        call.ok_or_else(|| Refusal::new(RefusalCode::UnknownCall, "no such call on this worker"))
    }

    /// Whether the acceptance that is stored of a call names this process, or cannot be read.
    pub async fn is_accepted(&self, call: &CallId) -> bool {
        match self.publisher.facts.last(call, FactKind::Accepted).await {
            Ok(Some(stored)) => {
                let HostSettings { worker_id, started, .. } = &self.settings;
                matches!(stored.fact, Fact::Accepted(accepted) if accepted.is_by(worker_id, started.wall))
            }
            Ok(None) => false,
            // Its media timeout closes it.
            Err(_) => true,
        }
    }

    /// Gives a party of a call exclusive access to the call's media; waits for earlier commands of the call.
    ///
    /// # Errors
    /// `unknown_call`, `not_a_party`, `wrong_state` if too many commands of the call wait already.
    pub async fn media_access(&self, requester: &Requester) -> Result<MediaAccess, Refusal> {
        let call = self.find(&requester.call_id)?;
        if call.parties.party(requester.role).id() != requester.party_id {
            return Err(Refusal::new(
                RefusalCode::NotAParty,
                "only the call's two parties have access to its media",
            ));
        }
        MediaAccess::acquire(call, requester.role).await
    }

    /// All calls.
    pub fn all(&self) -> Vec<Arc<Call>> {
        self.table.lock().values().cloned().collect()
    }

    /// The calls on one mediasoup worker.
    pub fn on_sfu_worker(&self, worker: SfuWorkerId) -> Vec<Arc<Call>> {
        let mut calls = self.all();
        calls.retain(|call| call.sfu_worker() == Some(worker));
        calls
    }
}

/// Ends a call: closes its media at once, and stores the end after the call's earlier facts, at the end of the granted time at the latest.
/// Without a [`CallEnd`] no fact is stored. Later calls for the same call change nothing.
pub async fn end(call: &Call, end: Option<CallEnd>) {
    let before = std::mem::replace(&mut *call.media.lock().await, MediaState::Closed);
    if matches!(before, MediaState::Closed) {
        return;
    }
    // The media first: none of it may come after the recorded end.
    drop(before);
    call.close_credit();
    call.facts.end(end.map(|end| call.exhausted(end.at).unwrap_or(end)));
}
