//! Which blocks of a blob are here, which are on their way, and which to ask for next. Pure: no clock, no I/O.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use atoll_proto::replication::BLOCK_BYTES;

/// Shortest and longest run that is asked of a source at once, in blocks: 1 MiB and 16 MiB.
const SEGMENT_MIN: usize = 4;
const SEGMENT_MAX: usize = 64;
/// The first one: 2 MiB.
const SEGMENT_START: usize = 8;
/// A segment that took less is followed by longer ones, one that took more by shorter ones, so that who asks for a
/// block on its way waits for about so long at most.
const SEGMENT_QUICK: Duration = Duration::from_millis(250);
const SEGMENT_SLOW: Duration = Duration::from_secs(1);

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Missing,
    Requested,
    Here,
}

/// Names a reader.
pub(crate) type ReaderId = u64;

/// What a reader has still to get, in blocks.
#[derive(Clone, Debug)]
struct Demand {
    next: usize,
    end: usize,
}

/// A run of blocks to ask a source for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) blocks: Range<usize>,
    /// A reader waits for its first block.
    pub(crate) urgent: bool,
}

/// The blocks of one blob and who wants them.
#[derive(Debug)]
pub(crate) struct BlockMap {
    blocks: Vec<State>,
    here: usize,
    requested: usize,
    /// Blocks at the beginning that are all here.
    prefix: usize,
    readers: BTreeMap<ReaderId, Demand>,
    next_reader: ReaderId,
    read_ahead: usize,
    segment: usize,
}

impl BlockMap {
    /// Nothing is here of a blob of a size in bytes; `read_ahead` is in blocks.
    pub(crate) fn new(size: u64, read_ahead: usize) -> Self {
        let blocks = vec![State::Missing; usize::try_from(size.div_ceil(BLOCK_BYTES)).unwrap_or(0)];
        Self {
            blocks,
            here: 0,
            requested: 0,
            prefix: 0,
            readers: BTreeMap::new(),
            next_reader: 0,
            read_ahead: read_ahead.max(1),
            segment: SEGMENT_START,
        }
    }

    /// How many blocks the blob has.
    pub(crate) fn len(&self) -> usize {
        self.blocks.len()
    }

    /// Whether a block is here.
    pub(crate) fn is_here(&self, block: usize) -> bool {
        self.blocks.get(block) == Some(&State::Here)
    }

    /// Whether all are.
    #[cfg(test)]
    pub(crate) fn is_complete(&self) -> bool {
        self.here == self.blocks.len()
    }

    /// Whether any is.
    pub(crate) fn has_any(&self) -> bool {
        self.here > 0
    }

    /// Whether anybody reads.
    pub(crate) fn has_readers(&self) -> bool {
        !self.readers.is_empty()
    }

    /// Whether a reader has come to one of these blocks.
    pub(crate) fn is_awaited(&self, blocks: &Range<usize>) -> bool {
        self.readers.values().any(|demand| demand.next < demand.end && blocks.contains(&demand.next))
    }

    /// A new reader of a run of blocks.
    pub(crate) fn join(&mut self, blocks: Range<usize>) -> ReaderId {
        self.next_reader += 1;
        self.readers.insert(self.next_reader, Demand { next: blocks.start, end: blocks.end });
        self.next_reader
    }

    /// A reader has come to a block.
    pub(crate) fn advance(&mut self, reader: ReaderId, block: usize) {
        if let Some(demand) = self.readers.get_mut(&reader) {
            demand.next = block;
        }
    }

    /// A reader has all, or has left.
    pub(crate) fn leave(&mut self, reader: ReaderId) {
        self.readers.remove(&reader);
    }

    /// A block has arrived.
    pub(crate) fn arrived(&mut self, block: usize) {
        let Some(state) = self.blocks.get_mut(block).filter(|s| **s != State::Here) else { return };
        if std::mem::replace(state, State::Here) == State::Requested {
            self.requested -= 1;
        }
        self.here += 1;
        while self.is_here(self.prefix) {
            self.prefix += 1;
        }
    }

