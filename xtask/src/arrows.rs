//! `cargo xtask check-deps`: which crate may know which. The list is the design's; an arrow that it lacks is a change
//! of the design, and made there first.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, bail};
use serde_json::Value;

use crate::workspace;

/// A crate and those that it may know, without what comes along: an arrow includes all that its target knows.
const ARROWS: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("telemetry", &[]),
    ("fault", &[]),
    ("oci", &["types"]),
    ("proto", &["types"]),
    ("metadata", &["types"]),
    ("storage", &["metadata", "fault"]),
    ("consensus", &["storage", "proto"]),
    ("blobstore", &["types", "fault"]),
    ("auth", &["types"]),
    ("registry", &["types", "oci", "auth", "metadata", "blobstore"]),
    ("replication", &["registry", "proto"]),
    ("http", &["registry", "auth"]),
    ("admin", &["registry", "replication", "consensus"]),
    ("testkit", &["consensus", "replication", "http", "admin"]),
    ("atoll", &["consensus", "replication", "http", "admin"]),
    ("bench", &[]),
    ("chaos", &["types"]),
    ("sim", &["consensus", "replication", "http", "admin"]),
    ("xtask", &[]),
];
/// They stay pure, or know nothing of Atoll.
const WITHOUT_TELEMETRY: &[&str] = &["types", "oci", "metadata", "telemetry", "fault", "bench", "chaos", "xtask"];
/// What is kept behind one crate.
const ONLY_IN: &[(&str, &str)] = &[("openraft", "consensus"), ("rocksdb", "storage")];

/// That a crate names another in its manifest.
#[derive(Debug)]
struct Arrow {
    from: String,
    to: String,
    /// Whether the other is a crate of this workspace: there is a crate `http` that is not ours.
    ours: bool,
    /// Only for tests.
    dev: bool,
}

/// Fails, naming each, when there are arrows that the list forbids.
pub(crate) fn check() -> anyhow::Result<()> {
    let (crates, arrows) = read_workspace()?;
    let faults: Vec<String> = crates.iter().filter_map(|c| unknown(c)).chain(arrows.iter().filter_map(fault)).collect();
    if !faults.is_empty() {
        bail!("{}", faults.join("\n"));
    }
    println!("{} crates, {} dependencies: as designed", crates.len(), arrows.len());
    Ok(())
}

fn unknown(name: &str) -> Option<String> {
    let known = ARROWS.iter().any(|(from, _)| *from == name);
    (!known).then(|| format!("{name} is not in the list of xtask/src/arrows.rs; say there what it may know"))
}

fn fault(arrow: &Arrow) -> Option<String> {
    let Arrow { from, to, ours, dev } = arrow;
    if let Some((_, owner)) = ONLY_IN.iter().find(|(name, _)| name == to) {
        return (owner != from).then(|| format!("{from} uses {to}, which only {owner} may"));
    }
    let allowed = match to.as_str() {
        "testkit" => *dev,
        "telemetry" => !WITHOUT_TELEMETRY.contains(&from.as_str()),
        _ => may_know(from).contains(to.as_str()),
    };
    (*ours && !allowed).then(|| {
        let kind = if *dev { " (for its tests)" } else { "" };
        format!("{from} must not know {to}{kind}; see docs/architecture.md")
    })
}

/// All that a crate may know, with what comes along.
fn may_know(name: &str) -> BTreeSet<&'static str> {
    let arrows: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut known = BTreeSet::new();
    let mut next: Vec<&str> = arrows.get(name).copied().unwrap_or_default().to_vec();
    while let Some(target) = next.pop() {
        if known.insert(target) {
            next.extend(arrows.get(target).copied().unwrap_or_default());
        }
    }
    known
}

fn read_workspace() -> anyhow::Result<(Vec<String>, Vec<Arrow>)> {
    let mut command = workspace::cargo(["metadata", "--format-version", "1", "--no-deps", "--locked"]);
    let output = command.output().context("cannot run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Value = serde_json::from_slice(&output.stdout).context("cargo metadata is not JSON")?;
    let packages = metadata["packages"].as_array().context("cargo metadata has no packages")?;
    let crates = packages.iter().map(|p| short(&p["name"])).collect();
    Ok((crates, packages.iter().flat_map(arrows_of).collect()))
}

fn arrows_of(package: &Value) -> Vec<Arrow> {
    let dependencies = package["dependencies"].as_array().into_iter().flatten();
    let arrow = |d: &Value| Arrow {
        from: short(&package["name"]),
        to: short(&d["name"]),
        ours: d["path"].is_string(),
        dev: d["kind"] == "dev",
    };
    dependencies.map(arrow).collect()
}

/// Our crates without the prefix that they share.
fn short(name: &Value) -> String {
    let name = name.as_str().unwrap_or_default();
    name.strip_prefix("atoll-").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_forbidden(from: &str, to: &str, dev: bool) -> bool {
        let ours = ARROWS.iter().any(|(name, _)| *name == to);
        fault(&Arrow { from: from.into(), to: to.into(), ours, dev }).is_some()
    }

    #[test]
    fn forbidden_arrows_are_found() {
        for (from, to) in [
            ("metadata", "storage"),
            ("metadata", "telemetry"),
            ("types", "oci"),
            ("registry", "consensus"),
            ("http", "replication"),
            ("telemetry", "types"),
            ("metadata", "fault"),
            ("auth", "fault"),
            ("fault", "types"),
            ("xtask", "types"),
            ("registry", "atoll"),
            ("registry", "openraft"),
            ("atoll", "rocksdb"),
            ("http", "testkit"),
        ] {
            assert!(is_forbidden(from, to, false), "{from} -> {to}");
        }
        assert!(is_forbidden("metadata", "blobstore", true));
        assert!(is_forbidden("http", "openraft", true));
        assert!(is_forbidden("testkit", "atoll", false));
    }

    #[test]
    fn an_arrow_includes_all_that_its_target_knows() {
        for (from, to) in [
            ("consensus", "types"),
            ("admin", "oci"),
            ("atoll", "blobstore"),
            ("testkit", "metadata"),
            ("http", "telemetry"),
            ("http", "fault"),
            ("consensus", "fault"),
            ("consensus", "openraft"),
            ("storage", "rocksdb"),
            ("metadata", "serde"),
        ] {
            assert!(!is_forbidden(from, to, false), "{from} -> {to}");
        }
        assert!(!is_forbidden("http", "testkit", true));
    }

    #[test]
    fn what_is_not_ours_may_have_the_name_of_what_is() {
        let arrow = |ours| Arrow { from: "telemetry".into(), to: "http".into(), ours, dev: false };
        assert!(fault(&arrow(false)).is_none());
        assert!(fault(&arrow(true)).is_some());
    }

    #[test]
    fn the_list_itself_has_no_circle() {
        for (name, _) in ARROWS {
            assert!(!may_know(name).contains(name), "{name}");
        }
    }

    #[test]
    fn a_crate_that_is_not_in_the_list_is_found() {
        assert!(unknown("shortcut").is_some());
        assert!(unknown("registry").is_none());
    }

    #[test]
    fn this_workspace_is_as_designed() {
        check().unwrap();
    }
}
