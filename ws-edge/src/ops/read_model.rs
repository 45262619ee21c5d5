//! The read model: live calls and the fleet as rows. Pure: facts, bucket changes and reports in, row updates out.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::time::Duration;

use contract::buckets::active_calls::{ActiveCall, CallChange};
use contract::buckets::billing_leases::LeaseChange;
use contract::buckets::media_workers::WorkerChange;
use contract::views::call_view::CallView;
use contract::views::history::Recorded;
use contract::wire::command::{CallMedia, EdgeReported};
use contract::{CallId, Fact, FactKind, NodeId, Role, Timestamp, WorkerId};

use crate::metrics;

use super::row::{CallRow, LeaseRow, MediaColumns, PartyMediaRow, RowUpdate, Table, TimerRow, WorkerRow};

/// Calls that are listed; further ones are left out.
const MAX_CALLS: usize = 200_000;
/// How long an ended call stays listed.
const ENDED_RETENTION: Duration = Duration::from_secs(60);
/// Ended calls that stay listed.
const MAX_ENDED: usize = 2_000;
/// An edge that has not reported for so long is removed.
const EDGE_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Call {
    view: Option<CallView>,
    entry: Option<ActiveCall>,
    user: Option<PartyMediaRow>,
    otomo: Option<PartyMediaRow>,
    is_ended: bool,
}

/// Rows, and which of them have changed.
#[derive(Debug, Default)]
pub(super) struct ReadModel {
    calls: HashMap<CallId, Call>,
    /// Ended calls, in the order in which this model learnt of their end.
    ended: VecDeque<(Timestamp, CallId)>,
    /// Calls whose facts must be read from the stream.
    unread: BTreeSet<CallId>,
    workers: BTreeMap<WorkerId, WorkerRow>,
    /// With the time of their last report.
    edges: BTreeMap<NodeId, (EdgeReported, Timestamp)>,
    timers: BTreeMap<NodeId, TimerRow>,
    leases: BTreeMap<u8, NodeId>,
    changed_calls: HashSet<CallId>,
    changed_media: HashSet<CallId>,
    changes: Vec<RowUpdate>,
}

impl ReadModel {
    /// Applies a stored fact.
    pub(super) fn apply_fact(&mut self, recorded: &Recorded, now: Timestamp) {
        contract::metrics::unknown(recorded.unknown());
        let Ok(fact) = &recorded.fact else {
            if recorded.error().is_some() {
                metrics::undecodable("fact");
                tracing::error!(
                    subject = recorded.subject,
                    "stored fact not decoded: check its writer's version"
                );
            }
            return;
        };
        let id = fact.call_id();
        let Some(call) = call_mut(&mut self.calls, id) else {
            return;
        };
        match &mut call.view {
            Some(view) => view.apply(fact, recorded.sequence, recorded.trace),
            None => {
                call.view = Some(CallView::new(fact, recorded.sequence, recorded.trace));
                // Earlier facts were stored before this watch began.
                if fact.kind() != FactKind::Requested {
                    self.unread.insert(id.clone());
                }
            }
        }
        match fact {
            Fact::RtpLost(lost) => call.set_media(lost.party, true, fact.occurred_at()),
            Fact::RtpResumed(resumed) => call.set_media(resumed.party, false, resumed.at),
            _ => {}
        }
        self.call_changed(id, now);
    }

    /// Applies facts of the calls that [`ReadModel::take_unread`] returned.
    pub(super) fn apply_read_facts(&mut self, facts: &[Recorded], now: Timestamp) {
        for recorded in facts {
            self.apply_fact(recorded, now);
        }
        for recorded in facts {
            if let Ok(fact) = &recorded.fact {
                self.unread.remove(fact.call_id());
            }
        }
    }

    /// Calls whose last facts must be read from the stream.
    pub(super) fn take_unread(&mut self) -> Vec<CallId> {
        std::mem::take(&mut self.unread).into_iter().collect()
    }

    /// Applies a change of a call's entry in `active_calls`.
    pub(super) fn apply_call_entry(&mut self, change: CallChange, now: Timestamp) {
        match change {
            CallChange::Active(active) => {
                let id = active.value.parties.call_id.clone();
                let Some(call) = call_mut(&mut self.calls, &id) else {
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
                    // Its end is stored before its entry is removed.
                    Some(true) => drop(self.unread.insert(id)),
                    Some(false) => {}
                    // Its claim was withdrawn before it was requested.
                    None => self.remove_call(&id),
                }
            }
        }
    }

    /// Applies a change of a media-worker's entry.
    pub(super) fn apply_worker(&mut self, change: WorkerChange) {
        match change {
            WorkerChange::Alive(status) => {
                let id = status.worker_id.clone();
                let reports = self.workers.get(&id).and_then(|known| known.reports);
                let row = WorkerRow { status, reports };
                self.changes.push(RowUpdate::Worker(row.clone()));
                self.workers.insert(id, row);
            }
            WorkerChange::Gone(id) => {
                if self.workers.remove(&id).is_some() {
                    self.changes.push(RowUpdate::removed(Table::Worker, id));
                }
            }
        }
    }

    /// The live media-workers.
    pub(super) fn workers(&self) -> Vec<WorkerId> {
        self.workers.keys().cloned().collect()
    }

    /// Applies a worker's report, or that it did not answer.
    pub(super) fn apply_worker_report(&mut self, worker: &WorkerId, calls: Option<Vec<CallMedia>>) {
        if let Some(known) = self.workers.get_mut(worker)
            && known.reports != Some(calls.is_some())
        {
            known.reports = Some(calls.is_some());
            self.changes.push(RowUpdate::Worker(known.clone()));
        }
        for media in calls.unwrap_or_default() {
            let Some(call) = self.calls.get_mut(&media.call_id) else {
                continue;
            };
            let reported = (
                media.user.map(PartyMediaRow::from),
                media.otomo.map(PartyMediaRow::from),
            );
            if !call.is_ended && reported != (call.user, call.otomo) {
                (call.user, call.otomo) = reported;
                self.changed_media.insert(media.call_id);
            }
        }
    }

