//! Clients: each writes and reads tags that all share, through any node.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atoll_consensus::{Group, Proposal, ProposeError};
use atoll_metadata::{Command, Expected, ManifestBody, Outcome, PutManifest, Rejection, TagUpdate, read};
use atoll_types::{Digest, RepositoryName, RequestId};
use rand::rngs::StdRng;
use rand::{Rng, RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cluster::Cluster;
use crate::counts::Counts;
use crate::history::{History, Register, Seen, latest};

const CLIENTS: u64 = 6;
/// How often a write whose outcome is unknown is sent again, under the same request id.
const TRIES: usize = 3;
/// Bytes of a manifest beyond its name, at most: snapshots shall have some weight.
const FILLER_BYTES_MAX: usize = 600;

pub(crate) struct Clients {
    over: Arc<AtomicBool>,
    tasks: JoinSet<Counts>,
}

struct Client {
    number: u64,
    cluster: Arc<Cluster>,
    history: Arc<History>,
    dice: StdRng,
    written: u64,
    counts: Counts,
}

impl Clients {
    pub(crate) fn start(cluster: &Arc<Cluster>, history: &Arc<History>, seed: u64) -> Self {
        let (over, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..CLIENTS {
            let dice = StdRng::seed_from_u64(seed.wrapping_mul(1_000) + number);
            let (cluster, history) = (cluster.clone(), history.clone());
            let client = Client { number, cluster, history, dice, written: 0, counts: Counts::default() };
            tasks.spawn(client.run(over.clone()));
        }
        Self { over, tasks }
    }

    /// Fails the run when a client has seen what cannot be.
    pub(crate) fn assert_sound(&mut self) {
        if let Some(ended) = self.tasks.try_join_next() {
            ended.expect("a client saw nothing wrong");
        }
    }

    pub(crate) async fn end(mut self) -> Counts {
        self.over.store(true, Ordering::SeqCst);
        let mut counts = Counts::default();
        while let Some(ended) = self.tasks.join_next().await {
            counts.add(&ended.expect("a client saw nothing wrong"));
        }
        counts
    }
}

impl Client {
    async fn run(mut self, over: Arc<AtomicBool>) -> Counts {
        while !over.load(Ordering::SeqCst) {
            let register = self.dice.random_range(0..self.history.registers.len());
            if self.dice.random_bool(0.6) {
                self.write(register).await;
            } else {
                self.read(register).await;
            }
            sleep(Duration::from_millis(self.dice.random_range(0..40))).await;
        }
        self.counts
    }

    async fn write(&mut self, register: usize) {
        let history = self.history.clone();
        let target = &history.registers[register];
        let mut after = None;
        if target.is_chained {
            let Some(seen) = self.read(register).await else { return };
            after = seen.tag.map(|(digest, _)| digest);
        }
        let (version, command) = self.next_version(target, after);
        target.begin(version, after);
        let what = self.send(register, version, command).await;
        self.counts.note(what);
    }

    /// Sends a write until its outcome is known, and tells it to the history. Returns what came of it.
    async fn send(&mut self, register: usize, version: Digest, command: Command) -> &'static str {
        let (history, request) = (self.history.clone(), RequestId::random());
        let known = history.known(register);
        let (mut seen, mut may_be_retry) = (None, false);
        for _ in 0..TRIES {
            let (node, deadline) = (self.any_node(), self.deadline(200, 2_500));
            let Some(node) = self.cluster.node(node) else {
                sleep(Duration::from_millis(20)).await;
                continue;
            };
            let seen = *seen.get_or_insert_with(|| node.group.applied());
            let (command, actor, client_address) = (command.clone(), String::new(), String::new());
            let proposal = Proposal { command, request, seen, may_be_retry, actor, client_address, deadline };
            match node.ask(|group| async move { group.propose(proposal).await }).await {
                Some(Ok(applied)) => match applied.outcome {
                    Outcome::Done(_) => {
                        history.acknowledged(register, version, applied.revision, known);
                        return "writes acknowledged";
                    }
                    // Another version came first.
                    Outcome::Rejected(Rejection::TagConflict { .. }) => {
                        history.registers[register].refused(version);
                        return "writes in conflict";
                    }
                    // An earlier attempt may still be there, as far as a client can know.
                    Outcome::Rejected(Rejection::Expired) if may_be_retry => break,
                    Outcome::Rejected(rejection) => panic!("{rejection}"),
                },
                Some(Err(ProposeError::NotProposed(_))) => sleep(Duration::from_millis(50)).await,
                Some(Err(ProposeError::Unknown(_))) | None => may_be_retry = true,
            }
        }
        if may_be_retry {
            return "writes unknown";
        }
        history.registers[register].refused(version);
        "writes refused"
    }

    fn next_version(&mut self, register: &Register, after: Option<Digest>) -> (Digest, Command) {
        let mut body = format!("version {} of client {} ", self.written, self.number).into_bytes();
        self.written += 1;
        let mut filler = vec![0; self.dice.random_range(0..FILLER_BYTES_MAX)];
        self.dice.fill_bytes(&mut filler);
        body.extend(filler);
        let digest = Digest::sha256(&body);
        let expected = match (register.is_chained, after) {
            (false, _) => Expected::Any,
            (true, None) => Expected::Absent,
            (true, Some(digest)) => Expected::Digest(digest),
        };
        let put = PutManifest {
            repository: register.repository.clone(),
            digest,
            media_type: "application/vnd.oci.image.manifest.v1+json".to_owned(),
            body: ManifestBody::Inline(body.into()),
            references: Vec::new(),
            subject: None,
            artifact_type: String::new(),
            annotations: None,
            tags: vec![TagUpdate { tag: latest(), expected }],
        };
        (digest, Command::PutManifest(Box::new(put)))
    }

    /// What is read after a barrier is at least as new as all that anybody was told before it.
    async fn read(&mut self, register: usize) -> Option<Seen> {
        let (node, deadline) = (self.any_node(), self.deadline(100, 1_500));
        let known = self.history.known(register);
        let repository = self.history.registers[register].repository.clone();
        let node = self.cluster.node(node)?;
        let seen = node.ask(move |group| read_after_barrier(group, repository, deadline)).await.flatten();
        let Some(seen) = seen else {
            self.counts.note("reads refused");
            return None;
        };
        self.history.read(register, seen, known);
        self.counts.note("reads");
        Some(seen)
    }

    fn any_node(&mut self) -> usize {
        self.dice.random_range(0..self.cluster.len())
    }

    fn deadline(&mut self, low_ms: u64, high_ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(self.dice.random_range(low_ms..high_ms))
    }
}

async fn read_after_barrier(group: Group, repository: RepositoryName, deadline: Instant) -> Option<Seen> {
    let barrier = group.barrier(deadline).await.ok()?;
    let mut seen = None;
    // It is run again where a read in it fails since the state has moved on.
    let read = group.read_with(&mut |kv| {
        let tag = read::tag(kv, &repository, &latest());
        let time_ms = read::last_time_ms(kv);
        seen = Some(tag.and_then(|tag| Ok(Seen { barrier, tag, time_ms: time_ms? })));
    });
    read.expect("the state can be read");
    seen.map(|seen| seen.expect("readable"))
}
