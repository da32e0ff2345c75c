//! How current an answer is, and how a write is made: the one place where use cases meet barriers and modes.

use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Access, Action, Identity};
use atoll_fault::planted;
use atoll_metadata::{Command, Done, KvError, KvRead, Outcome, Rejection};
use atoll_types::{RepositoryName, RequestId, Revision};
use tokio::time::{Instant, sleep};

use crate::{
    BarrierError, Consistency, Freshness, MetadataGroup, MetadataGroupExt, Mode, Proposal, ProposeError, ReadOptions,
    RegistryConfig, RegistryError, WriteOptions, as_of,
};

/// How often a read that waits for a barrier looks whether the node has become read-only.
const MODE_POLL: Duration = Duration::from_millis(50);
/// Longest wait for a revision that is asked for.
const REVISION_WAIT_MAX: Duration = Duration::from_secs(30);

/// What a read of the state found: the thing, or that it is not there.
pub(crate) type Found<T> = Result<T, Rejection>;

/// The metadata group, asked as the use cases ask it.
#[derive(Clone)]
pub(crate) struct View {
    pub(crate) config: Arc<RegistryConfig>,
    pub(crate) metadata: Arc<dyn MetadataGroup>,
}

impl View {
    pub(crate) fn freshness(&self) -> Freshness {
        self.metadata.freshness()
    }

    fn is_read_write(&self) -> bool {
        self.freshness().mode == Mode::ReadWrite
    }

    /// Refuses a write at once when none could be acknowledged.
    pub(crate) fn writable(&self) -> Result<(), RegistryError> {
        if self.is_read_write() || planted!("read_only_write_acknowledged") {
            return Ok(());
        }
        Err(RegistryError::ReadOnly { region: self.config.region.clone() })
    }

    /// Refuses a push at once when none could be acknowledged, or when there is no room for it.
    pub(crate) fn takes_pushes(&self) -> Result<(), RegistryError> {
        self.writable()?;
        Ok(self.config.room.check()?)
    }

    /// One consistent look at what is applied here.
    pub(crate) fn read<R>(&self, read: impl FnMut(&dyn KvRead) -> Result<R, KvError>) -> Result<R, KvError> {
        as_of::note(|| self.freshness());
        self.metadata.read(read)
    }

    /// Makes the view current enough for a read by digest.
    pub(crate) async fn settle_by_digest(&self, options: &ReadOptions) -> Result<(), RegistryError> {
        self.reach(options).await?;
        match options.consistency {
            Consistency::Default => Ok(()),
            Consistency::Linearizable => self.linearize(options.deadline).await,
        }
    }

    /// Makes the view current enough for a read by tag, or of a list: of a repository, or of all.
    pub(crate) async fn settle(
        &self,
        repository: Option<&RepositoryName>,
        options: &ReadOptions,
    ) -> Result<(), RegistryError> {
        self.reach(options).await?;
        if options.consistency == Consistency::Linearizable || repository.is_some_and(|r| self.is_linearizable(r)) {
            return self.linearize(options.deadline).await;
        }
        let stale = self.freshness().staleness.is_none_or(|staleness| staleness > self.config.max_staleness);
        if stale {
            self.refresh(options.deadline).await?;
        }
        Ok(())
    }

    fn is_linearizable(&self, repository: &RepositoryName) -> bool {
        let fitting =
            self.config.tag_reads.iter().filter(|(prefix, _)| repository.as_str().starts_with(prefix.as_str()));
        fitting.max_by_key(|(prefix, _)| prefix.len()).is_some_and(|(_, reads)| *reads == Consistency::Linearizable)
    }

    /// Waits until the revision that is asked for is applied.
    async fn reach(&self, options: &ReadOptions) -> Result<(), RegistryError> {
        let Some(asked) = options.min_revision else { return Ok(()) };
        if asked <= self.freshness().applied {
            return Ok(());
        }
        let deadline = options.deadline.min(Instant::now() + REVISION_WAIT_MAX);
        let reached = self.metadata.wait_applied(asked, deadline).await;
        reached.map_err(|_| RegistryError::RevisionAhead { asked, applied: self.freshness().applied })
    }

    /// A barrier that must pass.
    async fn linearize(&self, deadline: Instant) -> Result<(), RegistryError> {
        if planted!("barrier_skipped") {
            return Ok(());
        }
        if self.refresh(deadline).await? { Ok(()) } else { Err(BarrierError::NoQuorum.into()) }
    }

    /// A barrier while a quorum can be reached. False when the node is read-only, or becomes so while it waits: the
    /// answer is then what is here, and says so.
    pub(crate) async fn refresh(&self, deadline: Instant) -> Result<bool, BarrierError> {
        if !self.is_read_write() {
            return Ok(false);
        }
        let barrier = self.metadata.barrier(deadline);
        tokio::pin!(barrier);
        loop {
            tokio::select! {
                passed = &mut barrier => return match passed {
                    Ok(_) => Ok(true),
                    Err(_) if !self.is_read_write() => Ok(false),
                    Err(error) => Err(error),
                },
                () = sleep(MODE_POLL), if deadline > Instant::now() => {
                    if !self.is_read_write() {
                        return Ok(false);
                    }
                }
            }
        }
    }

    /// Looks; and where it finds nothing, takes a barrier and looks again before it says so.
    pub(crate) async fn look_twice<T>(
        &self,
        options: &ReadOptions,
        mut look: impl FnMut(&dyn KvRead) -> Result<Found<T>, KvError>,
    ) -> Result<T, RegistryError> {
        let noted = as_of::noted();
        match self.read(&mut look)? {
            Ok(found) => Ok(found),
            Err(missing) if options.consistency == Consistency::Linearizable => Err(missing.into()),
            Err(missing) => match self.refresh(options.deadline).await? {
                true => {
                    as_of::forget_since(noted);
                    Ok(self.read(&mut look)??)
                }
                false => Err(missing.into()),
            },
        }
    }

    /// Makes a write for whoever holds the access.
    pub(crate) async fn write<A: Action>(
        &self,
        access: &Access<A>,
        command: Command,
        options: &WriteOptions,
    ) -> Result<(Revision, Done), RegistryError> {
        self.writable()?;
        self.propose(command, access.identity(), options).await
    }

    async fn propose(
        &self,
        command: Command,
        identity: &Identity,
        options: &WriteOptions,
    ) -> Result<(Revision, Done), RegistryError> {
        let applied = self.freshness().applied;
        let (seen, request) = options.request.unwrap_or_else(|| (applied, RequestId::random()));
        let client_address = match options.client_address.as_str() {
            "" => identity.address.clone(),
            address => address.to_owned(),
        };
        let proposal = Proposal {
            command,
            request,
            seen,
            may_be_retry: options.request.is_some(),
            actor: identity.name.clone(),
            client_address,
            deadline: options.deadline,
        };
        let applied = self.metadata.propose(proposal).await?;
        match applied.outcome {
            Outcome::Done(done) => Ok((applied.revision, done)),
            // Nobody retried: it is this node that was too far behind when the request came.
            Outcome::Rejected(Rejection::Expired) if options.request.is_none() => {
                let why = "this node is catching up with the group; try again".to_owned();
                Err(ProposeError::NotProposed(why).into())
            }
            Outcome::Rejected(rejection) => Err(rejection.into()),
        }
    }
}

impl WriteOptions {
    /// The same, for a step of a write that is not the one that the client named. What the client knew counts for it
    /// too: a retry must not bring back what was deleted since.
    pub(crate) fn of_a_step(&self) -> Self {
        Self { request: self.request.map(|(seen, _)| (seen, RequestId::random())), ..self.clone() }
    }
}
