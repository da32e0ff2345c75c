//! Blobs between regions: the fetcher that brings what placement wants, reading through to other regions until it is
//! here, the service that sends blocks to others, and the lag that is left.
//!
//! Architecture invariant: the destination pulls, and works from replicated state alone. A wake-up that is missed
//! costs time, never a blob; a copy is recorded only after its bytes were verified in place.

mod control;
mod fetcher;
mod keep;
mod lag;
mod options;
mod propose;
mod record;
mod replication;
mod server;
mod shared;
mod source;

pub use control::{pause, resume};
pub use fetcher::Failure;
pub use lag::{LagReport, LeaderClock, RegionLag, lag_report, region_lags};
pub use options::{FetcherOptions, LocalNode, PeerOptions, ReadThroughOptions};
pub use replication::{Parts, Replication};
pub use server::BlobServer;
pub use source::{Connection, Dial, Dialing, Tcp};
