//! What clients and watchers saw, in the order in which it was written down. Times are microseconds since the start.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use serde::Serialize;

use crate::cluster::Lag;

/// Microseconds since the history began.
pub(crate) type Micros = u64;

/// What a client knows of an operation. That the harness itself failed is none of these: it is an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Ok,
    /// It had no effect.
    Failed,
    /// It may have had its effect, or may have it at any later time.
    Unknown,
}

/// Kinds of operations, as faults are counted against them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Push,
    ChunkedPush,
    TagCas,
    TagPut,
    TagDelete,
    ManifestDelete,
    BlobDelete,
    Mount,
    Retry,
    PullTag,
    PullDigest,
    PullRange,
    List,
    Referrers,
}

impl Kind {
    pub(crate) const ALL: [Self; 14] = [
        Self::Push,
        Self::ChunkedPush,
        Self::TagCas,
        Self::TagPut,
        Self::TagDelete,
        Self::ManifestDelete,
        Self::BlobDelete,
        Self::Mount,
        Self::Retry,
        Self::PullTag,
        Self::PullDigest,
        Self::PullRange,
        Self::List,
        Self::Referrers,
    ];

    /// Whether it changes something.
    pub(crate) const fn is_write(self) -> bool {
        !matches!(self, Self::PullTag | Self::PullDigest | Self::PullRange | Self::List)
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::ChunkedPush => "chunked",
            Self::TagCas => "tag-cas",
            Self::TagPut => "tag-put",
            Self::TagDelete => "tag-del",
            Self::ManifestDelete => "man-del",
            Self::BlobDelete => "blob-del",
            Self::Mount => "mount",
            Self::Retry => "retry",
            Self::PullTag => "pull-tag",
            Self::PullDigest => "pull-dig",
            Self::PullRange => "range",
            Self::List => "list",
            Self::Referrers => "referrers",
        }
    }
}

/// When something began and ended, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Span {
    pub(crate) node: usize,
    pub(crate) start: Micros,
    pub(crate) end: Micros,
}

/// An operation of a client, whole.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Operation {
    pub(crate) kind: Kind,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) outcome: Outcome,
}

/// What was asked of a tag.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TagAction {
    /// Points it to a manifest, whatever it was.
    Put { digest: String },
    /// Points it to a manifest if it is what is expected: another, or not there.
    Cas { expected: Option<String>, digest: String },
    /// Removes it.
    Delete,
    /// Removes it if it points to this manifest, which is deleted.
    DeleteManifest { digest: String },
    /// Reads it.
    Read,
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum TagAnswer {
    /// It is done.
    Done,
    /// The tag is not what was expected.
    Conflict,
    /// There is no such tag.
    Absent,
    /// It points there.
    Points { digest: String },
    /// Nothing is known.
    Unknown,
}

/// An operation on one tag.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TagOperation {
    pub(crate) repository: String,
    pub(crate) tag: String,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) action: TagAction,
    pub(crate) answer: TagAnswer,
    /// Of an acknowledged write.
    pub(crate) revision: Option<u64>,
    /// How old the view of a local read may have been; 0 for one through a barrier.
    pub(crate) staleness_ms: Option<u64>,
}

/// What was pushed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum What {
    Blob,
    Manifest,
}

/// Something was pushed to a repository.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Pushed {
    pub(crate) what: What,
    pub(crate) repository: String,
    pub(crate) digest: String,
    pub(crate) bytes: u64,
    /// What a manifest refers to.
    pub(crate) blobs: Vec<String>,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) revision: Option<u64>,
}

/// Something was deleted by its digest.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Deleted {
    pub(crate) what: What,
    pub(crate) repository: String,
    pub(crate) digest: String,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) outcome: Outcome,
    pub(crate) status: u16,
    pub(crate) revision: Option<u64>,
}

/// What a read by digest brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Brought {
    /// What was asked for, byte for byte.
    Right,
    /// A complete answer with other bytes.
    Wrong,
    /// An answer that broke off.
    Torn,
    /// 404.
    Absent,
    /// No answer, or one of 5xx.
    Nothing,
}

/// Something was read by its digest.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Read {
    pub(crate) what: What,
    pub(crate) repository: String,
    pub(crate) digest: String,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) brought: Brought,
    pub(crate) status: u16,
    /// A range of it: first byte and length.
    pub(crate) range: Option<(u64, u64)>,
    /// The revision that the node had to have applied.
    pub(crate) min_revision: Option<u64>,
    /// For a blob: the manifest whose visibility at this node was why it was asked for.
    pub(crate) of_manifest: Option<String>,
    /// The cluster was whole and at rest: everything must be there.
    pub(crate) at_rest: bool,
    /// Through a repository that has no link to it.
    pub(crate) foreign: bool,
    /// What was said.
    pub(crate) text: String,
}

/// A step of an upload session.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct SessionStep {
    pub(crate) session: String,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) step: Step,
    pub(crate) status: u16,
}

/// What was asked of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    /// It was opened.
    Opened,
    /// A chunk was taken, and the session has so many bytes now.
    Appended { offset: u64 },
    /// It was asked, and said that it has so many bytes.
    Asked { offset: u64 },
    /// It was finished with a digest.
    Finished { digest: String },
    /// It was asked for through another repository.
    Foreign,
    /// A chunk was sent that does not begin where the session is.
    Misplaced,
    /// The request that finished it was sent again.
    FinishedAgain,
    /// It is not known any more.
    Lost,
    /// It was given up by its client.
    Cancelled,
}

