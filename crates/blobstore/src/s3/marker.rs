//! The marker that says whose store a bucket is, and the probe.

use std::time::Duration;

use atoll_types::{ClusterId, StoreId};
use bytes::Bytes;
use rand::RngExt as _;

use super::Shared;
use super::api::{Metadata, Put};
use super::error::{Cause, Failure};
use super::write::TOKEN;
use crate::StoreError;
use crate::marker::Marker;

/// Longest marker that is read, in bytes.
const MARKER_BYTES_MAX: u64 = 64 << 10;
/// How much a probe writes, in bytes.
const PROBE_BYTES: usize = 64;
/// How long a marker that was written is left alone before it is believed.
const SETTLING: Duration = Duration::from_millis(500);

/// The store's id: the marker's, or that of a marker that is written now. When two nodes write one at once, one of them
/// wins and both read that; where the server lets both write, the other one learns of it by its next probe.
pub(super) async fn identify(shared: &Shared, cluster: ClusterId) -> Result<StoreId, StoreError> {
    let marker = match read(shared).await? {
        Some(marker) => marker,
        None => write_new(shared, &Marker::new("s3", cluster)).await?,
    };
    let store = marker.check(&place(shared), "s3", cluster)?;
    let known = *shared.identity.get_or_init(|| store);
    if known == store { Ok(store) } else { Err(swapped(shared, known, store)) }
}

/// Writes, reads and removes a small object, and looks whether it is still the same store.
pub(super) async fn probe(shared: &Shared) -> Result<(), StoreError> {
    check_identity(shared).await?;
    let sent = rand::rng().random::<[u8; PROBE_BYTES]>();
    let key = shared.keys.probe(&shared.probe);
    let metadata = Metadata::from([(TOKEN.to_owned(), shared.probe.clone())]);
    let put = shared.api.put(&key, Bytes::copy_from_slice(&sent), metadata, Put::Aside).await;
    put.map_err(Failure::into_store_error)?;
    let read = shared.api.get_all(&key, PROBE_BYTES as u64).await.map_err(Failure::into_store_error)?;
    let head = shared.api.head(&key).await.map_err(Failure::into_store_error)?;
    let bucket = shared.api.bucket();
    if read != sent[..] {
        return Err(StoreError::Other(format!("bucket {bucket} gives other bytes than were written to {key}")));
    }
    if head.metadata.get(TOKEN) != Some(&shared.probe) {
        return Err(StoreError::Other(format!(
            "bucket {bucket} does not keep metadata (x-amz-meta-*) of {key}; Atoll needs a server that does"
        )));
    }
    shared.api.delete(&key).await.map_err(Failure::into_store_error)
}

/// A bucket that was emptied, or is another one now, is no longer the store that the node registered with.
pub(super) async fn check_identity(shared: &Shared) -> Result<(), StoreError> {
    let Some(known) = shared.identity.get() else {
        return shared.api.head_bucket().await.map_err(Failure::into_store_error);
    };
    match read(shared).await? {
        Some(marker) if marker.store == *known => Ok(()),
        Some(marker) => Err(swapped(shared, *known, marker.store)),
        None => Err(StoreError::Marker(format!(
            "{} is gone; restore it, or restart the node to take what is there as a new store",
            place(shared)
        ))),
    }
}

fn swapped(shared: &Shared, known: StoreId, found: StoreId) -> StoreError {
    StoreError::Marker(format!(
        "{} now says store {found}, and the node started with {known}; restart the node if that is meant",
        place(shared)
    ))
}

fn place(shared: &Shared) -> String {
    format!("{}/{}", shared.api.bucket(), shared.keys.marker())
}

async fn read(shared: &Shared) -> Result<Option<Marker>, StoreError> {
    match shared.api.get_all(&shared.keys.marker(), MARKER_BYTES_MAX).await {
        Ok(bytes) => Marker::parse(&place(shared), &bytes).map(Some),
        // Some servers say so of a bucket that is not there.
        Err(failure) if failure.cause == Cause::Missing => match shared.api.head_bucket().await {
            Ok(()) => Ok(None),
            Err(gone) => Err(gone.into_store_error()),
        },
        Err(failure) => Err(failure.into_store_error()),
    }
}

async fn write_new(shared: &Shared, marker: &Marker) -> Result<Marker, StoreError> {
    refuse_full(shared).await?;
    match shared.api.put(&shared.keys.marker(), marker.to_bytes().into(), Metadata::new(), Put::NewAside).await {
        Err(failure) if failure.cause != Cause::Exists => return Err(failure.into_store_error()),
        _ => {}
    }
    // Where conditions are ignored two nodes that start at once may both have written: the later one counts.
    tokio::time::sleep(SETTLING).await;
    let gone = || StoreError::Marker(format!("{} was removed just now; try again", place(shared)));
    read(shared).await?.ok_or_else(gone)
}

/// Objects without a marker are somebody's: a store that lost it must not become a new one.
async fn refuse_full(shared: &Shared) -> Result<(), StoreError> {
    let found = shared.api.list(&shared.keys.objects(), None, 1).await.map_err(Failure::into_store_error)?;
    match found.keys.first() {
        None => Ok(()),
        Some(object) => Err(StoreError::Marker(format!(
            "{} is missing, and there are objects beside it ({}); restore it, or give the node another prefix or an \
             empty bucket",
            place(shared),
            object.key
        ))),
    }
}
