//! The use cases of uploads.

use std::time::Duration;

use atoll_auth::{Access, Push};
use atoll_blobstore::Finished;
use atoll_fault::{planted, step};
use atoll_metadata::{BlobSource, Command, read};
use atoll_types::{Algorithm, Digest, ObjectName};
use tokio::time::Instant;

use super::session::{Append, Upload};
use super::sessions::Held;
use super::{Body, Owner, SessionId, UploadStatus};
use crate::{Linked, ProposeError, Registry, RegistryError, WriteOptions};

/// What a blob that is stored may take to be linked, however long the storing took.
const LINK_WAIT: Duration = Duration::from_secs(10);

impl Registry {
    /// Who owns a session, by its name alone.
    pub fn session_owner(&self, session: &str) -> Owner {
        let config = &self.view.config;
        match session.parse::<SessionId>() {
            Ok(id) if id.node() == config.node && *id.region() == config.region => Owner::Here(id),
            Ok(id) if id.node() == config.node => Owner::Invalid,
            Ok(id) => Owner::Node { region: id.region().clone(), node: id.node() },
            Err(_) => Owner::Invalid,
        }
    }

    /// Opens an upload session at this node. `algorithm` is the one of the digest to come, if that is known: another
    /// one costs a second reading of the bytes.
    pub async fn start_upload(
        &self,
        access: &Access<Push>,
        algorithm: Option<Algorithm>,
    ) -> Result<UploadStatus, RegistryError> {
        self.view.takes_pushes()?;
        let owner = (self.view.config.region.clone(), self.view.config.node);
        self.sessions.open(access, owner, algorithm.unwrap_or(Algorithm::Sha256))
    }

    /// How far a session is. While another request appends to it, as far as it was before that.
    pub async fn upload_status(&self, access: &Access<Push>, id: &SessionId) -> Result<UploadStatus, RegistryError> {
        self.sessions.status(access, id)
    }

    /// Appends a body. `start` is where it claims to go on, `length` how long it claims to be.
    ///
    /// A refused `start` changes nothing. Of a body that is torn, or not as long as it claims, the bytes that came are
    /// kept, and [`Registry::upload_status`] tells how many: from there a client goes on. A failure of the store ends
    /// the session, unless this was its first body: then it begins again.
    pub async fn append(
        &self,
        access: &Access<Push>,
        id: &SessionId,
        start: Option<u64>,
        length: Option<u64>,
        mut body: impl Body,
    ) -> Result<UploadStatus, RegistryError> {
        self.view.takes_pushes()?;
        let mut held = self.sessions.hold(access, id)?;
        let appended = self.append_to(&mut held, start, length, &mut body).await;
        self.park(&mut held).await?;
        appended?;
        Ok(UploadStatus { id: id.clone(), offset: held.upload()?.offset() })
    }

    /// Readies a session for the wait for its next request. A store that cannot take its bytes ends it.
    async fn park(&self, held: &mut Held) -> Result<(), RegistryError> {
        // It may have ended.
        let Ok(upload) = held.upload() else { return Ok(()) };
        let parked = upload.park().await;
        if parked.is_err() {
            held.take()?.abort().await;
        }
        parked
    }

    async fn append_to(
        &self,
        held: &mut Held,
        start: Option<u64>,
        length: Option<u64>,
        body: &mut impl Body,
    ) -> Result<(), RegistryError> {
        let upload = held.upload()?;
        let offset = upload.offset();
        if let Some(stated) = start.filter(|stated| *stated != offset && !planted!("chunk_start_unchecked")) {
            return Err(RegistryError::UploadRange { stated, offset });
        }
        let appended = upload.append((&self.blobs, &self.view.config.room), || self.new_object(), length, body).await;
        match appended {
            Append::Done => Ok(()),
            Append::Refused(error) => Err(error),
            Append::Broken(error) => {
                // What was there before is lost with the object; the session begins again if that was nothing.
                match offset {
                    0 => upload.take_back(0).await,
                    _ => held.take()?.abort().await,
                }
                Err(error)
            }
        }
    }

