//! What every [`BlobStore`] must do, as a suite that runs against any of them.
//!
//! ```text
//! contract::run(|| Arc::new(FsStore::open(fresh_folder(), FsOptions::default())?)).await?;
//! ```

use std::fmt::Debug;
use std::ops::Range;
use std::sync::Arc;

use atoll_types::{ClusterId, ObjectName};
use bytes::Bytes;
use futures::future::{BoxFuture, join_all};
use futures::{FutureExt as _, TryStreamExt as _};

use crate::{BlobStore, BlockChecksums, StoreError};

/// A case that a store does not pass: its name, and what was seen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{case}: {detail}")]
pub struct Violation {
    /// The case.
    pub case: &'static str,
    /// What was seen, and what was expected.
    pub detail: String,
}

/// What was seen, in a case that failed.
struct Seen(String);

impl From<StoreError> for Seen {
    fn from(error: StoreError) -> Self {
        Self(format!("unexpected error: {error}"))
    }
}

type Verdict = Result<(), Seen>;
type Store = Arc<dyn BlobStore>;
type Case = (&'static str, fn(Store) -> BoxFuture<'static, Verdict>);
type SizedCase = (&'static str, fn(Store, usize) -> BoxFuture<'static, Verdict>);

const BLOCK: usize = BlockChecksums::BLOCK_BYTES as usize;
const WHOLE: usize = BlockChecksums::WHOLE_BYTES_MAX as usize;

/// Sizes around every border that matters, in bytes.
const SIZES: [usize; 11] =
    [0, 1, WHOLE - 1, WHOLE, WHOLE + 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK, 3 * BLOCK - 1, 8 * BLOCK + 12_345];

const CASES: [Case; 15] = [
    ("an object is visible only when it is complete", |s| visible_when_complete(s).boxed()),
    ("a writer that is aborted or dropped leaves nothing", |s| abort_leaves_nothing(s).boxed()),
    ("a name is never overwritten", |s| never_overwritten(s).boxed()),
    ("of two that complete one name at once, one wins", |s| one_wins(s).boxed()),
    ("bytes and checksums come back as they were given", |s| given_back(s).boxed()),
    ("a wrong number of checksums is refused", |s| wrong_count(s).boxed()),
    ("every range gives its bytes", |s| ranges(s).boxed()),
    ("a range beyond the end is corrupt", |s| beyond_the_end(s).boxed()),
    ("what is not there is not found", |s| missing(s).boxed()),
    ("a delete takes one object, and may be repeated", |s| delete(s).boxed()),
    ("lists are in order, in pages", |s| list(s).boxed()),
    ("a writer that is parked goes on where it was", |s| parked(s).boxed()),
    ("a store keeps its identity", |s| identity(s).boxed()),
    ("a probe leaves nothing", |s| probe(s).boxed()),
    ("many write, read and delete at once", |s| concurrency(s).boxed()),
];

/// Runs every case against a fresh store. `make` gives an empty one each time it is called.
pub async fn run(make: impl Fn() -> Arc<dyn BlobStore>) -> Result<(), Violation> {
    run_with(async || make()).await
}

/// The same, for a store that is opened by asking somebody.
pub async fn run_with(make: impl AsyncFn() -> Arc<dyn BlobStore>) -> Result<(), Violation> {
    for (case, check) in CASES {
        check(make().await).await.map_err(|Seen(detail)| Violation { case, detail })?;
    }
    Ok(())
}

/// What is done to objects of any size.
const SIZED_CASES: [SizedCase; 4] = [
    ("a large object comes back as it was given", |s, size| large_given_back(s, size).boxed()),
    ("a large object that is parked again and again comes back", |s, size| large_parked(s, size).boxed()),
    ("a large object that is aborted or dropped leaves nothing", |s, size| large_given_up(s, size).boxed()),
    ("a large name is never overwritten", |s, size| large_never_overwritten(s, size).boxed()),
];

