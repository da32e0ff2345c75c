//! I15, as far as it is seen from outside: at rest every store holds every blob that is linked, whole; and lag is
//! what the stores lack.

use std::collections::BTreeSet;

use crate::cluster::spec::REGIONS;
use crate::history::{History, Outcome, StoresAtRest, What};

/// Stores and counters, when all is at rest.
pub(super) fn check(history: &History) -> Vec<String> {
    let Some(rest) = &history.at_rest else { return vec!["nobody looked into the stores".to_owned()] };
    let linked = linked(history);
    let mut found: Vec<String> = counters(rest).collect();
    for (region, store) in REGIONS.iter().zip(&rest.digests) {
        let lacks: Vec<&&str> = linked.iter().filter(|d| !store.contains(**d)).collect();
        if !lacks.is_empty() && !history.damaged {
            found.push(format!("at rest the store of {region} lacks {} blobs: {lacks:?}", lacks.len()));
        }
    }
    if !history.damaged {
        let broken = REGIONS.iter().zip(&rest.broken).filter(|(_, files)| !files.is_empty());
        found.extend(
            broken.map(|(region, files)| format!("the store of {region} has objects that are not whole: {files:?}")),
        );
    }
    found
}

/// Digests of blobs that were acknowledged, and not asked to be deleted.
fn linked(history: &History) -> BTreeSet<&str> {
    let mut linked: BTreeSet<&str> = history
        .pushed
        .iter()
        .filter(|p| p.what == What::Blob && p.outcome == Outcome::Ok)
        .map(|p| &*p.digest)
        .collect();
    for delete in history.deleted.iter().filter(|d| d.what == What::Blob && d.outcome != Outcome::Failed) {
        linked.remove(&*delete.digest);
    }
    linked
}

fn counters(rest: &StoresAtRest) -> impl Iterator<Item = String> + '_ {
    rest.lag.iter().enumerate().flat_map(|(node, regions)| {
        let wrong = regions.iter().filter(|r| r.blobs != Some(0) || r.bytes != Some(0) || r.oldest_age_ms.is_some());
        wrong.map(move |r| {
            format!(
                "at rest node {node} says that {} lacks {:?} blobs of {:?} bytes, the oldest for {:?} ms",
                r.region, r.blobs, r.bytes, r.oldest_age_ms
            )
        })
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::pushed;
    use super::*;
    use crate::cluster::Lag;

    fn history(stored: &[&str], blobs: u64, broken: &[&str]) -> History {
        let lag =
            Lag { region: "us-east".into(), known: None, blobs: Some(blobs), bytes: Some(0), oldest_age_ms: None };
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        History {
            pushed: vec![pushed(What::Blob, "a", (0, 1), Outcome::Ok)],
            at_rest: Some(StoresAtRest {
                digests: vec![strings(stored).into_iter().collect()],
                broken: vec![strings(broken)],
                lag: vec![vec![lag]],
                temporary: Vec::new(),
            }),
            ..History::default()
        }
    }

    #[test]
    fn a_store_that_lacks_a_blob_and_a_counter_that_is_wrong_are_found() {
        assert_eq!(check(&history(&["a", "b"], 0, &[])).len(), 0);
        assert_eq!(check(&history(&["b"], 0, &[])).len(), 1);
        assert_eq!(check(&history(&["a"], 1, &[])).len(), 1);
        assert_eq!(check(&history(&["a"], 0, &["x"])).len(), 1);
        assert_eq!(check(&History::default()).len(), 1);
        let mut aged = history(&["a"], 0, &[]);
        if let Some(rest) = &mut aged.at_rest {
            rest.lag[0][0].oldest_age_ms = Some(3);
        }
        assert_eq!(check(&aged).len(), 1, "nothing is wanted, and something is old");
    }
}
