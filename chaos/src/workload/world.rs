//! What all clients of a round share: the nodes, what was pushed so far, and how it is written down.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use rand::RngExt as _;
use rand::rngs::StdRng;

use crate::client::{Client, Reply};
use crate::content::{Blob, Image};
use crate::history::{
    Brought, Deleted, Outcome, Pushed, Read, Recorder, Span, TagAction, TagAnswer, TagOperation, What,
};

/// Repositories of a round.
const REPOSITORIES: u64 = 4;
/// Tags of each that clients fight for.
const FOUGHT_FOR: u64 = 4;

/// An image whose push was acknowledged, and under which tags.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) repository: String,
    pub(crate) tags: Vec<String>,
    pub(crate) image: Image,
    pub(crate) revision: u64,
}

/// A blob whose delete was acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Gone {
    pub(crate) blob: Blob,
    pub(crate) deleted: Deleted,
}

/// What clients share.
pub(crate) struct World {
    pub(crate) recorder: Arc<Recorder>,
    pub(crate) clients: Vec<Client>,
    round: u32,
    next_seed: AtomicU64,
    known: Mutex<Vec<Known>>,
    /// Those that nobody may delete.
    kept: Mutex<Vec<Known>>,
    /// Those that somebody tried to delete.
    taken: Mutex<Vec<Known>>,
    gone: Mutex<Vec<Gone>>,
    /// The newest revision that any client was told.
    revision: AtomicU64,
}

