//! Which instance holds which partition: pure decisions from the content of the bucket `billing_leases`.
//!
//! All instances that see the same content compute the same target: each live instance holds 64 ÷ n partitions, some one
//! more, and no partition moves without need. An instance *claims* a partition that has no live holder and falls to it, at
//! once. It *hands over* surplus partitions to the instance that they fall to, but only right after its own heartbeat was
//! renewed, and only to an instance that has renewed its heartbeat since it appeared: an instance that keeps crashing at
//! start gets nothing. Each move is a compare-and-set: if views differ, one wins, and the next decision corrects the shares.

#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;

use contract::NodeId;
use contract::buckets::billing_leases::{Lease, LeaseChange, PARTITIONS, Partition};
use contract::jetstream::bucket::Revised;

use super::partition::PartitionSet;

/// What caused a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// The bucket has changed.
    Change,
    /// The server has just stored this instance's heartbeat.
    Renewal,
}

/// Why a partition moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MoveKind {
    /// It never had a holder.
    First,
    /// Its holder is gone, and this instance takes it over.
    Takeover,
    /// This instance holds more than its share.
    Handover,
}

impl MoveKind {
    /// The label in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Takeover => "takeover",
            Self::Handover => "handover",
        }
    }
}

/// A partition gets another holder if its key has not changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseMove {
    /// The partition to move.
    pub partition: Partition,
    /// The new holder.
    pub to: NodeId,
    /// The expected revision of the key; none if it has no value.
    pub revision: Option<u64>,
    /// Why it moves.
    pub kind: MoveKind,
}

#[derive(Debug, Clone)]
struct InstanceState {
    revision: u64,
    renewed: bool,
}

/// The content of the bucket as far as this instance has seen it.
#[derive(Debug, Clone, Default)]
pub struct LeaseView {
    instances: BTreeMap<NodeId, InstanceState>,
    /// A lease that cannot be read has no holder.
    leases: BTreeMap<Partition, Revised<Option<Lease>>>,
}

impl LeaseView {
    /// Applies a change. A lease older than the known one is ignored.
    pub fn apply(&mut self, change: LeaseChange) {
        match change {
            LeaseChange::Alive(instance, revision, _) => {
                let renewed = self.instances.contains_key(&instance);
                self.instances.insert(instance, InstanceState { revision, renewed });
            }
            LeaseChange::Gone(instance) => {
                self.instances.remove(&instance);
            }
            LeaseChange::Held(partition, Revised { value, revision }) => {
                self.apply_lease(partition, Some(value), revision);
            }
            LeaseChange::Unreadable(partition, revision) => self.apply_lease(partition, None, revision),
            LeaseChange::Vacant(partition) => {
                self.leases.remove(&partition);
            }
        }
    }

    fn apply_lease(&mut self, partition: Partition, value: Option<Lease>, revision: u64) {
        let known = self.leases.get(&partition);
        if known.is_none_or(|known| known.revision < revision) {
            self.leases.insert(partition, Revised { value, revision });
        }
    }

    /// Whether an instance's heartbeat of this revision was seen. The bucket is ordered, so everything written before it
    /// was seen too.
    pub fn has_seen(&self, instance: &NodeId, revision: u64) -> bool {
        self.instances
            .get(instance)
            .is_some_and(|state| state.revision >= revision)
    }

    /// Whether an instance is alive.
    pub fn is_alive(&self, instance: &NodeId) -> bool {
        self.instances.contains_key(instance)
    }

    /// The partitions of an instance, if it is alive.
    pub fn held_by(&self, instance: &NodeId) -> PartitionSet {
        let leases = self.leases.iter();
        let is_holder =
            |lease: &Revised<Option<Lease>>| lease.value.as_ref().is_some_and(|it| it.instance_id == *instance);
        let held = leases.filter(|(_, lease)| is_holder(lease) && self.is_alive(instance));
        held.map(|(partition, _)| *partition).collect()
    }

