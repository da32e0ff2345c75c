//! Indexes of images that were pushed before.

use super::Worker;
use super::world::{Known, Put, Why};
use crate::content::Image;
use crate::history::{Brought, Outcome};

impl Worker {
    /// An index of two images of its repository, which is pulled with them at once; now and then one that has to be
    /// refused, or the delete of a child, which has to be. `None` when no repository is known to have two images.
    pub(super) fn push_index(&mut self, node: usize) -> Option<Outcome> {
        let [first, second] = self.world.pick_two(&mut self.random)?;
        if self.chance(15) {
            return Some(self.push_without_a_child(node, first));
        }
        let child = first.image.digest;
        let index = Image::index(self.world.seed(), vec![first.image, second.image]);
        let (repository, tag) = (first.repository, self.tag_for(&index));
        let outcome = self.world.put(node, &Put::new(&repository, &tag, &index));
        if outcome == Outcome::Ok {
            let reader = self.node();
            let shown = self.world.read_manifest(reader, &repository, &index, Why::default()) == Brought::Right;
            self.world.read_parts(reader, &repository, &index, shown, false);
            if self.chance(20) {
                let is_child = |known: &Known| known.repository == repository && known.image.digest == child;
                if let Some(child) = self.world.take(&mut self.random, is_child) {
                    self.delete_image(node, &child);
                }
            }
        }
        Some(outcome)
    }

    /// An index one of whose images nobody has: were it taken, it would not be complete.
    fn push_without_a_child(&mut self, node: usize, known: Known) -> Outcome {
        let missing = self.small_image();
        let index = Image::index(self.world.seed(), vec![known.image, missing.clone()]);
        let digest = index.digest.to_string();
        let reply = self.world.send_put(node, &Put::new(&known.repository, &digest, &index));
        if reply.outcome_of_write() == Outcome::Ok {
            let why = Why { of_manifest: Some(&digest), ..Why::default() };
            self.world.read_manifest(node, &known.repository, &missing, why);
        }
        Outcome::Failed
    }
}