impl World {
    /// The world of a round.
    pub(crate) fn new(recorder: Arc<Recorder>, clients: Vec<Client>, round: u32, seed: u64) -> Self {
        let next_seed = AtomicU64::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (u64::from(round) << 32));
        Self {
            recorder,
            clients,
            round,
            next_seed,
            known: Mutex::default(),
            kept: Mutex::default(),
            taken: Mutex::default(),
            gone: Mutex::default(),
            revision: AtomicU64::new(1),
        }
    }

    /// A seed that was not given out before.
    pub(crate) fn seed(&self) -> u64 {
        self.next_seed.fetch_add(1, Ordering::Relaxed)
    }

    /// Any repository of the round.
    pub(crate) fn repository(&self, random: &mut StdRng) -> String {
        format!("round{}/r{}", self.round, random.random_range(0..REPOSITORIES))
    }

    /// A tag that others write, too.
    pub(crate) fn fought_for(random: &mut StdRng) -> String {
        format!("fought{}", random.random_range(0..FOUGHT_FOR))
    }

    /// The newest revision that any client was told.
    pub(crate) fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    /// All images whose push was acknowledged and that nobody tried to delete.
    pub(crate) fn known(&self) -> Vec<Known> {
        [self.known.lock().clone(), self.kept.lock().clone()].concat()
    }

    /// All images that somebody tried to delete.
    pub(crate) fn taken(&self) -> Vec<Known> {
        self.taken.lock().clone()
    }

    /// All blobs whose delete was acknowledged.
    pub(crate) fn gone(&self) -> Vec<Gone> {
        self.gone.lock().clone()
    }

    /// One more of those.
    pub(crate) fn note_gone(&self, blob: &Blob, deleted: Deleted) {
        self.gone.lock().push(Gone { blob: *blob, deleted });
    }

    /// An image that was pushed and that nobody tried to delete.
    pub(crate) fn pick(&self, random: &mut StdRng) -> Option<Known> {
        let known = self.known.lock();
        if known.is_empty() { None } else { Some(known[random.random_range(0..known.len())].clone()) }
    }

    /// Two images of one repository, neither of them an index.
    pub(crate) fn pick_two(&self, random: &mut StdRng) -> Option<[Known; 2]> {
        let first = self.pick(random).filter(|first| !first.image.is_index())?;
        let is_other = |k: &&Known| k.repository == first.repository && k.image.digest != first.image.digest;
        let known = self.known.lock();
        let others: Vec<&Known> = known.iter().filter(|k| !k.image.is_index() && is_other(k)).collect();
        let second = Known::clone(others.get(random.random_range(0..others.len().max(1)))?);
        Some([first, second])
    }

    /// Takes one of those out that are meant, which then is deleted: nobody else picks it from now on.
    pub(crate) fn take(&self, random: &mut StdRng, is_meant: impl Fn(&Known) -> bool) -> Option<Known> {
        let mut known = self.known.lock();
        let meant: Vec<usize> = (0..known.len()).filter(|at| is_meant(&known[*at])).collect();
        let at = *meant.get(random.random_range(0..meant.len().max(1)))?;
        let taken = known.swap_remove(at);
        self.taken.lock().push(taken.clone());
        Some(taken)
    }

    fn span(&self, node: usize, start: u64) -> Span {
        Span { node, start, end: self.recorder.now() }
    }

    fn saw(&self, reply: &Reply) {
        if let Some(revision) = reply.revision() {
            self.revision.fetch_max(revision, Ordering::Relaxed);
        }
    }

    /// Pushes a blob in one request.
    pub(crate) fn push_blob(&self, node: usize, repository: &str, blob: &Blob) -> Outcome {
        let start = self.recorder.now();
        let reply = self.clients[node].push_blob(repository, &blob.content());
        self.blob_pushed(node, repository, blob, start, &reply)
    }

    /// Writes down what came of a blob's push.
    pub(crate) fn blob_pushed(&self, node: usize, repository: &str, blob: &Blob, start: u64, reply: &Reply) -> Outcome {
        self.saw(reply);
        let outcome = reply.outcome_of_write();
        let pushed = Pushed {
            what: What::Blob,
            repository: repository.to_owned(),
            digest: blob.digest.to_string(),
            bytes: blob.bytes as u64,
            blobs: Vec::new(),
            span: self.span(node, start),
            outcome,
            status: reply.status(),
            revision: reply.revision(),
        };
        self.recorder.add(|h| h.pushed.push(pushed));
        outcome
    }

    /// Puts a manifest under a tag.
    pub(crate) fn put(&self, node: usize, put: &Put<'_>) -> Outcome {
        let start = self.recorder.now();
        let reply = self.send_put(node, put);
        self.put_done(node, put, start, &reply)
    }

    /// The request of a put.
    pub(crate) fn send_put(&self, node: usize, put: &Put<'_>) -> Reply {
        let condition = put.condition();
        let mut headers = vec![("content-type", put.image.media_type())];
        headers.extend(condition.as_ref().map(|(name, value)| (*name, value.as_str())));
        headers.extend(put.request.map(|id| ("atoll-request-id", id)));
        let path = format!("/v2/{}/manifests/{}", put.repository, put.tag);
        self.clients[node].call("PUT", &path, &headers, &put.image.manifest)
    }

    /// Writes down what came of a put.
    pub(crate) fn put_done(&self, node: usize, put: &Put<'_>, start: u64, reply: &Reply) -> Outcome {
        self.saw(reply);
        let (outcome, span) = (reply.outcome_of_write(), self.span(node, start));
        let pushed = Pushed {
            what: What::Manifest,
            repository: put.repository.to_owned(),
            digest: put.image.digest.to_string(),
            bytes: put.image.manifest.len() as u64,
            blobs: put.image.references(),
            span,
            outcome,
            status: reply.status(),
            revision: reply.revision(),
        };
        self.recorder.add(|h| h.pushed.push(pushed));
        let answer = match (outcome, reply.status()) {
            (Outcome::Ok, _) => Some(TagAnswer::Done),
            (Outcome::Unknown, _) => Some(TagAnswer::Unknown),
            (Outcome::Failed, 412) => Some(TagAnswer::Conflict),
            (Outcome::Failed, _) => None,
        };
        if let Some(answer) = answer {
            self.tag_done(put.repository, put.tag, span, put.action(), answer, reply.revision(), Some(0));
        }
        if let (Outcome::Ok, Some(revision)) = (outcome, reply.revision()) {
            let (repository, tags) = (put.repository.to_owned(), vec![put.tag.to_owned()]);
            let known = Known { repository, tags, image: put.image.clone(), revision };
            if put.keep { self.kept.lock().push(known) } else { self.known.lock().push(known) }
        }
        outcome
    }

    /// Writes an operation on a tag down.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of what is written down")]
    pub(crate) fn tag_done(
        &self,
        repository: &str,
        tag: &str,
        span: Span,
        action: TagAction,
        answer: TagAnswer,
        revision: Option<u64>,
        staleness_ms: Option<u64>,
    ) {
        let (repository, tag) = (repository.to_owned(), tag.to_owned());
        let operation = TagOperation { repository, tag, span, action, answer, revision, staleness_ms };
        self.recorder.add(|h| h.tags.push(operation));
    }

    /// Reads a blob, or a range of it, and writes down what it brought.
    pub(crate) fn read_blob(&self, node: usize, read: &BlobRead<'_>) -> Brought {
        let start = self.recorder.now();
        let range = read.range.map(|(first, length)| format!("bytes={first}-{}", first + length - 1));
        let min_revision = read.min_revision.map(|r| r.to_string());
        let mut headers = Vec::new();
        headers.extend(range.as_ref().map(|r| ("range", r.as_str())));
        headers.extend(min_revision.as_ref().map(|r| ("atoll-min-revision", r.as_str())));
        let path = format!("/v2/{}/blobs/{}", read.repository, read.blob.digest);
        let reply = self.clients[node].get(&path, &headers);
        let brought = brought(&reply, || {
            let content = read.blob.content();
            match read.range {
                Some((first, length)) => content[first as usize..(first + length) as usize].to_vec(),
                None => content,
            }
        });
        self.recorder.add(|h| {
            h.reads.push(Read {
                what: What::Blob,
                repository: read.repository.to_owned(),
                digest: read.blob.digest.to_string(),
                span: self.span(node, start),
                brought,
                status: reply.status(),
                range: read.range,
                min_revision: read.min_revision,
                of_manifest: read.of_manifest.map(ToOwned::to_owned),
                at_rest: read.at_rest,
                foreign: read.foreign,
                text: if brought == Brought::Right { String::new() } else { reply.text() },
            });
        });
        brought
    }

    /// Reads all that a manifest refers to: the blobs of an image; the children of an index, and theirs in turn. `shown`
    /// says that the node has just shown the manifest itself. False when something was not right.
    pub(crate) fn read_parts(&self, node: usize, repository: &str, image: &Image, shown: bool, at_rest: bool) -> bool {
        let digest = image.digest.to_string();
        let of_manifest = shown.then_some(digest.as_str());
        let mut all = true;
        if !image.is_index() {
            for blob in &image.blobs {
                let read = BlobRead { of_manifest, at_rest, ..BlobRead::whole(repository, blob) };
                all &= self.read_blob(node, &read) == Brought::Right;
            }
        }
        for child in &image.children {
            let why = Why { of_manifest, at_rest, ..Why::default() };
            let shown = self.read_manifest(node, repository, child, why) == Brought::Right;
            all &= shown & self.read_parts(node, repository, child, shown, at_rest);
        }
        all
    }

    /// Reads a manifest by its digest and writes down what it brought.
    pub(crate) fn read_manifest(&self, node: usize, repository: &str, image: &Image, why: Why<'_>) -> Brought {
        let start = self.recorder.now();
        let revision = why.min_revision.map(|r| r.to_string());
        let headers: Vec<_> = revision.as_ref().map(|r| ("atoll-min-revision", r.as_str())).into_iter().collect();
        let path = format!("/v2/{repository}/manifests/{}", image.digest);
        let reply = self.clients[node].get(&path, &headers);
        let brought = brought(&reply, || image.manifest.clone());
        self.manifest_read(node, repository, &image.digest.to_string(), start, &reply, brought, why);
        brought
    }

    /// Writes the read of a manifest down.
    #[expect(clippy::too_many_arguments, reason = "they are the fields of what is written down")]
    pub(crate) fn manifest_read(
        &self,
        node: usize,
        repository: &str,
        digest: &str,
        start: u64,
        reply: &Reply,
        brought: Brought,
        why: Why<'_>,
    ) {
        self.recorder.add(|h| {
            h.reads.push(Read {
                what: What::Manifest,
                repository: repository.to_owned(),
                digest: digest.to_owned(),
                span: self.span(node, start),
                brought,
                status: reply.status(),
                range: None,
                min_revision: why.min_revision,
                of_manifest: why.of_manifest.map(ToOwned::to_owned),
                at_rest: why.at_rest,
                foreign: false,
                text: if brought == Brought::Right { String::new() } else { reply.text() },
            });
        });
    }
}

