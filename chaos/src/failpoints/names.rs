//! The names of failpoints and planted bugs, read from the sources.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The macros that name failpoints, and what they add to the name.
const MACROS: [(&str, &[&str]); 4] = [
    ("failpoint!(", &[""]),
    ("failpoint_io!(", &[""]),
    ("step!(", &[".before", ".after"]),
    ("step_io!(", &[".before", ".after"]),
];
/// The crate that defines the macros.
const OWN_CRATE: &str = "fault";

/// All failpoints that a checkout names, or those of them that begin as is asked.
pub(super) fn all(checkout: &Path, only: Option<&str>) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for (begin, ends) in MACROS {
        let found = literals(&checkout.join("crates"), begin)?;
        names.extend(found.iter().flat_map(|name| ends.iter().map(move |end| format!("{name}{end}"))));
    }
    names.retain(|name| only.is_none_or(|only| name.starts_with(only)));
    if names.is_empty() {
        bail!("{} names no such failpoint: is it a checkout that has them?", checkout.display());
    }
    Ok(names)
}

/// The first argument of a macro wherever it is called with a literal, in the sources of all crates below a folder.
pub(crate) fn literals(crates: &Path, begin: &str) -> anyhow::Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in entries(crates)?.into_iter().filter(|f| !f.ends_with(OWN_CRATE)) {
        for file in sources(&folder.join("src"))? {
            let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
            names.extend(called_with(&text, begin));
        }
    }
    Ok(names)
}

fn called_with<'a>(text: &'a str, begin: &'a str) -> impl Iterator<Item = String> + 'a {
    let starts = text.match_indices(begin).filter(|(at, _)| {
        let line = text[..*at].rsplit('\n').next().unwrap_or_default();
        !line.trim_start().starts_with("//") && !line.ends_with(|c: char| c.is_alphanumeric() || c == '_')
    });
    starts.filter_map(|(at, _)| {
        let literal = text[at + begin.len()..].trim_start().strip_prefix('"')?;
        literal.split_once('"').map(|(name, _)| name.to_owned())
    })
}

fn entries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).collect())
}

fn sources(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    if !folder.is_dir() {
        return Ok(found);
    }
    for path in entries(folder)? {
        if path.is_dir() {
            found.extend(sources(&path)?);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failpoints_are_found_in_the_sources() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("crates/storage/src");
        std::fs::create_dir_all(&source).unwrap();
        std::fs::create_dir_all(folder.path().join("crates/fault/src")).unwrap();
        std::fs::write(
            source.join("a.rs"),
            "fn f() {\n    failpoint!(\"log.sync.before\");\n    // failpoint!(\"no\")\n}\n",
        )
        .unwrap();
        std::fs::write(folder.path().join("crates/fault/src/lib.rs"), "failpoint!(\"own\")").unwrap();
        let found = || all(folder.path(), None).map(|names| names.into_iter().collect::<Vec<_>>());
        assert_eq!(found().unwrap(), ["log.sync.before"]);
        std::fs::write(source.join("a.rs"), "step_io!(\"x.y\", f())").unwrap();
        assert_eq!(found().unwrap(), ["x.y.after", "x.y.before"]);
        assert!(all(folder.path(), Some("other")).is_err());
        std::fs::write(source.join("a.rs"), "").unwrap();
        assert!(found().is_err(), "a run without failpoints proves nothing");
    }
}
