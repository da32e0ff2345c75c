//! The fetcher: works a region's replication queue off, on the one node that holds the region's lease.

mod backoff;
mod jobs;
mod lease;
mod plan;
mod run;

pub use backoff::Failure;
pub(crate) use jobs::Jobs;
pub(crate) use lease::{DUTY, Lease, LeaseKeeper};
pub(crate) use run::{FailureList, Fetcher};
