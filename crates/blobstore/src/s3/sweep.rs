//! Removing what nodes that are gone have left behind: parts, tails, probes, and checksums whose object never came.

use std::collections::HashSet;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::S3Store;
use super::api::{Listed, Unfinished};
use super::error::{Cause, Failure};
use crate::StoreError;

/// How many keys are looked at in one request.
const KEYS: i32 = 1_000;

/// What a sweep has done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Uploads in parts that were given up.
    pub uploads: usize,
    /// Objects that were removed: tails, probes, checksums.
    pub objects: usize,
    /// What could not be removed.
    pub failed: usize,
}

impl S3Store {
    /// Removes what began longer ago than this, by the server's clock for its beginning and by this machine's for now:
    /// it must be much longer than any upload may take, a day or more.
    pub async fn sweep(&self, older_than: Duration) -> Result<Swept, StoreError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let before = i64::try_from(now.saturating_sub(older_than).as_secs()).unwrap_or_default();
        let mut swept = Swept::default();
        self.sweep_uploads(before, &mut swept).await?;
        for prefix in [self.shared.keys.tails(), self.shared.keys.probes(), self.shared.keys.all_checksums()] {
            self.sweep_objects(&prefix, before, &mut swept).await?;
        }
        Ok(swept)
    }

    async fn sweep_uploads(&self, before: i64, swept: &mut Swept) -> Result<(), StoreError> {
        let (api, prefix) = (&self.shared.api, self.shared.keys.objects());
        let (mut seen, mut after) = (HashSet::new(), None);
        loop {
            let (page, next) = match api.list_uploads(&prefix, after).await {
                Ok(page) => page,
                // Some servers cannot list them.
                Err(failure) if failure.cause == Cause::NotImplemented => {
                    tracing::info!(error = %failure.text, "uploads that were given up cannot be looked for");
                    return Ok(());
                }
                Err(failure) => return Err(failure.into_store_error()),
            };
            let mut news = false;
            for upload in page {
                let is_old = upload.began.is_some_and(|began| began > 0 && began < before);
                if seen.insert((upload.key.clone(), upload.upload.clone())) {
                    news = true;
                    if is_old && upload.key.starts_with(&prefix) {
                        self.give_up(&upload, swept).await;
                    }
                }
            }
            match next.filter(|_| news) {
                Some(last) => after = Some(last),
                None => return Ok(()),
            }
        }
    }

    async fn give_up(&self, upload: &Unfinished, swept: &mut Swept) {
        match self.shared.api.abort_upload(&upload.key, &upload.upload).await {
            Ok(()) => swept.uploads += 1,
            Err(failure) => {
                swept.failed += 1;
                tracing::warn!(error = %failure.text, "an upload that was given up is not removed");
            }
        }
    }

    async fn sweep_objects(&self, prefix: &str, before: i64, swept: &mut Swept) -> Result<(), StoreError> {
        let (api, mut after) = (&self.shared.api, None);
        loop {
            let page = api.list(prefix, after.clone(), KEYS).await.map_err(Failure::into_store_error)?;
            let Some(last) = page.keys.last().map(|last| last.key.clone()).filter(|last| after.as_ref() < Some(last))
            else {
                return Ok(());
            };
            for listed in page.keys.iter().filter(|listed| listed.modified.is_some_and(|at| at > 0 && at < before)) {
                self.remove_unless_needed(listed, swept).await;
            }
            if !page.more {
                return Ok(());
            }
            after = Some(last);
        }
    }

    async fn remove_unless_needed(&self, listed: &Listed, swept: &mut Swept) {
        let api = &self.shared.api;
        if let Some(object) = self.shared.keys.object_of_checksums(&listed.key) {
            match api.head(&object).await {
                Err(failure) if failure.cause == Cause::Missing => {}
                _ => return,
            }
        }
        match api.delete(&listed.key).await {
            Ok(()) => swept.objects += 1,
            Err(failure) => {
                swept.failed += 1;
                tracing::warn!(error = %failure.text, "what an upload has left behind is not removed");
            }
        }
    }
}
