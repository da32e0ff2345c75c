//! Uploads: sessions that belong to the node that opened them, and what becomes of their bytes.

mod cases;
mod id;
mod session;
mod sessions;

pub use id::{InvalidSessionId, Owner, SessionId};
pub(crate) use sessions::Sessions;

/// How far an upload session is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadStatus {
    /// The session.
    pub id: SessionId,
    /// How many bytes it has.
    pub offset: u64,
}

/// Bytes of a request as they come; an error ends them.
pub trait Body: futures::Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + Unpin {}

impl<S: futures::Stream<Item = Result<bytes::Bytes, std::io::Error>> + Send + Unpin> Body for S {}