/// A whole listing, page by page.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Listing {
    pub(crate) repository: String,
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) tags: Vec<String>,
}

/// What a cut-off node did with a request.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Probe {
    #[serde(flatten)]
    pub(crate) span: Span,
    pub(crate) write: bool,
    pub(crate) status: u16,
    pub(crate) brought: Option<Brought>,
    pub(crate) warned: bool,
    pub(crate) text: String,
}

/// What a node said of its term, and whether it leads in it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct TermSeen {
    pub(crate) node: usize,
    pub(crate) at: Micros,
    pub(crate) term: u64,
    pub(crate) leads: bool,
}

/// A process of a node was started.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Started {
    pub(crate) node: usize,
    pub(crate) at: Micros,
    /// With files that were damaged on purpose.
    pub(crate) damaged: bool,
}

/// What a node said of the lag of all regions, and what the stores held right after.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LagSeen {
    pub(crate) node: usize,
    pub(crate) at: Micros,
    pub(crate) revision: u64,
    pub(crate) regions: Vec<Lag>,
    /// By region, in the order of the nodes: digests of whole objects in its store; nothing of one that was away.
    #[serde(skip)]
    pub(crate) stores: Vec<Option<std::collections::BTreeSet<String>>>,
}

/// What a process used.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Usage {
    pub(crate) node: usize,
    pub(crate) at: Micros,
    pub(crate) resident_bytes: u64,
    pub(crate) descriptors: u64,
    pub(crate) threads: u64,
    pub(crate) temporary_bytes: u64,
}

/// How it went on after the last fault was healed.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Healing {
    /// How long it took until everything below was so; `None` when it was not in time.
    pub(crate) took: Option<Duration>,
    /// What was not so at the end.
    pub(crate) missing: Vec<String>,
}

/// The state hashes of all nodes.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct HashCheck {
    /// Names and hashes, at one revision.
    pub(crate) nodes: Vec<(String, Option<String>)>,
    pub(crate) equal: bool,
    /// What the command said when it failed.
    pub(crate) failure: Option<String>,
}

/// All objects of all stores at rest.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct StoresAtRest {
    /// By node: digests of whole objects.
    pub(crate) digests: Vec<std::collections::BTreeSet<String>>,
    /// By node: files that are no whole object.
    pub(crate) broken: Vec<Vec<String>>,
    /// By node: what it says that each region lacks; nothing of one that did not answer.
    pub(crate) lag: Vec<Vec<Lag>>,
    /// By node: temporary files of its store.
    pub(crate) temporary: Vec<u64>,
}

/// Everything that was seen in one round.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct History {
    pub(crate) operations: Vec<Operation>,
    pub(crate) tags: Vec<TagOperation>,
    pub(crate) pushed: Vec<Pushed>,
    pub(crate) deleted: Vec<Deleted>,
    pub(crate) reads: Vec<Read>,
    pub(crate) sessions: Vec<SessionStep>,
    pub(crate) listings: Vec<Listing>,
    pub(crate) probes: Vec<Probe>,
    pub(crate) terms: Vec<TermSeen>,
    pub(crate) starts: Vec<Started>,
    pub(crate) lags: Vec<LagSeen>,
    pub(crate) usage: Vec<Usage>,
    pub(crate) healing: Option<Healing>,
    pub(crate) hashes: Vec<HashCheck>,
    pub(crate) at_rest: Option<StoresAtRest>,
    /// Upload sessions of earlier rounds that may still be open.
    pub(crate) unfinished_before: u64,
    /// Copies were damaged on purpose: what a store holds is not what it was given.
    pub(crate) damaged: bool,
    /// Names of the faults that have begun; none where nobody has written them down.
    pub(crate) faults: Vec<&'static str>,
}

impl History {
    /// Pushes that were acknowledged and that no delete in their repository may have taken away.
    pub(crate) fn standing(&self) -> impl Iterator<Item = &Pushed> {
        let gone = self.deleted.iter().filter(|d| d.outcome != Outcome::Failed);
        let gone: HashSet<(What, &str, &str)> = gone.map(|d| (d.what, &*d.repository, &*d.digest)).collect();
        let acknowledged = self.pushed.iter().filter(|p| p.outcome == Outcome::Ok);
        acknowledged.filter(move |p| !gone.contains(&(p.what, &*p.repository, &*p.digest)))
    }
}

/// Writes a history down.
pub(crate) struct Recorder {
    began: Instant,
    history: Mutex<History>,
}

impl Recorder {
    pub(crate) fn new() -> Self {
        Self { began: Instant::now(), history: Mutex::new(History::default()) }
    }

    /// The time now.
    pub(crate) fn now(&self) -> Micros {
        self.began.elapsed().as_micros() as Micros
    }

    /// Writes something down.
    pub(crate) fn add(&self, write: impl FnOnce(&mut History)) {
        write(&mut self.history.lock());
    }

    /// Looks at what was written so far.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&History) -> T) -> T {
        read(&self.history.lock())
    }

    /// How many operations were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> usize {
        self.look(|h| h.operations.iter().filter(|o| o.outcome == Outcome::Ok).count())
    }

    /// The whole history.
    pub(crate) fn finish(&self) -> History {
        std::mem::take(&mut *self.history.lock())
    }
}
