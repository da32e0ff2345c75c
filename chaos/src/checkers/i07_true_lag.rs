//! I7: reported lag is never below the true lag.

use std::collections::BTreeMap;

use crate::history::{History, LagSeen, What};

/// The regions in the order of the nodes, as the stores were listed.
use crate::cluster::spec::REGIONS;

/// A report as of a revision counts all that was acknowledged up to it and that the region's store lacks. The stores
/// are listed after the report: what they lack then they lacked before.
pub(super) fn check(history: &History) -> Vec<String> {
    if history.damaged {
        // What is recorded and was then destroyed is found when it is read, not before.
        return Vec::new();
    }
    let live = live(history);
    history
        .lags
        .iter()
        .flat_map(|seen| REGIONS.iter().enumerate().filter_map(|(i, r)| too_low(seen, i, r, &live)))
        .collect()
}

/// Blobs that were acknowledged and stay linked by a repository: the first revision of each, and its size.
fn live(history: &History) -> BTreeMap<&str, (u64, u64)> {
    let mut live = BTreeMap::new();
    for push in history.standing().filter(|p| p.what == What::Blob) {
        let Some(revision) = push.revision else { continue };
        let entry = live.entry(&*push.digest).or_insert((revision, push.bytes));
        entry.0 = entry.0.min(revision);
    }
    live
}

fn too_low(seen: &LagSeen, place: usize, region: &str, live: &BTreeMap<&str, (u64, u64)>) -> Option<String> {
    let report = seen.regions.iter().find(|r| r.region == region)?;
    // Unknown is not zero: it says nothing that could be wrong.
    let (blobs, bytes) = (report.blobs?, report.bytes?);
    let store = seen.stores.get(place)?.as_ref()?;
    let lacks = live.iter().filter(|(digest, (revision, _))| *revision <= seen.revision && !store.contains(**digest));
    let (count, size) = lacks.fold((0, 0), |(count, size), (_, (_, bytes))| (count + 1, size + bytes));
    (blobs < count || bytes < size).then(|| {
        format!(
            "node {} said at revision {} that {region} lacks {blobs} blobs of {bytes} bytes; it lacks {count} of {size}",
            seen.node, seen.revision
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, pushed};
    use super::*;
    use crate::cluster::Lag;
    use crate::history::Outcome;

    fn history(blobs: Option<u64>, revision: u64, stored: &[&str]) -> History {
        let lag =
            Lag { region: "us-east".into(), known: None, blobs, bytes: blobs.map(|b| b * 10), oldest_age_ms: None };
        let stores = vec![Some(stored.iter().map(|d| (*d).to_owned()).collect()); 3];
        History {
            pushed: ["a", "b"].map(|d| pushed(What::Blob, d, (0, 5), Outcome::Ok)).into(),
            lags: vec![LagSeen { node: 1, at: 7, revision, regions: vec![lag], stores }],
            ..History::default()
        }
    }

    #[test]
    fn a_report_below_the_truth_is_found() {
        assert_eq!(check(&history(Some(2), 9, &[])).len(), 0);
        assert_eq!(check(&history(Some(1), 9, &[])).len(), 1);
        assert_eq!(check(&history(Some(1), 9, &["a"])).len(), 0);
        assert_eq!(check(&history(Some(0), 4, &[])).len(), 0, "as of before");
        assert_eq!(check(&history(None, 9, &[])).len(), 0, "unknown is not zero");
    }

    #[test]
    fn what_was_deleted_is_not_wanted() {
        let mut history = history(Some(1), 9, &[]);
        history.deleted.push(deleted(What::Blob, "b", (6, 7), Outcome::Unknown));
        assert_eq!(check(&history).len(), 0);
        history.deleted[0].repository = "elsewhere".into();
        assert_eq!(check(&history).len(), 1, "another repository links it");
    }

    #[test]
    fn a_store_that_is_away_tells_nothing() {
        let mut history = history(Some(0), 9, &[]);
        history.lags[0].stores[0] = None;
        assert_eq!(check(&history).len(), 0);
    }
}
