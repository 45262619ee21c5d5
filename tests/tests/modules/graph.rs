//! The uses between sibling modules, and the cycles among them.

use std::collections::{BTreeMap, BTreeSet};

/// A module's path from the crate's root, which is the empty path.
pub(crate) type ModulePath = Vec<String>;

/// Edges between sibling modules, each with an example.
#[derive(Default)]
pub(crate) struct Graph {
    edges: BTreeMap<(ModulePath, ModulePath), String>,
}

impl Graph {
    /// Adds that `from` names an item of `to` by `path`.
    pub(crate) fn add(&mut self, from: &[String], to: &[String], path: &str) {
        let shared = from.iter().zip(to).take_while(|(one, other)| one == other).count();
        let (Some(user), Some(used)) = (from.get(..=shared), to.get(..=shared)) else {
            return;
        };
        let example = format!("{}: {path}", from.join("::"));
        self.edges.entry((user.to_vec(), used.to_vec())).or_insert(example);
    }

    /// Every edge that is part of a cycle.
    pub(crate) fn cycles(&self) -> Vec<String> {
        let on_cycle = self.edges.iter().filter(|((from, to), _)| self.reaches(to, from));
        on_cycle
            .map(|((from, to), example)| format!("  {} → {} ({example})", from.join("::"), to.join("::")))
            .collect()
    }

    fn reaches(&self, from: &ModulePath, goal: &ModulePath) -> bool {
        let mut seen = BTreeSet::from([from]);
        let mut open = vec![from];
        while let Some(module) = open.pop() {
            let next = self
                .edges
                .keys()
                .filter(|(user, _)| user == module)
                .map(|(_, used)| used);
            open.extend(next.filter(|used| seen.insert(used)));
        }
        seen.contains(goal)
    }
}