/// What a read by digest brought, compared with what it had to bring.
pub(crate) fn brought(reply: &Reply, right: impl FnOnce() -> Vec<u8>) -> Brought {
    match reply {
        Reply::Whole(answer) if matches!(answer.status, 200 | 206) => {
            if answer.body == right() {
                Brought::Right
            } else {
                Brought::Wrong
            }
        }
        Reply::Whole(answer) if answer.status == 404 => Brought::Absent,
        Reply::Torn(answer) if matches!(answer.status, 200 | 206) => Brought::Torn,
        _ => Brought::Nothing,
    }
}

/// A manifest that is put under a tag.
pub(crate) struct Put<'a> {
    pub(crate) repository: &'a str,
    pub(crate) tag: &'a str,
    pub(crate) image: &'a Image,
    /// What the tag has to be: some digest, or not there.
    pub(crate) expected: Option<Option<String>>,
    /// The client's own name of the request.
    pub(crate) request: Option<&'a str>,
    /// Nobody may delete it later.
    pub(crate) keep: bool,
}

impl<'a> Put<'a> {
    /// Whatever the tag is.
    pub(crate) fn new(repository: &'a str, tag: &'a str, image: &'a Image) -> Self {
        Self { repository, tag, image, expected: None, request: None, keep: false }
    }

