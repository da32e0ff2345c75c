//! Blobs: read, mounted, deleted.

use std::ops::Range;
use std::time::Duration;

use atoll_auth::{Access, Delete, Pull, Push};
use atoll_blobstore::ByteStream;
use atoll_fault::{planted, step};
use atoll_metadata::{BlobSource, Command, KvError, KvRead, Rejection, read};
use atoll_types::{Digest, RepositoryName, Revision};

use crate::view::Found;
use crate::{BlobHandle, Linked, ReadOptions, Registry, RegistryError, WriteOptions};

/// A blob as a repository sees it: only what it links is there. One that has lost its last copy is not.
fn find(kv: &dyn KvRead, repository: &RepositoryName, digest: &Digest) -> Result<Found<BlobHandle>, KvError> {
    find_if(kv, repository, digest, |blob| !blob.copies.is_empty())
}

/// A blob that need not be uploaded again. One whose last copy is suspect must be: it is there for those alone who read
/// it, since what made it suspect may have passed.
fn find_sound(kv: &dyn KvRead, repository: &RepositoryName, digest: &Digest) -> Result<Found<BlobHandle>, KvError> {
    find_if(kv, repository, digest, read::Blob::is_sound)
}

fn find_if(
    kv: &dyn KvRead,
    repository: &RepositoryName,
    digest: &Digest,
    is_there: impl Fn(&read::Blob) -> bool,
) -> Result<Found<BlobHandle>, KvError> {
    let unknown = || Rejection::BlobUnknown(*digest);
    if read::link(kv, repository, digest)?.is_none() && !planted!("blob_read_without_link") {
        return Ok(Err(unknown()));
    }
    let blob = read::blob(kv, digest)?.filter(is_there);
    Ok(blob.map(|blob| BlobHandle { digest: *digest, size: blob.size }).ok_or_else(unknown))
}

/// Whether the repository's link is about to go. The time is that of the last change applied here: while there is a
/// majority, there is one every few seconds, since leases are renewed.
fn is_leaving(kv: &dyn KvRead, repository: &RepositoryName, digest: &Digest, grace: Duration) -> Result<bool, KvError> {
    let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
    let now_ms = read::last_time_ms(kv)?;
    Ok(read::link(kv, repository, digest)?.is_some_and(|link| link.is_leaving(now_ms, grace_ms)))
}

impl Registry {
    /// Whether the repository has a blob, and its size, as far as is known here: a client that gets a wrong "no"
    /// uploads what is there already, and nothing is lost. A blob whose last copy is suspect, or whose link is in the
    /// second half of its grace period, is not there: clients upload it again, which heals the one and revives the
    /// other.
    pub async fn head_blob(
        &self,
        access: &Access<Pull>,
        digest: &Digest,
        options: &ReadOptions,
    ) -> Result<BlobHandle, RegistryError> {
        self.view.settle_by_digest(options).await?;
        let (repository, grace) = (access.repository(), self.view.config.link_grace);
        if self.view.read(|kv| is_leaving(kv, repository, digest, grace))? {
            return Err(Rejection::BlobUnknown(*digest).into());
        }
        Ok(self.view.read(|kv| find_sound(kv, repository, digest))??)
    }

    /// A blob to be read, even if its last copy is suspect. Before it says that there is none, it asks the majority.
    pub async fn open_blob(
        &self,
        access: &Access<Pull>,
        digest: &Digest,
        options: &ReadOptions,
    ) -> Result<BlobHandle, RegistryError> {
        self.view.settle_by_digest(options).await?;
        self.view.look_twice(options, |kv| find(kv, access.repository(), digest)).await
    }

    /// The bytes of a range of an opened blob, each checked before it leaves. It returns once the first are at hand.
    /// A copy that fails on the way is replaced by another at the same byte; [`RegistryError::Elsewhere`] when no copy
    /// can be reached.
    pub async fn read_blob(&self, blob: &BlobHandle, range: Range<u64>) -> Result<ByteStream, RegistryError> {
        self.reader.read(&blob.digest, blob.size, range).await
    }

    /// Takes a blob's link away from the repository; refused while a manifest there refers to it.
    pub async fn delete_blob(
        &self,
        access: &Access<Delete>,
        digest: &Digest,
        options: &WriteOptions,
    ) -> Result<Revision, RegistryError> {
        let command = Command::DeleteBlob { repository: access.repository().clone(), digest: *digest };
        let revision = step!("blob.delete", self.view.write(access, command, options).await)?.0;
        if planted!("deleted_blob_removed_at_once") {
            self.remove_bytes(digest).await?;
        }
        Ok(revision)
    }

    /// A planted bug: another repository may link the blob.
    async fn remove_bytes(&self, digest: &Digest) -> Result<(), RegistryError> {
        let blob = self.view.read(|kv| read::blob(kv, digest))?;
        let copies = blob.into_iter().flat_map(|blob| blob.copies);
        for (_, object) in copies.filter(|(region, _)| *region == self.view.config.region) {
            self.blobs.delete(&object).await?;
        }
        Ok(())
    }

    /// Links a blob of another repository that the caller may read. `None`: it is not there, or no source was named;
    /// the caller opens an upload session.
    pub async fn mount(
        &self,
        access: &Access<Push>,
        digest: &Digest,
        from: Option<&Access<Pull>>,
        options: &WriteOptions,
    ) -> Result<Option<Linked>, RegistryError> {
        self.view.takes_pushes()?;
        let Some(from) = from else { return Ok(None) };
        // Not linearizable: whoever mounts what was pushed elsewhere a moment ago may be asked to upload it.
        let found = self.view.read(|kv| find_sound(kv, from.repository(), digest))?;
        let Ok(BlobHandle { size, .. }) = found else { return Ok(None) };
        let source = BlobSource::Mounted { from: from.repository().clone() };
        let command = Command::LinkBlob { repository: access.repository().clone(), digest: *digest, size, source };
        match step!("blob.mount", self.view.write(access, command, options).await) {
            Ok((revision, _)) => Ok(Some(Linked { digest: *digest, revision })),
            Err(RegistryError::Rejected(Rejection::BlobUnknown(_) | Rejection::RepositoryUnknown(_))) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
