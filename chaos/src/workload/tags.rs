//! Writes to tags that others write, too.

use super::Worker;
use super::world::{Put, World};
use crate::history::{Outcome, Span, TagAction, TagAnswer};

impl Worker {
    /// Points a tag to a new image, whatever it was.
    pub(super) fn move_tag(&mut self, node: usize) -> Outcome {
        let (repository, tag) = (self.world.repository(&mut self.random), World::fought_for(&mut self.random));
        let image = self.small_image();
        self.push_image(node, &repository, &tag, &image)
    }

    /// Reads a tag at one node and moves it at another, if it is still what it was.
    pub(super) fn compare_and_swap(&mut self, node: usize) -> Option<Outcome> {
        let (repository, tag) = (self.world.repository(&mut self.random), World::fought_for(&mut self.random));
        let image = self.small_image();
        for blob in &image.blobs {
            let outcome = self.world.push_blob(node, &repository, blob);
            if outcome != Outcome::Ok {
                return Some(outcome);
            }
        }
        let reader = self.node();
        let expected = match self.read_tag(reader, &repository, &tag, true).0 {
            TagAnswer::Points { digest } => Some(digest),
            TagAnswer::Absent => None,
            _ => return None,
        };
        Some(self.world.put(node, &Put { expected: Some(expected), ..Put::new(&repository, &tag, &image) }))
    }

    /// Removes a tag, not what it points to.
    pub(super) fn delete_tag(&mut self, node: usize) -> Outcome {
        let (repository, tag) = (self.world.repository(&mut self.random), World::fought_for(&mut self.random));
        let start = self.world.recorder.now();
        let reply = self.world.clients[node].call("DELETE", &format!("/v2/{repository}/manifests/{tag}"), &[], b"");
        let outcome = reply.outcome_of_write();
        let answer = match (outcome, reply.status()) {
            (Outcome::Ok, _) => TagAnswer::Done,
            (Outcome::Unknown, _) => TagAnswer::Unknown,
            (Outcome::Failed, 404) => TagAnswer::Absent,
            (Outcome::Failed, _) => return outcome,
        };
        let span = Span { node, start, end: self.world.recorder.now() };
        self.world.tag_done(&repository, &tag, span, TagAction::Delete, answer, reply.revision(), Some(0));
        outcome
    }
}
