//! One session while a request holds it: bytes are appended to its object.

use std::sync::Arc;

use atoll_blobstore::{BlobStore, Finished, StoreError, VerifyingWriter, WriteError};
use atoll_types::{Algorithm, Digest, ObjectName};
use futures::StreamExt as _;

use super::Body;
use crate::{RegistryError, Room};

/// The bytes of an upload. The object is made when the first byte comes: an idle session holds no file.
pub(crate) struct Upload {
    algorithm: Algorithm,
    writer: Option<VerifyingWriter>,
    /// Where the next request goes on. The writer is ahead of that where a request was taken back.
    offset: u64,
}

/// How an append went: an error of the request leaves the session as far as the bytes came; one of the store ends it.
pub(crate) enum Append {
    /// All of the body was taken.
    Done,
    /// The request is at fault; what came before the fault was taken.
    Refused(RegistryError),
    /// The store failed: nothing can be appended any more.
    Broken(RegistryError),
}

impl Upload {
    pub(crate) const fn new(algorithm: Algorithm) -> Self {
        Self { algorithm, writer: None, offset: 0 }
    }

    /// How many bytes it has, and where the next request goes on.
    pub(crate) const fn offset(&self) -> u64 {
        self.offset
    }

    /// Takes back a request that began at `start`: it is as if it had never come, so that it can be sent again as it
    /// was. With the first request its bytes are removed. A store cannot take back the end of what was written: it is
    /// kept, and passed over when it comes again. The digest proves in the end that it was the same.
    pub(crate) async fn take_back(&mut self, start: u64) {
        self.offset = start;
        if start == 0 {
            std::mem::replace(self, Self::new(self.algorithm)).abort().await;
        }
    }

    /// How many bytes are here already of what comes next.
    fn ahead(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.len().saturating_sub(self.offset))
    }

    /// Takes a body in. `length` is what the request says of it.
    ///
    /// Bytes that came before a torn or overlong body are kept: they are hashed already. The offset that the session
    /// reports afterwards is the true one, and from there a client goes on.
    pub(crate) async fn append(
        &mut self,
        (store, room): (&Arc<dyn BlobStore>, &Room),
        name: impl FnOnce() -> Result<ObjectName, RegistryError>,
        length: Option<u64>,
        body: &mut impl Body,
    ) -> Append {
        let (mut taken, mut name) = (0, Some(name));
        while let Some(piece) = body.next().await {
            let piece = match piece {
                Ok(piece) => piece,
                Err(error) => return Append::Refused(RegistryError::BodyTorn(error.to_string())),
            };
            // A body may be larger than what the disk has left.
            if let Err(no_room) = room.check() {
                return Append::Refused(no_room.into());
            }
            let actual = taken + piece.len() as u64;
            if let Some(stated) = length.filter(|stated| actual > *stated) {
                return Append::Refused(RegistryError::SizeInvalid { stated, actual });
            }
            let known = self.ahead().min(piece.len() as u64);
            let written = match self.writer(store, &mut name).await {
                Ok(writer) => writer.write(piece.slice(known as usize..)).await.map_err(Into::into),
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                return Append::Broken(error);
            }
            self.offset += piece.len() as u64;
            taken = actual;
        }
        match length {
            Some(stated) if stated != taken => Append::Refused(RegistryError::SizeInvalid { stated, actual: taken }),
            _ => Append::Done,
        }
    }

    async fn writer(
        &mut self,
        store: &Arc<dyn BlobStore>,
        name: &mut Option<impl FnOnce() -> Result<ObjectName, RegistryError>>,
    ) -> Result<&mut VerifyingWriter, RegistryError> {
        if self.writer.is_none()
            && let Some(name) = name.take()
        {
            self.writer = Some(VerifyingWriter::create(store, name()?, self.algorithm).await?);
        }
        let missing = || StoreError::Other("the upload has no object; start a new one".to_owned());
        Ok(self.writer.as_mut().ok_or_else(missing)?)
    }

    /// No request comes for a while: next to no memory and no descriptor is held until then.
    pub(crate) async fn park(&mut self) -> Result<(), RegistryError> {
        match &mut self.writer {
            Some(writer) => Ok(writer.park().await?),
            None => Ok(()),
        }
    }

    /// What it will be when it is finished, unless its digest is wrong; for a planted bug.
    pub(crate) fn promised(&self, digest: &Digest) -> Option<Finished> {
        let writer = self.writer.as_ref()?;
        Some(Finished { object: writer.object(), size: writer.len(), digest: *digest })
    }

    /// Proves the digest and makes the object durable. All traces are removed if that fails.
    pub(crate) async fn finish(
        mut self,
        store: &Arc<dyn BlobStore>,
        name: impl FnOnce() -> Result<ObjectName, RegistryError>,
        digest: &Digest,
    ) -> Result<Finished, RegistryError> {
        if self.writer.is_none() {
            self.algorithm = digest.algorithm();
        }
        self.writer(store, &mut Some(name)).await?;
        let Some(writer) = self.writer else {
            return Err(StoreError::Other("the upload has no object; start a new one".to_owned()).into());
        };
        writer.finish(digest).await.map_err(|error| match error {
            WriteError::DigestMismatch { expected, actual } => RegistryError::DigestMismatch { expected, actual },
            WriteError::Store(error) => error.into(),
        })
    }

    /// Removes all traces.
    pub(crate) async fn abort(self) {
        if let Some(writer) = self.writer {
            let object = writer.object();
            if let Err(error) = writer.abort().await {
                tracing::warn!(%object, %error, "an upload that was given up has left bytes behind; the sweep removes them");
            }
        }
    }
}
