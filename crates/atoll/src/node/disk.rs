//! Watches the disks that a node writes to: below one mark nothing more is taken in, below another the node ends while
//! there is still room to start again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use atoll_registry::{NoRoom, Room, Spare, Spares};
use rustix::fs::{stat, statvfs};
use tokio::sync::mpsc;

use crate::config::{DiskSection, NodeConfig};

/// How many times the mark at which a node ends must be free when it starts.
const START_STOPS: u64 = 2;
/// How often the disks are looked at.
const INTERVAL: Duration = Duration::from_millis(500);

/// The disks of a node.
pub(crate) struct Disks {
    /// The data folder's comes first; then the store's, if it is on a disk.
    disks: Vec<Disk>,
    one_disk: bool,
    marks: DiskSection,
    room: Room,
}

/// A disk, as it was when it was last looked at.
pub(crate) struct Disk {
    /// Which of the node's folders is on it, for metrics.
    pub(crate) label: &'static str,
    folder: PathBuf,
    free_bytes: AtomicU64,
    size_bytes: AtomicU64,
    /// Whether it had too little room when it was last judged: each disk keeps to its own mark.
    is_short: AtomicBool,
}

/// What a disk has, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Space {
    free: u64,
    size: u64,
}

/// A folder, or the first one above it that is there.
fn there(folder: &Path) -> &Path {
    folder.ancestors().find(|path| path.exists()).unwrap_or(Path::new("."))
}

fn is_one_disk(disks: &[Disk]) -> io::Result<bool> {
    let [data, store] = disks else { return Ok(false) };
    Ok(stat(there(&data.folder))?.st_dev == stat(there(&store.folder))?.st_dev)
}

impl Space {
    /// Of the disk of a folder, or of the first one above it that is there.
    fn of(folder: &Path) -> io::Result<Self> {
        let disk = statvfs(there(folder))?;
        // What is kept for root, or beyond a quota, is no room: shares are those that `df` shows.
        let used = disk.f_blocks.saturating_sub(disk.f_bfree);
        Ok(Self {
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            size: used.saturating_add(disk.f_bavail).saturating_mul(disk.f_frsize),
        })
    }

    /// Below which the node ends: a small disk has room for less.
    fn stop_mark(self, marks: &DiskSection) -> u64 {
        marks.stop_below_bytes.min(self.size / 20)
    }

    /// A share of the disk, and so many times the mark at which the node ends at least.
    fn mark(self, marks: &DiskSection, percent: u64, stops: u64) -> u64 {
        (self.size / 100).saturating_mul(percent).max(self.stop_mark(marks).saturating_mul(stops))
    }

    /// Below which nothing more is taken in.
    fn refuse_mark(self, marks: &DiskSection) -> u64 {
        self.mark(marks, marks.refuse_below_percent, 2)
    }

    /// What lacks for taking more in, while it was taken so far or not. Refusing begins well above the end of the node.
    fn lack(self, folder: &Path, marks: &DiskSection, was_short: bool) -> Option<NoRoom> {
        let (refuse, resume) = (self.refuse_mark(marks), self.mark(marks, marks.resume_above_percent, 3));
        let short = self.free < if was_short { resume } else { refuse };
        short.then(|| NoRoom { folder: folder.to_owned(), free_bytes: self.free, needed_bytes: resume })
    }
}

impl Disk {
    fn new(label: &'static str, folder: PathBuf) -> io::Result<Self> {
        let space = Space::of(&folder)?;
        let (free_bytes, size_bytes) = (AtomicU64::new(space.free), AtomicU64::new(space.size));
        Ok(Self { label, folder, free_bytes, size_bytes, is_short: AtomicBool::new(false) })
    }

    fn look(&self) -> io::Result<()> {
        let space = Space::of(&self.folder)?;
        self.free_bytes.store(space.free, Ordering::Relaxed);
        self.size_bytes.store(space.size, Ordering::Relaxed);
        Ok(())
    }

