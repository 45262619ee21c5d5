//! Who shall tick which partition: pure decisions over what the bucket says.
//!
//! Everybody who sees the same computes the same target: each live instance has 64 ÷ n partitions, some one more, and
//! nothing moves that need not. An instance *claims* what has no live owner and falls to it, at once. It *hands over* what
//! it has too much, straight to whom it falls, and only when its own word was just renewed and the other has renewed its
//! own since it came: who crashes again and again as it starts is given nothing. Each move is a compare-and-set, so where
//! views differ one wins, and the next look mends the shares.

#[cfg(test)]
mod simulation;

use std::collections::BTreeMap;

use contract::NodeId;
use contract::buckets::leases::{Lease, LeaseChange, PARTITIONS, Partition};
use contract::jetstream::bucket::Revised;

use super::partition::Partitions;

/// Why it is looked what there is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Occasion {
    /// Something has changed.
    Change,
    /// The server has just taken our word that we live.
    Renewal,
}

/// What kind of change of owners it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Nobody ever had it.
    First,
    /// Its owner is gone, we tick it from now on.
    Takeover,
    /// We have too much.
    Handover,
}

impl Kind {
    /// In metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Takeover => "takeover",
            Self::Handover => "handover",
        }
    }
}

/// A partition gets another owner, if its key still is as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// Which.
    pub partition: Partition,
    /// Whose it shall be.
    pub to: NodeId,
    /// The key as it was seen; none if it has no value.
    pub revision: Option<u64>,
    /// Why.
    pub kind: Kind,
}

#[derive(Debug, Clone)]
struct Sighting {
    revision: u64,
    renewed: bool,
}

/// What the bucket says, as far as it was seen.
#[derive(Debug, Clone, Default)]
pub struct View {
    instances: BTreeMap<NodeId, Sighting>,
    leases: BTreeMap<Partition, Revised<Lease>>,
}

impl View {
    /// Something has changed. What is older than what is known is passed over.
    pub fn learn(&mut self, change: LeaseChange) {
        match change {
            LeaseChange::Alive(instance, revision) => {
                let renewed = self.instances.contains_key(&instance);
                self.instances.insert(instance, Sighting { revision, renewed });
            }
            LeaseChange::Gone(instance) => {
                self.instances.remove(&instance);
            }
            LeaseChange::Held(partition, lease) => {
                let known = self.leases.get(&partition);
                if known.is_none_or(|known| known.revision < lease.revision) {
                    self.leases.insert(partition, lease);
                }
            }
            LeaseChange::Vacant(partition) => {
                self.leases.remove(&partition);
            }
        }
    }

    /// Whether an instance's word of this revision has come back. By the order of the bucket everything that stood there
    /// before it has then been seen, too.
    pub fn has_seen(&self, instance: &NodeId, revision: u64) -> bool {
        self.instances
            .get(instance)
            .is_some_and(|sighting| sighting.revision >= revision)
    }

    /// Whether an instance is alive.
    pub fn is_alive(&self, instance: &NodeId) -> bool {
        self.instances.contains_key(instance)
    }

    /// What an instance has, if it is alive.
    pub fn held_by(&self, instance: &NodeId) -> Partitions {
        let leases = self.leases.iter();
        let held = leases.filter(|(_, lease)| lease.value.instance_id == *instance && self.is_alive(instance));
        held.map(|(partition, _)| *partition).collect()
    }

    /// What `me` is to do.
    pub fn moves(&self, me: &NodeId, occasion: Occasion) -> Vec<Move> {
        if !self.is_alive(me) {
            return Vec::new();
        }
        let targets = self.targets();
        let moves = targets.into_iter().filter_map(|(partition, to)| {
            let lease = self.leases.get(&partition);
            let kind = match (self.owner(partition), lease) {
                (None, None) if to == me => Kind::First,
                (None, Some(_)) if to == me => Kind::Takeover,
                (Some(owner), _) if owner == me && to != me && occasion == Occasion::Renewal => Kind::Handover,
                _ => return None,
            };
            let proven = self.instances.get(to).is_some_and(|sighting| sighting.renewed);
            (kind != Kind::Handover || proven).then(|| Move {
                partition,
                to: to.clone(),
                revision: lease.map(|lease| lease.revision),
                kind,
            })
        });
        moves.collect()
    }

    fn owner(&self, partition: Partition) -> Option<&NodeId> {
        let owner = &self.leases.get(&partition)?.value.instance_id;
        self.is_alive(owner).then_some(owner)
    }

