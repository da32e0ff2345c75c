//! A store that is unreliable on purpose.

mod plan;
mod writer;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use async_trait::async_trait;
use atoll_types::{ClusterId, ObjectName, StoreId};
use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt as _};
use parking_lot::Mutex;

pub use self::plan::{Fault, FaultPlan, Fired, InvalidRule, Operation};
use self::plan::{Rules, Strike};
use crate::{BlobStore, BlockChecksums, ByteStream, ObjectInfo, ObjectWriter, StoreError};

/// How many of the latest changes a stale list knows nothing of.
const RECENT_MAX: usize = 64;

/// Decorates a store with the faults of a [`FaultPlan`], and counts those that took effect: a test that saw none
/// proves nothing.
#[derive(Clone)]
pub struct FaultyStore {
    inner: Arc<dyn BlobStore>,
    shared: Arc<Shared>,
}

struct Shared {
    rules: Rules,
    recent: Mutex<VecDeque<Change>>,
}

/// What a stale list has not heard of yet.
enum Change {
    Completed(ObjectName),
    Deleted(ObjectInfo),
}

impl FaultyStore {
    /// Puts a plan before a store.
    pub fn new(inner: Arc<dyn BlobStore>, plan: FaultPlan) -> Self {
        let shared = Shared { rules: Rules::new(plan), recent: Mutex::default() };
        Self { inner, shared: Arc::new(shared) }
    }

    /// Ends or resumes the faults: what follows is the phase in which all must become well again.
    pub fn set_active(&self, active: bool) {
        self.shared.rules.set_active(active);
    }

    /// How often each fault of the plan took effect.
    pub fn fired(&self) -> Vec<Fired> {
        self.shared.rules.fired()
    }

    /// The faults of the plan that never took effect. A run counts only if there are none.
    pub fn unfired(&self) -> Vec<Fired> {
        self.fired().into_iter().filter(|fired| fired.times == 0).collect()
    }
}

impl Shared {
    /// Lets a fault strike that comes before the operation. What is given back strikes during or after it.
    async fn before(&self, operation: Operation) -> Result<Option<Strike<'_>>, StoreError> {
        let Some(strike) = self.rules.strike(operation) else { return Ok(None) };
        match strike.fault() {
            Fault::Unavailable => Err(StoreError::Unavailable(strike.fired("answers 503"))),
            Fault::Broken => Err(StoreError::Other(strike.fired("input/output error"))),
            Fault::Full => Err(StoreError::Full(strike.fired("no space left"))),
            Fault::Hang(time) => {
                let what = strike.fired("no answer");
                tokio::time::sleep(time).await;
                Err(StoreError::Unavailable(what))
            }
            Fault::Slow(time) => {
                strike.fired("slow");
                tokio::time::sleep(time).await;
                Ok(None)
            }
            _ => Ok(Some(strike)),
        }
    }

    fn remember(&self, change: Change) {
        let mut recent = self.recent.lock();
        if recent.len() == RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(change);
    }

    /// A page as it was before the latest changes.
    fn stale(&self, page: &[ObjectInfo], after: Option<&ObjectName>, limit: usize) -> Vec<ObjectInfo> {
        let recent = self.recent.lock();
        let is_new = |name: &ObjectName| recent.iter().any(|c| matches!(c, Change::Completed(n) if n == name));
        let is_after = |info: &ObjectInfo| after.is_none_or(|after| info.name.to_string() > after.to_string());
        let mut stale: Vec<_> = page.iter().filter(|info| !is_new(&info.name)).cloned().collect();
        stale.extend(recent.iter().filter_map(|change| match change {
            Change::Deleted(info) if !is_new(&info.name) && is_after(info) => Some(info.clone()),
            _ => None,
        }));
        stale.sort_by_key(|info| info.name.to_string());
        stale.truncate(limit);
        stale
    }
}

/// After an operation that succeeded: its answer may still be lost.
fn answer<T>(strike: Option<Strike<'_>>, done: T) -> Result<T, StoreError> {
    match strike {
        Some(strike) if strike.fault() == Fault::LostAnswer => {
            Err(StoreError::Unavailable(strike.fired("done, but the answer was lost")))
        }
        _ => Ok(done),
    }
}

