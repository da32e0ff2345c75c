//! The names in the sources: unique, well-formed, in pairs; and the list of planted bugs beside them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // helpers of tests are tests, which clippy does not see

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use atoll_fault::sources::{Found, Kind, scan};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn of(kinds: &[Kind]) -> Vec<Found> {
    let found = scan(&root().join("crates")).unwrap();
    found.into_iter().filter(|f| kinds.contains(&f.kind)).collect()
}

fn failpoints() -> Vec<Found> {
    of(&[Kind::Failpoint, Kind::FailpointIo])
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

#[test]
fn a_failpoint_stands_in_one_place_under_a_name_of_three_words() {
    let mut places: BTreeMap<String, Found> = BTreeMap::new();
    for found in failpoints() {
        let words: Vec<&str> = found.name.split('.').collect();
        let fits =
            words.len() == 3 && words.iter().all(|word| is_word(word)) && ["before", "after"].contains(&words[2]);
        assert!(fits, "{found:?} is not <area>.<step>.before or .after");
        if let Some(other) = places.insert(found.name.clone(), found.clone()) {
            panic!("{} stands at {other:?} and {found:?}", found.name);
        }
    }
    assert!(places.len() >= 60, "failpoints were lost: {}", places.len());
}

#[test]
fn every_step_has_a_failpoint_before_it_and_one_after_it() {
    let names: BTreeSet<String> = failpoints().into_iter().map(|found| found.name).collect();
    for name in &names {
        let (step, side) = name.rsplit_once('.').unwrap();
        let other = format!("{step}.{}", if side == "before" { "after" } else { "before" });
        assert!(names.contains(&other), "{name} is there, {other} is not");
    }
}

#[test]
fn the_list_of_planted_bugs_is_what_stands_in_the_sources() {
    let text = std::fs::read_to_string(root().join("chaos/corpus/planted.toml")).unwrap();
    let list: toml::Table = text.parse().unwrap();
    let bugs = list["bug"].as_array().unwrap();
    let mut listed = BTreeSet::new();
    for bug in bugs {
        for key in ["name", "invariant", "run", "where", "what", "how"] {
            assert!(bug[key].as_str().is_some_and(|text| !text.is_empty()), "{key} of {bug:?}");
        }
        assert!(listed.insert(bug["name"].as_str().unwrap().to_owned()), "{bug:?} is listed twice");
    }
    let planted: BTreeSet<String> = of(&[Kind::Planted]).into_iter().map(|found| found.name).collect();
    assert_eq!(listed, planted);
    let covered: BTreeSet<&str> = bugs.iter().map(|bug| bug["invariant"].as_str().unwrap()).collect();
    for invariant in (1..=15).map(|number| format!("I{number}")) {
        assert!(covered.contains(invariant.as_str()), "no bug breaks {invariant}");
    }
}
