//! I12: one leader in a term; equal state hashes at equal revisions on every node.

use std::collections::BTreeMap;

use super::STATES_UNSEEN;
use crate::cluster::NODES;
use crate::history::History;

/// What nodes said of their lead, and the checks of their state. One that was never made proves nothing.
pub(super) fn check(history: &History) -> Vec<String> {
    let mut found: Vec<String> = two_leaders(history).chain(terms_that_go_back(history)).collect();
    if history.hashes.is_empty() {
        found.push(STATES_UNSEEN.to_owned());
    }
    found.extend(
        history
            .hashes
            .iter()
            .filter(|h| !h.equal || differ(&h.nodes))
            .map(|h| format!("the nodes differ: {:?} {}", h.nodes, h.failure.as_deref().unwrap_or_default())),
    );
    found
}

fn two_leaders(history: &History) -> impl Iterator<Item = String> {
    let mut leaders: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for seen in history.terms.iter().filter(|t| t.leads) {
        let nodes = leaders.entry(seen.term).or_default();
        if !nodes.contains(&seen.node) {
            nodes.push(seen.node);
        }
    }
    leaders.into_iter().filter(|(_, n)| n.len() > 1).map(|(term, nodes)| format!("in term {term} nodes {nodes:?} led"))
}

/// A node that has voted in a term remembers it, also when it is started again, but not with damaged files.
fn terms_that_go_back(history: &History) -> impl Iterator<Item = String> + '_ {
    let forgot = |node: usize, from: u64, to: u64| {
        history.starts.iter().any(|s| s.damaged && s.node == node && (from..=to).contains(&s.at))
    };
    let mut newest: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    history.terms.iter().filter_map(move |seen| {
        let now = (seen.term, seen.at);
        let (term, at) = newest.insert(seen.node, now).unwrap_or(now);
        if seen.term < term && !forgot(seen.node, at, seen.at) {
            return Some(format!("node {} was in term {term}, and then in {}", seen.node, seen.term));
        }
        None
    })
}

/// That the command calls them equal is not believed, nor that it asked all.
fn differ(nodes: &[(String, Option<String>)]) -> bool {
    nodes.len() != NODES
        || nodes.windows(2).any(|pair| pair[0].1 != pair[1].1)
        || nodes.iter().any(|(_, hash)| hash.is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{HashCheck, Started, TermSeen};

    fn history(hashes: [&str; 2], equal: bool) -> History {
        let hashes = [hashes[0], hashes[0], hashes[1]];
        let nodes = hashes.map(|h| ("n".to_owned(), Some(h.to_owned()))).into();
        History { hashes: vec![HashCheck { nodes, equal, failure: None }], ..History::default() }
    }

    #[test]
    fn states_that_differ_are_found_whatever_the_command_says() {
        assert_eq!(check(&history(["a", "a"], true)).len(), 0);
        assert_eq!(check(&history(["a", "b"], true)).len(), 1);
        assert_eq!(check(&history(["a", "a"], false)).len(), 1);
        assert_eq!(check(&History::default()).len(), 1);
        let mut few = history(["a", "a"], true);
        few.hashes[0].nodes.pop();
        assert_eq!(check(&few).len(), 1, "a node was left out");
    }

    #[test]
    fn two_leaders_in_a_term_are_found() {
        let seen = |node, term| TermSeen { node, at: 0, term, leads: true };
        let mut history = history(["a", "a"], true);
        history.terms = vec![seen(0, 1), seen(0, 1), seen(1, 2)];
        assert_eq!(check(&history).len(), 0);
        history.terms.push(seen(2, 2));
        assert_eq!(check(&history).len(), 1);
    }

    #[test]
    fn a_term_that_goes_back_is_found() {
        let seen = |node, term| TermSeen { node, at: 0, term, leads: false };
        let mut history = history(["a", "a"], true);
        history.terms = vec![seen(0, 3), seen(1, 2), seen(0, 3), seen(0, 4)];
        assert_eq!(check(&history).len(), 0);
        history.terms.push(seen(0, 2));
        assert_eq!(check(&history).len(), 1);
        history.starts = vec![Started { node: 0, at: 0, damaged: true }];
        assert_eq!(check(&history).len(), 0, "its files were damaged");
    }
}