/// Lets a fault strike in a stream of `length` bytes: it is cut, reset, or one of its bits is flipped.
fn distort(body: ByteStream, length: u64, strike: Option<Strike<'_>>) -> ByteStream {
    let Some(strike) = strike.filter(|_| length > 0) else { return body };
    let (fault, at) = (strike.fault(), strike.entropy() % length);
    let bit = (strike.entropy() >> 32) as u8 % 8;
    let what = strike.fired("a bad body");
    match fault {
        Fault::FlipBit => flip(body, at, bit),
        Fault::Cut => cut(body, at).boxed(),
        Fault::Reset => {
            let reset = stream::once(std::future::ready(Err(StoreError::Unavailable(what))));
            cut(body, at).chain(reset).boxed()
        }
        _ => body,
    }
}

/// The first `count` bytes.
fn cut(body: ByteStream, count: u64) -> impl futures::Stream<Item = Result<Bytes, StoreError>> + Send {
    body.scan(count, |left, piece| {
        let piece = piece.map(|bytes| bytes.slice(..bytes.len().min(*left as usize)));
        *left -= piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let over = piece.as_ref().is_ok_and(Bytes::is_empty);
        std::future::ready((!over).then_some(piece))
    })
}

/// All bytes, with one bit of the byte `at` flipped.
fn flip(body: ByteStream, at: u64, bit: u8) -> ByteStream {
    let flipped = body.scan(0_u64, move |seen, piece| {
        let from = *seen;
        *seen += piece.as_ref().map_or(0, |bytes| bytes.len() as u64);
        let piece = if (from..*seen).contains(&at) { piece.map(|b| flip_in(&b, at - from, bit)) } else { piece };
        std::future::ready(Some(piece))
    });
    flipped.boxed()
}

fn flip_in(bytes: &Bytes, at: u64, bit: u8) -> Bytes {
    let mut bytes = BytesMut::from(&bytes[..]);
    bytes[at as usize] ^= 1 << bit;
    bytes.freeze()
}

/// The checksums with one bit flipped, if there are any.
fn distort_checksums(good: Arc<BlockChecksums>, strike: Option<Strike<'_>>) -> Arc<BlockChecksums> {
    match strike {
        Some(strike) if !good.0.is_empty() && strike.fault() == Fault::FlipBit => {
            let mut bad = BlockChecksums::clone(&good);
            let at = strike.entropy() as usize % bad.0.len();
            bad.0[at] ^= 1 << ((strike.entropy() >> 32) % 64);
            strike.fired("a bad checksum");
            Arc::new(bad)
        }
        _ => good,
    }
}

#[async_trait]
impl BlobStore for FaultyStore {
    fn kind(&self) -> &'static str {
        self.inner.kind()
    }

    async fn create(&self, name: ObjectName) -> Result<Box<dyn ObjectWriter>, StoreError> {
        self.shared.before(Operation::Create).await?;
        let inner = self.inner.create(name).await?;
        Ok(Box::new(writer::FaultyWriter::new(inner, self.shared.clone(), name)))
    }

    async fn stat(&self, name: &ObjectName) -> Result<ObjectInfo, StoreError> {
        self.shared.before(Operation::Stat).await?;
        self.inner.stat(name).await
    }

    async fn checksums(&self, name: &ObjectName) -> Result<Arc<BlockChecksums>, StoreError> {
        let strike = self.shared.before(Operation::Checksums).await?;
        Ok(distort_checksums(self.inner.checksums(name).await?, strike))
    }

    async fn read(&self, name: &ObjectName, range: Range<u64>) -> Result<ByteStream, StoreError> {
        let strike = self.shared.before(Operation::Read).await?;
        let length = range.end.saturating_sub(range.start);
        Ok(distort(self.inner.read(name, range).await?, length, strike))
    }

    async fn delete(&self, name: &ObjectName) -> Result<(), StoreError> {
        let strike = self.shared.before(Operation::Delete).await?;
        let known = self.inner.stat(name).await.ok();
        self.inner.delete(name).await?;
        if let Some(info) = known {
            self.shared.remember(Change::Deleted(info));
        }
        answer(strike, ())
    }

    async fn list(&self, after: Option<&ObjectName>, limit: usize) -> Result<Vec<ObjectInfo>, StoreError> {
        let strike = self.shared.before(Operation::List).await?;
        let page = self.inner.list(after, limit).await?;
        let Some(strike) = strike else { return Ok(page) };
        let stale = self.shared.stale(&page, after, limit);
        if stale != page {
            strike.fired("a stale list");
        }
        Ok(stale)
    }

    async fn identify(&self, cluster: ClusterId) -> Result<StoreId, StoreError> {
        let strike = self.shared.before(Operation::Identify).await?;
        answer(strike, self.inner.identify(cluster).await?)
    }

    async fn probe(&self) -> Result<(), StoreError> {
        self.shared.before(Operation::Probe).await?;
        self.inner.probe().await
    }
}
