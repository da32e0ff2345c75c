//! Media types that mean something to a registry.

/// An OCI image manifest.
pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI index.
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// The artifact manifest of the 1.1 release candidates; dropped later, but still around.
pub(crate) const OCI_ARTIFACT: &str = "application/vnd.oci.artifact.manifest.v1+json";
/// A Docker manifest, schema 2.
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// A Docker manifest list.
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.";
const OCI_NON_DISTRIBUTABLE_LAYER: &str = "application/vnd.oci.image.layer.nondistributable.";

/// A media type without its parameters.
pub fn essence(content_type: &str) -> &str {
    content_type.split(';').next().unwrap_or_default().trim()
}

/// True if a child of that type is a manifest: it is stored, deleted and listed as one.
pub fn is_manifest(media_type: &str) -> bool {
    [OCI_MANIFEST, OCI_INDEX, OCI_ARTIFACT, DOCKER_MANIFEST, DOCKER_LIST].contains(&media_type)
}

/// True for layers that clients fetch from elsewhere and never push.
pub fn is_non_distributable(media_type: &str) -> bool {
    media_type.starts_with(DOCKER_FOREIGN_LAYER) || media_type.starts_with(OCI_NON_DISTRIBUTABLE_LAYER)
}

/// True for the manifests before schema 2.
pub(crate) fn is_schema_1(media_type: &str) -> bool {
    matches!(
        media_type,
        "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws"
    )
}
