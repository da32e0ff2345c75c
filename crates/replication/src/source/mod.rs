//! The other regions as sources of blobs: who they are, how near, and streams of checked blocks from them.

mod blocks;
mod connector;
mod peer;
mod peers;
mod transfer;

pub(crate) use blocks::Block;
pub(crate) use peers::PeerSources;
pub(crate) use transfer::{Patience, Transfer, TransferError};
