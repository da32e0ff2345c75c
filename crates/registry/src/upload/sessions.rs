//! The sessions of this node: bounded in number, each bound to a repository and an identity, each held by one request
//! at a time, each ended when it was idle for too long.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Access, Push};
use atoll_fault::planted;
use atoll_types::{Algorithm, Digest, NodeId, RegionId, RepositoryName};
use parking_lot::Mutex;
use quick_cache::sync::Cache;
use tokio::time::Instant;

use super::session::Upload;
use super::{SessionId, UploadStatus};
use crate::{Linked, RegistryError};

/// How many finished sessions are remembered, so that a PUT whose answer was lost can be sent again.
const FINISHED_MAX: usize = 4_096;
/// How often idle sessions are looked for, at most.
const SWEEP_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// Whose a session is.
#[derive(Clone, PartialEq, Eq)]
struct Holder {
    repository: RepositoryName,
    actor: String,
}

impl Holder {
    fn of(access: &Access<Push>) -> Self {
        Self { repository: access.repository().clone(), actor: access.identity().name.clone() }
    }
}

/// A session.
struct Session {
    holder: Holder,
    /// Bytes after the last request that gave it back.
    offset: u64,
    touched: Instant,
    /// `None` while a request holds it.
    upload: Option<Upload>,
}

/// All sessions of this node.
pub(crate) struct Sessions {
    open: Mutex<HashMap<SessionId, Session>>,
    finished: Cache<SessionId, (Holder, Linked)>,
    count_max: usize,
    idle_max: Duration,
}

/// A session that a request holds. When it is dropped, the session is there for the next request; or it ends, if its
/// bytes were taken out.
pub(crate) struct Held {
    sessions: Arc<Sessions>,
    id: SessionId,
    /// `None` once its bytes were taken out.
    upload: Option<Upload>,
}

impl Sessions {
    pub(crate) fn new(count_max: usize, idle_max: Duration) -> Self {
        Self { open: Mutex::default(), finished: Cache::new(FINISHED_MAX), count_max, idle_max }
    }

    /// Opens one.
    pub(crate) fn open(
        &self,
        access: &Access<Push>,
        (region, node): (RegionId, NodeId),
        algorithm: Algorithm,
    ) -> Result<UploadStatus, RegistryError> {
        let mut open = self.open.lock();
        if open.len() >= self.count_max && !planted!("uploads_unbounded") {
            let count = self.count_max;
            return Err(RegistryError::Busy(format!(
                "this node has {count} upload sessions open, and takes no more; try again later or at another node"
            )));
        }
        let id = SessionId::random(region, node);
        let upload = Some(Upload::new(algorithm));
        let session = Session { holder: Holder::of(access), offset: 0, touched: Instant::now(), upload };
        open.insert(id.clone(), session);
        Ok(UploadStatus { id, offset: 0 })
    }

    /// How far a session is: as of the last request that has ended.
    pub(crate) fn status(&self, access: &Access<Push>, id: &SessionId) -> Result<UploadStatus, RegistryError> {
        let mut open = self.open.lock();
        let session = find(&mut open, access, id)?;
        Ok(UploadStatus { id: id.clone(), offset: session.offset })
    }

    /// Takes a session for one request.
    pub(crate) fn hold(self: &Arc<Self>, access: &Access<Push>, id: &SessionId) -> Result<Held, RegistryError> {
        let mut open = self.open.lock();
        let session = find(&mut open, access, id)?;
        let upload = session.upload.take().ok_or_else(|| RegistryError::UploadBusy(id.to_string()))?;
        Ok(Held { sessions: self.clone(), id: id.clone(), upload: Some(upload) })
    }

    /// What became of a session that has ended well, for whoever held it and asks for the same digest.
    pub(crate) fn finished(&self, access: &Access<Push>, id: &SessionId, digest: &Digest) -> Option<Linked> {
        let (holder, linked) = self.finished.get(id)?;
        (holder == Holder::of(access) && linked.digest == *digest).then_some(linked)
    }

    /// Remembers how a session ended.
    pub(crate) fn remember(&self, access: &Access<Push>, id: &SessionId, linked: &Linked) {
        if !planted!("finished_upload_forgotten") {
            self.finished.insert(id.clone(), (Holder::of(access), linked.clone()));
        }
    }

    /// Ends idle sessions, until it is dropped.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let idle_max = if planted!("uploads_end_early") { Duration::from_secs(1) } else { self.idle_max };
        let mut timer = tokio::time::interval((idle_max / 4).clamp(Duration::from_millis(10), SWEEP_INTERVAL_MAX));
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            timer.tick().await;
            let now = Instant::now();
            let idle = self.take_out(|session| now.duration_since(session.touched) >= idle_max);
            for upload in idle {
                upload.abort().await;
            }
        }
    }

    /// Ends all sessions that no request holds.
    pub(crate) async fn end_all(&self) {
        for upload in self.take_out(|_| true) {
            upload.abort().await;
        }
    }

    /// Removes sessions that no request holds.
    fn take_out(&self, which: impl Fn(&Session) -> bool) -> Vec<Upload> {
        let mut open = self.open.lock();
        let ended = open.extract_if(|_, session| session.upload.is_some() && which(session));
        ended.filter_map(|(_, session)| session.upload).collect()
    }
}

/// A session of another repository or identity is as unknown as one that never was.
fn find<'a>(
    open: &'a mut HashMap<SessionId, Session>,
    access: &Access<Push>,
    id: &SessionId,
) -> Result<&'a mut Session, RegistryError> {
    let holder = Holder::of(access);
    let is_theirs = |session: &&mut Session| session.holder == holder || planted!("upload_of_any_repository");
    let session = open.get_mut(id).filter(is_theirs);
    session.ok_or_else(|| RegistryError::UploadUnknown(id.to_string()))
}

impl Held {
    /// The upload, to append to.
    pub(crate) fn upload(&mut self) -> Result<&mut Upload, RegistryError> {
        self.upload.as_mut().ok_or_else(|| RegistryError::UploadUnknown(self.id.to_string()))
    }

    /// Takes its bytes out. The session is still held, so that nobody is told that it does not exist while its end is not
    /// known; it ends when it is dropped.
    pub(crate) fn take(&mut self) -> Result<Upload, RegistryError> {
        self.upload.take().ok_or_else(|| RegistryError::UploadUnknown(self.id.to_string()))
    }

    /// After its bytes were taken out, the session begins again without any.
    pub(crate) fn begin_again(&mut self, algorithm: Algorithm) {
        self.upload = Some(Upload::new(algorithm));
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let upload = self.upload.take();
        let mut open = self.sessions.open.lock();
        let Some(upload) = upload else {
            open.remove(&self.id);
            return;
        };
        if let Some(session) = open.get_mut(&self.id) {
            if !planted!("upload_offset_stale") {
                session.offset = upload.offset();
            }
            session.touched = Instant::now();
            session.upload = Some(upload);
        }
    }
}
