//! The limits that Atoll is to reach, each with its figure.

use crate::machine::Setting;
use crate::results::{Measured, Outcome, Results};
use crate::scale::Scale;
use crate::servers::Kind;

/// A limit and what was measured of it.
#[derive(Debug)]
pub(crate) struct Verdict {
    pub(crate) what: String,
    pub(crate) bound: Bound,
    /// None where it was not measured, or not rightly.
    pub(crate) figure: Option<f64>,
    /// Why the figure does not count, or why there is none.
    pub(crate) doubt: Option<Doubt>,
}

/// What is wrong with how something was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Doubt {
    /// Nobody can build again what was measured.
    Dirty,
    /// Something else ran meanwhile.
    Disturbed,
    /// A median of so few says nothing.
    FewRounds,
    /// A server answered wrongly.
    Invalid,
}

/// Rounds that a median is of.
const ROUNDS_MIN: usize = 3;

impl Doubt {
    const fn text(self) -> &'static str {
        match self {
            Self::Dirty => "does not count: files differ from the commit",
            Self::Disturbed => "does not count: other work ran",
            Self::FewRounds => "does not count: fewer than 3 rounds",
            Self::Invalid => "**invalid**",
        }
    }

    fn of(measured: &Measured) -> Option<Self> {
        let is_few = measured.rounds.len() < ROUNDS_MIN;
        is_few.then_some(Self::FewRounds).or_else(|| measured.disturbed().then_some(Self::Disturbed))
    }

    fn of_setting(setting: &Setting) -> Option<Self> {
        setting.is_dirty().then_some(Self::Dirty)
    }

    /// The worst of what a row and its servers are doubted for.
    fn of_row(results: &Results, row: &str, kinds: &[Kind]) -> Option<Self> {
        let result = results.rows.get(row)?;
        let doubts = kinds.iter().filter_map(|kind| match result.servers.get(kind)? {
            Outcome::Measured(measured) => Self::of(measured),
            Outcome::Invalid { .. } => Some(Self::Invalid),
        });
        doubts.chain(Self::of_setting(&result.setting)).max()
    }

    /// The worst of what the pulls at a size are doubted for.
    fn of_pulls(scale: &Scale) -> Option<Self> {
        scale.pulls.values().filter_map(Self::of).chain(Self::of_setting(&scale.setting)).max()
    }

    /// The same of the starts, of which there are as many as rounds.
    fn of_starts(scale: &Scale) -> Option<Self> {
        let is_few = scale.pulls.values().any(|pull| pull.rounds.len() < ROUNDS_MIN);
        let doubts = [
            is_few.then_some(Self::FewRounds),
            scale.starts_disturbed().then_some(Self::Disturbed),
            Self::of_setting(&scale.setting),
        ];
        doubts.into_iter().flatten().max()
    }
}

/// What a figure must be.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Bound {
    /// A ratio of rates.
    AtLeast(f64),
    /// A ratio of rates, small over large.
    AtMost(f64),
    /// Milliseconds.
    BelowMs(f64),
    /// Mebibytes.
    BelowMib(f64),
}

impl Bound {
    fn holds(self, figure: f64) -> bool {
        match self {
            Self::AtLeast(bound) => figure >= bound,
            Self::AtMost(bound) => figure <= bound,
            Self::BelowMs(bound) | Self::BelowMib(bound) => figure < bound,
        }
    }

    pub(crate) fn text(self) -> String {
        match self {
            Self::AtLeast(bound) => format!("at least {bound}"),
            Self::AtMost(bound) => format!("at most {bound}"),
            Self::BelowMs(bound) => format!("under {bound} ms"),
            Self::BelowMib(bound) => format!("under {bound} MiB"),
        }
    }

    pub(crate) fn figure_text(self, figure: f64) -> String {
        match self {
            Self::AtLeast(_) | Self::AtMost(_) => format!("{figure:.2}"),
            Self::BelowMs(_) => format!("{figure:.1} ms"),
            Self::BelowMib(_) => format!("{figure:.0} MiB"),
        }
    }
}

impl Verdict {
    pub(crate) fn text(&self) -> &'static str {
        match (self.figure, self.doubt) {
            (_, Some(doubt)) => doubt.text(),
            (None, None) => "not measured",
            (Some(figure), None) if self.bound.holds(figure) => "met",
            (Some(_), None) => "**not met**",
        }
    }
}