    /// The moves that `me` is to make.
    pub fn moves(&self, me: &NodeId, trigger: Trigger) -> Vec<LeaseMove> {
        if !self.is_alive(me) {
            return Vec::new();
        }
        let targets = self.targets();
        let moves = targets.into_iter().filter_map(|(partition, to)| {
            let lease = self.leases.get(&partition);
            let kind = match (self.owner(partition), lease) {
                (None, None) if to == me => MoveKind::First,
                (None, Some(_)) if to == me => MoveKind::Takeover,
                (Some(owner), _) if owner == me && to != me && trigger == Trigger::Renewal => MoveKind::Handover,
                _ => return None,
            };
            let has_renewed = self.instances.get(to).is_some_and(|state| state.renewed);
            (kind != MoveKind::Handover || has_renewed).then(|| LeaseMove {
                partition,
                to: to.clone(),
                revision: lease.map(|lease| lease.revision),
                kind,
            })
        });
        moves.collect()
    }

    fn owner(&self, partition: Partition) -> Option<&NodeId> {
        let owner = &self.leases.get(&partition)?.value.as_ref()?.instance_id;
        self.is_alive(owner).then_some(owner)
    }

    /// The new holders of partitions that have no live holder, or whose holder has more than its share.
    fn targets(&self) -> Vec<(Partition, &NodeId)> {
        let mut held: Vec<(&NodeId, Vec<Partition>)> = self.instances.keys().map(|id| (id, Vec::new())).collect();
        let mut to_place = Vec::new();
        for partition in Partition::all() {
            let lease = self.leases.get(&partition).and_then(|lease| lease.value.as_ref());
            let owner = lease.map(|lease| &lease.instance_id);
            let place = owner.and_then(|owner| held.binary_search_by(|(id, _)| (*id).cmp(owner)).ok());
            match place.and_then(|place| held.get_mut(place)) {
                Some((_, held)) => held.push(partition),
                None => to_place.push(partition),
            }
        }
        let shares = shares(&held);
        for ((_, held), share) in held.iter().zip(&shares) {
            to_place.extend(held.iter().skip(*share));
        }
        let takers = held
            .iter()
            .zip(&shares)
            .flat_map(|((instance, held), share)| std::iter::repeat_n(*instance, share.saturating_sub(held.len())));
        to_place.into_iter().zip(takers).collect()
    }
}

/// The number of partitions of each instance. The remainder stays with instances that already hold more.
fn shares(held: &[(&NodeId, Vec<Partition>)]) -> Vec<usize> {
    let (all, instances) = (usize::from(PARTITIONS), held.len().max(1));
    let (least, odd) = (all / instances, all % instances);
    let mut ranked: Vec<(bool, usize)> = held.iter().map(|(_, held)| held.len() <= least).zip(0..).collect();
    ranked.sort_unstable();
    let favoured: Vec<usize> = ranked.into_iter().take(odd).map(|(_, place)| place).collect();
    (0..held.len())
        .map(|place| least + usize::from(favoured.contains(&place)))
        .collect()
}

#[cfg(test)]
mod tests {
    use contract::Timestamp;

    use super::*;

    fn id(name: &str) -> NodeId {
        name.parse().unwrap()
    }

    fn lease(name: &str, revision: u64) -> Revised<Lease> {
        Revised {
            value: Lease {
                instance_id: id(name),
                since: Timestamp::from_millis(0).unwrap(),
            },
            revision,
        }
    }

    /// Instances that have renewed, and how many partitions each holds.
    fn view(instances: &[(&str, usize)]) -> LeaseView {
        let mut view = LeaseView::default();
        let mut partitions = Partition::all();
        for (name, held) in instances {
            view.apply(LeaseChange::Alive(id(name), 1, None));
            view.apply(LeaseChange::Alive(id(name), 2, None));
            for partition in partitions.by_ref().take(*held) {
                view.apply(LeaseChange::Held(partition, lease(name, 3)));
            }
        }
        view
    }

    fn count(view: &LeaseView, me: &str, trigger: Trigger, kind: MoveKind) -> usize {
        let moves = view.moves(&id(me), trigger);
        moves.iter().filter(|lease_move| lease_move.kind == kind).count()
    }

