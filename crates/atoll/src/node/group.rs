//! The metadata group: started from the configuration, and seen through the port that the use cases own.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use atoll_admin::InitializeError;
use atoll_consensus::{Group, GroupOptions, Member, OnFatal, Retention, Timing};
use atoll_fault::planted;
use atoll_metadata::{Command, Done, KvError, KvRead, NodeRole, Outcome, RegisterNode, read};
use atoll_registry::{Applied, BarrierError, Freshness, MetadataGroup, Mode, Proposal, ProposeError};
use atoll_storage::{DataFolder, FolderIdentity};
use atoll_types::Revision;
use futures::future::join_all;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::parts::role;
use crate::config::{NodeConfig, Role};

/// The highest feature level that this build can apply.
pub(crate) const FEATURE_LEVEL: u32 = 1;
/// Between attempts to make the group.
const BOOTSTRAP_PAUSE: Duration = Duration::from_millis(200);
/// How long a member may take to answer while the group is made.
const MEMBER_ANSWER_WAIT: Duration = Duration::from_secs(2);
/// A stream of log entries on which nothing moves for so many elections is torn down.
const LOG_STALL_ELECTIONS: u32 = 25;

/// The timing that the configuration asks for.
fn timing(config: &NodeConfig) -> Timing {
    let election_max = config.raft.election_max();
    let log_stall = (election_max * LOG_STALL_ELECTIONS).max(Timing::LOCAL.log_stall);
    Timing { heartbeat: config.raft.heartbeat(), election_min: config.raft.election_min(), election_max, log_stall }
}

/// How much of the log is kept.
fn retention(config: &NodeConfig) -> Retention {
    let raft = &config.raft;
    Retention { entries: raft.log_entries_max, bytes: raft.log_bytes_max, snapshot_every: raft.snapshot_every }
}

/// How long a node may prove no quorum before it is read-only.
pub(crate) fn quorum_window(config: &NodeConfig) -> Duration {
    timing(config).quorum_window()
}

/// The server on which the group's services stand.
pub(crate) fn grpc_server(config: &NodeConfig) -> tonic::transport::Server {
    atoll_consensus::grpc_server(&timing(config))
}

/// Opens the data folder and starts the group. What cannot go on is told through `fatal`, and the process must end.
pub(crate) async fn start(config: &NodeConfig, fatal: mpsc::Sender<String>) -> anyhow::Result<Group> {
    if config.node.role != Role::Voter {
        bail!("node.role: only voters can be started yet; learners and witnesses come with changing membership");
    }
    let identity =
        FolderIdentity { cluster: Some(config.cluster.id), node: config.node.id, name: config.node.name.clone() };
    let path = config.node.data.clone();
    let folder = tokio::task::spawn_blocking(move || DataFolder::open(path, &identity)).await?;
    let folder = Arc::new(folder.context("opening the data folder")?);
    let on_fatal: OnFatal = Arc::new(move |why: &str| {
        tracing::error!(why, "this node cannot go on");
        // A second reason does not matter: the first one ends the process.
        let _ = fatal.try_send(why.to_owned());
    });
    let me = Member {
        node: config.node.id,
        name: config.node.name.clone(),
        region: config.node.region.clone(),
        grpc_address: config.advertised_grpc(),
    };
    // The configuration is newer than the membership where a peer has moved.
    let peers = config.cluster.members.iter().map(|m| (m.id, m.grpc.clone()));
    let options = GroupOptions {
        timing: timing(config),
        retention: retention(config),
        peer_addresses: peers.collect(),
        feature_level: FEATURE_LEVEL,
        ..GroupOptions::new(config.cluster.id, config.cluster.epoch, me, on_fatal)
    };
    Group::start(options, folder).await.context("starting the metadata group")
}

/// The members that the configuration names, as nodes that have not registered yet.
pub(crate) fn declared(config: &NodeConfig) -> Vec<RegisterNode> {
    let member = |member: &crate::config::Member| RegisterNode {
        node: member.id,
        name: member.name.clone(),
        region: member.region.clone(),
        role: role(member.role),
        grpc_address: member.grpc.clone(),
        http_address: member.http.clone(),
        admin_address: member.admin.clone(),
        store: None,
        store_kind: String::new(),
        feature_level: 0,
        incarnation: None,
    };
    config.cluster.members.iter().map(member).collect()
}

fn voters(declared: &[RegisterNode]) -> Vec<Member> {
    let voters = declared.iter().filter(|n| n.role != NodeRole::Learner).map(|n| Member {
        node: n.node,
        name: n.name.clone(),
        region: n.region.clone(),
        grpc_address: n.grpc_address.clone(),
    });
    voters.collect()
}

/// A group is made only of voters that all answer and remember no other one: out of a node whose folder was emptied
/// and one that was never started, a second group could be made beside the one that they have forgotten.
async fn check_all_are_new(group: &Group, voters: &[Member]) -> Result<(), String> {
    let deadline = Instant::now() + MEMBER_ANSWER_WAIT;
    let others = voters.iter().filter(|voter| voter.node != group.node());
    let asked = others.map(|voter| async move { (&voter.name, group.is_new(voter, deadline).await) });
    for (name, answer) in join_all(asked).await {
        match answer {
            Ok(true) => {}
            Ok(false) => return Err(format!("{name} has a group already; this node waits to hear of it")),
            Err(why) => return Err(format!("all members must run when the group is made, and {name} does not: {why}")),
        }
    }
    Ok(())
}

