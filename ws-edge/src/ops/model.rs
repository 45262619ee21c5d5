//! All that is known of live calls and of the fleet: pure. What comes in is put together; what has changed comes out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use contract::buckets::active_calls::{ActiveCall, CallChange};
use contract::buckets::fleet::FleetChange;
use contract::buckets::leases::LeaseChange;
use contract::views::call_view::{CallState, CallView};
use contract::views::history::Recorded;
use contract::wire::command::{CallMedia, EdgeReported};
use contract::{CallId, Fact, FactKind, NodeId, Role, Timestamp, WorkerId};

use super::item::{CallRow, Item, LeaseRow, MediaRow, SideRow, Thing, TimerRow, WorkerRow};

/// Calls that are shown; more are left out.
const MAX_CALLS: usize = 50_000;
/// How long a call that is over stays.
const OVER_SHOWN: Duration = Duration::from_secs(60);
/// Calls over that stay at most.
const MAX_OVER: usize = 2_000;
/// An edge that has not answered for so long is not there.
const EDGE_SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Call {
    view: Option<CallView>,
    entry: Option<ActiveCall>,
    user: Option<SideRow>,
    otomo: Option<SideRow>,
    over: bool,
}

/// What is known.
#[derive(Debug, Default)]
pub(super) struct Model {
    calls: HashMap<CallId, Call>,
    /// Calls that are over, in the order in which that was learnt.
    over: VecDeque<(Timestamp, CallId)>,
    /// Calls of which facts must be read.
    unread: BTreeSet<CallId>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    /// With the time at which they were last heard.
    edges: BTreeMap<NodeId, (EdgeReported, Timestamp)>,
    timers: BTreeMap<NodeId, TimerRow>,
    leases: BTreeMap<u8, NodeId>,
    changed_calls: HashSet<CallId>,
    changed_media: HashSet<CallId>,
    changes: Vec<Item>,
}

impl Model {
    /// A stored fact.
    pub(super) fn fact(&mut self, recorded: &Recorded, now: Timestamp) {
        let Ok(fact) = &recorded.fact else {
            metrics::counter!("callpulse_ws_undecodable_total", "what" => "fact").increment(1);
            tracing::error!(
                subject = recorded.subject,
                "a stored fact cannot be read: somebody must look"
            );
            return;
        };
        let id = fact.call_id();
        let Some(call) = entry(&mut self.calls, id) else { return };
        match &mut call.view {
            Some(view) => view.apply(fact, recorded.sequence, recorded.trace),
            None => {
                call.view = Some(CallView::new(fact, recorded.sequence, recorded.trace));
                // It did not begin before our eyes.
                if fact.kind() != FactKind::Requested {
                    self.unread.insert(id.clone());
                }
            }
        }
        match fact {
            Fact::RtpLost(lost) => call.hear(lost.party, true, lost.last_rtp_at),
            Fact::RtpResumed(resumed) => call.hear(resumed.party, false, resumed.at),
            _ => {}
        }
        self.call_changed(id, now);
    }

    /// Facts that were read of calls in [`Model::take_unread`].
    pub(super) fn learnt(&mut self, facts: &[Recorded], now: Timestamp) {
        for recorded in facts {
            self.fact(recorded, now);
        }
        for recorded in facts {
            if let Ok(fact) = &recorded.fact {
                self.unread.remove(fact.call_id());
            }
        }
    }