    /// Applies the reports of edges.
    pub(super) fn apply_edge_reports(&mut self, edges: Vec<EdgeReported>, now: Timestamp) {
        for edge in edges {
            self.changes.push(RowUpdate::Edge(edge.clone()));
            self.edges.insert(edge.node_id.clone(), (edge, now));
        }
        let changes = &mut self.changes;
        self.edges.retain(|id, (_, reported_at)| {
            let is_alive = now.until(*reported_at) <= EDGE_TIMEOUT;
            if !is_alive {
                changes.push(RowUpdate::removed(Table::Edge, id));
            }
            is_alive
        });
    }

    /// Applies a change of a key of `billing_leases`.
    pub(super) fn apply_lease(&mut self, change: LeaseChange, now: Timestamp) {
        match change {
            LeaseChange::Alive(id, _, _) => {
                let row = TimerRow {
                    instance_id: id.clone(),
                    seen_at: now,
                };
                self.changes.push(RowUpdate::Timer(row.clone()));
                self.timers.insert(id, row);
            }
            LeaseChange::Gone(id) => {
                if self.timers.remove(&id).is_some() {
                    self.changes.push(RowUpdate::removed(Table::Timer, id));
                }
            }
            LeaseChange::Held(partition, lease) => {
                let holder = lease.value.instance_id;
                self.changes.push(lease_row(partition.number(), Some(&holder)));
                self.leases.insert(partition.number(), holder);
            }
            LeaseChange::Vacant(partition) | LeaseChange::Unreadable(partition, _) => {
                self.leases.remove(&partition.number());
                self.changes.push(lease_row(partition.number(), None));
            }
        }
    }

    /// Rows that have changed since the last call of this. Removes calls whose retention is over.
    pub(super) fn take_changes(&mut self, now: Timestamp) -> Vec<RowUpdate> {
        while let Some((since, id)) = self.ended.front() {
            if self.ended.len() <= MAX_ENDED && now.until(*since) < ENDED_RETENTION {
                break;
            }
            let id = id.clone();
            self.ended.pop_front();
            self.remove_call(&id);
        }
        let mut rows = std::mem::take(&mut self.changes);
        for id in std::mem::take(&mut self.changed_media) {
            if let Some(call) = self.calls.get(&id)
                && !self.changed_calls.contains(&id)
            {
                rows.push(RowUpdate::Media(MediaColumns {
                    call_id: id,
                    user: call.user,
                    otomo: call.otomo,
                }));
            }
        }
        for id in std::mem::take(&mut self.changed_calls) {
            rows.extend(self.calls.get(&id).and_then(Call::row));
        }
        rows
    }

    /// All rows.
    pub(super) fn rows(&self) -> Vec<RowUpdate> {
        let mut rows: Vec<RowUpdate> = self.workers.values().cloned().map(RowUpdate::Worker).collect();
        rows.extend(self.edges.values().map(|(edge, _)| RowUpdate::Edge(edge.clone())));
        rows.extend(self.timers.values().cloned().map(RowUpdate::Timer));
        rows.extend(
            self.leases
                .iter()
                .map(|(partition, holder)| lease_row(*partition, Some(holder))),
        );
        rows.extend(self.calls.values().filter_map(Call::row));
        rows
    }

    fn call_changed(&mut self, id: &CallId, now: Timestamp) {
        if let Some(call) = self.calls.get_mut(id)
            && !call.is_ended
            && call.view.as_ref().is_some_and(|view| !view.state().is_live())
        {
            call.is_ended = true;
            self.ended.push_back((now, id.clone()));
        }
        self.changed_calls.insert(id.clone());
    }

    fn remove_call(&mut self, id: &CallId) {
        self.unread.remove(id);
        self.changed_calls.remove(id);
        if self.calls.remove(id).is_some() {
            self.changes.push(RowUpdate::removed(Table::Call, id));
        }
    }
}

impl Call {
    fn row(&self) -> Option<RowUpdate> {
        let row = match (&self.view, &self.entry) {
            (Some(view), _) => CallRow::new(view),
            (None, Some(entry)) => CallRow::claimed(entry),
            (None, None) => return None,
        };
        Some(RowUpdate::Call(Box::new(CallRow {
            node_id: self.entry.as_ref().map(|entry| entry.node_id.clone()),
            user: self.user,
            otomo: self.otomo,
            ..row
        })))
    }

    fn set_media(&mut self, party: Role, lost: bool, at: Timestamp) {
        let media = match party {
            Role::User => &mut self.user,
            Role::Otomo => &mut self.otomo,
        };
        *media = Some(PartyMediaRow {
            last_rtp_at: at,
            lost,
            packets: media.and_then(|media| media.packets),
        });
    }
}

/// The call, inserted if it is unknown; none if there are too many.
fn call_mut<'a>(calls: &'a mut HashMap<CallId, Call>, id: &CallId) -> Option<&'a mut Call> {
    if !calls.contains_key(id) {
        if calls.len() >= MAX_CALLS {
            tracing::debug!(call_id = %id, "too many calls: this one is not listed for operators");
            return None;
        }
        calls.insert(id.clone(), Call::default());
    }
    calls.get_mut(id)
}

fn lease_row(partition: u8, holder: Option<&NodeId>) -> RowUpdate {
    RowUpdate::Lease(LeaseRow {
        partition,
        instance_id: holder.cloned(),
    })
}

#[cfg(test)]
mod tests;
