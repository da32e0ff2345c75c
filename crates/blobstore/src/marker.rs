//! What a store says of itself, in a small JSON object under a name of its own.

use atoll_types::{ClusterId, StoreId};
use serde::{Deserialize, Serialize};

use crate::StoreError;

/// The layout of a store. A node refuses one that it does not know.
const FORMAT: u32 = 1;

/// The marker of a store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Marker {
    /// The layout's version.
    pub(crate) format: u32,
    /// `fs` or `s3`.
    pub(crate) kind: String,
    /// Whose it is.
    pub(crate) cluster: ClusterId,
    /// Which it is.
    pub(crate) store: StoreId,
}

impl Marker {
    /// The marker of a new store.
    pub(crate) fn new(kind: &str, cluster: ClusterId) -> Self {
        Self { format: FORMAT, kind: kind.to_owned(), cluster, store: StoreId::random() }
    }

    /// As JSON, on lines of its own for those who look.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut text = serde_json::json!(self).to_string();
        text.push('\n');
        text.into_bytes()
    }

    /// Reads one. `place` is where it was, for the message.
    pub(crate) fn parse(place: &str, bytes: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(bytes).map_err(|e| {
            StoreError::Marker(format!(
                "{place} is no marker of a store ({e}); restore it from a backup, or give the node an empty store"
            ))
        })
    }

    /// The store's id, if it is of this cluster and kind and its layout is known.
    pub(crate) fn check(&self, place: &str, kind: &str, cluster: ClusterId) -> Result<StoreId, StoreError> {
        let why = if self.format != FORMAT {
            format!("has layout {}, and this node knows {FORMAT}; run the version of atoll that wrote it", self.format)
        } else if self.kind != kind {
            format!("belongs to a store of kind {}, not {kind}; correct the node's configuration", self.kind)
        } else if self.cluster != cluster {
            let theirs = self.cluster;
            format!("belongs to cluster {theirs}, and this node to {cluster}; give it an empty store, or its own")
        } else {
            return Ok(self.store);
        };
        Err(StoreError::Marker(format!("{place} {why}")))
    }
}