/// Runs further cases with objects of these sizes, for a store that treats large ones in another way.
pub async fn run_sized(make: impl AsyncFn() -> Arc<dyn BlobStore>, sizes: &[usize]) -> Result<(), Violation> {
    for ((case, check), size) in SIZED_CASES.iter().flat_map(|case| sizes.iter().map(move |size| (case, *size))) {
        let seen = |Seen(detail)| Violation { case, detail: format!("{size} bytes: {detail}") };
        check(make().await, size).await.map_err(seen)?;
    }
    Ok(())
}

/// Bytes in which every block differs from every other, and so does every content of another `seed`.
pub fn content(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    })
    .take(size)
    .collect()
}

async fn visible_when_complete(store: Store) -> Verdict {
    for size in [10, 5 * BLOCK] {
        let (name, bytes) = (ObjectName::random(1), content(size, 1));
        let mut writer = store.create(name).await?;
        writer.write(bytes.clone().into()).await?;
        expect("bytes taken", writer.written(), size as u64)?;
        expect_missing(&store, &name).await?;
        expect("listed before", store.list(None, 10).await?, vec![])?;
        writer.complete(BlockChecksums::of(&bytes)).await?;
        expect("read after", read(&store, &name, 0..size as u64).await?, bytes)?;
        expect("listed after", names(store.list(None, 10).await?), vec![name])?;
        store.delete(&name).await?;
    }
    Ok(())
}

async fn abort_leaves_nothing(store: Store) -> Verdict {
    for size in [0, 10, 5 * BLOCK] {
        let (aborted, dropped) = (ObjectName::random(1), ObjectName::random(1));
        let mut writer = store.create(aborted).await?;
        writer.write(content(size, 2).into()).await?;
        writer.abort().await?;
        let mut writer = store.create(dropped).await?;
        writer.write(content(size, 3).into()).await?;
        drop(writer);
        expect_missing(&store, &aborted).await?;
        expect_missing(&store, &dropped).await?;
    }
    expect("listed", store.list(None, 10).await?, vec![])
}

async fn never_overwritten(store: Store) -> Verdict {
    for size in [10, 5 * BLOCK] {
        let (name, first, second) = (ObjectName::random(1), content(size, 4), content(size + 1, 5));
        put(&store, name, &first).await?;
        let again = put(&store, name, &second).await;
        if again.is_ok() {
            return Err(Seen(format!("{name} was completed twice")));
        }
        expect("the first content", read(&store, &name, 0..size as u64).await?, first)?;
        expect("size", store.stat(&name).await?.size, size as u64)?;
    }
    Ok(())
}

async fn one_wins(store: Store) -> Verdict {
    let name = ObjectName::random(1);
    let contents: Vec<_> = (0..8).map(|seed| content(BLOCK + seed as usize, seed)).collect();
    let results = join_all(contents.iter().map(|bytes| put(&store, name, bytes))).await;
    let winners: Vec<_> = results.iter().zip(&contents).filter(|(r, _)| r.is_ok()).map(|(_, bytes)| bytes).collect();
    let [winner] = winners[..] else { return Err(Seen(format!("{} of 8 completed one name", winners.len()))) };
    expect("the winner's content", &read(&store, &name, 0..winner.len() as u64).await?, winner)
}

async fn given_back(store: Store) -> Verdict {
    for (size, piece) in SIZES.into_iter().flat_map(|size| [(size, 100_003), (size, usize::MAX)]) {
        let (name, bytes) = (ObjectName::random(3), content(size, size as u64));
        let mut writer = store.create(name).await?;
        for piece in bytes.chunks(piece) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
        }
        writer.complete(BlockChecksums::of(&bytes)).await?;
        expect("name and size", (store.stat(&name).await?.name, store.stat(&name).await?.size), (name, size as u64))?;
        expect("checksums", &*store.checksums(&name).await?, &BlockChecksums::of(&bytes))?;
        expect("bytes", read(&store, &name, 0..size as u64).await?, bytes)?;
    }
    Ok(())
}

