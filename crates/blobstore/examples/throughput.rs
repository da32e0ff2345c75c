//! How fast a store in a folder writes and reads, in a table.
//!
//! ```text
//! cargo run --release -p atoll-blobstore --example throughput -- FOLDER
//! ```

use std::sync::Arc;
use std::time::{Duration, Instant};

use atoll_blobstore::contract::content;
use atoll_blobstore::{BlobStore, CheckedReader, Finished, FsOptions, FsStore, VerifyingWriter, WriteError};
use atoll_types::{Algorithm, Digest, ObjectName};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _, stream};

/// How many at once.
const CLIENTS: usize = 16;
/// How long each row is measured.
const ROW_TIME: Duration = Duration::from_secs(3);
/// In what pieces a body comes, in bytes.
const PIECE_BYTES: usize = 64 << 10;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = std::env::args().nth(1).ok_or("name a folder in which a store may be made")?;
    let store: Arc<dyn BlobStore> = Arc::new(FsStore::open(root.into(), FsOptions::default())?);
    let reader = CheckedReader::new(store.clone(), CheckedReader::CACHE_BYTES);
    println!("{:>12} {:>10} {:>10} {:>12} {:>12}", "bytes", "writes/s", "reads/s", "write MB/s", "read MB/s");
    for size in [4 << 10, 64 << 10, 256 << 10, 1 << 20, 64 << 20] {
        let bytes = Bytes::from(content(size, 1));
        let digest = Digest::sha256(&bytes);
        let one = put(&store, &bytes, &digest).await?;
        let writes = rate(async || {
            let done = put(&store, &bytes, &digest).await?;
            Ok(store.delete(&done.object).await?)
        });
        let writes = writes.await?;
        let reads = rate(async || Ok(get(&reader, &one).await?)).await?;
        let megabytes = size as f64 / 1e6;
        println!("{size:>12} {writes:>10.0} {reads:>10.0} {:>12.1} {:>12.1}", writes * megabytes, reads * megabytes);
        store.delete(&one.object).await?;
    }
    Ok(())
}

/// How often per second an operation is done by all clients together.
async fn rate(operation: impl AsyncFn() -> Result<(), WriteError>) -> Result<f64, WriteError> {
    let start = Instant::now();
    let clients = stream::iter(0..CLIENTS).map(async |_| {
        let mut done = 0_u64;
        while start.elapsed() < ROW_TIME {
            operation().await?;
            done += 1;
        }
        Ok::<_, WriteError>(done)
    });
    let done: Vec<u64> = clients.buffer_unordered(CLIENTS).try_collect().await?;
    Ok(done.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64())
}

async fn put(store: &Arc<dyn BlobStore>, bytes: &Bytes, digest: &Digest) -> Result<Finished, WriteError> {
    let mut writer = VerifyingWriter::create(store, ObjectName::random(1), Algorithm::Sha256).await?;
    for from in (0..bytes.len()).step_by(PIECE_BYTES) {
        writer.write(bytes.slice(from..bytes.len().min(from + PIECE_BYTES))).await?;
    }
    writer.finish(digest).await
}

async fn get(reader: &CheckedReader, of: &Finished) -> Result<(), WriteError> {
    let mut body = reader.read(&of.object, &of.digest, of.size, 0..of.size).await?;
    while let Some(piece) = body.next().await {
        std::hint::black_box(piece?);
    }
    Ok(())
}
