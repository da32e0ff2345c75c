//! Listing the objects of a bucket.

use atoll_types::ObjectName;

use super::Shared;
use super::error::Failure;
use crate::{ObjectInfo, StoreError};

/// Most keys of one answer (ListObjectsV2, `max-keys`).
const KEYS_MAX: usize = 1_000;

/// A page of objects in the order of their keys: only an empty one is the end.
pub(super) async fn page(
    shared: &Shared,
    after: Option<ObjectName>,
    limit: usize,
) -> Result<Vec<ObjectInfo>, StoreError> {
    let prefix = shared.keys.objects();
    let (mut found, mut after) = (Vec::new(), after.map(|name| shared.keys.object(&name)));
    while found.len() < limit {
        let wanted = (limit - found.len()).min(KEYS_MAX) as i32;
        let asked = after.take();
        let page = shared.api.list(&prefix, asked.clone(), wanted).await.map_err(Failure::into_store_error)?;
        let Some(last) = page.keys.last().map(|last| last.key.clone()) else { break };
        if asked.as_ref().is_some_and(|asked| last <= *asked) {
            let bucket = shared.api.bucket();
            return Err(StoreError::Other(format!(
                "bucket {bucket} lists {last} where keys after {} were asked for; its server does not list in order",
                asked.unwrap_or_default()
            )));
        }
        after = Some(last);
        let ours = page
            .keys
            .iter()
            .filter_map(|listed| Some(ObjectInfo { name: shared.keys.name(&listed.key)?, size: listed.size }));
        found.extend(ours);
        if !page.more {
            break;
        }
    }
    Ok(found)
}