async fn wrong_count(store: Store) -> Verdict {
    for (size, count) in [(10, 1), (WHOLE, 1), (WHOLE + 1, 0), (2 * BLOCK, 1), (2 * BLOCK, 3)] {
        let name = ObjectName::random(1);
        let mut writer = store.create(name).await?;
        writer.write(content(size, 6).into()).await?;
        if writer.complete(BlockChecksums(vec![0; count])).await.is_ok() {
            return Err(Seen(format!("{size} bytes were completed with {count} checksums")));
        }
        expect_missing(&store, &name).await?;
    }
    Ok(())
}

async fn ranges(store: Store) -> Verdict {
    for size in SIZES {
        let (name, bytes) = (ObjectName::random(1), content(size, 7));
        put(&store, name, &bytes).await?;
        let borders = [0, 1, WHOLE, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, size.saturating_sub(1), size];
        for from in borders.into_iter().filter(|b| *b <= size) {
            for to in borders.into_iter().filter(|b| (from..=size).contains(b)) {
                let got = read(&store, &name, from as u64..to as u64).await?;
                expect_bytes(&format!("bytes {from}..{to} of {size}"), &got, &bytes[from..to])?;
            }
        }
    }
    Ok(())
}

async fn beyond_the_end(store: Store) -> Verdict {
    for size in [0, 10, WHOLE + 1, 2 * BLOCK] {
        let name = ObjectName::random(1);
        put(&store, name, &content(size, 8)).await?;
        let size = size as u64;
        for range in [0..size + 1, size..size + 1, size + 1..size + 2, 0..u64::MAX, u64::MAX - 1..u64::MAX] {
            match read(&store, &name, range.clone()).await {
                Err(StoreError::Corrupt { object, .. }) if object == name => {}
                other => return Err(Seen(format!("{range:?} of {size} bytes gave {:?}", other.map(|b| b.len())))),
            }
        }
    }
    Ok(())
}

async fn missing(store: Store) -> Verdict {
    let name = ObjectName::random(1);
    expect_missing(&store, &name).await?;
    store.delete(&name).await?;
    expect("an empty list", store.list(None, 10).await?, vec![])
}

async fn delete(store: Store) -> Verdict {
    let (gone, stays, bytes) = (ObjectName::random(1), ObjectName::random(1), content(5 * BLOCK, 9));
    put(&store, gone, &bytes).await?;
    put(&store, stays, &bytes).await?;
    store.delete(&gone).await?;
    store.delete(&gone).await?;
    expect_missing(&store, &gone).await?;
    expect("listed", names(store.list(None, 10).await?), vec![stays])?;
    expect("the other", read(&store, &stays, 0..bytes.len() as u64).await?, bytes)
}

async fn list(store: Store) -> Verdict {
    // Several in one folder, with epochs whose order as text is not that of numbers.
    let mut all: Vec<_> = (0..40_u8).map(|i| name_of(i, if i % 2 == 0 { 7 } else { 10 })).collect();
    for (size, name) in all.iter().enumerate() {
        put(&store, *name, &content(size, 10)).await?;
    }
    let sizes: Vec<_> = all.iter().copied().zip(0_u64..).collect();
    all.sort_unstable_by_key(ToString::to_string);
    for limit in [1, 3, 39, 40, 41] {
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            let page = store.list(after.as_ref(), limit).await?;
            let Some(last) = page.last() else { break };
            if page.len() > limit || found.len() > all.len() {
                return Err(Seen(format!("a page of {} for a limit of {limit}", page.len())));
            }
            after = Some(last.name);
            found.extend(page);
        }
        let right = found.iter().all(|info| sizes.contains(&(info.name, info.size)));
        expect(&format!("sizes, pages of {limit}"), right, true)?;
        expect(&format!("names, pages of {limit}"), names(found), all.clone())?;
    }
    expect("no room for any", store.list(None, 0).await?, vec![])?;
    let between = ObjectName::from_parts(9, [0x02; 16]);
    let later: Vec<_> = all.into_iter().filter(|name| name.to_string() > between.to_string()).collect();
    expect("after a name that is not there", names(store.list(Some(&between), 100).await?), later)
}