    /// Calls of which the last facts must be read.
    pub(super) fn take_unread(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.unread).into_iter().collect()
    }

    /// A call's entry in `active_calls`.
    pub(super) fn active(&mut self, change: CallChange, now: Timestamp) {
        match change {
            CallChange::Active(active) => {
                let id = active.value.parties.call_id.clone();
                let Some(call) = entry(&mut self.calls, &id) else {
                    return;
                };
                if call.view.is_none() {
                    self.unread.insert(id.clone());
                }
                call.entry = Some(active.value);
                self.call_changed(&id, now);
            }
            CallChange::Gone(id) => {
                let Some(call) = self.calls.get_mut(&id) else { return };
                call.entry = None;
                match call.view.as_ref().map(|view| view.state().is_live()) {
                    // Its end is stored before its entry goes.
                    Some(true) => drop(self.unread.insert(id)),
                    Some(false) => {}
                    // Taken back before it was requested.
                    None => self.forget(&id),
                }
            }
        }
    }

    /// A media-worker's entry.
    pub(super) fn worker(&mut self, change: FleetChange) {
        match change {
            FleetChange::Alive(status) => {
                let id = status.worker_id.clone();
                let reports = self.workers.get(&id).and_then(|known| known.reports);
                let row = WorkerRow { status, reports };
                self.changes.push(Item::Worker(row.clone()));
                self.workers.insert(id, row);
            }
            FleetChange::Gone(id) => {
                if self.workers.remove(&id).is_some() {
                    self.changes.push(Item::gone(Thing::Worker, id));
                }
            }
        }
    }

    /// The media-workers that live.
    pub(super) fn workers(&self) -> Vec<WorkerId> {
        self.workers.keys().cloned().collect()
    }

    /// A worker's answer, or that it gave none.
    pub(super) fn reported(&mut self, worker: &WorkerId, calls: Option<Vec<CallMedia>>) {
        if let Some(known) = self.workers.get_mut(worker)
            && known.reports != Some(calls.is_some())
        {
            known.reports = Some(calls.is_some());
            self.changes.push(Item::Worker(known.clone()));
        }
        for media in calls.unwrap_or_default() {
            let Some(call) = self.calls.get_mut(&media.call_id) else {
                continue;
            };
            let heard = (media.user.map(SideRow::from), media.otomo.map(SideRow::from));
            if !call.over && heard != (call.user, call.otomo) {
                (call.user, call.otomo) = heard;
                self.changed_media.insert(media.call_id);
            }
        }
    }

    /// The edges that answered.
    pub(super) fn edges(&mut self, edges: Vec<EdgeReported>, now: Timestamp) {
        for edge in edges {
            self.changes.push(Item::Edge(edge.clone()));
            self.edges.insert(edge.node_id.clone(), (edge, now));
        }
        let changes = &mut self.changes;
        self.edges.retain(|id, (_, heard)| {
            let here = now.until(*heard) <= EDGE_SILENCE;
            if !here {
                changes.push(Item::gone(Thing::Edge, id));
            }
            here
        });
    }

    /// A key of `billing_leases`.
    pub(super) fn lease(&mut self, change: LeaseChange, now: Timestamp) {
        match change {
            LeaseChange::Alive(id, _) => {
                let row = TimerRow {
                    instance_id: id.clone(),
                    seen_at: now,
                };
                self.changes.push(Item::Timer(row.clone()));
                self.timers.insert(id, row);
            }
            LeaseChange::Gone(id) => {
                if self.timers.remove(&id).is_some() {
                    self.changes.push(Item::gone(Thing::Timer, id));
                }
            }
            LeaseChange::Held(partition, lease) => {
                let holder = lease.value.instance_id;
                self.changes.push(lease_row(partition.number(), Some(&holder)));
                self.leases.insert(partition.number(), holder);
            }
            LeaseChange::Vacant(partition) => {
                self.leases.remove(&partition.number());
                self.changes.push(lease_row(partition.number(), None));
            }
        }
    }

    /// What is otherwise than when this was last asked. Calls that have been over for long enough go.
    pub(super) fn take_changes(&mut self, now: Timestamp) -> Vec<Item> {
        while let Some((since, id)) = self.over.front() {
            if self.over.len() <= MAX_OVER && now.until(*since) < OVER_SHOWN {
                break;
            }
            let id = id.clone();
            self.over.pop_front();
            self.forget(&id);
        }
        let mut items = std::mem::take(&mut self.changes);
        for id in std::mem::take(&mut self.changed_media) {
            if let Some(call) = self.calls.get(&id)
                && !self.changed_calls.contains(&id)
            {
                items.push(Item::Media(MediaRow {
                    call_id: id,
                    user: call.user,
                    otomo: call.otomo,
                }));
            }
        }
        for id in std::mem::take(&mut self.changed_calls) {
            items.extend(self.calls.get(&id).and_then(Call::item));
        }
        items
    }

    /// Everything.
    pub(super) fn all(&self) -> Vec<Item> {
        let mut items: Vec<Item> = self.workers.values().cloned().map(Item::Worker).collect();
        items.extend(self.edges.values().map(|(edge, _)| Item::Edge(edge.clone())));
        items.extend(self.timers.values().cloned().map(Item::Timer));
        items.extend(
            self.leases
                .iter()
                .map(|(partition, holder)| lease_row(*partition, Some(holder))),
        );
        items.extend(self.calls.values().filter_map(Call::item));
        items
    }

    fn call_changed(&mut self, id: &CallId, now: Timestamp) {
        if let Some(call) = self.calls.get_mut(id)
            && !call.over
            && call.view.as_ref().is_some_and(|view| !view.state().is_live())
        {
            call.over = true;
            self.over.push_back((now, id.clone()));
        }
        self.changed_calls.insert(id.clone());
    }

    fn forget(&mut self, id: &CallId) {
        self.unread.remove(id);
        self.changed_calls.remove(id);
        if self.calls.remove(id).is_some() {
            self.changes.push(Item::gone(Thing::Call, id));
        }
    }
}

impl Call {
    fn item(&self) -> Option<Item> {
        let row = match (&self.view, &self.entry) {
            (Some(view), _) => CallRow::new(view),
            // Claimed a moment ago; its first fact is on its way.
            (None, Some(entry)) => CallRow {
                call_id: entry.parties.call_id.clone(),
                user_id: entry.parties.user_id.clone(),
                otomo_id: entry.parties.otomo_id.clone(),
                state: CallState::Ringing,
                since: Some(entry.requested_at),
                requested_at: None,
                accepted_at: None,
                connected_at: None,
                worker_id: None,
                node_id: None,
                last_tick: None,
                user: None,
                otomo: None,
                end: None,
                bill: None,
                trace_id: entry.traceparent.trace_id(),
            },
            (None, None) => return None,
        };
        Some(Item::Call(Box::new(CallRow {
            node_id: self.entry.as_ref().map(|entry| entry.node_id.clone()),
            user: self.user,
            otomo: self.otomo,
            ..row
        })))
    }

    fn hear(&mut self, party: Role, lost: bool, at: Timestamp) {
        let side = match party {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        };
        *side = Some(SideRow {
            last_rtp_at: at,
            lost,
            packets: side.and_then(|side| side.packets),
        });
    }
}

/// The call, new if need be; none if there is no room.
fn entry<'a>(calls: &'a mut HashMap<CallId, Call>, id: &CallId) -> Option<&'a mut Call> {
    if !calls.contains_key(id) {
        if calls.len() >= MAX_CALLS {
            tracing::debug!(call_id = %id, "too many calls: this one is not shown to operators");
            return None;
        }
        calls.insert(id.clone(), Call::default());
    }
    calls.get_mut(id)
}

fn lease_row(partition: u8, holder: Option<&NodeId>) -> Item {
    Item::Lease(LeaseRow {
        partition,
        instance_id: holder.cloned(),
    })
}

#[cfg(test)]
mod tests;
