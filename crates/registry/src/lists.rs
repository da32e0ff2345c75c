//! Lists: tags, repositories, referrers. Every page is bounded in entries, and that of referrers in bytes too.

use std::time::Duration;

use atoll_auth::{Access, Pull};
use atoll_fault::planted;
use atoll_metadata::{Rejection, read};
use atoll_types::{Digest, RepositoryName, Tag};
use tokio::time::{Instant, timeout};

use crate::{Page, ReadOptions, Referrer, ReferrersPage, Registry, RegistryError, as_of};

/// Most entries in one page, whatever is asked for.
const PAGE_MAX: usize = 10_000;
/// Most referrers that one page looks at.
const REFERRERS_MAX: usize = 1_000;
/// How many are read at a time.
const REFERRERS_STEP: usize = 64;
/// A page of referrers ends where it has become larger than this.
const REFERRERS_BYTES_MAX: usize = 2 << 20;
/// What clients read of an index, but for what stands around its entries: one entry alone may be larger.
const INDEX_BYTES_MAX: usize = (4 << 20) - 1024;
/// Most pages at once for which bodies of manifests are read: each of them, and what of it is there, is in memory.
pub(crate) const BODIES_PAGES_MAX: usize = 16;
/// Longest wait for other pages to end; for bodies, after which a page ends; and for one body.
const BODIES_WAIT: Duration = Duration::from_secs(5);

fn page<T>(mut items: Vec<T>, n: usize) -> Page<T> {
    let more = items.len() > n;
    if planted!("page_skips_an_entry") && more && n > 0 {
        items.remove(n - 1);
    }
    items.truncate(n);
    Page { items, more }
}

impl Registry {
    /// Tags of a repository after `last`, in byte order, at most `n`.
    pub async fn list_tags(
        &self,
        access: &Access<Pull>,
        last: Option<&str>,
        n: usize,
        options: &ReadOptions,
    ) -> Result<Page<Tag>, RegistryError> {
        let (name, n) = (access.repository(), n.min(PAGE_MAX));
        self.view.settle(Some(name), options).await?;
        let tags = self.view.look_twice(options, |kv| {
            if !read::repository_exists(kv, name)? {
                return Ok(Err(Rejection::RepositoryUnknown(name.clone())));
            }
            read::tags(kv, name, last, n + 1).map(Ok)
        });
        Ok(page(tags.await?, n))
    }

    /// Repositories after `last`, by name, at most `n`.
    pub async fn catalog(
        &self,
        last: Option<&str>,
        n: usize,
        options: &ReadOptions,
    ) -> Result<Page<RepositoryName>, RegistryError> {
        let n = n.min(PAGE_MAX);
        self.view.settle(None, options).await?;
        Ok(page(self.view.read(|kv| read::repositories(kv, last, n + 1))?, n))
    }

    /// Manifests of the repository that refer to a subject, by digest, after `after`. Before it says that there are
    /// none, it asks the majority.
    pub async fn referrers(
        &self,
        access: &Access<Pull>,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<Digest>,
        options: &ReadOptions,
    ) -> Result<ReferrersPage, RegistryError> {
        self.view.settle(Some(access.repository()), options).await?;
        let before = as_of::noted();
        let page = self.referrers_here(access, subject, artifact_type, after).await?;
        let nothing = page.items.is_empty() && page.next.is_none();
        if nothing && self.view.refresh(options.deadline).await? {
            as_of::forget_since(before);
            return self.referrers_here(access, subject, artifact_type, after).await;
        }
        Ok(page)
    }

    async fn referrers_here(
        &self,
        access: &Access<Pull>,
        subject: &Digest,
        artifact_type: Option<&str>,
        after: Option<Digest>,
    ) -> Result<ReferrersPage, RegistryError> {
        if let Some(page) = self.gather(access, subject, artifact_type, after, None).await? {
            return Ok(page);
        }
        let busy = || RegistryError::Busy("too many lists that take large manifests are being made; try again".into());
        let permit = timeout(BODIES_WAIT, self.bodies_pages.acquire()).await;
        let _permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
        let until = Instant::now() + BODIES_WAIT;
        self.gather(access, subject, artifact_type, after, Some(until)).await?.ok_or_else(busy)
    }

