//! Snapshots: checkpoints of the state on the disk, and how they travel.

use bytes::Bytes;

use crate::Applied;
use crate::error::Result;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ManifestFile {
    /// Its name, without any folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// XXH3-128 of its bytes, in hexadecimal.
    pub xxh3: String,
}

/// What a snapshot is made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnapshotManifest {
    /// Names these very bytes: two snapshots of one revision have different ids.
    pub id: String,
    /// Its files.
    pub files: Vec<ManifestFile>,
}

impl SnapshotManifest {
    /// Sum of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        todo!()
    }
}

/// Some bytes of a snapshot's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The bytes; fewer than asked for at the file's end.
    pub data: Bytes,
    /// CRC-32 (IEEE) of them.
    pub crc: u32,
}

/// A complete, verified, synced snapshot on this disk. Its files stay for as long as the value lives.
#[derive(Debug)]
pub struct Checkpoint {}

impl Checkpoint {
    /// What it is made of.
    pub fn manifest(&self) -> &SnapshotManifest {
        todo!()
    }

    /// The manifest as it travels.
    pub fn manifest_bytes(&self) -> Bytes {
        todo!()
    }

    /// How far the state had come, as read from inside the snapshot.
    pub fn applied(&self) -> &Applied {
        todo!()
    }

    /// The state hash at that revision.
    pub fn state_hash(&self) -> u128 {
        todo!()
    }

    /// Reads some bytes of a file.
    pub fn read_chunk(&self, _file: &str, _offset: u64, _len_max: usize) -> Result<Chunk> {
        todo!()
    }
}

/// How much of a file is here already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileProgress {
    /// The file.
    pub name: String,
    /// How many bytes are here; the next chunk starts there.
    pub received: u64,
    /// How many there will be.
    pub size: u64,
}

/// Receives a snapshot, chunk by chunk. What has arrived outlives the value and the process.
pub struct SnapshotReceiver {}

impl SnapshotReceiver {
    /// What is here already, file by file in the manifest's order: the sender goes on from there.
    pub fn progress(&self) -> Vec<FileProgress> {
        todo!()
    }

    /// Takes a chunk at a file's end. One that is here already is accepted and ignored.
    pub fn write_chunk(&mut self, _file: &str, _offset: u64, _data: &[u8], _crc: u32) -> Result<()> {
        todo!()
    }

    /// Verifies every file, syncs all, and yields the snapshot, ready for [`crate::StateStore::install`]. Files that do
    /// not verify are reset and named in the error: send them again and call this once more.
    pub fn finish(&mut self) -> Result<std::sync::Arc<Checkpoint>> {
        todo!()
    }
}
