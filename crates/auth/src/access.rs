//! Proofs of permission, and who gives them.

use std::marker::PhantomData;

use atoll_types::RepositoryName;

/// Reading a repository.
#[derive(Clone, Copy, Debug)]
pub struct Pull;
/// Writing to a repository.
#[derive(Clone, Copy, Debug)]
pub struct Push;
/// Deleting from a repository.
#[derive(Clone, Copy, Debug)]
pub struct Delete;
/// Administration of the cluster.
#[derive(Clone, Copy, Debug)]
pub struct Admin;

mod sealed {
    pub trait Sealed {}
    impl Sealed for super::Pull {}
    impl Sealed for super::Push {}
    impl Sealed for super::Delete {}
    impl Sealed for super::Admin {}
}

/// What an [`Access`] permits.
pub trait Action: sealed::Sealed + Send + Sync + 'static {
    /// Its name in scopes.
    const NAME: &'static str;
}

impl Action for Pull {
    const NAME: &'static str = "pull";
}
impl Action for Push {
    const NAME: &'static str = "push";
}
impl Action for Delete {
    const NAME: &'static str = "delete";
}
impl Action for Admin {
    const NAME: &'static str = "admin";
}

/// Who makes a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name; empty for an anonymous client.
    pub name: String,
    /// Address of the client, for the audit trail.
    pub address: String,
}

/// Proof that an identity may do something with a repository. Only an [`Authorizer`] makes one.
#[derive(Clone, Debug)]
pub struct Access<A: Action> {
    identity: Identity,
    repository: RepositoryName,
    action: PhantomData<A>,
}

impl<A: Action> Access<A> {
    /// Who asked.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What for.
    pub fn repository(&self) -> &RepositoryName {
        &self.repository
    }
}

/// The identity may not do that.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{action} access to repository {repository} is denied")]
pub struct Denied {
    /// What was asked for.
    pub action: &'static str,
    /// Of which repository.
    pub repository: RepositoryName,
}

/// Decides.
pub trait Authorizer: Send + Sync + 'static {
    /// Whether the identity may do the action, by name.
    fn permits(&self, identity: &Identity, repository: &RepositoryName, action: &'static str) -> bool;
}

impl dyn Authorizer {
    /// A proof, if it is permitted.
    pub fn access<A: Action>(&self, identity: &Identity, repository: &RepositoryName) -> Result<Access<A>, Denied> {
        if self.permits(identity, repository, A::NAME) {
            Ok(Access { identity: identity.clone(), repository: repository.clone(), action: PhantomData })
        } else {
            Err(Denied { action: A::NAME, repository: repository.clone() })
        }
    }
}

/// Admits everyone: until there are identities, and on loopback.
#[derive(Clone, Copy, Debug, Default)]
pub struct OpenAuthorizer;

impl Authorizer for OpenAuthorizer {
    fn permits(&self, _: &Identity, _: &RepositoryName, _: &'static str) -> bool {
        true
    }
}