    /// A page; `None` if it takes the bodies of manifests, which are read only where `bodies` says until when.
    async fn gather(
        &self,
        access: &Access<Pull>,
        subject: &Digest,
        artifact_type: Option<&str>,
        mut after: Option<Digest>,
        bodies: Option<Instant>,
    ) -> Result<Option<ReferrersPage>, RegistryError> {
        let (mut items, mut bytes, mut looked_at) = (Vec::new(), 0, 0);
        while looked_at < REFERRERS_MAX && bytes < REFERRERS_BYTES_MAX {
            let step = self
                .view
                .read(|kv| read::referrers(kv, access.repository(), subject, after.as_ref(), REFERRERS_STEP))?;
            let is_last = step.len() < REFERRERS_STEP;
            looked_at += step.len();
            for referrer in step {
                let is_late = bodies.is_some_and(|until| Instant::now() >= until);
                // An empty page that is not the last one would look like an end.
                if bytes >= REFERRERS_BYTES_MAX || (is_late && !items.is_empty()) {
                    return Ok(Some(ReferrersPage { items, next: after }));
                }
                let before = after.replace(referrer.digest);
                if artifact_type.is_some_and(|asked| asked != referrer.artifact_type) {
                    continue;
                }
                if referrer.annotations.is_none() && bodies.is_none() {
                    return Ok(None);
                }
                let referrer = self.with_annotations(access, referrer).await?;
                bytes += weight(&referrer);
                if bytes > INDEX_BYTES_MAX && !items.is_empty() {
                    return Ok(Some(ReferrersPage { items, next: before }));
                }
                items.push(referrer);
            }
            if is_last {
                return Ok(Some(ReferrersPage { items, next: None }));
            }
        }
        Ok(Some(ReferrersPage { items, next: after }))
    }

    /// Annotations of a large manifest are in its body alone.
    async fn with_annotations(&self, access: &Access<Pull>, from: read::Referrer) -> Result<Referrer, RegistryError> {
        let read::Referrer { digest, media_type, size, artifact_type, annotations } = from;
        let annotations = match annotations {
            Some(annotations) => annotations,
            // The list is worth more than what one body is out of reach of, or has lost.
            None => match timeout(BODIES_WAIT, self.annotations_of(access, &digest)).await {
                Ok(Ok(annotations)) => annotations,
                // Without the view there is no list.
                Ok(Err(error @ RegistryError::View(_))) => return Err(error),
                Ok(Err(error)) => without_annotations(&digest, &error),
                Err(late) => without_annotations(&digest, &late),
            },
        };
        Ok(Referrer { digest, media_type, size, artifact_type, annotations })
    }

    async fn annotations_of(
        &self,
        access: &Access<Pull>,
        digest: &Digest,
    ) -> Result<Vec<(String, String)>, RegistryError> {
        // Deleted between two looks: it is on its way out of the list.
        let Some(manifest) = self.view.read(|kv| read::manifest(kv, access.repository(), digest))? else {
            return Ok(Vec::new());
        };
        let body = self.body_of(&manifest).await?;
        let parsed = atoll_oci::parse_manifest(&body, Some(&manifest.media_type));
        Ok(parsed.map(|parsed| parsed.annotations).unwrap_or_default())
    }
}

fn without_annotations(digest: &Digest, error: &dyn std::fmt::Display) -> Vec<(String, String)> {
    tracing::warn!(%digest, %error, "a referrer is listed without its annotations");
    Vec::new()
}

/// About how many bytes of JSON it takes.
fn weight(referrer: &Referrer) -> usize {
    let annotations: usize = referrer.annotations.iter().map(|(k, v)| escaped(k) + escaped(v) + 8).sum();
    256 + referrer.media_type.len() + referrer.artifact_type.len() + annotations
}

/// Bytes of a text in JSON, where annotations that hold JSON themselves grow.
fn escaped(text: &str) -> usize {
    let more = |byte: u8| match byte {
        b'"' | b'\\' => 1,
        0..0x20 => 5,
        _ => 0,
    };
    text.len() + text.bytes().map(more).sum::<usize>()
}
