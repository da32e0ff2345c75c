//! What an error of the operating system means for the store.

use std::io;

use atoll_types::ObjectName;

use crate::StoreError;

/// An error that concerns one object. A missing file is a missing object here; see `Shared::object_error`.
pub(super) fn object_error(name: &ObjectName, doing: &str, error: &io::Error) -> StoreError {
    if error.kind() == io::ErrorKind::NotFound {
        return StoreError::NotFound(*name);
    }
    store_error(&format!("{doing} {name}"), error)
}

/// An error that concerns the store as a whole. A file that is missing then is one of the store's own folders.
pub(super) fn store_error(doing: &str, error: &io::Error) -> StoreError {
    let what = format!("{doing}: {error}");
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full(what),
        io::ErrorKind::TimedOut
        | io::ErrorKind::Interrupted
        | io::ErrorKind::WouldBlock
        | io::ErrorKind::ResourceBusy
        | io::ErrorKind::OutOfMemory
        | io::ErrorKind::StaleNetworkFileHandle => StoreError::Unavailable(what),
        io::ErrorKind::NotFound => {
            StoreError::Unavailable(format!("{what}; the store's folders are gone: is its file system mounted?"))
        }
        io::ErrorKind::ReadOnlyFilesystem => {
            StoreError::Other(format!("{what}; the kernel mounts a failing disk read-only, see its log"))
        }
        io::ErrorKind::PermissionDenied => {
            StoreError::Other(format!("{what}; give the folder to the user that runs the node"))
        }
        _ => by_number(what, error),
    }
}

/// Those that the standard library has no kind for.
fn by_number(what: String, error: &io::Error) -> StoreError {
    match error.raw_os_error().map(rustix::io::Errno::from_raw_os_error) {
        Some(rustix::io::Errno::IO) => {
            StoreError::Other(format!("{what}; the disk fails: see the kernel's log, and replace it"))
        }
        Some(rustix::io::Errno::MFILE | rustix::io::Errno::NFILE) => {
            StoreError::Unavailable(format!("{what}; raise the limit of open files"))
        }
        _ => StoreError::Other(what),
    }
}

#[cfg(test)]
mod tests {
    use rustix::io::Errno;

    use super::*;

    fn mapped(errno: Errno) -> StoreError {
        object_error(&ObjectName::from_parts(1, [0xab; 16]), "writing", &io::Error::from(errno))
    }

    #[test]
    fn errors_of_the_system_are_told_apart() {
        assert!(matches!(mapped(Errno::NOSPC), StoreError::Full(_)));
        assert!(matches!(mapped(Errno::DQUOT), StoreError::Full(_)));
        assert!(matches!(mapped(Errno::NOENT), StoreError::NotFound(_)));
        assert!(matches!(mapped(Errno::MFILE), StoreError::Unavailable(_)));
        assert!(matches!(mapped(Errno::STALE), StoreError::Unavailable(_)));
        for errno in [Errno::IO, Errno::ROFS, Errno::ACCESS] {
            let StoreError::Other(text) = mapped(errno) else { panic!("{errno}") };
            assert!(text.contains("writing objects/ab/1-abab") && text.contains("; "), "{text}");
        }
    }

    #[test]
    fn a_write_to_a_full_device_is_full() {
        use std::io::Write as _;
        let mut full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let error = full.write_all(b"x").unwrap_err();
        assert!(matches!(store_error("writing", &error), StoreError::Full(_)));
    }
}