    /// A segment is not on its way any more; what has not arrived of it is missing again.
    pub(crate) fn release(&mut self, segment: Range<usize>) {
        for state in self.blocks[segment].iter_mut().filter(|s| **s == State::Requested) {
            *state = State::Missing;
            self.requested -= 1;
        }
    }

    /// Notes how long a segment took.
    pub(crate) fn took(&mut self, blocks: usize, time: Duration) {
        if time < SEGMENT_QUICK && blocks >= self.segment {
            self.segment = (self.segment * 2).min(SEGMENT_MAX);
        } else if time > SEGMENT_SLOW {
            self.segment = (self.segment / 2).max(SEGMENT_MIN);
        }
    }

    /// The next run to ask for; it counts as requested from now on. First what a reader waits for; then, while little
    /// is on its way, what readers will come to; then, with `fill`, whatever is missing.
    pub(crate) fn next_segment(&mut self, fill: bool) -> Option<Segment> {
        let segment = self.urgent(fill).or_else(|| self.ahead(fill))?;
        for state in &mut self.blocks[segment.blocks.clone()] {
            *state = State::Requested;
        }
        self.requested += segment.blocks.len();
        Some(segment)
    }

    fn urgent(&self, fill: bool) -> Option<Segment> {
        let waiting =
            self.readers.values().find(|d| d.next < d.end && self.blocks.get(d.next) == Some(&State::Missing))?;
        let blocks = self.run(waiting.next, self.horizon(waiting, fill));
        Some(Segment { blocks, urgent: true })
    }

    fn ahead(&self, fill: bool) -> Option<Segment> {
        // One segment under way, and the next one asked for when half of it is here: the pipe stays full, and little
        // stands before what somebody may ask for next.
        if self.requested > self.segment / 2 {
            return None;
        }
        let wanted = self.readers.values().find_map(|demand| self.ahead_of(demand, fill));
        let rest = || {
            let first = self.first_missing(self.prefix..self.blocks.len())?;
            Some(self.run(first, self.blocks.len()))
        };
        let blocks = wanted.or_else(|| if fill { rest() } else { None })?;
        Some(Segment { blocks, urgent: false })
    }

    /// What is missing before a reader's horizon, if it is worth a request.
    fn ahead_of(&self, demand: &Demand, fill: bool) -> Option<Range<usize>> {
        let horizon = self.horizon(demand, fill);
        let run = self.run(self.first_missing(demand.next..horizon)?, horizon);
        // A window that opens block by block must not make a request of each.
        let cut_by_window = run.end == horizon && horizon < demand.end;
        (!cut_by_window || run.len() >= (self.read_ahead / 2).min(self.segment)).then_some(run)
    }

    /// Up to where a reader's blocks may be asked for.
    fn horizon(&self, demand: &Demand, fill: bool) -> usize {
        if fill { demand.end } else { demand.end.min(demand.next + self.read_ahead) }
    }

    fn first_missing(&self, blocks: Range<usize>) -> Option<usize> {
        blocks.into_iter().find(|b| self.blocks[*b] == State::Missing)
    }

