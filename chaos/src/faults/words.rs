//! What a node says in its log from a moment on.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use super::Scene;

/// A node's log, read on and on. A node that is started again goes on in the same file.
pub(super) struct Words {
    path: PathBuf,
    at: u64,
}

impl Words {
    /// What the node says from now on.
    pub(super) fn from_now(scene: &Scene<'_>, node: usize) -> Self {
        let path = scene.cluster.desk.nodes[node].log();
        let at = path.metadata().map_or(0, |meta| meta.len());
        Self { path, at }
    }

    /// The whole lines that came since it was asked before. A line that is not whole yet comes the next time.
    pub(super) fn fresh(&mut self) -> String {
        let mut bytes = self.read().unwrap_or_default();
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1));
        self.at += bytes.len() as u64;
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn read(&self) -> std::io::Result<Vec<u8>> {
        let (mut file, mut bytes) = (File::open(&self.path)?, Vec::new());
        file.seek(SeekFrom::Start(self.at))?;
        file.read_to_end(&mut bytes)?;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn lines_are_read_once_and_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log");
        let mut words = Words { path: path.clone(), at: 0 };
        assert_eq!(words.fresh(), "", "there is no log yet");
        let mut log = File::options().append(true).create(true).open(&path).unwrap();
        log.write_all(b"one\ntwo\nthr").unwrap();
        assert_eq!(words.fresh(), "one\ntwo\n");
        assert_eq!(words.fresh(), "");
        log.write_all(b"ee\n").unwrap();
        assert_eq!(words.fresh(), "three\n");
    }
}
