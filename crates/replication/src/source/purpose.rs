//! What bytes from another region are for.

/// What a stream is for: how urgent it is, and over which connection it comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Nobody waits for it: a fetch into the store, or what readers will come to.
    Background,
    /// A reader waits for it. It is written down as fast as it comes.
    Waited,
    /// It goes to one client, as fast as that takes it.
    Direct,
}
