//! A small disk in memory for one node, which can be filled.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::wait::wait_for;

const FILL_BYTES: usize = 64 << 10;
const UNMOUNT_WAIT: Duration = Duration::from_secs(20);

/// What a disk is for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    /// It can be filled: so many MiB in memory.
    Small(u64),
    /// It can lose its power: a file system in a file of so many MiB, which forgets what was not synced.
    Volatile(u64),
}

/// A mounted file system. Dropped, it is unmounted.
#[derive(Debug)]
pub(crate) struct Disk {
    at: PathBuf,
    image: Option<PathBuf>,
}

impl Disk {
    /// Mounts one on a folder that is there.
    pub(crate) fn mount(at: &Path, kind: Kind) -> anyhow::Result<Self> {
        let disk =
            Self { at: at.to_owned(), image: matches!(kind, Kind::Volatile(_)).then(|| at.with_extension("image")) };
        match (kind, &disk.image) {
            (Kind::Volatile(mib), Some(image)) => {
                let file = File::create(image).context("cannot make a disk image")?;
                file.set_len(mib << 20).context("cannot size a disk image")?;
                run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image))?;
                disk.attach().context("a disk of its own needs root")?;
            }
            (Kind::Small(mib) | Kind::Volatile(mib), _) => {
                run(Command::new("mount").args(["-t", "tmpfs", "-o", &format!("size={mib}m"), "atoll-chaos"]).arg(at))
                    .context("a small disk needs root")?;
            }
        }
        Ok(disk)
    }

    fn attach(&self) -> anyhow::Result<()> {
        let image = self.image.as_ref().context("this disk has no power to lose")?;
        run(Command::new("mount").args(["-o", "loop"]).arg(image).arg(&self.at))
    }

    /// Mounts it again, with what was synced. Nobody may use it.
    pub(crate) fn restore_power(&self) -> anyhow::Result<()> {
        // Who watches the store may look at it just now.
        wait_for("a disk is not used any more", UNMOUNT_WAIT, || run(Command::new("umount").arg(&self.at)).ok())?;
        self.attach()
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

/// What was not synced is lost from now on, and nothing more is written (ext4's shutdown, without flushing its log).
pub(crate) fn cut_power(disks: &[&Disk]) -> anyhow::Result<()> {
    const SHUT_DOWN: &str = "import fcntl,os,sys
disks = [os.open(disk, os.O_RDONLY) for disk in sys.argv[1:]]
for disk in disks: fcntl.ioctl(disk, 0x8004587D, bytes([2,0,0,0]))";
    run(Command::new("python3").args(["-c", SHUT_DOWN]).args(disks.iter().map(|disk| &disk.at)))
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
