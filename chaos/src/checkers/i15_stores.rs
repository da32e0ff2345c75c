//! I15, as far as it is seen from outside: at rest every store holds every blob that is linked, whole; and lag is
//! what the stores lack.

use std::collections::BTreeSet;

use super::STORES_UNSEEN;
use crate::cluster::Lag;
use crate::cluster::spec::REGIONS;
use crate::history::{History, StoresAtRest, What};

/// Stores and counters, when all is at rest.
pub(super) fn check(history: &History) -> Vec<String> {
    let Some(rest) = &history.at_rest else { return vec![STORES_UNSEEN.to_owned()] };
    let linked = linked(history);
    let mut found: Vec<String> = counters(rest).chain(silent(rest)).collect();
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

/// Digests of blobs that were acknowledged in some repository, and not asked to be deleted there.
fn linked(history: &History) -> BTreeSet<&str> {
    history.standing().filter(|p| p.what == What::Blob).map(|p| &*p.digest).collect()
}

/// A node that did not tell what every region lacks has told nothing.
fn silent(rest: &StoresAtRest) -> impl Iterator<Item = String> + '_ {
    let knows = |regions: &[Lag], region: &str| regions.iter().any(|r| r.region == region);
    let silent = rest.lag.iter().enumerate().filter(move |(_, lag)| !REGIONS.iter().all(|r| knows(lag, r)));
    silent.map(|(node, lag)| format!("at rest node {node} told the lag of {} regions", lag.len()))
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
    use super::super::sample::{deleted, pushed};
    use super::*;
    use crate::history::Outcome;

    fn history(stored: &[&str], blobs: u64, broken: &[&str]) -> History {
        let lag = |region: &str, blobs| Lag {
            region: region.into(),
            known: None,
            blobs: Some(blobs),
            bytes: Some(0),
            oldest_age_ms: None,
        };
        let lag = vec![lag(REGIONS[0], blobs), lag(REGIONS[1], 0), lag(REGIONS[2], 0)];
        let strings = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
        History {
            pushed: vec![pushed(What::Blob, "a", (0, 1), Outcome::Ok)],
            at_rest: Some(StoresAtRest {
                digests: vec![strings(stored).into_iter().collect()],
                broken: vec![strings(broken)],
                lag: vec![lag],
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
        let mut mute = history(&["a"], 0, &[]);
        if let Some(rest) = &mut mute.at_rest {
            rest.lag[0].pop();
        }
        assert_eq!(check(&mute).len(), 1, "a region of which nothing was said");
    }

    #[test]
    fn what_another_repository_links_must_be_there() {
        let mut history = history(&[], 0, &[]);
        history.deleted.push(deleted(What::Blob, "a", (2, 3), Outcome::Ok));
        assert_eq!(check(&history).len(), 0);
        history.deleted[0].repository = "elsewhere".into();
        assert_eq!(check(&history).len(), 1);
    }
}
