//! What must always hold, a file for each invariant of the specification. A checker reads a history and names what
//! contradicts the invariant; each is seen to fail by its tests.

mod i01_survival;
mod i02_linearizable_tags;
mod i03_right_bytes;
mod i04_complete_manifests;
mod i05_kept_references;
mod i06_cut_off;
mod i07_true_lag;
pub(crate) mod i08_final_deletes;
mod i09_scoped_bytes;
mod i10_sessions;
mod i11_listings;
mod i12_one_state;
pub(crate) mod i13_bounds;
mod i14_healing;
mod i15_stores;
mod linearizability;
#[cfg(test)]
mod sample;

use serde::Serialize;

use crate::history::History;

/// Something that must not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Violation {
    /// Such as `I1`.
    pub(crate) invariant: &'static str,
    /// What is wrong, with whatever identifies it in the history.
    pub(crate) what: String,
}

/// A checker: the invariant, what it looks at, and how.
pub(crate) struct Checker {
    pub(crate) invariant: &'static str,
    /// In words, for the report.
    pub(crate) about: &'static str,
    pub(crate) check: fn(&History) -> Vec<String>,
}

/// All of them.
pub(crate) const CHECKERS: [Checker; 15] = [
    Checker { invariant: "I1", about: "acknowledged pushes survive", check: i01_survival::check },
    Checker { invariant: "I2", about: "tags are linearizable", check: i02_linearizable_tags::check },
    Checker { invariant: "I3", about: "bytes match their digest", check: i03_right_bytes::check },
    Checker { invariant: "I4", about: "visible manifests are complete", check: i04_complete_manifests::check },
    Checker { invariant: "I5", about: "what is referenced stays", check: i05_kept_references::check },
    Checker { invariant: "I6", about: "a cut-off node serves and refuses", check: i06_cut_off::check },
    Checker { invariant: "I7", about: "lag is never below the truth", check: i07_true_lag::check },
    Checker { invariant: "I8", about: "deletes are final", check: i08_final_deletes::check },
    Checker { invariant: "I9", about: "no byte through a foreign repository", check: i09_scoped_bytes::check },
    Checker { invariant: "I10", about: "upload sessions", check: i10_sessions::check },
    Checker { invariant: "I11", about: "listings lose nothing", check: i11_listings::check },
    Checker { invariant: "I12", about: "one leader a term, one state", check: i12_one_state::check },
    Checker { invariant: "I13", about: "resources are bounded", check: i13_bounds::check },
    Checker { invariant: "I14", about: "healing within 60 s", check: i14_healing::check },
    Checker { invariant: "I15", about: "stores hold what is recorded", check: i15_stores::check },
];

/// What is told where nobody looked.
const STATES_UNSEEN: &str = "nobody compared the state of the nodes";
const STORES_UNSEEN: &str = "nobody looked into the stores";
const HEALING_UNSEEN: &str = "nobody looked whether the cluster healed";
const PROBES_UNSEEN: &str = "a node was cut off, and nobody asked it for what it holds, or to write";

impl Violation {
    /// Whether nothing is wrong but that nobody looked.
    pub(crate) fn is_unseen(&self) -> bool {
        [STATES_UNSEEN, STORES_UNSEEN, HEALING_UNSEEN, PROBES_UNSEEN].contains(&&*self.what)
    }
}

/// Asks all checkers.
pub(crate) fn check(history: &History) -> Vec<Violation> {
    let told = CHECKERS.iter().flat_map(|checker| {
        let found = (checker.check)(history).into_iter();
        found.map(|what| Violation { invariant: checker.invariant, what })
    });
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_history_breaks_nothing_but_that_nobody_saw_it_heal() {
        let violations = check(&History::default());
        let invariants: Vec<_> = violations.iter().map(|v| v.invariant).collect();
        assert_eq!(invariants, ["I12", "I14", "I15"]);
    }

    #[test]
    fn they_are_in_order() {
        for (number, checker) in (1..).zip(&CHECKERS) {
            assert_eq!(checker.invariant, format!("I{number}"));
        }
    }
}