    fn space(&self) -> Space {
        Space { free: self.free_bytes(), size: self.size_bytes() }
    }

    /// What lacks on it as of now, by what lacked before.
    fn judge(&self, marks: &DiskSection) -> Option<NoRoom> {
        let lack = self.space().lack(&self.folder, marks, self.is_short.load(Ordering::Relaxed));
        self.is_short.store(lack.is_some(), Ordering::Relaxed);
        lack
    }

    /// What it can take in before it refuses more.
    fn spare(&self, marks: &DiskSection) -> Spare {
        let (folder, space) = (self.folder.clone(), self.space());
        Spare { folder, free_bytes: space.free, refuse_below_bytes: space.refuse_mark(marks) }
    }

    /// What it has free.
    pub(crate) fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// What it has in all, without what only root may use.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes.load(Ordering::Relaxed)
    }
}

impl Disks {
    /// Looks at the disks before anything is written, and refuses to start where there is no room to.
    pub(crate) fn open(config: &NodeConfig) -> anyhow::Result<Arc<Self>> {
        let disk = |label, folder: PathBuf| {
            let shown = folder.display().to_string();
            Disk::new(label, folder).with_context(|| format!("looking at the disk of {shown}"))
        };
        let mut disks = vec![disk("data", config.node.data.clone())?];
        if let Some(folder) = config.blobs_folder() {
            disks.push(disk("store", folder)?);
        }
        let one_disk = is_one_disk(&disks).context("looking at the node's disks")?;
        let disks = Self { disks, one_disk, marks: config.disk.clone(), room: Room::default() };
        // More than a node may run down to: opening the databases takes room, and it must not end at once again.
        if let Some(why) = disks.lacks_room_to_run(START_STOPS) {
            bail!("{why}");
        }
        disks.judge();
        Ok(Arc::new(disks))
    }

    /// Whether there is room for more, as of now and from now on.
    pub(crate) fn room(&self) -> Room {
        self.room.clone()
    }

    /// The disks, for metrics.
    pub(crate) fn all(&self) -> &[Disk] {
        &self.disks
    }

    /// Why the node must not go on, or start, with less than so many stop marks: what it must write, the log, would soon
    /// find no room.
    fn lacks_room_to_run(&self, stops: u64) -> Option<String> {
        let data = &self.disks[0];
        let mark = data.space().stop_mark(&self.marks).saturating_mul(stops);
        (data.free_bytes() < mark).then(|| {
            format!(
                "the disk of the data folder {} has {} bytes free, and this node needs {mark} to run: free some there and \
                 start it again",
                data.folder.display(),
                data.free_bytes()
            )
        })
    }

    /// Says whether there is room, and why not.
    fn judge(&self) {
        let was_short = self.room.check().is_err();
        // Each is judged, also when another one lacks room already.
        let lacks: Vec<Option<NoRoom>> = self.disks.iter().map(|disk| disk.judge(&self.marks)).collect();
        let lack = lacks.into_iter().flatten().next();
        match &lack {
            Some(lack) if !was_short => {
                tracing::warn!(%lack, "pushes are refused and nothing is fetched until there is room; pulls go on");
            }
            None if was_short => tracing::info!("the disks have room again: pushes are taken, and blobs are fetched"),
            _ => {}
        }
        self.room.set(lack);
        let mut spares = self.disks.iter().map(|disk| disk.spare(&self.marks));
        if let Some(data) = spares.next() {
            self.room.set_spares(Spares { data, store: spares.next(), one_disk: self.one_disk });
        }
    }

    fn look(&self) {
        for disk in &self.disks {
            if let Err(error) = disk.look() {
                tracing::warn!(folder = %disk.folder.display(), %error, "the disk cannot be looked at");
            }
        }
    }
}

