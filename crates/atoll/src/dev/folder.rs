//! The data folder of `dev`, and who may use it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use atoll_types::NodeName;

/// `DATA`: everything that `dev` keeps, and nothing else.
#[derive(Clone, Debug)]
pub(super) struct DevFolder(PathBuf);

/// Held by the one supervisor of a folder, for as long as it lives.
#[derive(Debug)]
pub(super) struct FolderLock(#[allow(dead_code)] File);

impl DevFolder {
    /// A folder that was named, or the user's own. Nothing is made yet.
    pub(super) fn new(named: Option<PathBuf>) -> anyhow::Result<Self> {
        let folder = match named {
            Some(folder) => folder,
            None => crate::cli::user_data_folder()
                .context("there is neither HOME nor XDG_DATA_HOME to keep data under; name a folder with --data DIR")?
                .join("atoll/dev"),
        };
        let folder = std::path::absolute(&folder).with_context(|| format!("--data {} is no path", folder.display()))?;
        Ok(Self(folder))
    }

    /// The folder itself.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where the supervisor listens.
    pub(super) fn socket(&self) -> PathBuf {
        self.0.join("dev.sock")
    }

    /// What the cluster is: made once.
    pub(super) fn cluster_record(&self) -> PathBuf {
        self.0.join("cluster.json")
    }

    /// The binary that the nodes run.
    pub(super) fn binary(&self) -> PathBuf {
        self.0.join("bin/atoll")
    }

    /// The folder of a node.
    pub(super) fn node(&self, name: &NodeName) -> PathBuf {
        self.0.join(name.as_str())
    }

    /// Makes the folder, for this user alone, and takes it for this process.
    pub(super) fn lock(&self) -> anyhow::Result<FolderLock> {
        let shown = self.0.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.0)
            .with_context(|| format!("cannot make {shown}"))?;
        let path = self.0.join("dev.lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => bail!(
                "another `dev` (pid {}) runs on {shown}; end it first, or give this one a folder of its own with --data",
                holder(&mut file)
            ),
            Err(fs::TryLockError::Error(error)) => {
                return Err(anyhow!(error).context(format!("cannot lock {}", path.display())));
            }
        }
        file.set_len(0).and_then(|()| write!(file, "{}", std::process::id())).context("cannot write dev.lock")?;
        Ok(FolderLock(file))
    }

    /// Copies the binary that runs to where the nodes run it from, so that a later build does not change them.
    pub(super) fn install_binary(&self) -> anyhow::Result<()> {
        let source = std::env::current_exe().context("cannot tell which binary this is")?;
        let target = self.binary();
        if fs::canonicalize(&source).ok() == fs::canonicalize(&target).ok() || same_build(&source, &target) {
            return Ok(());
        }
        install(&source, &target).with_context(|| format!("cannot copy {} to {}", source.display(), target.display()))
    }
}

fn holder(lock: &mut File) -> String {
    let mut text = String::new();
    match lock.take(20).read_to_string(&mut text) {
        Ok(_) if !text.is_empty() => text,
        _ => "unknown".into(),
    }
}

/// A copy carries the time of its source.
fn same_build(source: &Path, target: &Path) -> bool {
    let stamp = |path| fs::metadata(path).and_then(|m| Ok((m.len(), m.modified()?))).ok();
    stamp(source).is_some() && stamp(source) == stamp(target)
}

fn install(source: &Path, target: &Path) -> std::io::Result<()> {
    if let Some(folder) = target.parent() {
        fs::create_dir_all(folder)?;
    }
    let fresh = target.with_extension("new");
    fs::copy(source, &fresh)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o755))?;
    File::open(&fresh)?.set_modified(fs::metadata(source)?.modified()?)?;
    fs::rename(&fresh, target)
}

/// Replaces a small file at once: a reader sees the old one or the new one.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    let fresh = path.with_extension("new");
    let written = File::create(&fresh).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    });
    written.with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_has_one_supervisor_at_a_time() {
        let temp = tempfile::tempdir().unwrap();
        let folder = DevFolder::new(Some(temp.path().join("a/b"))).unwrap();
        let held = folder.lock().unwrap();
        let refusal = folder.lock().unwrap_err().to_string();
        assert!(refusal.contains(&format!("pid {}", std::process::id())), "{refusal}");
        drop(held);
        folder.lock().unwrap();
    }

    #[test]
    fn the_installed_binary_is_replaced_when_the_build_is_another() {
        let temp = tempfile::tempdir().unwrap();
        let (source, target) = (temp.path().join("source"), temp.path().join("bin/atoll"));
        for build in ["first", "the second"] {
            fs::write(&source, build).unwrap();
            assert!(!same_build(&source, &target));
            install(&source, &target).unwrap();
            assert!(same_build(&source, &target));
            assert_eq!(fs::read_to_string(&target).unwrap(), build);
        }
    }

    #[test]
    fn replacing_leaves_nothing_else_behind() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("pid");
        for content in ["1", "22"] {
            replace(&path, content.as_bytes()).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
    }
}
