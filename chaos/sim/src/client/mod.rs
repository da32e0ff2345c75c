//! A client: one request after the other, at any node, and what it was told.

mod delete;
mod lists;
mod pull;
mod push;
mod session;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atoll_auth::{Access, Action, Authorizer, Identity, OpenAuthorizer};
use atoll_metadata::Rejection;
use atoll_registry::{Consistency, ProposeError, ReadOptions, Registry, RegistryError, WriteOptions};
use atoll_types::{RegionId, RepositoryName, RequestId, Revision};
use tokio::time::{Instant, sleep};

pub(crate) use pull::{read, read_manifest};

use crate::dice::Dice;
use crate::history::{Deed, Event, Register};
use crate::node::Node;
use crate::world::World;

/// How often a write whose outcome is unknown is sent again.
const RETRIES: usize = 2;

/// One client.
pub(crate) struct Client {
    world: Arc<World>,
    dice: Dice,
    name: String,
}

/// What came of a write.
enum Written<T> {
    Done(T),
    /// It provably changed nothing.
    Failed(Box<RegistryError>),
    Unknown,
}

type Writing<T> = Pin<Box<dyn Future<Output = Result<T, RegistryError>> + Send>>;

impl Client {
    pub(crate) fn new(world: &Arc<World>, name: String) -> Self {
        Self { world: world.clone(), dice: Dice::new(world.seed, &name), name }
    }

    /// Makes so many requests, or as many as there is time for.
    pub(crate) async fn run(mut self, requests: usize) {
        for _ in 0..requests {
            if self.world.is_over() {
                return;
            }
            self.request().await;
            let pause = self.dice.millis(5, 400);
            sleep(pause).await;
        }
    }

    async fn request(&mut self) {
        match self.dice.below(100) {
            0..24 => self.push_image().await,
            24..32 => self.push_blob().await,
            32..40 => self.upload_in_parts().await,
            40..50 => self.move_tag().await,
            50..56 => self.delete_tag().await,
            56..60 => self.delete_manifest().await,
            60..63 => self.delete_blob().await,
            63..67 => self.mount().await,
            67..81 => self.pull_image().await,
            81..88 => self.pull_blob().await,
            88..92 => self.list_tags().await,
            92..97 => self.ask_for_lag().await,
            _ => self.pause_or_resume().await,
        }
    }

    fn access<A: Action>(&self, repository: &RepositoryName) -> Option<Access<A>> {
        let identity = Identity { name: self.name.clone(), address: String::new() };
        let access = (&OpenAuthorizer as &dyn Authorizer).access(&identity, repository).ok();
        if access.is_none() {
            self.world.judge.violated("harness", "an open authorizer refused");
        }
        access
    }

    /// A node that runs; `None` when there is none.
    fn some_node(&mut self) -> Option<Node> {
        let running = self.world.running();
        self.dice.pick(&running).cloned()
    }

    fn repository(&mut self) -> RepositoryName {
        let of = &self.world.content.repositories;
        of[self.dice.below(of.len())].clone()
    }

    fn now_ms(&self) -> u64 {
        self.world.trace.now_ms()
    }

    fn say(&self, what: &str) {
        self.world.trace.note(&self.name, what);
    }

    fn note(&self, register: &Register, deed: Deed, start_ms: u64, certain: bool) {
        let end_ms = certain.then(|| self.now_ms());
        self.world.note(register.clone(), Event { deed, start_ms, end_ms });
    }

    fn reading(&mut self, consistency: Consistency) -> ReadOptions {
        let deadline = Instant::now() + self.dice.millis(1_500, 8_000);
        ReadOptions { consistency, min_revision: None, deadline }
    }

    /// Makes a write, and again under the same request id at another node while nobody knows what came of it.
    async fn write<T>(&mut self, what: &str, write: impl Fn(Arc<Registry>, WriteOptions) -> Writing<T>) -> Written<T> {
        let (mut unknown, request) = (false, RequestId::random());
        let (mut seen, named) = (None, self.dice.chance(0.7));
        for _ in 0..=RETRIES {
            let Some(node) = self.some_node() else { break };
            let seen: Revision = *seen.get_or_insert_with(|| node.metadata.freshness().applied);
            let deadline = Instant::now() + self.dice.millis(800, 6_000);
            let options =
                WriteOptions { request: named.then_some((seen, request)), client_address: String::new(), deadline };
            let written = node.life.run_until_cancelled(write(node.registry.clone(), options)).await;
            self.say(&format!("{what} at {}: {}", node.index, told(&written)));
            match written {
                Some(Ok(done)) => return self.count(what, Written::Done(done)),
                Some(Err(error)) if is_certain(&error) && !unknown => {
                    return self.count(what, Written::Failed(Box::new(error)));
                }
                Some(Err(error)) if is_certain(&error) => {}
                Some(Err(_)) | None => {
                    unknown = true;
                    // An upload whose link is not known leaves its object where it is, and so does the one after it where
                    // that is answered with what the first one came to.
                    self.world.places.iter().for_each(|place| place.disk.excuse(1));
                }
            }
            if !named {
                break;
            }
            let pause = self.dice.millis(10, 1_500);
            sleep(pause).await;
        }
        if unknown {
            self.count(what, Written::Unknown)
        } else {
            self.count(what, Written::Failed(Box::new(nowhere())))
        }
    }

    fn count<T>(&self, what: &str, written: Written<T>) -> Written<T> {
        let outcome = match &written {
            Written::Done(_) => 0,
            Written::Failed(_) => 1,
            Written::Unknown => 2,
        };
        self.world.judge.operation(what, outcome);
        written
    }

    async fn pause_or_resume(&mut self) {
        let Some(node) = self.some_node() else { return };
        let regions: Vec<RegionId> = self.world.regions().into_iter().collect();
        let Some(region) = self.dice.pick(&regions).cloned() else { return };
        let (within, metadata) = (Duration::from_secs(3), &*node.metadata);
        let pause = self.world.paused.lock().insert(region.clone());
        let done = match pause {
            true => node.life.run_until_cancelled(atoll_replication::pause(metadata, region.clone(), within)).await,
            false => node.life.run_until_cancelled(atoll_replication::resume(metadata, region.clone(), within)).await,
        };
        if matches!(done, Some(Ok(_))) && !pause {
            self.world.paused.lock().remove(&region);
        }
        self.say(&format!("{} {region}: {}", if pause { "pause" } else { "resume" }, told(&done)));
        let outcome = done.map_or(2, |done| usize::from(done.is_err()));
        self.world.judge.operation(if pause { "pause replication" } else { "resume replication" }, outcome);
    }
}

fn told<T>(outcome: &Option<Result<T, RegistryError>>) -> String {
    match outcome {
        Some(Ok(_)) => "ok".to_owned(),
        Some(Err(error)) => error.to_string(),
        None => "the node died".to_owned(),
    }
}

fn nowhere() -> RegistryError {
    RegistryError::Busy("no node runs".to_owned())
}

/// Whether an error says that nothing was changed.
fn is_certain(error: &RegistryError) -> bool {
    !matches!(
        error,
        RegistryError::Propose(ProposeError::Unknown(_))
            | RegistryError::Rejected(Rejection::Expired)
            | RegistryError::View(_)
    )
}