    /// Whose each partition shall be that has no live owner, or whose owner has too much.
    fn targets(&self) -> Vec<(Partition, &NodeId)> {
        let mut held: Vec<(&NodeId, Vec<Partition>)> = self.instances.keys().map(|id| (id, Vec::new())).collect();
        let mut to_place = Vec::new();
        for partition in Partition::all() {
            let owner = self.leases.get(&partition).map(|lease| &lease.value.instance_id);
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

/// How many partitions each instance shall have. The odd ones stay with those who have one of them already.
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

    /// Instances that have renewed, and what each has.
    fn view(instances: &[(&str, usize)]) -> View {
        let mut view = View::default();
        let mut partitions = Partition::all();
        for (name, held) in instances {
            view.learn(LeaseChange::Alive(id(name), 1));
            view.learn(LeaseChange::Alive(id(name), 2));
            for partition in partitions.by_ref().take(*held) {
                view.learn(LeaseChange::Held(partition, lease(name, 3)));
            }
        }
        view
    }

    fn count(view: &View, me: &str, occasion: Occasion, kind: Kind) -> usize {
        let moves = view.moves(&id(me), occasion);
        moves.iter().filter(|step| step.kind == kind).count()
    }

    #[test]
    fn the_first_one_takes_all_and_keeps_them() {
        assert_eq!(count(&view(&[("a", 0)]), "a", Occasion::Change, Kind::First), 64);
        assert!(view(&[("a", 64)]).moves(&id("a"), Occasion::Renewal).is_empty());
    }

    #[test]
    fn what_a_dead_one_had_is_taken_over_at_once_in_shares() {
        let mut view = view(&[("a", 22), ("b", 21), ("c", 21)]);
        assert!(view.moves(&id("a"), Occasion::Renewal).is_empty());
        view.learn(LeaseChange::Gone(id("a")));
        let taken = ["a", "b", "c"].map(|me| count(&view, me, Occasion::Change, Kind::Takeover));
        assert_eq!(taken, [0, 11, 11]);
    }

    #[test]
    fn a_newcomer_is_handed_its_share_once_it_has_renewed() {
        let mut view = view(&[("a", 32), ("b", 32)]);
        view.learn(LeaseChange::Alive(id("c"), 9));
        assert!(view.moves(&id("a"), Occasion::Renewal).is_empty());
        view.learn(LeaseChange::Alive(id("c"), 10));
        assert!(view.moves(&id("a"), Occasion::Change).is_empty());
        let handed = ["a", "b", "c"].map(|me| count(&view, me, Occasion::Renewal, Kind::Handover));
        assert_eq!(handed, [10, 11, 0]);
        let moves = view.moves(&id("a"), Occasion::Renewal);
        assert!(moves.iter().all(|step| step.to == id("c") && step.revision == Some(3)));
    }

    #[test]
    fn the_odd_ones_stay_where_they_are() {
        for instances in [
            [("a", 21), ("b", 22), ("c", 21)],
            [("a", 21), ("b", 21), ("c", 22)],
            [("a", 22), ("b", 21), ("c", 21)],
        ] {
            let view = view(&instances);
            assert!(
                ["a", "b", "c"]
                    .iter()
                    .all(|me| view.moves(&id(me), Occasion::Renewal).is_empty())
            );
        }
    }

    #[test]
    fn an_instance_that_is_not_announced_does_nothing() {
        let view = view(&[("a", 10)]);
        assert!(view.moves(&id("b"), Occasion::Renewal).is_empty());
        assert!(view.held_by(&id("b")).is_empty());
    }

    #[test]
    fn old_news_of_a_partition_is_passed_over() {
        let mut view = view(&[("a", 1), ("b", 0)]);
        let first = Partition::all().next().unwrap();
        view.learn(LeaseChange::Held(first, lease("b", 2)));
        assert_eq!(view.held_by(&id("a")).len(), 1);
        view.learn(LeaseChange::Held(first, lease("b", 4)));
        assert_eq!((view.held_by(&id("a")).len(), view.held_by(&id("b")).len()), (0, 1));
    }

    #[test]
    fn the_echo_of_our_own_word_tells_that_all_before_it_was_seen() {
        let mut view = View::default();
        assert!(!view.has_seen(&id("a"), 7));
        view.learn(LeaseChange::Alive(id("a"), 6));
        assert!(!view.has_seen(&id("a"), 7));
        view.learn(LeaseChange::Alive(id("a"), 7));
        assert!(view.has_seen(&id("a"), 7));
    }
}
