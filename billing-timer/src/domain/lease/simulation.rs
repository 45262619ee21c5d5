//! Fleets that grow, die, are cut off and come back, with news that comes late: in the end each partition has one live owner.

use std::collections::BTreeMap;

use contract::buckets::leases::{Lease, LeaseChange, PARTITIONS, Partition};
use contract::jetstream::bucket::Revised;
use contract::{NodeId, Timestamp};
use proptest::prelude::*;

use super::{Occasion, View};

const NODES: usize = 5;
/// In rounds; a node renews once a round.
const TTL: u64 = 3;
/// After this many rounds without any event all is settled: an expiry, a newcomer's proof, and a correction or two.
const SETTLED_AFTER: u64 = TTL + 8;

#[derive(Debug, Clone, Copy)]
enum Event {
    Start(usize),
    Kill(usize),
    /// SIGTERM.
    Stop(usize),
    Cut(usize),
    Mend(usize),
    Round,
    /// A round in which each node sees only so many of the news.
    Late(usize),
}

#[derive(Default)]
struct Node {
    runs: bool,
    cut: bool,
    view: View,
    /// How much of the log it has seen; none while it has no watcher.
    seen: Option<usize>,
    first_word: u64,
    holds_until: u64,
}

/// The server: the bucket as it stands, and all changes in their order.
#[derive(Default)]
struct World {
    round: u64,
    revision: u64,
    log: Vec<LeaseChange>,
    alive: BTreeMap<NodeId, (u64, u64)>,
    leases: BTreeMap<Partition, Revised<Lease>>,
    given: usize,
}

fn id(node: usize) -> NodeId {
    format!("n{node}").parse().unwrap()
}

impl World {
    fn announce(&mut self, node: &NodeId) -> u64 {
        self.revision += 1;
        self.alive.insert(node.clone(), (self.revision, self.round + TTL));
        self.log.push(LeaseChange::Alive(node.clone(), self.revision));
        self.revision
    }

    fn withdraw(&mut self, node: &NodeId) {
        if self.alive.remove(node).is_some() {
            self.log.push(LeaseChange::Gone(node.clone()));
        }
    }

    fn expire(&mut self) {
        let round = self.round;
        let expired: Vec<NodeId> = self
            .alive
            .iter()
            .filter(|(_, (_, until))| *until <= round)
            .map(|(id, _)| id.clone())
            .collect();
        expired.iter().for_each(|node| self.withdraw(node));
    }

    fn give(&mut self, partition: Partition, to: NodeId, revision: Option<u64>) {
        if self.leases.get(&partition).map(|lease| lease.revision) != revision {
            return;
        }
        self.revision += 1;
        self.given += 1;
        let lease = Revised {
            value: Lease {
                instance_id: to,
                since: Timestamp::from_millis(0).unwrap(),
            },
            revision: self.revision,
        };
        self.leases.insert(partition, lease.clone());
        self.log.push(LeaseChange::Held(partition, lease));
    }

    /// A watcher begins with what stands there.
    fn watch(&self, node: &mut Node) {
        node.view = View::default();
        for (id, (revision, _)) in &self.alive {
            node.view.learn(LeaseChange::Alive(id.clone(), *revision));
        }
        for (partition, lease) in &self.leases {
            node.view.learn(LeaseChange::Held(*partition, lease.clone()));
        }
        node.seen = Some(self.log.len());
    }

    fn round(&mut self, nodes: &mut [Node], most: usize) {
        self.round += 1;
        self.expire();
        for index in 0..nodes.len() {
            // Each round begins with another node, as who is first decides who wins.
            let index = (index + usize::try_from(self.round).unwrap()) % nodes.len();
            let node = &mut nodes[index];
            if !node.runs || node.cut {
                continue;
            }
            let me = id(index);
            let fresh = node.seen.is_none();
            if fresh {
                self.watch(node);
            }
            let word = self.announce(&me);
            if fresh {
                node.first_word = word;
            }
            node.holds_until = self.round + TTL;
            self.act(node, &me, Occasion::Renewal);
            let news = self.log[node.seen.unwrap()..].iter().take(most).cloned();
            for change in news.collect::<Vec<_>>() {
                node.seen = node.seen.map(|seen| seen + 1);
                node.view.learn(change);
                self.act(node, &me, Occasion::Change);
            }
        }
    }