    #[test]
    fn a_single_instance_claims_all_partitions_and_keeps_them() {
        assert_eq!(count(&view(&[("a", 0)]), "a", Trigger::Change, MoveKind::First), 64);
        assert!(view(&[("a", 64)]).moves(&id("a"), Trigger::Renewal).is_empty());
    }

    #[test]
    fn partitions_of_a_dead_instance_are_taken_over_at_once_in_equal_shares() {
        let mut view = view(&[("a", 22), ("b", 21), ("c", 21)]);
        assert!(view.moves(&id("a"), Trigger::Renewal).is_empty());
        view.apply(LeaseChange::Gone(id("a")));
        let taken = ["a", "b", "c"].map(|me| count(&view, me, Trigger::Change, MoveKind::Takeover));
        assert_eq!(taken, [0, 11, 11]);
    }

    #[test]
    fn a_new_instance_gets_its_share_once_it_has_renewed() {
        let mut view = view(&[("a", 32), ("b", 32)]);
        view.apply(LeaseChange::Alive(id("c"), 9, None));
        assert!(view.moves(&id("a"), Trigger::Renewal).is_empty());
        view.apply(LeaseChange::Alive(id("c"), 10, None));
        assert!(view.moves(&id("a"), Trigger::Change).is_empty());
        let handed = ["a", "b", "c"].map(|me| count(&view, me, Trigger::Renewal, MoveKind::Handover));
        assert_eq!(handed, [10, 11, 0]);
        let moves = view.moves(&id("a"), Trigger::Renewal);
        assert!(
            moves
                .iter()
                .all(|lease_move| lease_move.to == id("c") && lease_move.revision == Some(3))
        );
    }

    #[test]
    fn the_remainder_stays_where_it_is() {
        for instances in [
            [("a", 21), ("b", 22), ("c", 21)],
            [("a", 21), ("b", 21), ("c", 22)],
            [("a", 22), ("b", 21), ("c", 21)],
        ] {
            let view = view(&instances);
            assert!(
                ["a", "b", "c"]
                    .iter()
                    .all(|me| view.moves(&id(me), Trigger::Renewal).is_empty())
            );
        }
    }

    #[test]
    fn an_instance_that_is_not_announced_makes_no_moves() {
        let view = view(&[("a", 10)]);
        assert!(view.moves(&id("b"), Trigger::Renewal).is_empty());
        assert!(view.held_by(&id("b")).is_empty());
    }

    #[test]
    fn an_outdated_lease_is_ignored() {
        let mut view = view(&[("a", 1), ("b", 0)]);
        let first = Partition::all().next().unwrap();
        view.apply(LeaseChange::Held(first, lease("b", 2)));
        assert_eq!(view.held_by(&id("a")).len(), 1);
        view.apply(LeaseChange::Held(first, lease("b", 4)));
        assert_eq!((view.held_by(&id("a")).len(), view.held_by(&id("b")).len()), (0, 1));
    }

    #[test]
    fn a_lease_that_cannot_be_read_is_taken_over() {
        let mut view = view(&[("a", 64)]);
        let first = Partition::all().next().unwrap();
        view.apply(LeaseChange::Unreadable(first, 4));
        assert_eq!(view.held_by(&id("a")).len(), 63);
        let moves = view.moves(&id("a"), Trigger::Change);
        let (taken, revision) = (moves[0].partition, moves[0].revision);
        assert_eq!((moves.len(), taken, revision), (1, first, Some(4)));
    }

    #[test]
    fn the_view_is_complete_once_the_own_heartbeat_was_seen() {
        let mut view = LeaseView::default();
        assert!(!view.has_seen(&id("a"), 7));
        view.apply(LeaseChange::Alive(id("a"), 6, None));
        assert!(!view.has_seen(&id("a"), 7));
        view.apply(LeaseChange::Alive(id("a"), 7, None));
        assert!(view.has_seen(&id("a"), 7));
    }
}
