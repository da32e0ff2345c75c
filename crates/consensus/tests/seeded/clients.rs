//! Clients: each writes versions of one tag, through any node, and reads it after a barrier at any node.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atoll_consensus::{Proposal, ProposeError};
use atoll_metadata::{Command, Expected, ManifestBody, Outcome, PutManifest, TagUpdate};
use atoll_types::{Digest, RepositoryName, RequestId};
use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;

const CLIENTS: u64 = 3;
/// How often a write whose outcome is unknown is sent again, under the same request id.
const TRIES: usize = 3;

/// One client's tag: written by nobody else, so that what it may be is known at any time.
pub(crate) struct Register {
    pub(crate) repository: RepositoryName,
    versions: Vec<Digest>,
    /// The newest version that was acknowledged.
    acknowledged: Option<usize>,
    /// Versions of unknown outcome: they may be written at any time.
    unknown: BTreeSet<usize>,
    counts: [u64; 4],
}

pub(crate) struct Clients {
    over: Arc<AtomicBool>,
    tasks: JoinSet<Register>,
}

impl Clients {
    pub(crate) fn start(cluster: &Arc<Cluster>, seed: u64) -> Self {
        let (over, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..CLIENTS {
            let register = Register::new(number);
            let dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000) + number);
            tasks.spawn(register.run(cluster.clone(), dice, over.clone()));
        }
        Self { over, tasks }
    }

    pub(crate) async fn end(mut self) -> Vec<Register> {
        self.over.store(true, Ordering::SeqCst);
        let mut registers = Vec::new();
        while let Some(register) = self.tasks.join_next().await {
            registers.push(register.expect("a client saw nothing wrong"));
        }
        registers
    }
}

impl Register {
    fn new(number: u64) -> Self {
        let repository = format!("client/{number}").parse().expect("a name");
        Self { repository, versions: Vec::new(), acknowledged: None, unknown: BTreeSet::new(), counts: [0; 4] }
    }

    /// Acknowledged, unknown and failed writes, and reads.
    pub(crate) fn totals(registers: &[Self]) -> [u64; 4] {
        let mut totals = [0; 4];
        for register in registers {
            totals.iter_mut().zip(register.counts).for_each(|(total, count)| *total += count);
        }
        totals
    }

    async fn run(mut self, cluster: Arc<Cluster>, mut dice: StdRng, over: Arc<AtomicBool>) -> Self {
        while !over.load(Ordering::SeqCst) {
            self.write(&cluster, &mut dice).await;
            self.read(&cluster, &mut dice).await;
            sleep(Duration::from_millis(dice.random_range(0..40))).await;
        }
        self
    }

    fn next_version(&mut self) -> Command {
        let body = Bytes::from(format!("version {} of {}", self.versions.len(), self.repository));
        self.versions.push(Digest::sha256(&body));
        Command::PutManifest(Box::new(PutManifest {
            repository: self.repository.clone(),
            digest: Digest::sha256(&body),
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            body: ManifestBody::Inline(body),
            references: Vec::new(),
            subject: None,
            artifact_type: String::new(),
            annotations: None,
            tags: vec![TagUpdate { tag: "latest".parse().expect("a tag"), expected: Expected::Any }],
        }))
    }

    async fn write(&mut self, cluster: &Cluster, dice: &mut StdRng) {
        let (command, request) = (self.next_version(), RequestId::random());
        let (mut seen, mut unknown) = (None, false);
        for attempt in 0..TRIES {
            let Some(group) = cluster.group(dice.random_range(0..cluster.len())).await else { continue };
            let seen = *seen.get_or_insert_with(|| group.applied());
            let proposal = Proposal {
                command: command.clone(),
                request,
                seen,
                may_be_retry: attempt > 0,
                actor: String::new(),
                client_address: String::new(),
                deadline: Instant::now() + Duration::from_millis(dice.random_range(200..2_500)),
            };
            match group.propose(proposal).await {
                Ok(applied) if matches!(applied.outcome, Outcome::Done(_)) => {
                    self.acknowledged = Some(self.versions.len() - 1);
                    self.counts[0] += 1;
                    return;
                }
                // An earlier attempt may still be written.
                Ok(_) => break,
                Err(ProposeError::Unknown(_)) => unknown = true,
                Err(ProposeError::NotProposed(_)) => sleep(Duration::from_millis(50)).await,
            }
        }
        if unknown {
            self.unknown.insert(self.versions.len() - 1);
        }
        self.counts[if unknown { 1 } else { 2 }] += 1;
    }

    /// What is read after a barrier is at least as new as what was acknowledged before it.
    async fn read(&mut self, cluster: &Cluster, dice: &mut StdRng) {
        let node = dice.random_range(0..cluster.len());
        let Some(group) = cluster.group(node).await else { return };
        let deadline = Instant::now() + Duration::from_millis(dice.random_range(100..1_500));
        if group.barrier(deadline).await.is_ok() {
            let found = cluster.version_at(&group, &self.repository).await;
            self.check(found, &format!("after a barrier at node {node}"));
            self.counts[3] += 1;
        }
    }

    pub(crate) fn check_final(&self, found: Option<Digest>, node: usize, seed: u64) {
        self.check(found, &format!("at the end at node {node}, seed {seed}"));
    }

    fn check(&self, found: Option<Digest>, when: &str) {
        let version = found.map(|found| {
            self.versions.iter().position(|version| *version == found).expect("only what was written is there")
        });
        assert!(
            version >= self.acknowledged || version.is_some_and(|version| self.unknown.contains(&version)),
            "{}: version {version:?} {when}, and {:?} was acknowledged before",
            self.repository,
            self.acknowledged
        );
    }
}
