//! The data folder: one node's, marked and locked.

use std::path::{Path, PathBuf};

use atoll_types::{ClusterId, NodeId, NodeName};

use crate::error::Result;

/// Who opens a data folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FolderIdentity {
    /// The cluster, where the configuration or a join already names it.
    pub cluster: Option<ClusterId>,
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
}

/// What stands in a data folder about whose it is.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Marker {
    /// Version of the folder's layout.
    pub format: u32,
    /// The cluster; `None` until the node is a member of one.
    pub cluster: Option<ClusterId>,
    /// The cluster's epoch.
    pub epoch: u64,
    /// The node's number.
    pub node: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// Random, made with the folder: a wiped and recreated folder has another, so that a lost disk is noticed.
    pub incarnation: String,
}

/// A node's data folder, held with an exclusive lock for as long as the value lives.
#[derive(Debug)]
pub struct DataFolder {
    path: PathBuf,
}

impl DataFolder {
    /// Opens a folder and locks it; creates it where it does not exist or is empty. Refused when another process has
    /// it, when it is another cluster's or node's, or when it holds something that is not Atoll's.
    pub fn open(_path: impl Into<PathBuf>, _identity: &FolderIdentity) -> Result<Self> {
        todo!()
    }

    /// Reads a folder's marker without locking it; `None` where there is none.
    pub fn peek(_path: &Path) -> Result<Option<Marker>> {
        todo!()
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The marker as it stands now.
    pub fn marker(&self) -> Marker {
        todo!()
    }

    /// Binds the folder to a cluster, or raises its epoch; synced when it returns. Refused when the folder is bound to
    /// another cluster, or the epoch would go back.
    pub fn bind_cluster(&self, _cluster: ClusterId, _epoch: u64) -> Result<()> {
        todo!()
    }
}
