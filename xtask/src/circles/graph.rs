//! Small directed graphs. Every question is answered from what reaches what, which is plain and quick enough for some hundred
//! nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Nodes with names; one edge between two of them, with the reason that was given first.
pub(crate) struct Graph<E> {
    edges: BTreeMap<String, BTreeMap<String, E>>,
}

impl<E> Graph<E> {
    pub(crate) fn new() -> Self {
        Self { edges: BTreeMap::new() }
    }

    pub(crate) fn node(&mut self, name: &str) {
        if !self.edges.contains_key(name) {
            self.edges.insert(name.to_owned(), BTreeMap::new());
        }
    }

    /// An edge; one from a node to itself says nothing and is left out.
    pub(crate) fn edge(&mut self, from: &str, to: &str, why: E) {
        self.node(from);
        self.node(to);
        if from != to {
            self.edges.entry(from.to_owned()).or_default().entry(to.to_owned()).or_insert(why);
        }
    }

    pub(crate) fn nodes(&self) -> impl Iterator<Item = &str> {
        self.edges.keys().map(String::as_str)
    }

    /// Direct edges of a node.
    pub(crate) fn after(&self, node: &str) -> impl Iterator<Item = (&str, &E)> {
        self.edges.get(node).into_iter().flatten().map(|(to, why)| (to.as_str(), why))
    }

    pub(crate) fn count(&self) -> (usize, usize) {
        (self.edges.len(), self.edges.values().map(BTreeMap::len).sum())
    }

    /// Groups of nodes that all reach each other; one with a single node is no circle. In the order of their first nodes.
    pub(crate) fn components(&self) -> Vec<Vec<&str>> {
        let reach = self.reach();
        let mut done = BTreeSet::new();
        let mut found = Vec::new();
        for node in self.nodes() {
            if done.contains(node) {
                continue;
            }
            let mut group = vec![node];
            group.extend(reach[node].iter().filter(|other| **other != node && reach[*other].contains(node)));
            group.sort_unstable();
            done.extend(group.iter().copied());
            found.push(group);
        }
        found
    }

    pub(crate) fn circles(&self) -> Vec<Vec<&str>> {
        self.components().into_iter().filter(|group| group.len() > 1).collect()
    }

    /// A shortest way round in a circle, edge by edge.
    pub(crate) fn way_round(&self, circle: &[&str]) -> Vec<(&str, &str, &E)> {
        let ways = circle.iter().filter_map(|start| self.way_back(start));
        ways.min_by_key(Vec::len).unwrap_or_default()
    }

    /// A shortest way from a node to itself, breadth first.
    fn way_back(&self, start: &str) -> Option<Vec<(&str, &str, &E)>> {
        let mut came: BTreeMap<&str, (&str, &E)> = BTreeMap::new();
        let (start, _) = self.edges.get_key_value(start)?;
        let mut queue = VecDeque::from([start.as_str()]);
        while let Some(node) = queue.pop_front() {
            for (to, why) in self.after(node) {
                if !came.contains_key(to) {
                    came.insert(to, (node, why));
                    queue.push_back(to);
                }
            }
        }
        let mut way = Vec::new();
        let mut node = start.as_str();
        loop {
            let (from, why) = *came.get(node)?;
            way.push((from, node, why));
            node = from;
            if node == start {
                way.reverse();
                return Some(way);
            }
        }
    }

    /// The longest way down of each node; nodes of one circle have the same.
    pub(crate) fn levels(&self) -> BTreeMap<&str, usize> {
        let groups = self.components();
        let group_of: BTreeMap<&str, usize> =
            groups.iter().enumerate().flat_map(|(i, group)| group.iter().map(move |node| (*node, i))).collect();
        let below: Vec<BTreeSet<usize>> = groups
            .iter()
            .enumerate()
            .map(|(i, group)| {
                let targets = group.iter().flat_map(|node| self.after(node)).map(|(to, _)| group_of[to]);
                targets.filter(|to| *to != i).collect()
            })
            .collect();
        let mut levels = vec![0; groups.len()];
        // As often as there are groups is enough for the longest way.
        for _ in 0..groups.len() {
            for (i, below) in below.iter().enumerate() {
                levels[i] = below.iter().map(|to| levels[*to] + 1).max().unwrap_or(0);
            }
        }
        group_of.into_iter().map(|(node, group)| (node, levels[group])).collect()
    }

    /// The direct edges of a node without those that another of them implies.
    pub(crate) fn reduced(&self) -> BTreeMap<&str, Vec<&str>> {
        let reach = self.reach();
        let implied = |node: &str, to: &str| {
            self.after(node).any(|(by, _)| {
                by != to && reach[by].contains(to) && !reach[to].contains(by) && !reach[by].contains(node)
            })
        };
        self.nodes()
            .map(|node| (node, self.after(node).map(|(to, _)| to).filter(|to| !implied(node, to)).collect()))
            .collect()
    }

    /// What each node reaches by one edge or more.
    fn reach(&self) -> BTreeMap<&str, BTreeSet<&str>> {
        let from = |start| {
            let mut seen = BTreeSet::new();
            let mut open = vec![start];
            while let Some(node) = open.pop() {
                open.extend(self.after(node).map(|(to, _)| to).filter(|to| seen.insert(*to)));
            }
            seen
        };
        self.nodes().map(|node| (node, from(node))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &str)]) -> Graph<()> {
        let mut graph = Graph::new();
        for (from, to) in edges {
            graph.edge(from, to, ());
        }
        graph
    }

    #[test]
    fn circles_are_found_with_a_shortest_way_round() {
        let graph =
            graph(&[("a", "b"), ("b", "c"), ("c", "a"), ("c", "b"), ("c", "d"), ("d", "e"), ("e", "d"), ("f", "a")]);
        assert_eq!(graph.circles(), [vec!["a", "b", "c"], vec!["d", "e"]]);
        let way: Vec<_> = graph.way_round(&["a", "b", "c"]).into_iter().map(|(from, to, ())| (from, to)).collect();
        assert_eq!(way, [("b", "c"), ("c", "b")]);
    }

    #[test]
    fn an_edge_to_itself_is_no_circle() {
        assert!(graph(&[("a", "a"), ("a", "b")]).circles().is_empty());
    }

    #[test]
    fn levels_count_the_longest_way_down() {
        let graph = graph(&[("top", "mid"), ("mid", "low"), ("top", "low"), ("x", "y"), ("y", "x"), ("y", "mid")]);
        let levels = graph.levels();
        assert_eq!(levels.into_iter().collect::<Vec<_>>(), [("low", 0), ("mid", 1), ("top", 2), ("x", 2), ("y", 2)]);
    }

    #[test]
    fn implied_edges_are_left_out_but_none_of_a_circle() {
        let graph =
            graph(&[("top", "mid"), ("mid", "low"), ("top", "low"), ("z", "x"), ("z", "y"), ("x", "y"), ("y", "x")]);
        let reduced = graph.reduced();
        assert_eq!(reduced["top"], ["mid"]);
        assert_eq!(reduced["mid"], ["low"]);
        assert_eq!(reduced["z"], ["x", "y"]);
        assert_eq!(reduced["x"], ["y"]);
    }
}
