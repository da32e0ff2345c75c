//! What a crash leaves of what was not synced.

use atoll_blobstore::{BlobStore as _, BlockChecksums};
use atoll_types::{Digest, ObjectName};
use bytes::Bytes;

use super::{Disk, Making, State};
use crate::dice::Dice;

/// What a disk writes at once, in bytes.
const BLOCK_BYTES: usize = 4_096;

impl Disk {
    /// A node's power goes: names that it had not synced may go with it, and what it was writing is torn.
    pub(crate) async fn lose_power(&self, node: usize) {
        let (gone, torn, unsure) = {
            let mut state = self.state.lock();
            state.excuses += 1;
            (state.lose_names(node), state.tear_unnamed(node), state.take_unsure(node))
        };
        for name in gone {
            self.lose(&name).await;
        }
        for (name, bytes) in torn {
            self.tear(name, bytes).await;
        }
        for name in unsure {
            self.decide(name).await;
        }
    }

    async fn lose(&self, name: &ObjectName) {
        self.judge.fired("name lost with the power");
        // A store in memory always can.
        let _ = self.objects.delete(name).await;
    }

    /// What could not be synced is gone, or torn, or has made it to the disk after all.
    async fn decide(&self, name: ObjectName) {
        let Some(bytes) = self.bytes(&name).await.filter(|bytes| !bytes.is_empty()) else { return };
        self.judge.fired("failed sync followed by a crash");
        let fate = self.state.lock().dice.below(3);
        if fate == 0 {
            self.lose(&name).await;
        } else if fate == 1 {
            let _ = self.objects.delete(&name).await;
            self.tear(name, bytes).await;
        }
    }

    /// Leaves a part of an object under its name. Its checksums were to come last.
    async fn tear(&self, name: ObjectName, whole: Bytes) {
        let torn = torn(&mut self.state.lock().dice, &whole);
        let checksums = BlockChecksums(vec![0; BlockChecksums::count_for(torn.len() as u64) as usize]);
        let Ok(mut writer) = self.objects.create(name).await else { return };
        if writer.write(torn).await.is_ok() && writer.complete(checksums).await.is_ok() {
            self.judge.fired("object torn by a crash");
            self.trace.note("disk", &format!("{name} is torn"));
            let mut state = self.state.lock();
            state.torn.insert(name, (Digest::sha256(&whole), whole.len() as u64));
            state.is_not_durable(name);
        }
    }
}

impl State {
    /// Names of a node whose folder was not synced, as far as the crash takes them.
    fn lose_names(&mut self, node: usize) -> Vec<ObjectName> {
        let of_node: Vec<_> = self.unsynced.extract_if(.., |(_, of)| *of == node).collect();
        of_node.into_iter().map(|(name, _)| name).filter(|_| self.dice.chance(0.5)).collect()
    }

    /// What a node was writing: some of what it had written whole is there in part, under its name; the rest is left in
    /// files without one.
    fn tear_unnamed(&mut self, node: usize) -> Vec<(ObjectName, Bytes)> {
        let of_node: Vec<Making> =
            self.making.extract_if(.., |_, making| making.node == node).map(|(_, making)| making).collect();
        let (mut torn, mut left) = (Vec::new(), 0);
        for making in of_node {
            let has_bytes = making.bytes.iter().any(|bytes| !bytes.is_empty());
            if has_bytes && making.is_syncing && self.dice.chance(0.5) {
                torn.push((making.name, making.bytes.concat().into()));
            } else {
                left += u64::from(has_bytes);
            }
        }
        self.leftovers += left;
        torn
    }

    /// Names of a node whose sync has failed.
    fn take_unsure(&mut self, node: usize) -> Vec<ObjectName> {
        self.unsure.extract_if(.., |(_, of)| *of == node).map(|(name, _)| name).collect()
    }
}

/// A beginning of some bytes, of which there is one at least, or all of them with garbage in the last block.
fn torn(dice: &mut Dice, whole: &Bytes) -> Bytes {
    let last = whole.len() - 1;
    if dice.chance(0.5) {
        return whole.slice(..dice.below(whole.len()));
    }
    let (start, mut bytes) = (last / BLOCK_BYTES * BLOCK_BYTES, whole.to_vec());
    dice.fill(&mut bytes[start..]);
    // Whatever was drawn, it is something else.
    bytes[last] = !whole[last];
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_torn_is_a_beginning_or_ends_in_garbage() {
        let mut dice = Dice::new(1, "torn");
        for size in [1, 2, BLOCK_BYTES, BLOCK_BYTES + 1, 3 * BLOCK_BYTES] {
            let whole = Bytes::from(vec![7; size]);
            for _ in 0..50 {
                let torn = torn(&mut dice, &whole);
                let intact = (size - 1) / BLOCK_BYTES * BLOCK_BYTES;
                assert!(torn != whole && torn.len() <= size);
                assert!(torn.len() < size || torn[..intact] == whole[..intact]);
                assert!(torn.len() == size || torn[..] == whole[..torn.len()]);
            }
        }
    }
}
