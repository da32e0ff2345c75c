//! The other regions as sources of blobs: who they are, how near, and streams of checked blocks from them.

mod blocks;
mod connector;
mod dial;
mod peer;
mod peers;
mod purpose;
mod suspects;
mod transfer;
mod way;

pub(crate) use blocks::Block;
pub use dial::{Connection, Dial, Dialing, Tcp};
pub(crate) use peers::PeerSources;
pub(crate) use purpose::Purpose;
pub(crate) use transfer::{Patience, Transfer, TransferError};
