//! The list of failpoints and planted bugs: what stands in the sources.

use std::io;
use std::path::{Path, PathBuf};

/// What stands at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A failpoint that can only end the process.
    Failpoint,
    /// A failpoint that can also fail.
    FailpointIo,
    /// A planted bug.
    Planted,
}

/// A name, where it stands in the sources.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// The name.
    pub name: String,
    /// What it names.
    pub kind: Kind,
    /// The file.
    pub file: PathBuf,
    /// The line, from 1.
    pub line: usize,
}

/// What follows the name of a step.
const SIDES: &[&str] = &[".before", ".after"];

/// What begins a name, by kind, and what the macro makes of it.
const MACROS: [(&str, Kind, &[&str]); 5] = [
    ("failpoint!(", Kind::Failpoint, &[""]),
    ("failpoint_io!(", Kind::FailpointIo, &[""]),
    ("step!(", Kind::Failpoint, SIDES),
    ("step_io!(", Kind::FailpointIo, SIDES),
    ("planted!(", Kind::Planted, &[""]),
];

/// Every name in `<crates>/*/src`, but for this crate's own, sorted. `crates` is the workspace's folder of that name.
pub fn scan(crates: &Path) -> io::Result<Vec<Found>> {
    let mut found = Vec::new();
    for folder in std::fs::read_dir(crates)? {
        let folder = folder?;
        if folder.file_name() != "fault" {
            scan_folder(&folder.path().join("src"), &mut found)?;
        }
    }
    found.sort();
    Ok(found)
}

fn scan_folder(folder: &Path, found: &mut Vec<Found>) -> io::Result<()> {
    if !folder.is_dir() {
        return Ok(());
    }
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            scan_folder(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            scan_text(&path, &std::fs::read_to_string(&path)?, found);
        }
    }
    Ok(())
}

fn scan_text(file: &Path, text: &str, found: &mut Vec<Found>) {
    for (begin, kind, ends) in MACROS {
        for (at, _) in text.match_indices(begin).filter(|(at, _)| starts_here(text, *at)) {
            let rest = text[at + begin.len()..].trim_start();
            let Some((name, _)) = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')) else { continue };
            let line = 1 + text[..at].matches('\n').count();
            found.extend(ends.iter().map(|end| Found {
                name: format!("{name}{end}"),
                kind,
                file: file.to_owned(),
                line,
            }));
        }
    }
}

/// Whether a macro's name begins here, and is not the end of another one's.
fn starts_here(text: &str, at: usize) -> bool {
    !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_with_their_lines() {
        let text = "a();\natoll_fault::failpoint!(\"x.y.before\");\nfailpoint_io!(\n  \"x.y.after\"\n)?;\nplanted!(\"bug\");\nstep!(\"s.t\", f())";
        let mut found = Vec::new();
        scan_text(Path::new("f.rs"), text, &mut found);
        let found: Vec<_> = found.iter().map(|f| (f.name.as_str(), f.kind, f.line)).collect();
        let expected = [
            ("x.y.before", Kind::Failpoint, 2),
            ("x.y.after", Kind::FailpointIo, 3),
            ("s.t.before", Kind::Failpoint, 7),
            ("s.t.after", Kind::Failpoint, 7),
            ("bug", Kind::Planted, 6),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn another_macro_with_the_same_end_is_not_meant() {
        let mut found = Vec::new();
        scan_text(Path::new("f.rs"), "my_failpoint!(\"x\"); replanted!(\"y\"); planted!(name)", &mut found);
        assert_eq!(found, []);
    }
}
