//! Deleting tags, manifests and blobs.

use atoll_auth::Delete;
use atoll_metadata::Rejection;
use atoll_registry::RegistryError;
use atoll_types::{Digest, Reference};

use super::{Client, Written};
use crate::checkers::bytes_survive::is_absent;
use crate::checkers::nothing_referenced_goes;
use crate::history::{Deed, Register};

impl Client {
    pub(super) async fn delete_tag(&mut self) {
        let (repository, tag) = (self.repository(), self.tag());
        let Some(access) = self.access::<Delete>(&repository) else { return };
        let (register, start_ms) = (Register::Tag(repository, tag.clone()), self.now_ms());
        self.world.removing(register.clone());
        let reference = Reference::Tag(tag);
        let written = self
            .write("delete tag", move |registry, options| {
                let (access, reference) = (access.clone(), reference.clone());
                Box::pin(async move { registry.delete_manifest(&access, &reference, &options).await })
            })
            .await;
        self.note_removal(&register, written, start_ms);
    }

    pub(super) async fn delete_manifest(&mut self) {
        let (repository, image) = (self.repository(), self.manifest());
        let Some(access) = self.access::<Delete>(&repository) else { return };
        let (register, start_ms) = (Register::Manifest(repository.clone(), image.digest), self.now_ms());
        self.world.removing(register.clone());
        let reference = Reference::Digest(image.digest);
        let written = self
            .write("delete manifest", move |registry, options| {
                let (access, reference) = (access.clone(), reference.clone());
                Box::pin(async move { registry.delete_manifest(&access, &reference, &options).await })
            })
            .await;
        let (deed, certain) = match &written {
            Written::Done(_) => (Deed::RemoveIf(image.digest), true),
            Written::Unknown => (Deed::RemoveIf(image.digest), false),
            // No tag points to what is not there.
            Written::Failed(error) if is_absent(error) => (Deed::SeeNot(image.digest), true),
            Written::Failed(error) if matches!(**error, RegistryError::Rejected(Rejection::Referenced { .. })) => {
                return self.world.judge.fired("child of an index kept");
            }
            Written::Failed(_) => return,
        };
        for tag in self.world.content.tags.clone() {
            self.note(&Register::Tag(repository.clone(), tag), deed, start_ms, certain);
        }
        self.note_removal(&register, written, start_ms);
    }

    pub(super) async fn delete_blob(&mut self) {
        let repository = self.repository();
        let digests: Vec<Digest> = self.world.content.blobs.keys().copied().collect();
        let (Some(access), Some(digest)) = (self.access::<Delete>(&repository), self.dice.pick(&digests).copied())
        else {
            return;
        };
        let (register, start_ms) = (Register::Link(repository, digest), self.now_ms());
        self.world.removing(register.clone());
        let written = self
            .write("delete blob", move |registry, options| {
                let access = access.clone();
                Box::pin(async move { registry.delete_blob(&access, &digest, &options).await })
            })
            .await;
        self.note_removal(&register, written, start_ms);
    }

    /// A removal that was refused because nothing was there has seen that.
    fn note_removal<T>(&self, register: &Register, written: Written<T>, start_ms: u64) {
        match written {
            Written::Done(_) => {
                self.note(register, Deed::Remove, start_ms, true);
                nothing_referenced_goes::check_manifests(&self.world);
            }
            Written::Unknown => self.note(register, Deed::Remove, start_ms, false),
            Written::Failed(error) => {
                if is_absent(&error) {
                    self.note(register, Deed::See(None), start_ms, true);
                }
            }
        }
    }
}
