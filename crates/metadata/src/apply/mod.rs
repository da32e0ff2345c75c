//! Apply: one command, whole or not at all.
//!
//! Architecture invariant: every command checks first and writes afterwards, so that a refused one has written nothing
//! but its outcome. Nothing here parses, reads a clock or draws a random number.

mod copies;
mod delete;
mod idle;
#[cfg(any(test, feature = "checks"))]
pub(crate) mod invariants;
mod job;
mod lease;
mod link;
mod manifest;
mod node;
mod placement;
mod region;
mod request;
mod retry;
mod tag;
#[cfg(test)]
mod tests;

pub(crate) use node::{NODES_MAX, registered};
pub(crate) use placement::{copies, regions};
pub(crate) use tag::{HISTORY_MAX, hidden_by, visible};

use atoll_types::Revision;

use crate::keys::{self, Key, clock::ClockKey, cluster::ClusterKey, cluster::ClusterRecord};
use crate::policy;
use crate::{Applied, Command, Done, Entry, Kv, KvError, Outcome, Rejection, TooLarge};

/// The feature level of a cluster that is initialised by this version.
const FEATURE_LEVEL: u32 = 1;

/// Applies one entry at its revision and tells what came of it. A request that was applied before gets the outcome and
/// the revision that it got then. An error means that the store failed, or holds what cannot be decoded: the node must
/// stop, and nothing of this entry may be written.
pub fn apply(kv: &mut dyn Kv, revision: Revision, entry: &Entry) -> Result<Applied, KvError> {
    let mut clock = keys::get_or_default(kv, &ClockKey)?;
    clock.time_ms = clock.time_ms.max(entry.time_ms);
    let mut step = Step::new(kv, revision, clock.time_ms, &entry.envelope.actor);
    if !step.is_for_this_cluster(entry)? {
        return Ok(Applied { revision, outcome: Outcome::Rejected(Rejection::WrongCluster) });
    }
    request::prune(&mut step, &mut clock)?;
    step.put(&ClockKey, &clock);
    if let Some(applied) = request::kept(&step, entry)? {
        return Ok(applied);
    }
    let outcome = match step.run(entry) {
        Ok(done) => Outcome::Done(done),
        Err(Stop::Rejected(rejection)) => Outcome::Rejected(*rejection),
        Err(Stop::Store(error)) => return Err(error),
    };
    step.advance_queues()?;
    request::keep(&mut step, entry, &outcome);
    Ok(Applied { revision, outcome })
}

/// Why a command ends early.
enum Stop {
    /// Boxed: it is large, and rare.
    Rejected(Box<Rejection>),
    Store(KvError),
}

impl From<Rejection> for Stop {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(Box::new(rejection))
    }
}

impl From<KvError> for Stop {
    fn from(error: KvError) -> Self {
        Self::Store(error)
    }
}

type Run<T> = Result<T, Stop>;

/// One command being applied.
struct Step<'a> {
    kv: &'a mut dyn Kv,
    revision: Revision,
    /// Leader time, in milliseconds since the Unix epoch.
    time_ms: u64,
    actor: &'a str,
    /// Regions from whose queue something was taken.
    taken: std::collections::BTreeSet<atoll_types::RegionId>,
}

impl<'a> Step<'a> {
    fn new(kv: &'a mut dyn Kv, revision: Revision, time_ms: u64, actor: &'a str) -> Self {
        Self { kv, revision, time_ms, actor, taken: Default::default() }
    }

    fn get<K: Key>(&self, key: &K) -> Result<Option<K::Record>, KvError> {
        keys::get(self.kv, key)
    }

    fn get_or_default<K: Key>(&self, key: &K) -> Result<K::Record, KvError> {
        keys::get_or_default(self.kv, key)
    }

    fn has<K: Key>(&self, key: &K) -> Result<bool, KvError> {
        keys::has(self.kv, key)
    }

    fn put<K: Key>(&mut self, key: &K, record: &K::Record) {
        keys::put(self.kv, key, record);
    }

    fn delete<K: Key>(&mut self, key: &K) {
        keys::delete(self.kv, key);
    }

    fn page<K: Key>(&self, prefix: &[u8], from: &[u8], limit: usize) -> Result<Vec<(K, K::Record)>, KvError> {
        keys::page(self.kv, prefix, from, limit)
    }

