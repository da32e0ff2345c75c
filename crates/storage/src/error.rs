//! What can go wrong on the disk.

use std::path::{Path, PathBuf};

use atoll_metadata::KvError;

/// A failure of the node's disk state. Says what happened, to what, and what to do next.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `sync`, ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// RocksDB failed.
    #[error("cannot {action} the database in {}: {source}", path.display())]
    Database {
        /// What was tried, as a verb.
        action: &'static str,
        /// The database's folder.
        path: PathBuf,
        /// Why not.
        source: rocksdb::Error,
    },
    /// What is on the disk cannot be what was written.
    #[error("{} is corrupt: {what}; stop this node, wipe its data folder and let it rejoin as a new member", path.display())]
    Corrupt {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// An earlier write or sync failed; nothing more is accepted, since what the disk holds is not known any more.
    #[error("the store has failed before and accepts nothing more until the process is started again: {0}")]
    Failed(String),
    /// The caller broke the log's or the state's order.
    #[error("out of order: {0}")]
    OutOfOrder(String),
    /// Entries are asked for that are not in the log any more: whoever lacks them needs a snapshot.
    #[error(
        "entries from {from} on are asked for, and the log is purged up to {through}; a snapshot has what they did"
    )]
    Purged {
        /// The first index that was asked for.
        from: u64,
        /// The last index that was purged.
        through: u64,
    },
    /// Another process has the folder.
    #[error(
        "the data folder {} is in use by {}; stop that process, or give this node a folder of its own",
        path.display(), holder.map_or("another process".to_owned(), |pid| format!("process {pid}"))
    )]
    FolderInUse {
        /// The folder.
        path: PathBuf,
        /// The process, where it is known.
        holder: Option<u32>,
    },
    /// The folder is another cluster's, another node's, or not Atoll's at all.
    #[error("the data folder {} {why}; give this node a folder of its own", path.display())]
    FolderForeign {
        /// The folder.
        path: PathBuf,
        /// Whose it is.
        why: String,
    },
    /// A snapshot that a peer sent is not acceptable.
    #[error("the snapshot is refused: {0}")]
    SnapshotInvalid(String),
    /// Files of a received snapshot did not verify; they were reset and must be sent again.
    #[error("{} of the snapshot's files did not verify and must be sent again: {}", .0.len(), .0.join(", "))]
    SnapshotIncomplete(Vec<String>),
    /// A chunk arrived damaged, or not where the file ends.
    #[error("chunk of {file} at {offset} is refused: {why}; send from {expected}")]
    ChunkRefused {
        /// The file.
        file: String,
        /// The chunk's offset in bytes.
        offset: u64,
        /// Where the file ends here, in bytes.
        expected: u64,
        /// Why.
        why: &'static str,
    },
    /// The state machine failed while it applied or read.
    #[error(transparent)]
    Kv(#[from] KvError),
}

/// Result of this crate.
pub(crate) type Result<T> = std::result::Result<T, StorageError>;

impl StorageError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source }
    }

    pub(crate) fn database(action: &'static str, path: &Path) -> impl FnOnce(rocksdb::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Database { action, path, source }
    }

    pub(crate) fn corrupt(path: &Path, what: impl Into<String>) -> Self {
        Self::Corrupt { path: path.to_owned(), what: what.into() }
    }

    /// Whether something was read that was never written.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Corrupt { .. } => true,
            Self::Database { source, .. } => source.kind() == rocksdb::ErrorKind::Corruption,
            _ => false,
        }
    }
}

impl From<StorageError> for std::io::Error {
    fn from(error: StorageError) -> Self {
        let kind = match &error {
            StorageError::Io { source, .. } => source.kind(),
            _ => std::io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