/// All limits, in the order in which they are demanded.
pub(crate) fn verdicts(results: &Results) -> Vec<Verdict> {
    use Kind::{AtollOne, AtollThree, Distribution, Nginx};
    let ratios = [
        ("manifest GET by tag, over distribution", "manifest-tag", AtollOne, Distribution, 5.0),
        ("manifest GET by tag, over nginx", "manifest-tag", AtollOne, Nginx, 0.5),
        ("blob GET of 4 KiB, over distribution", "blob-4k", AtollOne, Distribution, 20.0),
        ("blob GET of 1 MiB, over distribution", "blob-1m", AtollOne, Distribution, 1.5),
        ("blob GET of 64 MiB, over nginx", "blob-64m", AtollOne, Nginx, 0.75),
        ("push of 1 MiB, 4 at once, one region, over distribution", "push-1m-4", AtollOne, Distribution, 1.0),
        ("push of 1 MiB, 32 at once, one region, over distribution", "push-1m-32", AtollOne, Distribution, 1.0),
        ("push of 1 MiB, 4 at once, three regions, over distribution", "push-1m-4", AtollThree, Distribution, 0.7),
        ("push of 1 MiB, 32 at once, three regions, over distribution", "push-1m-32", AtollThree, Distribution, 0.7),
    ];
    let ratio = |(what, row, ours, theirs, bound): (&str, &str, Kind, Kind, f64)| Verdict {
        what: what.to_owned(),
        bound: Bound::AtLeast(bound),
        figure: ratio(results, row, ours, theirs),
        doubt: Doubt::of_row(results, row, &[ours, theirs]),
    };
    let p99 = |what: &str, row: &str, bound| Verdict {
        what: what.to_owned(),
        bound: Bound::BelowMs(bound),
        figure: results.measured(row, AtollThree).and_then(Measured::p99_ms).map(|f| f.median),
        doubt: Doubt::of_row(results, row, &[AtollThree]),
    };
    let mut all: Vec<Verdict> = ratios.into_iter().map(ratio).collect();
    all.push(p99("new tag visible in the other regions, p99", "replicate-new-tag", 20.0));
    all.push(p99("moved tag visible in the other regions, p99", "replicate-moved-tag", 20.0));
    all.push(p99("blob of 1 MiB present in the other regions, p99", "replicate-blob-1m", 200.0));
    all.extend(of_scale(results));
    all.push(Verdict {
        what: "peak memory while 16 clients push and pull 1 GiB".to_owned(),
        bound: Bound::BelowMib(256.0),
        figure: results.measured("memory-1g", AtollOne).and_then(Measured::peak_mib).map(|f| f.median),
        doubt: Doubt::of_row(results, "memory-1g", &[AtollOne]),
    });
    all
}

/// How often one server's rate is another's.
pub(crate) fn ratio(results: &Results, row: &str, ours: Kind, theirs: Kind) -> Option<f64> {
    let rate = |kind| results.measured(row, kind).and_then(Measured::per_second).map(|figure| figure.median);
    Some(rate(ours)? / rate(theirs)?).filter(|ratio| ratio.is_finite())
}

/// The size that counts, and the one that it is compared with.
const LARGE_TAGS: u64 = 1_000_000;
const LARGE_RECORDS: u64 = 2_000_000;

fn of_scale(results: &Results) -> Vec<Verdict> {
    let large =
        results.scale.values().find(|scale| scale.size.tags >= LARGE_TAGS && scale.size.records >= LARGE_RECORDS);
    let small = results.scale.values().min_by_key(|scale| scale.size.tags);
    let slowdown = large.zip(small).and_then(|(large, small)| slowdown(large, small));
    vec![
        Verdict {
            what: "pulls at 1,000 tags over those at 1,000,000, the slowest row".to_owned(),
            bound: Bound::AtMost(1.1),
            figure: slowdown,
            doubt: large.into_iter().chain(small).filter_map(Doubt::of_pulls).max(),
        },
        Verdict {
            what: "start to ready at that size, after a good end or kill -9, the slower".to_owned(),
            bound: Bound::BelowMs(5000.0),
            // Neither alone says how long a start takes.
            figure: large.and_then(|scale| Some(scale.ready_ms.median.max(scale.ready_after_kill_ms?.median))),
            doubt: large.and_then(Doubt::of_starts),
        },
        Verdict {
            what: "resident at that size".to_owned(),
            bound: Bound::BelowMib(512.0),
            figure: large.map(|scale| scale.resident_mib.median.max(scale.peak_mib)),
            doubt: large.and_then(Doubt::of_pulls),
        },
    ]
}

