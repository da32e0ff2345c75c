//! The rows of the table: what is asked for, how, and by how many at once.

use crate::content::{Content, GIB, KIB, MIB, MIXED, PULL, Wanted};
use crate::servers::Kind;
use crate::wrk::Load;

/// One row.
#[derive(Debug)]
pub(crate) struct Row {
    /// Its name on the command line and in the JSON.
    pub(crate) name: &'static str,
    /// What it measures, for people.
    pub(crate) title: &'static str,
    pub(crate) work: Work,
}

/// How a row is measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Work {
    /// Pulls, by wrk.
    Get { target: Target, connections: u64 },
    /// HEAD of a manifest by tag.
    Head { connections: u64 },
    /// Whole listings of 10,000 tags.
    List { clients: u64 },
    /// Images of one fresh layer.
    Push { layer: u64, at_once: usize },
    /// From an acknowledged push in one region to what is seen in the others.
    Replicate(Seen),
    /// The peak of memory while clients push and then pull blobs of 1 GiB.
    Memory { clients: usize },
}

/// What a pull asks for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Target {
    ManifestByTag,
    ManifestByDigest,
    UnknownTag,
    Small,
    Medium,
    Large,
    /// 4 KiB in the midst of 1 GiB.
    RangeOfHuge,
    /// zb's sizes, a manifest and its layer in turn.
    Mixed,
}

/// What is waited for in the other regions.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Seen {
    /// A tag that was not there before.
    NewTag,
    /// A tag that named another manifest before.
    MovedTag,
    /// A copy of a blob of 1 MiB.
    Blob,
}

const fn get(name: &'static str, title: &'static str, target: Target, connections: u64) -> Row {
    Row { name, title, work: Work::Get { target, connections } }
}

const fn push(name: &'static str, title: &'static str, layer: u64, at_once: usize) -> Row {
    Row { name, title, work: Work::Push { layer, at_once } }
}

/// All rows, in the order of the table.
pub(crate) const ROWS: &[Row] = &[
    get("manifest-tag", "manifest GET by tag", Target::ManifestByTag, 32),
    get("manifest-digest", "manifest GET by digest", Target::ManifestByDigest, 32),
    Row { name: "manifest-head", title: "manifest HEAD by tag", work: Work::Head { connections: 32 } },
    get("unknown-tag", "GET of an unknown tag", Target::UnknownTag, 32),
    get("blob-4k", "blob GET, 4 KiB", Target::Small, 32),
    get("blob-1m", "blob GET, 1 MiB", Target::Medium, 32),
    get("blob-64m", "blob GET, 64 MiB", Target::Large, 4),
    get("range-4k", "4 KiB range in a blob of 1 GiB", Target::RangeOfHuge, 32),
    get("pull-mixed", "pull, mixed 20/70/10 of 1/10/100 MB", Target::Mixed, 8),
    Row { name: "tags-10000", title: "listing of 10,000 tags, all pages", work: Work::List { clients: 4 } },
    push("push-1m-1", "push of a 1 MiB image, 1 at once", MIB, 1),
    push("push-1m-4", "push of a 1 MiB image, 4 at once", MIB, 4),
    push("push-1m-32", "push of a 1 MiB image, 32 at once", MIB, 32),
    push("push-100m", "push of a 100 MiB image, 1 at once", 100 * MIB, 1),
    Row { name: "replicate-new-tag", title: "new tag visible in the others", work: Work::Replicate(Seen::NewTag) },
    Row {
        name: "replicate-moved-tag",
        title: "moved tag visible in the others",
        work: Work::Replicate(Seen::MovedTag),
    },
    Row { name: "replicate-blob-1m", title: "1 MiB blob present in the others", work: Work::Replicate(Seen::Blob) },
    Row { name: "memory-1g", title: "16 clients push and pull 1 GiB", work: Work::Memory { clients: 16 } },
];

impl Row {
    /// Whether it is measured when no rows are chosen. That of memory moves 32 GiB.
    pub(crate) fn by_default(&self) -> bool {
        !matches!(self.work, Work::Memory { .. })
    }

    /// Whether a server can be measured in it.
    pub(crate) fn includes(&self, kind: Kind) -> bool {
        match self.work {
            Work::Get { .. } | Work::Head { .. } | Work::List { .. } => true,
            Work::Push { .. } => kind.takes_pushes(),
            Work::Replicate(_) => kind == Kind::AtollThree,
            Work::Memory { .. } => kind == Kind::AtollOne,
        }
    }

    /// Whether it asks for what is there already: then its servers run through all rounds.
    pub(crate) fn pulls(&self) -> bool {
        matches!(self.work, Work::Get { .. } | Work::Head { .. } | Work::List { .. })
    }

