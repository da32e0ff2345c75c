//! What a snapshot is made of, as it is stored and as it travels.

use crate::Applied;
use crate::error::{Result, StorageError};
use crate::state::Position;

/// Version of the manifest that this build writes and reads.
const FORMAT: u32 = 1;
/// A manifest's bound in bytes. A file takes about 120, and there is one for every 16 MiB of state.
const BYTES_MAX: usize = 4 << 20;
const NAME_BYTES_MAX: usize = 128;

/// One file of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct ManifestFile {
    /// Its name, without any folder.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// XXH3-128 of its bytes, in hexadecimal.
    pub xxh3: String,
}

/// What a snapshot is made of.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SnapshotManifest {
    /// Version of this form.
    pub format: u32,
    /// Names these very bytes: two snapshots of one revision have different ids.
    pub id: String,
    /// The revision of the state.
    pub revision: u64,
    /// Log id of that revision, in hexadecimal; `None` in a snapshot of the empty state.
    pub log_id: Option<String>,
    /// The membership then, in hexadecimal.
    pub membership: Option<String>,
    /// The state hash then, in hexadecimal.
    pub state_hash: String,
    /// Its files.
    pub files: Vec<ManifestFile>,
}

impl SnapshotManifest {
    pub(super) fn new(id: String, position: &Position, files: Vec<ManifestFile>) -> Self {
        let hex = |bytes: &Option<Vec<u8>>| bytes.as_ref().map(const_hex::encode);
        Self {
            format: FORMAT,
            id,
            revision: position.applied.revision,
            log_id: hex(&position.applied.log_id),
            membership: hex(&position.applied.membership),
            state_hash: format!("{:032x}", position.hash),
            files,
        }
    }

    /// Sum of all files, in bytes.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.size))
    }

    /// As it is stored and travels.
    pub(super) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec_pretty(self).map_err(|e| invalid(format!("its manifest cannot be encoded: {e}")))
    }

    /// Reads one that may come from a peer: every name in it is fit to be a file's, and nothing else.
    pub(super) fn decode(bytes: &[u8]) -> Result<Self> {
        if bytes.len() > BYTES_MAX {
            return Err(invalid(format!("its manifest has {} bytes, more than {BYTES_MAX}", bytes.len())));
        }
        let manifest: Self =
            serde_json::from_slice(bytes).map_err(|e| invalid(format!("its manifest cannot be read: {e}")))?;
        manifest.check()?;
        Ok(manifest)
    }

    pub(super) fn file(&self, name: &str) -> Result<&ManifestFile> {
        let unknown = || invalid(format!("it has no file {name:?}"));
        self.files.iter().find(|file| file.name == name).ok_or_else(unknown)
    }

    pub(super) fn position(&self) -> Result<Position> {
        let bytes = |hex: &Option<String>| hex.as_ref().map(const_hex::decode).transpose();
        let wrong = |_| invalid("its manifest has broken hexadecimal digits".to_owned());
        Ok(Position {
            applied: Applied {
                revision: self.revision,
                log_id: bytes(&self.log_id).map_err(wrong)?,
                membership: bytes(&self.membership).map_err(wrong)?,
            },
            hash: u128::from_str_radix(&self.state_hash, 16)
                .map_err(|_| invalid("its manifest has a broken state hash".to_owned()))?,
        })
    }

    fn check(&self) -> Result<()> {
        if self.format != FORMAT {
            return Err(invalid(format!("its form is version {}, this build reads {FORMAT}", self.format)));
        }
        if !is_id(&self.id) {
            return Err(invalid(format!("{:?} is not a snapshot's id", self.id)));
        }
        if let Some(file) = self.files.iter().find(|file| !is_file_name(&file.name)) {
            return Err(invalid(format!("{:?} is not a file's name", file.name)));
        }
        let mut names: Vec<_> = self.files.iter().map(|file| &file.name).collect();
        names.sort();
        if names.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err(invalid("its manifest names a file twice".to_owned()));
        }
        self.position().map(drop)
    }
}

pub(super) fn invalid(what: String) -> StorageError {
    StorageError::SnapshotInvalid(what)
}

/// A new id: sorts by revision.
pub(super) fn new_id(revision: u64) -> String {
    let random = atoll_types::RequestId::random().to_string();
    format!("{revision:020}-{}", &random[..16])
}

/// `<20 digits>-<16 hexadecimal digits>`.
pub(super) fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(revision, random)| {
        revision.len() == 20
            && revision.bytes().all(|b| b.is_ascii_digit())
            && random.len() == 16
            && random.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// What RocksDB calls its files: no folder, nothing hidden, nothing that leads elsewhere.
fn is_file_name(text: &str) -> bool {
    let fit = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.bytes().all(fit) && !text.starts_with('.')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn manifest(names: &[&str]) -> SnapshotManifest {
        let file = |name: &&str| ManifestFile { name: (*name).to_owned(), size: 1, xxh3: "00".to_owned() };
        SnapshotManifest::new(new_id(7), &Position::default(), names.iter().map(file).collect())
    }

    fn decoded(manifest: &SnapshotManifest) -> Result<SnapshotManifest> {
        SnapshotManifest::decode(&manifest.encode().expect("encoded"))
    }

    #[test]
    fn a_manifest_round_trips() {
        let ours = manifest(&["000012.sst", "CURRENT", "MANIFEST-000005", "OPTIONS-000007"]);
        assert_eq!(decoded(&ours).expect("decoded"), ours);
    }

    #[test]
    fn a_peers_names_never_lead_out_of_the_folder() {
        for name in ["", ".", "..", "../x", "a/b", "/etc/passwd", "a\\b", "a\0", ".hidden", "ä", &"x".repeat(129)] {
            assert!(decoded(&manifest(&[name])).is_err(), "{name:?}");
        }
        assert!(decoded(&manifest(&["a", "a"])).is_err(), "one file twice");
        let mut ours = manifest(&["a"]);
        for id in ["", "..", "../../x", "incoming", "00000000000000000007-0123456789abcdeg"] {
            ours.id = id.to_owned();
            assert!(decoded(&ours).is_err(), "{id:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>) {
            let _ = SnapshotManifest::decode(&bytes);
        }
    }
}
