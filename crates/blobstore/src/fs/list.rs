//! Listing a folder in order, a page at a time, without holding more than the page.

use std::collections::BTreeSet;
use std::fs::DirEntry;
use std::io;
use std::sync::Arc;

use atoll_types::ObjectName;

use super::{Shared, error};
use crate::{ObjectInfo, StoreError, footer};

/// The objects after a name, at most `limit`.
pub(super) async fn page(
    shared: &Arc<Shared>,
    after: Option<ObjectName>,
    limit: usize,
) -> Result<Vec<ObjectInfo>, StoreError> {
    let after = after.map(|name| name.to_string()).unwrap_or_default();
    let first_shard = after.get(8..10).and_then(|hex| u8::from_str_radix(hex, 16).ok()).unwrap_or(0);
    let mut found = Vec::new();
    for shard in first_shard..=u8::MAX {
        let missing = limit - found.len();
        if missing == 0 {
            break;
        }
        let (opened, after) = (shared.clone(), after.clone());
        found.extend(shared.pool.run(move || shard_page(&opened, shard, &after, missing)).await?);
    }
    Ok(found)
}

fn shard_page(shared: &Shared, shard: u8, after: &str, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
    let folder = format!("objects/{shard:02x}");
    let failed = |e: io::Error| error::store_error(&format!("listing {folder}"), &e);
    let mut smallest = BTreeSet::new();
    for entry in std::fs::read_dir(shared.root.join(&folder)).map_err(failed)? {
        let Some(name) = object_name(&folder, &entry.map_err(failed)?) else { continue };
        if name.as_str() > after {
            smallest.insert(name);
            if smallest.len() > limit {
                smallest.pop_last();
            }
        }
    }
    smallest.iter().filter_map(|name| info(shared, name).transpose()).collect()
}

/// The whole name of an entry, if it is an object's.
fn object_name(folder: &str, entry: &DirEntry) -> Option<String> {
    let name = format!("{folder}/{}", entry.file_name().to_str()?);
    name.parse::<ObjectName>().is_ok().then_some(name)
}

/// `None` if it was removed meanwhile.
fn info(shared: &Shared, name: &str) -> Result<Option<ObjectInfo>, StoreError> {
    let Ok(parsed) = name.parse::<ObjectName>() else { return Ok(None) };
    match std::fs::metadata(shared.root.join(name)) {
        Ok(file) => Ok(Some(ObjectInfo { name: parsed, size: footer::size_of(file.len()).unwrap_or(file.len()) })),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(error::object_error(&parsed, "listing", &e)),
    }
}