    fn condition(&self) -> Option<(&'static str, String)> {
        Some(match self.expected.as_ref()? {
            Some(digest) => ("if-match", format!("\"{digest}\"")),
            None => ("if-none-match", "*".to_owned()),
        })
    }

    fn action(&self) -> TagAction {
        let digest = self.image.digest.to_string();
        match &self.expected {
            None => TagAction::Put { digest },
            Some(expected) => TagAction::Cas { expected: expected.clone(), digest },
        }
    }
}

/// Why a manifest is read, which says what has to be brought.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Why<'a> {
    /// The index whose visibility at this node is the reason.
    pub(crate) of_manifest: Option<&'a str>,
    /// The revision that the node has to have applied.
    pub(crate) min_revision: Option<u64>,
    /// The cluster is whole and at rest.
    pub(crate) at_rest: bool,
}

/// A blob that is read.
pub(crate) struct BlobRead<'a> {
    pub(crate) repository: &'a str,
    pub(crate) blob: &'a Blob,
    pub(crate) range: Option<(u64, u64)>,
    pub(crate) of_manifest: Option<&'a str>,
    pub(crate) min_revision: Option<u64>,
    pub(crate) at_rest: bool,
    pub(crate) foreign: bool,
}

impl<'a> BlobRead<'a> {
    /// The whole blob.
    pub(crate) const fn whole(repository: &'a str, blob: &'a Blob) -> Self {
        Self { repository, blob, range: None, of_manifest: None, min_revision: None, at_rest: false, foreign: false }
    }
}