/// Looks at the disks again and again; what cannot go on is told through `fatal`.
pub(crate) async fn watch(disks: Arc<Disks>, fatal: mpsc::Sender<String>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        let looking = disks.clone();
        // A network file system may take its time.
        if let Err(error) = tokio::task::spawn_blocking(move || looking.look()).await {
            tracing::warn!(%error, "the disks were not looked at");
            continue;
        }
        disks.judge();
        if let Some(why) = disks.lacks_room_to_run(1) {
            // An earlier reason ends the process as well.
            let _ = fatal.try_send(why);
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn lack(free: u64, was_short: bool) -> Option<NoRoom> {
        let marks = DiskSection { refuse_below_percent: 10, resume_above_percent: 12, stop_below_bytes: MIB };
        Space { free, size: 1_000 * MIB }.lack(Path::new("/data"), &marks, was_short)
    }

    #[test]
    fn below_the_mark_nothing_is_taken_until_it_is_well_above() {
        assert_eq!(lack(101 * MIB, false), None);
        let short = lack(99 * MIB, false).unwrap();
        assert_eq!((short.free_bytes, short.needed_bytes / MIB), (99 * MIB, 120), "{short}");
        assert!(lack(110 * MIB, true).is_some(), "between the marks nothing changes");
        assert_eq!(lack(110 * MIB, false), None);
        assert_eq!(lack(121 * MIB, true), None);
    }

    #[test]
    fn one_disk_that_was_short_does_not_raise_the_mark_of_the_other() {
        let disk = |label, folder: &str| Disk {
            label,
            folder: folder.into(),
            free_bytes: AtomicU64::new(500 * MIB),
            size_bytes: AtomicU64::new(1_000 * MIB),
            is_short: AtomicBool::new(false),
        };
        let disks = vec![disk("data", "/data"), disk("store", "/store")];
        let disks = Disks { disks, one_disk: false, marks: DiskSection::default(), room: Room::default() };
        let judged = |free: [u64; 2]| {
            for (disk, percent) in disks.disks.iter().zip(free) {
                disk.free_bytes.store(percent * 10 * MIB, Ordering::Relaxed);
            }
            disks.judge();
            disks.room.check().err().map(|lack| lack.folder.display().to_string())
        };
        assert_eq!(judged([50, 11]), None);
        assert_eq!(judged([5, 11]).as_deref(), Some("/data"));
        assert_eq!(judged([50, 11]), None, "the store's disk was never short");
        assert_eq!(judged([5, 9]).as_deref(), Some("/data"));
        assert_eq!(judged([50, 11]).as_deref(), Some("/store"), "it was short while the other one was, too");
        assert_eq!(judged([11, 13]), None, "the data folder's disk has had room since");
        assert!(disks.room.check_spool(10 * MIB, true).is_ok() && disks.room.check_spool(11 * MIB, true).is_err());
        assert!(disks.room.check_copy(30 * MIB).is_ok() && disks.room.check_copy(31 * MIB).is_err());
    }

    #[test]
    fn pushes_are_refused_before_the_node_ends() {
        let marks = DiskSection { refuse_below_percent: 1, resume_above_percent: 1, stop_below_bytes: 32 * MIB };
        for (size, stop) in [(1_000, 32), (160, 8)] {
            let space = |free| Space { free, size: size * MIB };
            assert_eq!(space(0).stop_mark(&marks), stop * MIB);
            assert!(space(2 * stop * MIB - 1).lack(Path::new("/data"), &marks, false).is_some());
            assert_eq!(space(2 * stop * MIB).lack(Path::new("/data"), &marks, false), None);
        }
    }

    #[test]
    fn a_disk_is_seen_also_where_the_folder_is_not_made_yet() {
        let folder = tempfile::tempdir().unwrap();
        let disk = Disk::new("data", folder.path().join("not/yet")).unwrap();
        assert!(disk.size_bytes() > 0 && disk.free_bytes() <= disk.size_bytes());
    }
}