    /// Adds what must be stored for it.
    pub(crate) fn want(&self, wanted: &mut Wanted) {
        match self.work {
            Work::Get { target: Target::Large, .. } => wanted.large = true,
            Work::Get { target: Target::RangeOfHuge, .. } => wanted.huge = true,
            Work::Get { target: Target::Mixed, .. } => wanted.mixed = true,
            Work::List { .. } => wanted.tags = true,
            _ => {}
        }
    }
}

/// Where the range lies: not at the edge of any block.
pub(crate) const RANGE_OFFSET: u64 = GIB / 2 + 1000;
pub(crate) const RANGE_LEN: u64 = 4 * KIB;

/// The path of a manifest.
pub(crate) fn manifest_path(reference: &str) -> String {
    format!("/v2/{PULL}/manifests/{reference}")
}

/// The path of a blob.
pub(crate) fn blob_path(digest: &str) -> String {
    format!("/v2/{PULL}/blobs/{digest}")
}

impl Target {
    /// Path and, for a range, its header. The mixed pulls have a path for each request.
    pub(crate) fn request(self, content: &Content) -> (String, Option<String>) {
        let path_of =
            |blob: &Option<crate::content::Blob>| blob.as_ref().map_or_else(String::new, |b| blob_path(&b.digest));
        match self {
            Self::ManifestByTag => (manifest_path("v1"), None),
            Self::ManifestByDigest => (manifest_path(&content.small.manifest.digest), None),
            Self::UnknownTag => (manifest_path("unknown"), None),
            Self::Small => (blob_path(&content.small.layer.digest), None),
            Self::Medium => (blob_path(&content.medium.digest), None),
            Self::Large => (path_of(&content.large), None),
            Self::RangeOfHuge => {
                let last = RANGE_OFFSET + RANGE_LEN - 1;
                (path_of(&content.huge), Some(format!("Range: bytes={RANGE_OFFSET}-{last}")))
            }
            Self::Mixed => (manifest_path(&MIXED[0].0.to_string()), None),
        }
    }

    pub(crate) fn load(self, content: &Content, connections: u64, round: u32) -> Load {
        let (path, range) = self.request(content);
        let accept = format!("Accept: {}", crate::content::MANIFEST_TYPE);
        let script = if self == Self::Mixed { mixed_script(content) } else { String::new() };
        Load { path, headers: range.into_iter().chain([accept]).collect(), connections, script, round }
    }

    /// Bytes of body that an answer has at least, over many answers.
    pub(crate) fn body_bytes(self, content: &Content) -> u64 {
        match self {
            Self::ManifestByTag | Self::ManifestByDigest => content.small.manifest.body.len() as u64,
            Self::UnknownTag => 0,
            Self::Small => content.small.layer.len,
            Self::Medium => content.medium.len,
            Self::Large => content.large.as_ref().map_or(0, |blob| blob.len),
            Self::RangeOfHuge => RANGE_LEN,
            // Drawn by chance, and every other one is a manifest: the smallest layer is a safe bound of the mean.
            Self::Mixed => content.mixed[0].layer.len,
        }
    }
}

/// Draws a size by its share, asks for the manifest, and for the layer with the next request.
fn mixed_script(content: &Content) -> String {
    let pair = |(image, (mb, share)): (&crate::content::Image, (u64, u64))| {
        let paths = (manifest_path(&mb.to_string()), blob_path(&image.layer.digest));
        format!("  {{ share = {share}, manifest = \"{}\", layer = \"{}\" }},\n", paths.0, paths.1)
    };
    let images: String = content.mixed.iter().zip(MIXED).map(pair).collect();
    format!(
        "local images = {{\n{images}}}\n\
         local layer = nil\n\
         request = function()\n\
         \x20 if layer then local path = layer; layer = nil; return wrk.format(nil, path) end\n\
         \x20 local drawn = math.random(100)\n\
         \x20 for _, image in ipairs(images) do\n\
         \x20   drawn = drawn - image.share\n\
         \x20   if drawn <= 0 then layer = image.layer; return wrk.format(nil, image.manifest) end\n\
         \x20 end\n\
         end\n"
    )
}

/// The row of a name.
pub(crate) fn find(name: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_used_once_and_found() {
        for row in ROWS {
            assert_eq!(ROWS.iter().filter(|other| other.name == row.name).count(), 1, "{}", row.name);
            assert!(find(row.name).is_some());
            assert!(Kind::ALL.iter().any(|kind| row.includes(*kind)), "{}", row.name);
        }
    }
}
