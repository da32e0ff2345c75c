//! The marker that says whose store a folder is, and the probe.

use std::convert::identity;
use std::io;
use std::path::Path;

use atoll_fault::step_io;
use atoll_types::{ClusterId, StoreId};

use super::Shared;
use super::error::store_error;
use super::temp::TempFile;
use crate::StoreError;
use crate::marker::Marker;

const FILE: &str = "atoll-store.json";

/// The store's id: the marker's, or that of a marker that is written now. When two nodes write one at once, one of
/// them wins and both read that.
pub(super) fn identify(shared: &Shared, cluster: ClusterId) -> Result<StoreId, StoreError> {
    let path = shared.root.join(FILE);
    let marker = match read(&path)? {
        Some(marker) => marker,
        None => write_new(shared, &path, &Marker::new("fs", cluster))?,
    };
    let store = marker.check(&path.display().to_string(), "fs", cluster)?;
    let known = *shared.identity.get_or_init(|| store);
    if known == store { Ok(store) } else { Err(swapped(&path, known, store)) }
}

/// Writes, syncs, reads and removes a small file, and looks whether it is still the same store.
pub(super) fn probe(shared: &Shared) -> Result<(), StoreError> {
    check_identity(shared)?;
    let failed = |e: io::Error| store_error(&format!("trying to write in {}", shared.root.display()), &e);
    let mut file = shared.temp.create().map_err(failed)?;
    let sent = rand::random::<[u8; 64]>();
    file.append(&sent).and_then(|()| file.sync()).map_err(failed)?;
    let read = std::fs::read(file.path()).map_err(failed)?;
    if read != sent {
        let root = shared.root.display();
        return Err(StoreError::Other(format!("{root} gives other bytes than were written; replace the disk")));
    }
    file.remove().map_err(failed)
}

/// A folder that was unmounted, or is another one now, is no longer the store that the node registered with.
fn check_identity(shared: &Shared) -> Result<(), StoreError> {
    let Some(known) = shared.identity.get() else { return Ok(()) };
    let path = shared.root.join(FILE);
    match read(&path)? {
        Some(marker) if marker.store == *known => Ok(()),
        Some(marker) => Err(swapped(&path, *known, marker.store)),
        None => Err(StoreError::Marker(format!(
            "{} is gone; mount the store's file system again, or restart the node to take what is there as a new store",
            path.display()
        ))),
    }
}

fn swapped(path: &Path, known: StoreId, found: StoreId) -> StoreError {
    StoreError::Marker(format!(
        "{} now says store {found}, and the node started with {known}; restart the node if that is meant",
        path.display()
    ))
}

fn read(path: &Path) -> Result<Option<Marker>, StoreError> {
    match std::fs::read(path) {
        Ok(bytes) => Marker::parse(&path.display().to_string(), &bytes).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(store_error(&format!("reading {}", path.display()), &e)),
    }
}

fn write_new(shared: &Shared, path: &Path, marker: &Marker) -> Result<Marker, StoreError> {
    let failed = |e: io::Error| store_error(&format!("writing {}", path.display()), &e);
    let file = shared.temp.create().and_then(|file| fill(file, &marker.to_bytes())).map_err(failed)?;
    match step_io!("store.marker", identity, file.publish(path)) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => super::sync_parent(path).map_err(failed)?,
        Err(e) => return Err(failed(e)),
    }
    read(path)?.ok_or_else(|| StoreError::Marker(format!("{} was removed just now; try again", path.display())))
}

fn fill(mut file: TempFile, bytes: &[u8]) -> io::Result<TempFile> {
    file.append(bytes)?;
    Ok(file)
}
