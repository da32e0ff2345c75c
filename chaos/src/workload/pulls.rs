//! Pulls, and ranges of blobs.

use atoll_types::Digest;
use rand::RngExt as _;

use super::Worker;
use super::world::{BlobRead, Known, Why, World};
use crate::client::Reply;
use crate::content::Blob;
use crate::history::{Brought, Outcome, Span, TagAction, TagAnswer};

/// Of a blob that is asked for where it is not.
const FOREIGN_BYTES: usize = 2_000;

impl Worker {
    /// A tag, and all that it leads to, at one node.
    pub(super) fn pull_tag(&mut self, node: usize) -> Outcome {
        let repository = self.world.repository(&mut self.random);
        let tag = World::fought_for(&mut self.random);
        let linearizable = self.chance(50);
        let (answer, outcome) = self.read_tag(node, &repository, &tag, linearizable);
        let TagAnswer::Points { digest } = answer else { return outcome };
        let known =
            self.world.known().into_iter().find(|k| k.repository == repository && k.image.digest.to_string() == digest);
        known.map_or(outcome, |known| self.pull_parts(node, &known))
    }

    /// Reads a tag and writes down what it was, and whether the manifest is the one that its digest says.
    pub(super) fn read_tag(
        &self,
        node: usize,
        repository: &str,
        tag: &str,
        linearizable: bool,
    ) -> (TagAnswer, Outcome) {
        let start = self.world.recorder.now();
        let headers: &[_] = if linearizable { &[("atoll-consistency", "linearizable")] } else { &[] };
        let reply = self.world.clients[node].get(&format!("/v2/{repository}/manifests/{tag}"), headers);
        let digest = reply.header("docker-content-digest").to_owned();
        let answer = match &reply {
            Reply::Whole(a) if a.status == 200 => {
                let actual = Digest::sha256(&a.body).to_string();
                let brought = if actual == digest { Brought::Right } else { Brought::Wrong };
                self.world.manifest_read(node, repository, &digest, start, &reply, brought, Why::default());
                TagAnswer::Points { digest }
            }
            // A cut-off node says what it knows, and how old that is.
            Reply::Whole(a) if a.status == 404 => TagAnswer::Absent,
            _ => TagAnswer::Unknown,
        };
        let staleness_ms = if linearizable { Some(0) } else { reply.staleness_ms() };
        let span = Span { node, start, end: self.world.recorder.now() };
        self.world.tag_done(repository, tag, span, TagAction::Read, answer.clone(), None, staleness_ms);
        (answer, reply.outcome_of_read())
    }

    /// An image that is known, by its digest.
    pub(super) fn pull_digest(&mut self, node: usize) -> Option<Outcome> {
        let known = self.world.pick(&mut self.random)?;
        let why = Why { min_revision: self.chance(50).then_some(known.revision), ..Why::default() };
        Some(match self.world.read_manifest(node, &known.repository, &known.image, why) {
            Brought::Right => self.pull_parts(node, &known),
            Brought::Absent => Outcome::Ok,
            _ => Outcome::Failed,
        })
    }

    /// What a manifest leads to that the node has just shown.
    fn pull_parts(&self, node: usize, known: &Known) -> Outcome {
        let all = self.world.read_parts(node, &known.repository, &known.image, true, false);
        if all { Outcome::Ok } else { Outcome::Failed }
    }

    /// A blob that one repository has, through another one that is there, too, and through one that is not.
    fn pull_through_a_foreign_repository(&mut self, node: usize) -> Option<Outcome> {
        let (blob, other) =
            (Blob::new(self.world.seed(), FOREIGN_BYTES), self.world.pick(&mut self.random)?.repository);
        // Nobody else knows of it, so that nobody mounts it.
        let outcome = self.world.push_blob(node, "round/foreign", &blob);
        if outcome != Outcome::Ok {
            return Some(outcome);
        }
        let reader = self.node();
        for repository in [other.as_str(), "foreign/none"] {
            let read = BlobRead { foreign: true, ..BlobRead::whole(repository, &blob) };
            if self.world.read_blob(reader, &read) == Brought::Nothing {
                return Some(Outcome::Failed);
            }
        }
        Some(Outcome::Ok)
    }

    /// Some bytes in the midst of a blob; and, now and then, through a repository that has no link to it.
    pub(super) fn pull_range(&mut self, node: usize) -> Option<Outcome> {
        let known = self.world.pick(&mut self.random)?;
        let blob = known.image.blobs.iter().max_by_key(|b| b.bytes)?;
        if self.chance(15) {
            return self.pull_through_a_foreign_repository(node);
        }
        let first = self.random.random_range(0..blob.bytes as u64);
        let length = self.random.random_range(1..=blob.bytes as u64 - first);
        let read = BlobRead { range: Some((first, length)), ..BlobRead::whole(&known.repository, blob) };
        let brought = self.world.read_blob(node, &read);
        Some(if brought == Brought::Right { Outcome::Ok } else { Outcome::Failed })
    }
}
