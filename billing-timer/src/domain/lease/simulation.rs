//! Random instance starts, crashes, disconnections and delayed watches: in the end each partition has one live holder.

use std::collections::BTreeMap;

use contract::buckets::billing_leases::{Lease, LeaseChange, PARTITIONS, Partition};
use contract::jetstream::bucket::Revised;
use contract::{NodeId, Timestamp};
use proptest::prelude::*;

use super::{LeaseView, Trigger};

const NODES: usize = 5;
/// In rounds; a node renews once a round.
const TTL: u64 = 3;
/// Rounds without events until nothing moves any more: an expiry, a renewal of a new instance, and one or two corrections.
const SETTLED_AFTER: u64 = TTL + 8;

#[derive(Debug, Clone, Copy)]
enum Event {
    Start(usize),
    Kill(usize),
    /// SIGTERM.
    Stop(usize),
    Disconnect(usize),
    Reconnect(usize),
    Round,
    /// A round in which each node sees only this many changes.
    DelayedRound(usize),
}

#[derive(Default)]
struct Node {
    running: bool,
    disconnected: bool,
    view: LeaseView,
    /// How much of the log it has seen; none without a watch.
    seen: Option<usize>,
    first_heartbeat: u64,
    holds_until: u64,
}

/// The server: the content of the bucket, and all changes in order.
#[derive(Default)]
struct Server {
    round: u64,
    revision: u64,
    log: Vec<LeaseChange>,
    alive: BTreeMap<NodeId, (u64, u64)>,
    leases: BTreeMap<Partition, Revised<Lease>>,
    moves: usize,
}

fn id(node: usize) -> NodeId {
    format!("n{node}").parse().unwrap()
}

