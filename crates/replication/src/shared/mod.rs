//! One fetch for each blob, shared by all who want it: readers of ranges, readers of the whole, and the fetcher.

mod direct;
mod fetch;
mod map;
mod pool;
mod read;
mod reader;
mod spool;
mod streams;
mod verify;

pub(crate) use pool::{FetchPool, PoolError};
pub(crate) use read::ReadThroughPool;
