//! Where things are in a bucket.
//!
//! ```text
//! PREFIX/atoll-store.json             the marker: which cluster and store this is
//! PREFIX/objects/<2 hex>/<name>       an object: its bytes, and no others
//! PREFIX/checksums/<2 hex>/<name>-<token>
//!                                     the block checksums of a large object; a small one has them in its metadata
//! PREFIX/tails/<2 hex>/<name>-<n>
//!                                         the end of an upload that is too short for a part, while nobody writes to it
//! PREFIX/probe/<random>               written, read and removed by probes
//! ```

use atoll_types::ObjectName;

const OBJECTS: &str = "objects/";

/// Makes keys of names, and names of keys.
#[derive(Clone, Debug)]
pub(super) struct Keys {
    /// Empty, or ends in a slash.
    prefix: String,
}

impl Keys {
    /// For all that begins with a prefix; slashes around it do not matter.
    pub(super) fn new(prefix: &str) -> Self {
        let prefix = prefix.trim_matches('/');
        Self { prefix: if prefix.is_empty() { String::new() } else { format!("{prefix}/") } }
    }

    pub(super) fn marker(&self) -> String {
        format!("{}atoll-store.json", self.prefix)
    }

    /// What the keys of all objects begin with.
    pub(super) fn objects(&self) -> String {
        format!("{}{OBJECTS}", self.prefix)
    }

    pub(super) fn object(&self, name: &ObjectName) -> String {
        format!("{}{name}", self.prefix)
    }

    /// The name of an object's key; `None` if it is none of ours.
    pub(super) fn name(&self, key: &str) -> Option<ObjectName> {
        let name: ObjectName = key.strip_prefix(&self.prefix)?.parse().ok()?;
        (self.object(&name) == key).then_some(name)
    }

    /// What the keys of all checksums begin with.
    pub(super) fn all_checksums(&self) -> String {
        format!("{}checksums/", self.prefix)
    }

    /// The checksums of the object that a writer with this token made.
    pub(super) fn checksums(&self, name: &ObjectName, token: &str) -> String {
        format!("{}{}-{token}", self.all_checksums(), short(name))
    }

    /// The object that checksums belong to; `None` if it is no key of checksums.
    pub(super) fn object_of_checksums(&self, key: &str) -> Option<String> {
        let (object, _token) = key.strip_prefix(&self.all_checksums())?.rsplit_once('-')?;
        Some(format!("{}{object}", self.objects()))
    }

    /// What the keys of all tails begin with.
    pub(super) fn tails(&self) -> String {
        format!("{}tails/", self.prefix)
    }

    pub(super) fn tail(&self, name: &ObjectName, number: u64) -> String {
        format!("{}{}-{number}", self.tails(), short(name))
    }

    /// What the keys of all probes begin with.
    pub(super) fn probes(&self) -> String {
        format!("{}probe/", self.prefix)
    }

    pub(super) fn probe(&self, random: &str) -> String {
        format!("{}{random}", self.probes())
    }
}

/// A printed name without the folder of objects.
fn short(name: &ObjectName) -> String {
    let name = name.to_string();
    name.strip_prefix(OBJECTS).map_or_else(|| name.clone(), ToOwned::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_where_they_have_landed() {
        let name = ObjectName::from_parts(7, [0xab; 16]);
        let hex = "ab".repeat(16);
        for (given, prefix) in [("", ""), ("/", ""), ("a", "a/"), ("/a/b/", "a/b/")] {
            let keys = Keys::new(given);
            assert_eq!(keys.object(&name), format!("{prefix}objects/ab/7-{hex}"));
            assert_eq!(keys.checksums(&name, "f0"), format!("{prefix}checksums/ab/7-{hex}-f0"));
            assert_eq!(keys.object_of_checksums(&keys.checksums(&name, "f0")), Some(keys.object(&name)));
            assert_eq!(keys.tail(&name, 3), format!("{prefix}tails/ab/7-{hex}-3"));
            assert_eq!(keys.marker(), format!("{prefix}atoll-store.json"));
            assert_eq!(keys.name(&keys.object(&name)), Some(name));
            assert_eq!(keys.name(&keys.checksums(&name, "f0")), None);
            assert_eq!(keys.name(&format!("x{}", keys.object(&name))), None);
        }
    }
}
