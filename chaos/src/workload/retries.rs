//! Retries under a request id: of what got no answer, and of what was answered long ago.

use rand::RngExt as _;

use super::Worker;
use super::world::{Put, World};
use crate::history::Outcome;

const ATTEMPTS_MAX: usize = 4;

impl Worker {
    /// A put that is sent again while its outcome is unknown is one put. Sent again after a newer one, it does nothing:
    /// were it applied, readers would see the tag go back.
    pub(super) fn retry(&mut self, node: usize) -> Outcome {
        let (repository, tag) = (self.world.repository(&mut self.random), World::fought_for(&mut self.random));
        let image = self.small_image();
        for blob in &image.blobs {
            let outcome = self.world.push_blob(node, &repository, blob);
            if outcome != Outcome::Ok {
                return outcome;
            }
        }
        let id = format!("{}-{:032x}", self.world.revision(), self.random.random::<u128>());
        let put = Put { request: Some(&id), ..Put::new(&repository, &tag, &image) };
        let start = self.world.recorder.now();
        let mut reply = self.world.send_put(node, &put);
        for _ in 1..ATTEMPTS_MAX {
            if reply.outcome_of_write() != Outcome::Unknown || reply.status() == 409 {
                break;
            }
            let other = self.node();
            let again = self.world.send_put(other, &put);
            // A refusal of this attempt says nothing of those before.
            if again.outcome_of_write() != Outcome::Failed {
                reply = again;
            }
        }
        let outcome = self.world.put_done(node, &put, start, &reply);
        if outcome == Outcome::Ok {
            let newer = self.small_image();
            self.push_image(node, &repository, &tag, &newer);
            let other = self.node();
            self.world.send_put(other, &put);
            let reader = self.node();
            self.read_tag(reader, &repository, &tag, true);
        }
        outcome
    }
}