impl Server {
    fn put_heartbeat(&mut self, node: &NodeId) -> u64 {
        self.revision += 1;
        self.alive.insert(node.clone(), (self.revision, self.round + TTL));
        self.log.push(LeaseChange::Alive(node.clone(), self.revision, None));
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

    fn move_lease(&mut self, partition: Partition, to: NodeId, revision: Option<u64>) {
        if self.leases.get(&partition).map(|lease| lease.revision) != revision {
            return;
        }
        self.revision += 1;
        self.moves += 1;
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

    /// A watch begins with the current content.
    fn watch(&self, node: &mut Node) {
        node.view = LeaseView::default();
        for (id, (revision, _)) in &self.alive {
            node.view.apply(LeaseChange::Alive(id.clone(), *revision, None));
        }
        for (partition, lease) in &self.leases {
            node.view.apply(LeaseChange::Held(*partition, lease.clone()));
        }
        node.seen = Some(self.log.len());
    }

    fn round(&mut self, nodes: &mut [Node], most: usize) {
        self.round += 1;
        self.expire();
        for index in 0..nodes.len() {
            // Each round begins with another node, because the first one wins conflicts.
            let index = (index + usize::try_from(self.round).unwrap()) % nodes.len();
            let node = &mut nodes[index];
            if !node.running || node.disconnected {
                continue;
            }
            let me = id(index);
            let new_watch = node.seen.is_none();
            if new_watch {
                self.watch(node);
            }
            let revision = self.put_heartbeat(&me);
            if new_watch {
                node.first_heartbeat = revision;
            }
            node.holds_until = self.round + TTL;
            self.act(node, &me, Trigger::Renewal);
            let unseen = self.log[node.seen.unwrap()..].iter().take(most).cloned();
            for change in unseen.collect::<Vec<_>>() {
                node.seen = node.seen.map(|seen| seen + 1);
                node.view.apply(change);
                self.act(node, &me, Trigger::Change);
            }
        }
    }

    fn act(&mut self, node: &Node, me: &NodeId, trigger: Trigger) {
        if node.view.has_seen(me, node.first_heartbeat) {
            for lease_move in node.view.moves(me, trigger) {
                self.move_lease(lease_move.partition, lease_move.to, lease_move.revision);
            }
        }
    }
}

fn apply(server: &mut Server, nodes: &mut [Node], event: Event) {
    match event {
        Event::Start(index) if !nodes[index].running => {
            nodes[index] = Node {
                running: true,
                ..Node::default()
            };
        }
        Event::Kill(index) => nodes[index].running = false,
        Event::Stop(index) => {
            if nodes[index].running && !nodes[index].disconnected {
                server.withdraw(&id(index));
            }
            nodes[index].running = false;
        }
        Event::Disconnect(index) => nodes[index].disconnected = true,
        Event::Reconnect(index) => {
            nodes[index].disconnected = false;
            nodes[index].seen = None;
        }
        Event::Round => server.round(nodes, usize::MAX),
        Event::DelayedRound(most) => server.round(nodes, most),
        Event::Start(_) => {}
    }
}

fn check(server: &Server, nodes: &[Node]) {
    let live: Vec<&Node> = nodes.iter().filter(|node| node.running && !node.disconnected).collect();
    let live_ids: Vec<NodeId> = (0..nodes.len())
        .filter(|index| nodes[*index].running && !nodes[*index].disconnected)
        .map(id)
        .collect();
    if live.is_empty() {
        return;
    }
    assert_eq!(server.leases.len(), usize::from(PARTITIONS), "a partition has no lease");
    let shares: Vec<usize> = live
        .iter()
        .zip(&live_ids)
        .map(|(node, me)| node.view.held_by(me).len())
        .collect();
    assert_eq!(shares.iter().sum::<usize>(), usize::from(PARTITIONS), "{shares:?}");
    let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
    assert!(most - least <= 1, "{shares:?}");
    for lease in server.leases.values() {
        assert!(live_ids.contains(&lease.value.instance_id), "the holder is gone");
    }
}

/// A disconnected instance has stopped ticking before others may take over.
fn check_lapses(server: &Server, nodes: &[Node]) {
    for (index, node) in nodes.iter().enumerate() {
        if !server.alive.contains_key(&id(index)) {
            assert!(
                !node.running || node.holds_until <= server.round,
                "ticks without a heartbeat"
            );
        }
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let node = || 0..NODES;
    let event = prop_oneof![
        4 => node().prop_map(Event::Start),
        2 => node().prop_map(Event::Kill),
        2 => node().prop_map(Event::Stop),
        1 => node().prop_map(Event::Disconnect),
        2 => node().prop_map(Event::Reconnect),
        6 => Just(Event::Round),
        4 => (0usize..100).prop_map(Event::DelayedRound),
    ];
    prop::collection::vec(event, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_partition_ends_with_one_live_holder_in_equal_shares(events in events()) {
        let mut server = Server::default();
        let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::default()).collect();
        for event in events {
            apply(&mut server, &mut nodes, event);
            check_lapses(&server, &nodes);
        }
        (0..SETTLED_AFTER).for_each(|_| server.round(&mut nodes, usize::MAX));
        check(&server, &nodes);
        // Then nothing moves any more.
        let moves = server.moves;
        (0..20).for_each(|_| server.round(&mut nodes, usize::MAX));
        prop_assert_eq!(server.moves, moves);
        check(&server, &nodes);
    }

    #[test]
    fn a_joining_or_leaving_instance_moves_no_more_than_its_share(before in 1usize..NODES, leaves in any::<bool>()) {
        let mut server = Server::default();
        let mut nodes: Vec<Node> = (0..NODES).map(|_| Node::default()).collect();
        for index in 0..before {
            apply(&mut server, &mut nodes, Event::Start(index));
            (0..SETTLED_AFTER).for_each(|_| server.round(&mut nodes, usize::MAX));
        }
        let moves = server.moves;
        let after = if leaves { before - 1 } else { before + 1 };
        apply(&mut server, &mut nodes, if leaves { Event::Kill(0) } else { Event::Start(before) });
        (0..SETTLED_AFTER).for_each(|_| server.round(&mut nodes, usize::MAX));
        let share = usize::from(PARTITIONS).div_ceil(before.max(after));
        prop_assert!(server.moves - moves <= share, "{} moved", server.moves - moves);
        check(&server, &nodes);
    }
}
