//! I7: reported lag is never below the true lag.

use std::collections::BTreeMap;

/// The regions in the order of the nodes, as the stores were listed.
use crate::cluster::spec::REGIONS;
use crate::faults::Fault;
use crate::history::{History, LagSeen, Micros, What};

/// What an age may be too low by: it is told in whole milliseconds, and the harness's clock is not that of the nodes.
const AGE_SLACK: Micros = 500_000;

/// A blob that was acknowledged and stays linked by a repository.
#[derive(Clone, Copy)]
struct Live {
    /// The first one.
    revision: u64,
    bytes: u64,
    /// When that was.
    acknowledged: Micros,
}

/// A report as of a revision counts all that was acknowledged up to it and that the region's store lacks, and is as old
/// as the oldest of that. The stores are listed after the report: what they lack then they lacked before.
pub(super) fn check(history: &History) -> Vec<String> {
    if history.damaged {
        // What is recorded and was then destroyed is found when it is read, not before.
        return Vec::new();
    }
    let (live, tells_ages) = (live(history), tells_ages(history));
    let of_region = |seen, (place, region): (usize, &&str)| {
        let lacking = lacking(seen, place, &live)?;
        let young = tells_ages.then(|| too_young(history, seen, region, &lacking)).flatten();
        Some([too_low(seen, region, &lacking), young])
    };
    let seen = history.lags.iter().flat_map(|seen| REGIONS.iter().enumerate().map(move |region| (seen, region)));
    seen.filter_map(|(seen, region)| of_region(seen, region)).flatten().flatten().collect()
}

fn live(history: &History) -> BTreeMap<&str, Live> {
    let mut live: BTreeMap<&str, Live> = BTreeMap::new();
    for push in history.standing().filter(|p| p.what == What::Blob) {
        let Some(revision) = push.revision else { continue };
        let this = Live { revision, bytes: push.bytes, acknowledged: push.span.end };
        let first = live.entry(&*push.digest).or_insert(this);
        first.revision = first.revision.min(revision);
        first.acknowledged = first.acknowledged.min(push.span.end);
    }
    live
}

/// Time is the leader's, which a clock that jumps leads astray.
fn tells_ages(history: &History) -> bool {
    !history.faults.is_empty() && !history.faults.contains(&Fault::ClockJump.name())
}

/// What a region's store lacks as of a report; nothing is known of a store that was away.
fn lacking(seen: &LagSeen, place: usize, live: &BTreeMap<&str, Live>) -> Option<Vec<Live>> {
    let store = seen.stores.get(place)?.as_ref()?;
    let lacks = live.iter().filter(|(digest, live)| live.revision <= seen.revision && !store.contains(**digest));
    Some(lacks.map(|(_, live)| *live).collect())
}

fn too_low(seen: &LagSeen, region: &str, lacking: &[Live]) -> Option<String> {
    let report = seen.regions.iter().find(|r| r.region == region)?;
    // Unknown is not zero: it says nothing that could be wrong.
    let (blobs, bytes) = (report.blobs?, report.bytes?);
    let (count, size) = (lacking.len() as u64, lacking.iter().map(|live| live.bytes).sum::<u64>());
    (blobs < count || bytes < size).then(|| {
        format!(
            "node {} said at revision {} that {region} lacks {blobs} blobs of {bytes} bytes; it lacks {count} of {size}",
            seen.node, seen.revision
        )
    })
}

/// A blob is wanted since before its push was acknowledged. Where nothing is told of the age, nothing is wanted.
fn too_young(history: &History, seen: &LagSeen, region: &str, lacking: &[Live]) -> Option<String> {
    let report = seen.regions.iter().find(|r| r.region == region && r.blobs.is_some())?;
    let oldest = lacking.iter().map(|live| live.acknowledged).min()?;
    let age = asked(history, seen)?.saturating_sub(oldest);
    let told = report.oldest_age_ms.map_or(0, |ms| ms.saturating_mul(1_000));
    (told.saturating_add(AGE_SLACK) < age).then(|| {
        format!(
            "node {} said at revision {} that {region} lacks something for {:?} ms; it does so for {} ms",
            seen.node,
            seen.revision,
            report.oldest_age_ms,
            age / 1_000
        )
    })
}

/// Since when at the latest a report was under way: its answer may take long. Who asks for it has looked at all nodes
/// just before, one thing after the other.
fn asked(history: &History, seen: &LagSeen) -> Option<Micros> {
    let terms = history.terms.iter().map(|t| t.at);
    let looks = terms.chain(history.usage.iter().map(|u| u.at));
    looks.filter(|at| *at <= seen.at).max()
}

#[cfg(test)]
mod tests {
    use super::super::sample::{deleted, pushed};
    use super::*;
    use crate::cluster::Lag;
    use crate::history::{Outcome, TermSeen};

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
    fn an_age_below_the_truth_is_found() {
        let found = |oldest_age_ms, faults: &[Fault], looked: Micros| {
            let mut history = history(Some(2), 9, &["b"]);
            history.lags[0].at = 60_000_000;
            history.lags[0].regions[0].oldest_age_ms = oldest_age_ms;
            history.terms = vec![TermSeen { node: 0, at: looked, term: 1, leads: true }];
            history.faults = faults.iter().map(|fault| fault.name()).collect();
            check(&history).len()
        };
        let paused = [Fault::PausedReplication];
        assert_eq!(found(Some(2_000), &paused, 2_000_000), 0);
        assert_eq!(found(Some(1_600), &paused, 2_000_000), 0, "clocks are not that exact");
        assert_eq!(found(Some(1_400), &paused, 2_000_000), 1);
        assert_eq!(found(None, &paused, 2_000_000), 1, "something is wanted");
        assert_eq!(found(Some(1_400), &paused, 61_000_000), 0, "nobody knows when it was asked for");
        assert_eq!(found(Some(1_400), &[Fault::ClockJump], 2_000_000), 0);
    }

    #[test]
    fn what_is_stored_has_no_age() {
        let mut history = history(Some(0), 9, &["a", "b"]);
        history.terms = vec![TermSeen { node: 0, at: 7, term: 1, leads: true }];
        history.faults = vec![Fault::PausedReplication.name()];
        assert_eq!(check(&history).len(), 0);
        history.lags[0].regions[0].blobs = None;
        history.lags[0].stores = vec![Some(std::collections::BTreeSet::new()); 3];
        assert_eq!(check(&history).len(), 0, "unknown is not zero");
    }

    #[test]
    fn a_store_that_is_away_tells_nothing() {
        let mut history = history(Some(0), 9, &[]);
        history.lags[0].stores[0] = None;
        assert_eq!(check(&history).len(), 0);
    }
}