    fn act(&mut self, node: &Node, me: &NodeId, occasion: Occasion) {
        if node.view.has_seen(me, node.first_word) {
            for step in node.view.moves(me, occasion) {
                self.give(step.partition, step.to, step.revision);
            }
        }
    }
}

fn apply(world: &mut World, nodes: &mut [Node], event: Event) {
    match event {
        Event::Start(index) if !nodes[index].runs => {
            nodes[index] = Node {
                runs: true,
                ..Node::default()
            };
        }
        Event::Kill(index) => nodes[index].runs = false,
        Event::Stop(index) => {
            if nodes[index].runs && !nodes[index].cut {
                world.withdraw(&id(index));
            }
            nodes[index].runs = false;
        }
        Event::Cut(index) => nodes[index].cut = true,
        Event::Mend(index) => {
            nodes[index].cut = false;
            nodes[index].seen = None;
        }
        Event::Round => world.round(nodes, usize::MAX),
        Event::Late(most) => world.round(nodes, most),
        Event::Start(_) => {}
    }
}

fn check(world: &World, nodes: &[Node]) {
    let live: Vec<&Node> = nodes.iter().filter(|node| node.runs && !node.cut).collect();
    let live_ids: Vec<NodeId> = (0..nodes.len())
        .filter(|index| nodes[*index].runs && !nodes[*index].cut)
        .map(id)
        .collect();
    if live.is_empty() {
        return;
    }
    assert_eq!(world.leases.len(), usize::from(PARTITIONS), "a partition has no lease");
    let shares: Vec<usize> = live
        .iter()
        .zip(&live_ids)
        .map(|(node, me)| node.view.held_by(me).len())
        .collect();
    assert_eq!(shares.iter().sum::<usize>(), usize::from(PARTITIONS), "{shares:?}");
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 1, "{shares:?}");
    for lease in world.leases.values() {
        assert!(live_ids.contains(&lease.value.instance_id), "the owner is gone");
    }
}

/// Who is cut off has stopped ticking by the time that others may take over.
fn check_lapses(world: &World, nodes: &[Node]) {
    for (index, node) in nodes.iter().enumerate() {
        if !world.alive.contains_key(&id(index)) {
            assert!(!node.runs || node.holds_until <= world.round, "ticks on without a word");
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let node = || 0..NODES;
    let event = prop_oneof![
        4 => node().prop_map(Event::Start),
        2 => node().prop_map(Event::Kill),
        2 => node().prop_map(Event::Stop),
        1 => node().prop_map(Event::Cut),
        2 => node().prop_map(Event::Mend),
        6 => Just(Event::Round),
        4 => (0usize..100).prop_map(Event::Late),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_partition_ends_with_one_live_owner_in_fair_shares(events in events()) {
        let mut world = World::default();
        let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::default()).collect();
        for event in events {
            apply(&mut world, &mut nodes, event);
            check_lapses(&world, &nodes);
        }
        (0..SETTLED_AFTER).for_each(|_| world.round(&mut nodes, usize::MAX));
        check(&world, &nodes);
        // And then nothing moves any more.
        let given = world.given;
        (0..20).for_each(|_| world.round(&mut nodes, usize::MAX));
        prop_assert_eq!(world.given, given);
        check(&world, &nodes);
    }

    #[test]
    fn one_that_comes_or_goes_moves_its_share_and_no_more(before in 1usize..NODES, leaves in any::<bool>()) {
        let mut world = World::default();
        let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::default()).collect();
        for index in 0..before {
            apply(&mut world, &mut nodes, Event::Start(index));
            (0..SETTLED_AFTER).for_each(|_| world.round(&mut nodes, usize::MAX));
        }
        let given = world.given;
        let after = if leaves { before - 1 } else { before + 1 };
        apply(&mut world, &mut nodes, if leaves { Event::Kill(0) } else { Event::Start(before) });
        (0..SETTLED_AFTER).for_each(|_| world.round(&mut nodes, usize::MAX));
        let share = usize::from(PARTITIONS).div_ceil(before.max(after));
        prop_assert!(world.given - given <= share, "{} moved", world.given - given);
        check(&world, &nodes);
    }
}
