//! I12: at the end every node has the same state, and its hash is that of its pairs. While a run goes on, the log
//! compares the hashes of all nodes at each revision.

use atoll_metadata::hash_of_all;

use crate::world::World;

pub(crate) fn check(world: &World) {
    let truth = world.log.truth(|truth| truth.kv.clone());
    match hash_of_all(&truth) {
        Ok(hash) if hash == truth.hash() => {}
        other => {
            world.judge.violated("I12", format!("the state hash is {}, and its pairs have {other:?}", truth.hash()))
        }
    }
    let committed = world.log.revision().0;
    for node in world.running() {
        let equal = world.log.replica(node.index, |kv, applied| applied != committed || *kv == truth);
        if !equal {
            world.judge.violated("I12", format!("node {} has another state at revision {committed}", node.index));
        }
    }
}