/// Makes the group of the declared voters, unless there is one.
pub(crate) async fn initialize(
    group: &Group,
    declared: &[RegisterNode],
    cluster: read::Cluster,
) -> Result<(), InitializeError> {
    let failed = |e: atoll_consensus::GroupError| InitializeError::Failed(e.to_string());
    if group.is_initialized().await.map_err(failed)? {
        return Err(InitializeError::Exists(cluster.id));
    }
    let voters = voters(declared);
    check_all_are_new(group, &voters).await.map_err(InitializeError::Failed)?;
    group.initialize(&voters).await.map_err(failed)
}

/// Makes the group at the first start, where the configuration asks for it. All members may do it: they make the same.
pub(crate) async fn bootstrap(group: Group, declared: Vec<RegisterNode>, cluster: read::Cluster) {
    let mut said = String::new();
    loop {
        match initialize(&group, &declared, cluster).await {
            Ok(()) | Err(InitializeError::Exists(_)) => return,
            Err(InitializeError::Failed(why)) => {
                if why != said {
                    tracing::info!(reason = %why, "the metadata group is not made yet; it is tried again");
                    said = why;
                }
                tokio::time::sleep(BOOTSTRAP_PAUSE).await;
            }
        }
    }
}

/// The group as the use cases see it.
pub(crate) struct GroupAdapter(pub(crate) Group);

pub(crate) const fn mode(mode: atoll_consensus::Mode) -> Mode {
    match mode {
        atoll_consensus::Mode::ReadWrite => Mode::ReadWrite,
        atoll_consensus::Mode::ReadOnly => Mode::ReadOnly,
    }
}

fn barrier_error(error: atoll_consensus::BarrierError) -> BarrierError {
    match error {
        atoll_consensus::BarrierError::NoQuorum => BarrierError::NoQuorum,
        atoll_consensus::BarrierError::Behind(revision) => BarrierError::Behind(revision),
    }
}

impl GroupAdapter {
    /// A planted bug's answer.
    fn as_if_applied(&self, guess: Option<Done>) -> Result<Applied, ProposeError> {
        let done = guess.ok_or_else(|| ProposeError::Unknown("no bug is planted".to_owned()))?;
        Ok(Applied { revision: self.0.applied(), outcome: Outcome::Done(done) })
    }
}

/// What a client's command says when it is done, for planted bugs. A node that only believes that its own writes are done
/// is not even registered.
fn guessed(command: &Command) -> Option<Done> {
    match command {
        Command::LinkBlob { .. } => Some(Done::Linked),
        Command::PutManifest(_) => Some(Done::ManifestPut { created: true }),
        Command::DeleteManifest { .. } | Command::DeleteTag { .. } | Command::DeleteBlob { .. } => {
            Some(Done::Deleted { continues: false })
        }
        _ => None,
    }
}

#[async_trait]
impl MetadataGroup for GroupAdapter {
    fn read_with(&self, read: &mut dyn FnMut(&dyn KvRead)) -> Result<(), KvError> {
        self.0.read_with(read)
    }

    async fn propose(&self, proposal: Proposal) -> Result<Applied, ProposeError> {
        let guess = if atoll_fault::PLANTED { guessed(&proposal.command) } else { None };
        let proposal = atoll_consensus::Proposal {
            command: proposal.command,
            request: proposal.request,
            seen: proposal.seen,
            may_be_retry: proposal.may_be_retry,
            actor: proposal.actor,
            client_address: proposal.client_address,
            deadline: proposal.deadline,
        };
        match self.0.propose(proposal).await {
            Ok(applied) => Ok(Applied { revision: applied.revision, outcome: applied.outcome }),
            Err(atoll_consensus::ProposeError::NotProposed(_))
                if guess.is_some() && planted!("read_only_write_acknowledged") =>
            {
                self.as_if_applied(guess)
            }
            Err(atoll_consensus::ProposeError::Unknown(_)) if planted!("unknown_outcome_acknowledged") => {
                self.as_if_applied(guess)
            }
            Err(atoll_consensus::ProposeError::NotProposed(why)) => Err(ProposeError::NotProposed(why)),
            Err(atoll_consensus::ProposeError::Unknown(why)) => Err(ProposeError::Unknown(why)),
        }
    }

    async fn barrier(&self, deadline: Instant) -> Result<Revision, BarrierError> {
        self.0.barrier(deadline).await.map_err(barrier_error)
    }

    async fn wait_applied(&self, revision: Revision, deadline: Instant) -> Result<(), BarrierError> {
        self.0.wait_applied(revision, deadline).await.map_err(barrier_error)
    }

    fn freshness(&self) -> Freshness {
        let now = self.0.freshness();
        Freshness {
            applied: now.applied,
            mode: mode(now.mode),
            staleness: now.staleness,
            read_only_since: now.read_only_since,
        }
    }
}