    /// Appends what is left, proves the digest, and links the blob. `options` is asked for once the body is here: the
    /// deadline counts from then.
    ///
    /// A request that is refused is taken back, whatever came of its body: the session is where it was before, and the
    /// same request can be sent again. A wrong digest ends the session and removes its bytes; so does what fails once
    /// they are out of the session, unless the request had brought all of them: then the session begins again. Sent
    /// again after it was done, it gets the same answer, whether or not anything else can be taken then.
    #[allow(clippy::too_many_arguments)]
    pub async fn finish_upload(
        &self,
        access: &Access<Push>,
        id: &SessionId,
        digest: &Digest,
        start: Option<u64>,
        length: Option<u64>,
        mut body: impl Body,
        options: impl FnOnce() -> WriteOptions + Send,
    ) -> Result<Linked, RegistryError> {
        let mut held = match self.sessions.hold(access, id) {
            Ok(held) => held,
            Err(error) => return self.sessions.finished(access, id, digest).ok_or(error),
        };
        self.view.takes_pushes()?;
        let offset = held.upload()?.offset();
        let appended = self.append_to(&mut held, start, length, &mut body).await;
        // The body may have taken long.
        if let Err(refused) = appended.and_then(|()| self.view.takes_pushes()) {
            if let Ok(upload) = held.upload() {
                upload.take_back(offset).await;
            }
            self.park(&mut held).await?;
            return Err(refused);
        }
        let finished = self.finish(access, held.take()?, digest, &options()).await;
        match &finished {
            Ok(linked) => self.sessions.remember(access, id, linked),
            Err(RegistryError::DigestMismatch { .. }) => {}
            Err(_) if offset == 0 => held.begin_again(digest.algorithm()),
            Err(_) => {}
        }
        finished
    }

    /// An upload of one request, without a session. Leaves nothing behind if it fails.
    pub async fn upload_whole(
        &self,
        access: &Access<Push>,
        digest: &Digest,
        length: Option<u64>,
        mut body: impl Body,
        options: &WriteOptions,
    ) -> Result<Linked, RegistryError> {
        self.view.takes_pushes()?;
        let mut upload = Upload::new(digest.algorithm());
        match upload.append((&self.blobs, &self.view.config.room), || self.new_object(), length, &mut body).await {
            Append::Done => self.finish(access, upload, digest, options).await,
            Append::Refused(error) | Append::Broken(error) => {
                upload.abort().await;
                Err(error)
            }
        }
    }

    /// Ends a session and removes its bytes.
    pub async fn cancel_upload(&self, access: &Access<Push>, id: &SessionId) -> Result<(), RegistryError> {
        self.sessions.hold(access, id)?.take()?.abort().await;
        Ok(())
    }

    /// A name for a new object, in the region's sweep epoch of now.
    fn new_object(&self) -> Result<ObjectName, RegistryError> {
        let region = self.view.read(|kv| read::region(kv, &self.view.config.region))?;
        Ok(ObjectName::random(region.map_or(0, |region| region.sweep_epoch)))
    }

    async fn finish(
        &self,
        access: &Access<Push>,
        upload: Upload,
        digest: &Digest,
        options: &WriteOptions,
    ) -> Result<Linked, RegistryError> {
        let linked_early = match upload.promised(digest).filter(|_| planted!("blob_linked_before_stored")) {
            Some(promised) => Some(self.link(access, &promised, options).await?),
            None => None,
        };
        let finished = step!("upload.finish", upload.finish(&self.blobs, || self.new_object(), digest).await)?;
        if let Some(linked) = linked_early {
            return Ok(linked);
        }
        let linked = step!("upload.link", self.link(access, &finished, options).await);
        if linked.as_ref().is_err_and(|error| is_certain(error) || planted!("unknown_upload_removed")) {
            self.remove(&finished.object).await;
        }
        linked
    }

    async fn link(
        &self,
        access: &Access<Push>,
        finished: &Finished,
        options: &WriteOptions,
    ) -> Result<Linked, RegistryError> {
        let config = &self.view.config;
        let source =
            BlobSource::Uploaded { region: config.region.clone(), store: config.store, object: finished.object };
        let repository = access.repository().clone();
        let command = Command::LinkBlob { repository, digest: finished.digest, size: finished.size, source };
        let before = self.view.freshness().applied;
        // Syncing the bytes may have taken longer than the client's write may.
        let options = &WriteOptions { deadline: options.deadline.max(Instant::now() + LINK_WAIT), ..options.clone() };
        let (revision, _) = self.view.write(access, command, options).await?;
        if revision <= before {
            // The request was answered before: the blob is linked by the object of that attempt.
            self.remove(&finished.object).await;
        }
        Ok(Linked { digest: finished.digest, revision })
    }

    /// Removes an object that no record names. If that fails, the sweep finds it.
    async fn remove(&self, object: &ObjectName) {
        if let Err(error) = step!("upload.remove", self.blobs.delete(object).await) {
            tracing::warn!(%object, %error, "an object that was refused could not be removed; the sweep does it");
        }
    }
}

/// Whether a failed write is known to have changed nothing.
fn is_certain(error: &RegistryError) -> bool {
    use atoll_metadata::Rejection;
    !matches!(error, RegistryError::Propose(ProposeError::Unknown(_)) | RegistryError::Rejected(Rejection::Expired))
}
