//! Where the state's database is: `db-<generation>`, and a file `CURRENT` that names the one that counts.

use std::path::{Path, PathBuf};

use atoll_fault::step_io;

use crate::durable;
use crate::error::{Result, StorageError};

const CURRENT: &str = "CURRENT";
const PREFIX: &str = "db-";

/// The folder of a generation's database.
pub(super) fn folder(state: &Path, generation: u64) -> PathBuf {
    state.join(format!("{PREFIX}{generation}"))
}

/// The generation that counts, in a folder cleared of all others: of an install that a crash ended before its switch,
/// or of the state before it.
pub(super) fn current(state: &Path) -> Result<u64> {
    let generation = match read(state)? {
        Some(generation) => generation,
        None => start(state)?,
    };
    // Before anything is cleared away: a wrong pointer must not cost the database that it should name.
    if !folder(state, generation).is_dir() && (generation > 1 || !databases(state)?.is_empty()) {
        return Err(StorageError::corrupt(state, format!("{PREFIX}{generation}, which {CURRENT} names, is missing")));
    }
    clear(state, generation)?;
    Ok(generation)
}

/// Removes all but one generation.
fn clear(state: &Path, generation: u64) -> Result<()> {
    let keep = [CURRENT.to_owned(), format!("{PREFIX}{generation}")];
    for name in durable::list(state)?.into_iter().filter(|name| !keep.contains(name)) {
        let path = state.join(&name);
        tracing::info!(path = %path.display(), "clearing away what an interrupted install left");
        if path.is_dir() {
            step_io!("state.clear", StorageError::io("remove", &path), durable::remove_dir(&path))?;
        } else {
            std::fs::remove_file(&path).map_err(StorageError::io("remove", &path))?;
        }
    }
    Ok(())
}

fn databases(state: &Path) -> Result<Vec<String>> {
    Ok(durable::list(state)?.into_iter().filter(|name| name.starts_with(PREFIX)).collect())
}

/// Makes a generation the one that counts; durable when this returns.
pub(super) fn switch_to(state: &Path, generation: u64) -> Result<()> {
    durable::sync_dir(&folder(state, generation))?;
    durable::sync_dir(state)?;
    durable::replace_file(&state.join(CURRENT), format!("{PREFIX}{generation}\n").as_bytes())
}

fn read(state: &Path) -> Result<Option<u64>> {
    let path = state.join(CURRENT);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(StorageError::io("read", &path)(error)),
    };
    let generation = text.trim_end().strip_prefix(PREFIX).and_then(|number| number.parse().ok());
    let broken = || StorageError::corrupt(&path, format!("it names no database: {text:?}"));
    generation.map(Some).ok_or_else(broken)
}

/// A first state. The pointer comes first, so that a database without one is never taken for a leftover.
fn start(state: &Path) -> Result<u64> {
    if let Some(name) = databases(state)?.first() {
        let what = format!("{name} is there, and {CURRENT}, which names the one that counts, is not");
        return Err(StorageError::corrupt(state, what));
    }
    let pointer = state.join(CURRENT);
    let failed = StorageError::io("write", &pointer);
    step_io!("state.start", failed, durable::replace_file(&pointer, format!("{PREFIX}1\n").as_bytes()))?;
    Ok(1)
}
