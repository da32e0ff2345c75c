//! What stands in a folder at one moment, while its node writes to it: what a kill at that moment would leave, or a
//! loss of power.
//!
//! Every file that a node writes only grows, or is replaced as a whole. So a cut through all files is known by their
//! names, inodes and sizes: if none of these has changed between two looks, the folder stood like that in between. What
//! is copied afterwards is the inodes of that moment, up to the sizes that they had.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// For how long a moment is sought in which a node writes.
const WRITES_WITHIN: Duration = Duration::from_millis(100);
/// A node that hears nothing new stands still long before.
const PATIENCE: Duration = Duration::from_secs(20);

/// How a node crashes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    /// How long it goes on after it was heard for the last time; zero: the very moment counts.
    pub(crate) muted: Duration,
    /// Which part is left of what the state's database has written and not synced: all of it, unless power is lost.
    pub(crate) kept: f64,
}

/// What stands at a path of its folder: a folder, or a file with its inode and size.
#[derive(Debug, PartialEq, Eq)]
enum Stands {
    Folder,
    File { inode: u64, size: u64 },
}

/// Copies what stands in a folder at one moment: at once, or between two writes of its node if it writes at all.
/// Returns whether it was seen writing.
pub(crate) fn take(from: &Path, to: &Path, crash: Crash) -> bool {
    let writes = !crash.muted.is_zero() && seen_writing(from);
    let start = Instant::now();
    while !unless_removed(try_take(from, to)) {
        assert!(start.elapsed() < PATIENCE, "{} never stands still", from.display());
    }
    lose(&to.join("state"), crash.kept);
    writes
}

/// Cuts off the end of what the state's database has written last. It is never synced but before the log is purged, and
/// then a snapshot is made, after which another file is written. All else that a node relies on is synced.
fn lose(state: &Path, kept: f64) {
    let Ok(current) = fs::read_to_string(state.join("CURRENT")) else { return };
    let files = fs::read_dir(state.join(current.trim_end())).expect("a database").flatten().map(|entry| entry.path());
    let newest = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max();
    let Some(newest) = newest else { return };
    let file = File::options().write(true).open(newest).expect("a file");
    let size = file.metadata().expect("its size").len();
    file.set_len((size as f64 * kept) as u64).expect("cut off");
}

fn seen_writing(folder: &Path) -> bool {
    let (start, mut before) = (Instant::now(), None);
    while start.elapsed() < WRITES_WITHIN {
        let now = look(folder).ok();
        if before.as_ref().is_some_and(|before| *before != now) {
            return true;
        }
        before = Some(now);
    }
    false
}

/// What is removed while it is looked at is a change like any other.
fn unless_removed(taken: io::Result<bool>) -> bool {
    taken.unwrap_or_else(|error| {
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        false
    })
}

/// False where something has changed meanwhile.
fn try_take(from: &Path, to: &Path) -> io::Result<bool> {
    let (mut stood, mut files) = (BTreeMap::new(), Vec::new());
    walk(from, Path::new(""), &mut |path, is_folder| {
        if is_folder {
            stood.insert(path.to_owned(), Stands::Folder);
        } else {
            let file = File::open(from.join(path))?;
            let metadata = file.metadata()?;
            files.push((path.to_owned(), file, metadata.size()));
            stood.insert(path.to_owned(), stands_as(&metadata));
        }
        Ok(())
    })?;
    if look(from)? != stood {
        return Ok(false);
    }
    let folders = stood.iter().filter(|(_, stands)| **stands == Stands::Folder).map(|(path, _)| path);
    copy(to, folders, files)
}

fn look(folder: &Path) -> io::Result<BTreeMap<PathBuf, Stands>> {
    let mut stands = BTreeMap::new();
    walk(folder, Path::new(""), &mut |path, _| {
        stands.insert(path.to_owned(), stands_as(&fs::metadata(folder.join(path))?));
        Ok(())
    })?;
    Ok(stands)
}

fn stands_as(metadata: &fs::Metadata) -> Stands {
    if metadata.is_dir() { Stands::Folder } else { Stands::File { inode: metadata.ino(), size: metadata.size() } }
}

/// Visits everything below a folder, each folder before what is in it.
fn walk(root: &Path, below: &Path, visit: &mut impl FnMut(&Path, bool) -> io::Result<()>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let (path, is_folder) = (below.join(entry.file_name()), entry.file_type()?.is_dir());
        visit(&path, is_folder)?;
        if is_folder {
            walk(root, &path, visit)?;
        }
    }
    Ok(())
}

/// Copies files up to the sizes that they had. False where one was emptied in its place meanwhile.
fn copy<'a>(
    to: &Path,
    folders: impl Iterator<Item = &'a PathBuf>,
    files: Vec<(PathBuf, File, u64)>,
) -> io::Result<bool> {
    if to.exists() {
        fs::remove_dir_all(to)?;
    }
    fs::create_dir(to)?;
    for folder in folders {
        fs::create_dir(to.join(folder))?;
    }
    for (path, file, size) in files {
        if io::copy(&mut file.take(size), &mut File::create(to.join(path))?)? != size {
            return Ok(false);
        }
    }
    Ok(true)
}