    /// Changes a record, which is empty where it does not exist.
    fn update<K: Key>(&mut self, key: &K, change: impl FnOnce(&mut K::Record)) -> Result<(), KvError> {
        let mut record = self.get_or_default(key)?;
        change(&mut record);
        self.put(key, &record);
        Ok(())
    }

    /// Asks the policies before a tag moves or anything is deleted.
    fn allow(&self, repository: &atoll_types::RepositoryName, action: &policy::Action<'_>) -> Run<()> {
        policy::refusal(self.actor, repository, action).map_or(Ok(()), |rejection| Err(rejection.into()))
    }

    /// A cluster is named by the first command of all, and every command is meant for one cluster and epoch.
    fn is_for_this_cluster(&self, entry: &Entry) -> Result<bool, KvError> {
        Ok(match self.get(&ClusterKey)? {
            None => matches!(entry.command, Command::InitCluster { .. }),
            Some(cluster) => {
                cluster.cluster == entry.envelope.cluster.as_bytes() && cluster.epoch == entry.envelope.epoch
            }
        })
    }

    fn run(&mut self, entry: &Entry) -> Run<Done> {
        let level = self.get(&ClusterKey)?.map_or(FEATURE_LEVEL, |cluster| cluster.feature_level);
        if entry.envelope.feature_level > level {
            return Err(Rejection::FeatureLevel(entry.envelope.feature_level).into());
        }
        retry::admit(self, entry)?;
        match &entry.command {
            Command::InitCluster { cluster, epoch } => self.init_cluster(cluster, *epoch),
            Command::LinkBlob { repository, digest, size, source } => {
                link::link_blob(self, repository, digest, *size, source)
            }
            Command::PutManifest(put) => manifest::put_manifest(self, put),
            Command::DeleteManifest { repository, digest } => delete::delete_manifest(self, repository, digest),
            Command::DeleteTag { repository, tag } => delete::delete_tag(self, repository, tag),
            Command::DeleteBlob { repository, digest } => delete::delete_blob(self, repository, digest),
            Command::RecordCopies { region, store, copies } => copies::record_copies(self, region, store, copies),
            Command::DropCopies { region, copies } => copies::drop_copies(self, region, copies),
            Command::ForgetGarbage { region, objects } => copies::forget_garbage(self, region, objects),
            Command::RegisterRegion { region } => region::register_region(self, region),
            Command::RegisterNode(node) => node::register_node(self, node),
            Command::RemoveNode { node } => node::remove_node(self, *node),
            Command::SetStore { region, store, replaces } => region::set_store(self, region, store, replaces.as_ref()),
            Command::AcquireLease { region, duty, holder, ttl_ms } => {
                lease::acquire(self, region, duty, *holder, *ttl_ms)
            }
            Command::AdvanceSweep { region } => region::advance_sweep(self, region),
            Command::SetReplicationPaused { region, paused } => region::set_paused(self, region, *paused),
            Command::ContinueJob { job } => job::continue_job(self, *job),
            Command::CondemnLinks { links } => idle::condemn_links(self, links),
            Command::DropLinks { links } => idle::drop_links(self, links),
        }
    }

    fn init_cluster(&mut self, cluster: &atoll_types::ClusterId, epoch: u64) -> Run<Done> {
        let id = cluster.as_bytes().to_vec();
        match self.get(&ClusterKey)? {
            None => {
                let revision = self.revision.0;
                let record = ClusterRecord { cluster: id, epoch, feature_level: FEATURE_LEVEL, revision };
                self.put(&ClusterKey, &record);
                Ok(Done::Empty)
            }
            Some(found) if found.cluster == id && found.epoch == epoch => Ok(Done::Empty),
            Some(_) => Err(Rejection::WrongCluster.into()),
        }
    }
}

/// Refuses a batch that is too long. Decoding refuses it too; a command may come by another way.
fn bounded<T>(items: &[T], max: usize) -> Run<()> {
    if items.len() <= max {
        return Ok(());
    }
    Err(Rejection::TooLarge(TooLarge::Items { actual: items.len() as u64, limit: max as u64 }).into())
}
