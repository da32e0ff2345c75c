//! Any commands in any order: apply neither fails nor panics, gives the same state over an overlay as directly, and
//! keeps every invariant of the state.
#![no_main]

use std::collections::HashSet;

use atoll_metadata::{BlobSource, Changes, Command, Entry, Envelope, Kv, MemoryKv, Overlay, apply, check_invariants};
use atoll_types::{ClusterId, NodeId, ObjectName, RegionId, RequestId, Revision, StoreId};
use libfuzzer_sys::fuzz_target;

/// More make an input slow, not better.
const COMMANDS_MAX: usize = 24;

struct Step<'a> {
    command: &'a [u8],
    request: u8,
    seen_ago: u8,
    retry: bool,
    time_ms: u64,
}

impl<'a> Step<'a> {
    /// The length of a command in two bytes, how it is sent in four, then the command.
    fn split_from(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (&[low, high, request, seen_ago, retry, time], rest) = input.split_first_chunk()?;
        let (command, rest) = rest.split_at_checked(usize::from(u16::from_le_bytes([low, high])))?;
        // Up to an age at which leader time matters: sweeps are a day apart.
        let time_ms = u64::from(time).pow(4);
        Some((Self { command, request, seen_ago, retry: retry % 2 == 1, time_ms }, rest))
    }
}

fuzz_target!(|input: &[u8]| {
    let (mut world, mut input) = (World::new(), input);
    for _ in 0..COMMANDS_MAX {
        let Some((step, rest)) = Step::split_from(input) else { break };
        if let Ok(command) = Command::decode(step.command)
            && world.names_are_used_once(&command)
        {
            world.apply(&step, command);
        }
        input = rest;
    }
});

struct World {
    kv: MemoryKv,
    /// Names of objects that were recorded.
    names: HashSet<ObjectName>,
    revision: u64,
    time_ms: u64,
}

const CLUSTER: ClusterId = ClusterId::from_bytes([1; 16]);

impl World {
    /// A cluster with two regions, whose names and stores the seeds use.
    fn new() -> Self {
        let mut world = Self { kv: MemoryKv::new(), names: HashSet::new(), revision: 0, time_ms: 1_700_000_000_000 };
        let first = Step { command: &[], request: 255, seen_ago: 0, retry: false, time_ms: 0 };
        world.apply(&first, Command::InitCluster { cluster: CLUSTER, epoch: 1 });
        for (n, name) in ["east", "west"].into_iter().enumerate() {
            let region: RegionId = name.parse().expect("a name");
            let step = |request| Step { request, ..first };
            world.apply(&step(254 - 2 * n as u8), Command::RegisterRegion { region: region.clone() });
            let store = StoreId::from_bytes([b'0' + n as u8; 16]);
            world.apply(&step(253 - 2 * n as u8), Command::SetStore { region, store, replaces: None });
        }
        world
    }

    fn apply(&mut self, step: &Step<'_>, command: Command) {
        self.revision += 1;
        self.time_ms += step.time_ms;
        let envelope = Envelope {
            request: RequestId::from_bytes([step.request; 16]),
            attempt: u32::from(step.retry),
            seen: Revision((self.revision - 1).saturating_sub(u64::from(step.seen_ago))),
            actor: "someone".into(),
            client_address: String::new(),
            origin: NodeId(1),
            trace_parent: String::new(),
            cluster: CLUSTER,
            epoch: 1,
            feature_level: 1,
        };
        let entry = Entry { time_ms: self.time_ms, envelope, command };
        let (changes, over) = self.over_an_overlay(&entry);
        let directly = apply(&mut self.kv, Revision(self.revision), &entry).expect("the state can be read");
        assert_eq!(directly, over, "an outcome does not depend on the store");
        assert_eq!(changes.hash(), self.kv.hash(), "nor does the state");
        check_invariants(&self.kv);
    }

    /// Names have 128 random bits and are never used twice: what breaks that may break everything.
    fn names_are_used_once(&mut self, command: &Command) -> bool {
        match command {
            Command::LinkBlob { source: BlobSource::Uploaded { object, .. }, .. } => self.names.insert(*object),
            Command::RecordCopies { copies, .. } => copies.iter().all(|copy| self.names.insert(copy.object)),
            _ => true,
        }
    }

    fn over_an_overlay(&self, entry: &Entry) -> (MemoryKv, atoll_metadata::Applied) {
        let mut overlay = Overlay::new(&self.kv);
        let applied = apply(&mut overlay, Revision(self.revision), entry).expect("the state can be read");
        let Changes { puts, deletes, .. } = overlay.finish().expect("the state can be read");
        let mut kv = self.kv.clone();
        puts.into_iter().for_each(|(family, key, value)| kv.put(family, key, value));
        deletes.into_iter().for_each(|(family, key)| kv.delete(family, key));
        (kv, applied)
    }
}