/// How much slower the pull is that suffers most.
fn slowdown(large: &Scale, small: &Scale) -> Option<f64> {
    let rate = |scale: &Scale, pull: &str| scale.pulls.get(pull).and_then(Measured::per_second).map(|f| f.median);
    let of = |pull: &String| Some(rate(small, pull)? / rate(large, pull)?);
    large.pulls.keys().filter_map(of).reduce(f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::tests::{row, scales};

    fn text(results: &Results, what: &str) -> &'static str {
        verdicts(results).iter().find(|v| v.what.starts_with(what)).map(Verdict::text).unwrap()
    }

    #[test]
    fn a_limit_is_met_not_met_or_not_measured() {
        let mut results = Results::default();
        assert!(verdicts(&results).iter().all(|v| v.text() == "not measured"));
        let rates = [(Kind::AtollOne, 60.0, 1.0), (Kind::Distribution, 10.0, 1.0), (Kind::Nginx, 150.0, 1.0)];
        results.rows.insert("manifest-tag".into(), row(&rates));
        results.rows.insert("replicate-new-tag".into(), row(&[(Kind::AtollThree, 1.0, 20.0)]));
        assert_eq!(text(&results, "manifest GET by tag, over distribution"), "met");
        assert_eq!(text(&results, "manifest GET by tag, over nginx"), "**not met**");
        assert_eq!(text(&results, "new tag visible in the other regions, p99"), "**not met**");
        let servers = &mut results.rows.get_mut("manifest-tag").unwrap().servers;
        let Some(Outcome::Measured(nginx)) = servers.get_mut(&Kind::Nginx) else { panic!("it was measured") };
        nginx.rounds[1].other_load = 0.5;
        servers.insert(Kind::Distribution, Outcome::Invalid { reason: "404".into() });
        assert_eq!(text(&results, "manifest GET by tag, over distribution"), "**invalid**");
        assert!(text(&results, "manifest GET by tag, over nginx").contains("other work"));
        results.rows.get_mut("replicate-new-tag").unwrap().servers.values_mut().for_each(|server| {
            let Outcome::Measured(measured) = server else { panic!("it was measured") };
            measured.rounds.truncate(1);
        });
        assert!(text(&results, "new tag visible in the other regions, p99").contains("rounds"));
    }
    #[test]
    fn memory_is_doubted_as_rates_are() {
        let mut results = Results::default();
        let memory = row(&[(Kind::AtollOne, 1.0, 1.0)]);
        results.rows.insert("memory-1g".into(), memory);
        assert_eq!(text(&results, "peak memory"), "met");
        results.rows.get_mut("memory-1g").unwrap().setting.commit = "abc-dirty".into();
        assert!(text(&results, "peak memory").contains("differ from the commit"));
        let servers = &mut results.rows.get_mut("memory-1g").unwrap().servers;
        let Some(Outcome::Measured(measured)) = servers.get_mut(&Kind::AtollOne) else { panic!("it was measured") };
        measured.rounds[0].other_load = 0.5;
        assert!(text(&results, "peak memory").contains("other work"));
    }

    #[test]
    fn a_start_is_the_slower_of_both_and_none_without_one() {
        let mut results = scales(950.0);
        let figure =
            |results: &Results| verdicts(results).iter().find(|v| v.what.starts_with("start to ready")).unwrap().figure;
        assert_eq!((figure(&results), text(&results, "start to ready")), (Some(900.0), "met"));
        results.scale.values_mut().for_each(|scale| scale.ready_after_kill_ms = None);
        assert_eq!((figure(&results), text(&results, "start to ready")), (None, "not measured"));
    }

    #[test]
    fn sizes_are_doubted_as_rates_are() {
        let whats = ["pulls at 1,000 tags", "start to ready", "resident at that size"];
        let all = |results: &Results| whats.map(|what| text(results, what));
        assert_eq!(all(&scales(950.0)), ["met"; 3]);
        assert_eq!(all(&scales(900.0)), ["**not met**", "met", "met"]);
        let mut dirty = scales(950.0);
        dirty.scale.values_mut().for_each(|scale| scale.setting.commit = "abc-dirty".into());
        assert!(all(&dirty).iter().all(|text| text.contains("differ from the commit")));
        let mut disturbed = scales(950.0);
        disturbed.scale.values_mut().for_each(|scale| scale.starts_other_load = 0.5);
        assert_eq!(all(&disturbed), ["met", "does not count: other work ran", "met"]);
        let mut few = scales(950.0);
        few.scale.values_mut().flat_map(|scale| scale.pulls.values_mut()).for_each(|pull| pull.rounds.truncate(1));
        assert!(all(&few).iter().all(|text| text.contains("rounds")));
    }
}
