//! Deletes by digest.

use super::Worker;
use super::pushes::own_tag;
use super::world::{BlobRead, Known, Why};
use crate::content::Blob;
use crate::history::{Deleted, Outcome, Span, TagAction, TagAnswer, What};

impl Worker {
    /// Deletes an image or, now and then by choice, an index.
    pub(super) fn delete_manifest(&mut self, node: usize) -> Option<Outcome> {
        let any = !self.chance(15);
        let known = self.world.take(&mut self.random, |known| any || known.image.is_index())?;
        Some(self.delete_image(node, &known))
    }

    /// Deletes what was taken out before, with its tags, and looks at another node that has applied it. The child of an
    /// index stays.
    pub(super) fn delete_image(&mut self, node: usize, known: &Known) -> Outcome {
        let digest = known.image.digest.to_string();
        let Deleted { outcome, span, revision, .. } = self.delete(node, What::Manifest, &known.repository, &digest);
        let answer = match outcome {
            Outcome::Ok => TagAnswer::Done,
            Outcome::Unknown => TagAnswer::Unknown,
            Outcome::Failed => return outcome,
        };
        let mut tags = known.tags.clone();
        tags.push(own_tag(&known.image));
        tags.dedup();
        for tag in &tags {
            let action = TagAction::DeleteManifest { digest: digest.clone() };
            self.world.tag_done(&known.repository, tag, span, action, answer.clone(), None, Some(0));
        }
        if revision.is_some() {
            let (reader, why) = (self.node(), Why { min_revision: revision, ..Why::default() });
            self.world.read_manifest(reader, &known.repository, &known.image, why);
        }
        outcome
    }

    /// Deletes a blob that nothing refers to, or tries one that something does.
    pub(super) fn delete_blob(&mut self, node: usize) -> Option<Outcome> {
        if self.chance(30) {
            let known = self.world.pick(&mut self.random)?;
            let layer = known.image.blobs.first()?;
            return Some(self.unlink(node, &known.repository, layer).0);
        }
        let blob = Blob::new(self.world.seed(), 700);
        let repository = self.world.repository(&mut self.random);
        let outcome = self.world.push_blob(node, &repository, &blob);
        if outcome != Outcome::Ok {
            return Some(outcome);
        }
        if self.chance(40) {
            return Some(self.delete_what_is_mounted_elsewhere(node, &repository, &blob));
        }
        let other = self.node();
        let (outcome, revision) = self.unlink(other, &repository, &blob);
        if revision.is_some() {
            let reader = self.node();
            let read = BlobRead { min_revision: revision, ..BlobRead::whole(&repository, &blob) };
            self.world.read_blob(reader, &read);
        }
        Some(outcome)
    }

    /// The other repository goes on having it.
    fn delete_what_is_mounted_elsewhere(&mut self, node: usize, repository: &str, blob: &Blob) -> Outcome {
        let target = format!("{repository}-mounted");
        let start = self.world.recorder.now();
        let path = format!("/v2/{target}/blobs/uploads/?mount={}&from={repository}", blob.digest);
        let reply = self.world.clients[node].call("POST", &path, &[], b"");
        if reply.status() == 202 {
            return Outcome::Failed;
        }
        let mounted = self.world.blob_pushed(node, &target, blob, start, &reply);
        let (outcome, revision) = self.unlink(node, repository, blob);
        if mounted == Outcome::Ok && revision.is_some() {
            let reader = self.node();
            self.world.read_blob(reader, &BlobRead { min_revision: revision, ..BlobRead::whole(&target, blob) });
        }
        outcome
    }

    /// Deletes a blob in a repository. One that is gone is looked for again when all is at rest.
    fn unlink(&self, node: usize, repository: &str, blob: &Blob) -> (Outcome, Option<u64>) {
        let deleted = self.delete(node, What::Blob, repository, &blob.digest.to_string());
        let told = (deleted.outcome, deleted.revision);
        if deleted.outcome == Outcome::Ok {
            self.world.note_gone(blob, deleted);
        }
        told
    }

    fn delete(&self, node: usize, what: What, repository: &str, digest: &str) -> Deleted {
        let start = self.world.recorder.now();
        let folder = if what == What::Blob { "blobs" } else { "manifests" };
        let reply = self.world.clients[node].call("DELETE", &format!("/v2/{repository}/{folder}/{digest}"), &[], b"");
        let (outcome, revision) = (reply.outcome_of_write(), reply.revision());
        let span = Span { node, start, end: self.world.recorder.now() };
        let (repository, digest) = (repository.to_owned(), digest.to_owned());
        let deleted = Deleted { what, repository, digest, span, outcome, status: reply.status(), revision };
        self.world.recorder.add(|h| h.deleted.push(deleted.clone()));
        deleted
    }
}
