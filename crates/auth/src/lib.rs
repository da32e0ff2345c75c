//! Who may do what: every use case takes an [`Access`] value, so that a forgotten check does not compile.

mod access;

pub use access::{Access, Action, Admin, Authorizer, Delete, Denied, Identity, OpenAuthorizer, Pull, Push};