    /// The missing run from a block, of at most a segment.
    fn run(&self, start: usize, end: usize) -> Range<usize> {
        let end = end.min(start + self.segment);
        start..(start..end).find(|b| self.blocks[*b] != State::Missing).unwrap_or(end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZE: u64 = 100 * BLOCK_BYTES - 7;

    #[test]
    fn the_end_first_asks_for_the_end_alone() {
        let mut map = BlockMap::new(SIZE, 32);
        map.join(96..100);
        assert_eq!(map.next_segment(false), Some(Segment { blocks: 96..100, urgent: true }));
        assert_eq!(map.next_segment(false), None);
    }

    #[test]
    fn a_second_reader_far_ahead_is_not_made_to_wait() {
        let mut map = BlockMap::new(SIZE, 32);
        map.join(0..100);
        assert_eq!(map.next_segment(true).unwrap().blocks, 0..8);
        assert_eq!(map.next_segment(true), None, "enough is on its way");
        map.join(50..51);
        assert_eq!(map.next_segment(true), Some(Segment { blocks: 50..51, urgent: true }));
    }

    #[test]
    fn a_slow_reader_gets_no_more_than_the_read_ahead_and_no_tiny_requests() {
        let mut map = BlockMap::new(SIZE, 16);
        let reader = map.join(0..100);
        let mut requests = 0;
        for at in 0..100 {
            map.advance(reader, at);
            while let Some(segment) = map.next_segment(false) {
                assert!(segment.blocks.end <= at + 16, "{segment:?} for a reader at {at}");
                requests += 1;
                segment.blocks.for_each(|b| map.arrived(b));
            }
            assert!(map.is_here(at));
        }
        assert!(map.is_complete() && requests <= 16, "{requests} requests");
    }

    #[derive(Clone, Debug)]
    enum Step {
        Join(usize, usize),
        Leave(usize),
        Advance(usize),
        Ask,
        Arrive(usize),
        Tear,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            (0..100usize, 1..100usize).prop_map(|(a, n)| Step::Join(a, (a + n).min(100))),
            (0..4usize).prop_map(Step::Leave),
            (0..4usize).prop_map(Step::Advance),
            Just(Step::Ask),
            Just(Step::Ask),
            (1..10usize).prop_map(Step::Arrive),
            Just(Step::Tear),
        ];
        proptest::collection::vec(step, 1..120)
    }

    /// Joined readers, and what is under way.
    #[derive(Default)]
    struct World {
        readers: Vec<(ReaderId, usize, usize)>,
        flying: Vec<Range<usize>>,
    }

    fn apply(step: Step, map: &mut BlockMap, world: &mut World, fill: bool) -> Result<(), TestCaseError> {
        match step {
            Step::Join(start, end) => world.readers.push((map.join(start..end), start, end)),
            Step::Leave(i) if i < world.readers.len() => map.leave(world.readers.remove(i).0),
            Step::Advance(i) if i < world.readers.len() => {
                let (id, at, end) = &mut world.readers[i];
                while *at < *end && map.is_here(*at) {
                    *at += 1;
                }
                map.advance(*id, *at);
            }
            Step::Ask => {
                if let Some(segment) = map.next_segment(fill) {
                    let blocks = segment.blocks.clone();
                    prop_assert!(!blocks.is_empty() && blocks.len() <= SEGMENT_MAX);
                    prop_assert!(blocks.clone().all(|b| !map.is_here(b)), "{segment:?} is here already");
                    let twice = world.flying.iter().any(|f| f.start < blocks.end && blocks.start < f.end);
                    prop_assert!(!twice, "{segment:?} is on its way already");
                    world.flying.push(blocks);
                }
            }
            Step::Arrive(n) => {
                if let Some(mut blocks) = world.flying.pop() {
                    blocks.by_ref().take(n).for_each(|b| map.arrived(b));
                    if !blocks.is_empty() {
                        world.flying.push(blocks);
                    }
                }
            }
            Step::Tear => {
                if let Some(blocks) = world.flying.pop() {
                    map.release(blocks);
                }
            }
            Step::Leave(_) | Step::Advance(_) => {}
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn nothing_is_asked_for_twice_and_every_reader_gets_all(steps in steps(), fill: bool) {
            let (mut map, mut world) = (BlockMap::new(SIZE, 16), World::default());
            for step in steps {
                apply(step, &mut map, &mut world, fill)?;
            }
            for _ in 0..1_000 {
                apply(Step::Ask, &mut map, &mut world, fill)?;
                apply(Step::Arrive(3), &mut map, &mut world, fill)?;
                (0..world.readers.len()).try_for_each(|i| apply(Step::Advance(i), &mut map, &mut world, fill))?;
            }
            prop_assert!(world.readers.iter().all(|(_, at, end)| at == end), "{:?}", world.readers);
            prop_assert!(!fill || map.is_complete());
            prop_assert_eq!(map.requested, 0);
        }
    }
}