async fn parked(store: Store) -> Verdict {
    for size in SIZES {
        let (name, bytes) = (ObjectName::random(1), content(size, 11));
        let mut writer = store.create(name).await?;
        for piece in bytes.chunks((size / 5).max(1)) {
            writer.write(Bytes::copy_from_slice(piece)).await?;
            writer.park().await?;
            // Nothing is left to do, and that is no error.
            writer.park().await?;
        }
        expect("bytes taken", writer.written(), size as u64)?;
        writer.complete(BlockChecksums::of(&bytes)).await?;
        expect_bytes("the object", &read(&store, &name, 0..size as u64).await?, &bytes)?;
        let mut given_up = store.create(ObjectName::random(1)).await?;
        given_up.write(bytes.into()).await?;
        given_up.park().await?;
        given_up.abort().await?;
    }
    expect("objects", store.list(None, 100).await?.len(), SIZES.len())
}

async fn identity(store: Store) -> Verdict {
    let (ours, theirs) = (ClusterId::random(), ClusterId::random());
    let id = store.identify(ours).await?;
    expect("the second answer", store.identify(ours).await?, id)?;
    match store.identify(theirs).await {
        Err(StoreError::Marker(text)) if text.contains(&ours.to_string()) => {}
        other => return Err(Seen(format!("another cluster was answered {other:?}"))),
    }
    expect("after a stranger", store.identify(ours).await?, id)?;
    expect("the marker is no object", store.list(None, 10).await?, vec![])
}

async fn probe(store: Store) -> Verdict {
    store.probe().await?;
    store.identify(ClusterId::random()).await?;
    store.probe().await?;
    expect("listed", store.list(None, 10).await?, vec![])
}

async fn concurrency(store: Store) -> Verdict {
    let each = (0..32_u64).map(|i| {
        let store = store.clone();
        async move {
            let (name, bytes) = (ObjectName::random(i), content(i as usize * 20_011, i));
            put(&store, name, &bytes).await?;
            for _ in 0..3 {
                expect_bytes("bytes", &read(&store, &name, 0..bytes.len() as u64).await?, &bytes)?;
            }
            if i % 2 == 0 {
                store.delete(&name).await?;
            }
            Ok(())
        }
    });
    join_all(each).await.into_iter().collect::<Verdict>()?;
    expect("left", store.list(None, 100).await?.len(), 16)
}

async fn large_given_back(store: Store, size: usize) -> Verdict {
    let (name, bytes) = (ObjectName::random(3), content(size, size as u64));
    let mut writer = store.create(name).await?;
    for piece in bytes.chunks(250_007) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
    }
    expect_missing(&store, &name).await?;
    writer.complete(BlockChecksums::of(&bytes)).await?;
    is_there(&store, name, &bytes).await
}

/// It is there whole, in ranges across borders, in the list; and after a delete it is gone.
async fn is_there(store: &Store, name: ObjectName, bytes: &[u8]) -> Verdict {
    let size = bytes.len();
    expect("name and size", (store.stat(&name).await?.name, store.stat(&name).await?.size), (name, size as u64))?;
    expect("checksums", &*store.checksums(&name).await?, &BlockChecksums::of(bytes))?;
    expect_bytes("bytes", &read(store, &name, 0..size as u64).await?, bytes)?;
    for (from, to) in [(0, 1), (size / 2 - 1, size / 2 + BLOCK + 1), (size - 1, size)] {
        let got = read(store, &name, from as u64..to as u64).await?;
        expect_bytes(&format!("bytes {from}..{to}"), &got, &bytes[from..to])?;
    }
    expect("listed", store.list(None, 10).await?, vec![crate::ObjectInfo { name, size: size as u64 }])?;
    store.delete(&name).await?;
    expect_missing(store, &name).await
}

