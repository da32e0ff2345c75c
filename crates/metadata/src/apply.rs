//! Apply.
use crate::{Applied, Entry, Kv, KvError};
use atoll_types::Revision;

/// Applies one command.
pub fn apply(_kv: &mut dyn Kv, _revision: Revision, _entry: &Entry) -> Result<Applied, KvError> {
    todo!()
}
