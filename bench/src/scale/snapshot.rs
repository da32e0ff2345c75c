//! How long a snapshot took. A node makes its folder first and gives it its name when it is whole, so its birth and
//! its last change of name tell.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use anyhow::Context;
use serde::{Deserialize, Serialize};

/// A snapshot that was made.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) ms: f64,
    /// Of its files, many of which are links to those of the state.
    pub(crate) mib: f64,
}

/// The newest snapshot of the node in a folder; none if it made none.
pub(super) fn newest(folder: &Path) -> anyhow::Result<Option<Snapshot>> {
    let mut found = Vec::new();
    for node in folders(folder)? {
        for snapshot in folders(&node.join("snapshots"))? {
            let metadata = std::fs::metadata(&snapshot)?;
            let named = Duration::new(metadata.ctime().try_into()?, metadata.ctime_nsec().try_into()?);
            found.push((named, snapshot));
        }
    }
    let Some((named, path)) = found.into_iter().max() else { return Ok(None) };
    let born = std::fs::metadata(&path)?.created().context("the file system keeps no time of birth")?;
    let ms = named.saturating_sub(born.duration_since(UNIX_EPOCH)?).as_secs_f64() * 1000.0;
    Ok(Some(Snapshot { ms, mib: bytes_in(&path)? as f64 / f64::from(1 << 20) }))
}

/// The folders in a folder; none if it is not there.
fn folders(folder: &Path) -> anyhow::Result<Vec<std::path::PathBuf>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(folder)?.collect::<std::io::Result<Vec<_>>>()?;
    Ok(entries.into_iter().map(|entry| entry.path()).filter(|path| path.is_dir()).collect())
}

fn bytes_in(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let (path, metadata) = {
            let entry = entry?;
            (entry.path(), entry.metadata()?)
        };
        bytes += if metadata.is_dir() { bytes_in(&path)? } else { metadata.len() };
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_is_found_with_its_size_and_its_time() {
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(newest(temp.path()).unwrap(), None);
        let folder = temp.path().join("us-east/snapshots");
        let making = folder.join("making-1");
        std::fs::create_dir_all(making.join("database")).unwrap();
        std::fs::write(making.join("database/1.sst"), vec![0; 1 << 20]).unwrap();
        std::fs::rename(&making, folder.join("1")).unwrap();
        let snapshot = newest(temp.path()).unwrap().unwrap();
        assert!((snapshot.mib - 1.0).abs() < 1e-9 && (0.0..10_000.0).contains(&snapshot.ms), "{snapshot:?}");
    }
}