async fn large_parked(store: Store, size: usize) -> Verdict {
    let (name, bytes) = (ObjectName::random(3), content(size, 21));
    let mut writer = store.create(name).await?;
    for piece in bytes.chunks(size / 23 + 1) {
        writer.write(Bytes::copy_from_slice(piece)).await?;
        writer.park().await?;
    }
    expect("bytes taken", writer.written(), size as u64)?;
    writer.complete(BlockChecksums::of(&bytes)).await?;
    is_there(&store, name, &bytes).await
}

async fn large_given_up(store: Store, size: usize) -> Verdict {
    for abort in [true, false] {
        let name = ObjectName::random(1);
        let mut writer = store.create(name).await?;
        writer.write(content(size, 22).into()).await?;
        writer.park().await?;
        writer.write(content(BLOCK, 23).into()).await?;
        match abort {
            true => writer.abort().await?,
            false => drop(writer),
        }
        expect_missing(&store, &name).await?;
    }
    expect("listed", store.list(None, 10).await?, vec![])
}

async fn large_never_overwritten(store: Store, size: usize) -> Verdict {
    let (name, first, second) = (ObjectName::random(1), content(size, 24), content(size + 1, 25));
    put(&store, name, &first).await?;
    if put(&store, name, &second).await.is_ok() {
        return Err(Seen(format!("{name} was completed twice")));
    }
    is_there(&store, name, &first).await
}

async fn put(store: &Store, name: ObjectName, bytes: &[u8]) -> Result<(), StoreError> {
    let mut writer = store.create(name).await?;
    writer.write(Bytes::copy_from_slice(bytes)).await?;
    writer.complete(BlockChecksums::of(bytes)).await
}

/// Reads a range and sees to it that no piece is longer than it may be.
async fn read(store: &Store, name: &ObjectName, range: Range<u64>) -> Result<Vec<u8>, StoreError> {
    let pieces: Vec<Bytes> = store.read(name, range).await?.try_collect().await?;
    match pieces.iter().find(|piece| piece.len() > BLOCK) {
        Some(piece) => Err(StoreError::Other(format!("a piece has {} bytes", piece.len()))),
        None => Ok(pieces.concat()),
    }
}

async fn expect_missing(store: &Store, name: &ObjectName) -> Verdict {
    for (what, result) in [
        ("stat", store.stat(name).await.map(drop)),
        ("checksums", store.checksums(name).await.map(drop)),
        ("read", read(store, name, 0..0).await.map(drop)),
        ("read", read(store, name, 0..1).await.map(drop)),
    ] {
        if !matches!(&result, Err(StoreError::NotFound(missing)) if missing == name) {
            return Err(Seen(format!("{what} of a missing object gave {result:?}")));
        }
    }
    Ok(())
}

fn expect<T: PartialEq + Debug>(what: &str, got: T, want: T) -> Verdict {
    if got == want {
        return Ok(());
    }
    let (got, want) = (format!("{got:?}"), format!("{want:?}"));
    Err(Seen(format!("{what}: {got:.200}, expected {want:.200}")))
}

fn expect_bytes(what: &str, got: &[u8], want: &[u8]) -> Verdict {
    let differ = got.iter().zip(want).position(|(a, b)| a != b);
    if got.len() == want.len() && differ.is_none() {
        return Ok(());
    }
    Err(Seen(format!("{what}: {} bytes, expected {}; the first that differs: {differ:?}", got.len(), want.len())))
}

fn name_of(i: u8, epoch: u64) -> ObjectName {
    let mut random = [i; 16];
    random[0] = i / 8 * 50;
    ObjectName::from_parts(epoch, random)
}

fn names(infos: Vec<crate::ObjectInfo>) -> Vec<ObjectName> {
    infos.into_iter().map(|info| info.name).collect()
}
