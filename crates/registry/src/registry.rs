//! The registry: its parts, and the tasks that it owns.

use std::sync::Arc;

use atoll_blobstore::{BlobStore, CheckedReader};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::blob_reader::BlobReader;
use crate::lists::BODIES_PAGES_MAX;
use crate::suspects::Suspects;
use crate::upload::Sessions;
use crate::view::View;
use crate::{Freshness, MetadataGroup, ReadThrough, RegistryConfig};

/// The use cases of a registry. Share it by an `Arc`.
pub struct Registry {
    pub(crate) view: View,
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) reader: Arc<BlobReader>,
    pub(crate) sessions: Arc<Sessions>,
    /// For lists that take bodies of manifests.
    pub(crate) bodies_pages: Semaphore,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Registry {
    /// Puts the parts together and starts the tasks that end idle upload sessions and drop bad copies. Must be called
    /// within a Tokio runtime; end the tasks by [`Registry::shutdown`].
    pub fn new(
        config: RegistryConfig,
        metadata: Arc<dyn MetadataGroup>,
        blobs: Arc<dyn BlobStore>,
        read_through: Arc<dyn ReadThrough>,
    ) -> Self {
        let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
        let checked = CheckedReader::new(blobs.clone(), config.checksum_cache_bytes);
        let sessions = Arc::new(Sessions::new(config.uploads_max, config.upload_idle));
        let view = View { config: Arc::new(config), metadata };
        let (suspects, dropper) = Suspects::new(view.clone(), blobs.clone());
        tasks.spawn(stop.clone().run_until_cancelled_owned(dropper.run()));
        tasks.spawn(stop.clone().run_until_cancelled_owned(sessions.clone().sweep()));
        tasks.close();
        let reader = Arc::new(BlobReader::new(view.clone(), checked, read_through, suspects));
        let bodies_pages = Semaphore::new(BODIES_PAGES_MAX);
        Self { view, blobs, reader, sessions, bodies_pages, stop, tasks }
    }

    /// How current this node's view is.
    pub fn freshness(&self) -> Freshness {
        self.view.freshness()
    }

    /// Ends the tasks and all upload sessions with what they have stored. Call it when no request is under way.
    pub async fn shutdown(&self) {
        self.stop.cancel();
        self.tasks.wait().await;
        self.sessions.end_all().await;
    }
}

impl Drop for Registry {
    /// A registry that is dropped without a shutdown leaves no task behind.
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
