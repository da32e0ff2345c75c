//! What the regions' object stores hold, read from their files.
//!
//! An object's file is its bytes and a footer, whose last 32 bytes begin with the size of the bytes.

use std::collections::{BTreeSet, HashMap};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use atoll_types::Digest;

use crate::cluster::spec::NodeSpec;

const TAIL_BYTES: u64 = 32;
const SIZE_BYTES: usize = 8;

/// Reads stores. An object is never changed and its name never used again, so that it is read once.
#[derive(Default)]
pub(crate) struct Stores {
    known: HashMap<PathBuf, Digest>,
}

/// The objects of one store.
#[derive(Debug, Default)]
pub(crate) struct Store {
    pub(crate) digests: BTreeSet<String>,
    /// Files that are no whole object.
    pub(crate) broken: Vec<String>,
}

impl Stores {
    /// The objects of a node that other nodes hold, too: what may be destroyed without losing anything.
    pub(crate) fn spare(&mut self, nodes: &[NodeSpec], node: usize) -> Vec<PathBuf> {
        let others: Vec<Store> =
            nodes.iter().enumerate().filter(|(place, _)| *place != node).map(|(_, other)| self.read(other)).collect();
        let mut files = objects(&nodes[node]);
        files.sort_unstable();
        files.retain(|file| {
            digest_of(file).is_some_and(|digest| others.iter().all(|other| other.digests.contains(&digest.to_string())))
        });
        files
    }

    /// All objects of a node's store.
    pub(crate) fn read(&mut self, node: &NodeSpec) -> Store {
        let mut store = Store::default();
        for file in objects(node) {
            if let Some(digest) = self.known.get(&file) {
                store.digests.insert(digest.to_string());
                continue;
            }
            match digest_of(&file) {
                Some(digest) => {
                    store.digests.insert(digest.to_string());
                    self.known.insert(file, digest);
                }
                // Removed just now.
                None if !file.exists() => {}
                None => store.broken.push(file.display().to_string()),
            }
        }
        store
    }
}

/// The file of a blob at a node.
pub(crate) fn file_of(node: &NodeSpec, digest: &Digest) -> Option<PathBuf> {
    objects(node).into_iter().find(|file| digest_of(file).as_ref() == Some(digest))
}

/// The files of all objects of a node.
fn objects(node: &NodeSpec) -> Vec<PathBuf> {
    let folders = entries(&node.data().join("blobs/objects"));
    folders.iter().flat_map(|folder| entries(folder)).collect()
}

/// How many temporary files a node's store has.
pub(crate) fn temporary_files(node: &NodeSpec) -> u64 {
    // Each owner has a lock there for as long as it lives.
    let files = entries(&node.data().join("blobs/tmp")).into_iter();
    files.filter(|file| file.extension().is_none_or(|e| e != "lock")).count() as u64
}

fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path()).collect()
}

fn digest_of(file: &Path) -> Option<Digest> {
    let mut file = std::fs::File::open(file).ok()?;
    let length = file.metadata().ok()?.len();
    file.seek(SeekFrom::Start(length.checked_sub(TAIL_BYTES)?)).ok()?;
    let mut size = [0; SIZE_BYTES];
    file.read_exact(&mut size).ok()?;
    let size = u64::from_le_bytes(size);
    if size > length - TAIL_BYTES {
        return None;
    }
    file.rewind().ok()?;
    let mut content = Vec::with_capacity(size as usize);
    file.take(size).read_to_end(&mut content).ok()?;
    Some(Digest::sha256(&content))
}

/// Bytes of files in a folder and those below it.
pub(crate) fn bytes_below(folder: &Path) -> u64 {
    let sizes = entries(folder).into_iter().map(|path| match std::fs::symlink_metadata(&path) {
        Ok(meta) if meta.is_dir() => bytes_below(&path),
        Ok(meta) => meta.len(),
        Err(_) => 0,
    });
    sizes.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_read_without_its_footer_and_a_torn_one_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("object");
        let footer = |size: u64| [&size.to_le_bytes()[..], &[0; 24]].concat();
        std::fs::write(&file, [b"hello", &footer(5)[..]].concat()).unwrap();
        assert_eq!(digest_of(&file), Some(Digest::sha256(b"hello")));
        std::fs::write(&file, [b"hello", &footer(50)[..]].concat()).unwrap();
        assert_eq!(digest_of(&file), None);
        std::fs::write(&file, b"short").unwrap();
        assert_eq!(digest_of(&file), None);
        assert_eq!(bytes_below(folder.path()), 5);
    }
}
