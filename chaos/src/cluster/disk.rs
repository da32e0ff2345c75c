//! A small disk in memory for one node, which can be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};

const FILL_BYTES: usize = 64 << 10;

/// A mounted file system. Dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
}

impl Disk {
    /// Mounts one of so many MiB on a folder that is there.
    pub(crate) fn mount(at: &Path, mib: u64) -> anyhow::Result<Self> {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "atoll-chaos"]).arg(at))
            .context("a small disk needs root")?;
        Ok(Self { at: at.to_owned() })
    }

    fn filler(&self) -> PathBuf {
        self.at.join("filler")
    }

    /// Takes all free bytes but so many.
    pub(crate) fn fill(&mut self, free_bytes: u64) -> anyhow::Result<()> {
        let mut filler = File::options().append(true).create(true).open(self.filler()).context("cannot fill a disk")?;
        while self.free()? > free_bytes + FILL_BYTES as u64 {
            if filler.write_all(&[0; FILL_BYTES]).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Free bytes.
    pub(crate) fn free(&self) -> anyhow::Result<u64> {
        let stat = rustix::fs::statvfs(&self.at).context("cannot tell the free bytes of a disk")?;
        Ok(stat.f_bavail * stat.f_frsize)
    }

    /// Gives them back.
    pub(crate) fn empty(&mut self) -> anyhow::Result<()> {
        match std::fs::remove_file(self.filler()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error).context("cannot empty a disk"),
            _ => Ok(()),
        }
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: a process that was killed just now may still hold it.
        let _ = run(Command::new("umount").arg("-l").arg(&self.at));
    }
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("cannot run {:?}", command.get_program()))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
