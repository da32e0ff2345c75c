//! One database of the state, and where the state has come to in it.

use std::path::Path;

use prost::Message;
use rocksdb::{ColumnFamily, DB};

use super::Applied;
use crate::Resources;
use crate::durable::DirGuard;
use crate::error::{Result, StorageError};
use crate::tuning::{self, STATE, STATE_RAFT, STATE_WANTED};
use atoll_metadata::Family;

// Landed: these never change.
const POSITION: &[u8] = b"position";
const MEMBERSHIP: &[u8] = b"membership";

/// The record under [`POSITION`]. Landed: it only grows.
#[derive(Clone, PartialEq, Message)]
struct PositionRecord {
    #[prost(uint64, tag = "1")]
    revision: u64,
    #[prost(bytes = "vec", tag = "2")]
    log_id: Vec<u8>,
    /// Little-endian.
    #[prost(bytes = "vec", tag = "3")]
    state_hash: Vec<u8>,
}

/// How far the state has come, and its hash there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) applied: Applied,
    pub(crate) hash: u128,
}

/// An open database. Its folder is removed with it once it is condemned.
pub(crate) struct Db {
    // Closed before the guard removes the folder: fields are dropped in order.
    pub(super) db: DB,
    pub(super) dir: DirGuard,
}

impl Db {
    pub(super) fn open(path: &Path, resources: &Resources) -> Result<Self> {
        Ok(Self { db: tuning::open_state(path, resources)?, dir: DirGuard::new(path.to_owned()) })
    }

    /// Opens a checkpoint, which stays as it is.
    pub(crate) fn open_read_only(path: &Path, resources: &Resources) -> Result<Self> {
        Ok(Self { db: tuning::open_state_read_only(path, resources)?, dir: DirGuard::new(path.to_owned()) })
    }

    pub(super) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The newest position.
    pub(crate) fn position(&self) -> Result<Position> {
        let raft = self.raft()?;
        let read = |key: &[u8]| self.db.get_cf(raft, key).map_err(StorageError::database("read", self.path()));
        let membership = read(MEMBERSHIP)?;
        let Some(bytes) = read(POSITION)? else {
            return Ok(Position { applied: Applied { membership, ..Applied::default() }, hash: 0 });
        };
        let record = self.decode(&bytes)?;
        let hash = record.state_hash.as_slice().try_into().map(u128::from_le_bytes);
        let hash = hash.map_err(|_| StorageError::corrupt(self.path(), "the state hash has not 16 bytes"))?;
        let applied = Applied { revision: record.revision, log_id: Some(record.log_id), membership };
        Ok(Position { applied, hash })
    }

    /// The revision of a snapshot of this database.
    pub(super) fn revision_of(&self, snapshot: &rocksdb::Snapshot<'_>) -> Result<u64> {
        let bytes = snapshot.get_pinned_cf(self.raft()?, POSITION);
        match bytes.map_err(StorageError::database("read", self.path()))? {
            Some(bytes) => Ok(self.decode(&bytes)?.revision),
            None => Ok(0),
        }
    }

    /// Adds a position to a batch.
    pub(super) fn put_position(&self, batch: &mut rocksdb::WriteBatch, position: &Position) -> Result<()> {
        let raft = self.raft()?;
        if let Some(membership) = &position.applied.membership {
            batch.put_cf(raft, MEMBERSHIP, membership);
        }
        if let Some(log_id) = &position.applied.log_id {
            let record = PositionRecord {
                revision: position.applied.revision,
                log_id: log_id.clone(),
                state_hash: position.hash.to_le_bytes().to_vec(),
            };
            batch.put_cf(raft, POSITION, record.encode_to_vec());
        }
        Ok(())
    }

    pub(super) fn family(&self, family: Family) -> Result<&ColumnFamily> {
        self.handle(match family {
            Family::State => STATE,
            Family::Wanted => STATE_WANTED,
        })
    }

    fn raft(&self) -> Result<&ColumnFamily> {
        self.handle(STATE_RAFT)
    }

    fn handle(&self, name: &'static str) -> Result<&ColumnFamily> {
        let missing = || StorageError::corrupt(self.path(), format!("family {name} is missing"));
        self.db.cf_handle(name).ok_or_else(missing)
    }

    fn decode(&self, bytes: &[u8]) -> Result<PositionRecord> {
        let broken = |e: prost::DecodeError| StorageError::corrupt(self.path(), format!("its position: {e}"));
        PositionRecord::decode(bytes).map_err(broken)
    }
}
