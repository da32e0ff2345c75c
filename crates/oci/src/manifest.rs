//! What a registry needs to know of a manifest.

use atoll_types::Digest;
use serde_json::{Map, Value};

use crate::media_type::{
    DOCKER_LIST, DOCKER_MANIFEST, OCI_ARTIFACT, OCI_INDEX, OCI_MANIFEST, essence, is_manifest, is_non_distributable,
    is_schema_1,
};
use crate::strict;

/// Largest body in bytes (OCI distribution specification, "Pushing Manifests": at least 4 MiB).
pub const MANIFEST_BYTES_MAX: usize = 4 << 20;
/// Most references of one manifest.
pub const REFERENCES_MAX: usize = 2_000;
/// Longest media type; it becomes a header.
const MEDIA_TYPE_LENGTH_MAX: usize = 255;

/// Why a body is not a manifest.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// Not strict JSON.
    #[error("the manifest is not valid JSON: {0}")]
    Json(String),
    /// JSON, but not an object.
    #[error("the manifest is not a JSON object")]
    NotAnObject,
    /// Docker's schema 1.
    #[error(
        "Docker image manifest schema 1 is not supported: push the image again with a client of this decade, or convert it to schema 2 or OCI"
    )]
    Schema1,
    /// A field is missing, of the wrong type, or contradicts another.
    #[error("the manifest's {0}")]
    Field(String),
    /// Too many references.
    #[error("the manifest has more than {REFERENCES_MAX} references")]
    TooMany,
}

/// The shape of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A config and layers.
    Image,
    /// A list of manifests.
    Index,
    /// Anything else that is stored as a manifest.
    Other,
}

/// Whether a reference is stored as a blob or as a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReferenceKind {
    /// A config, a layer, or a child whose media type is not a manifest's.
    Blob,
    /// A child manifest.
    Manifest,
}

/// One thing that must be there before the manifest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Child {
    /// How it is stored.
    pub kind: ReferenceKind,
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes, as the descriptor states it.
    pub size: u64,
}

/// What a registry needs to know of a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParsedManifest {
    /// The Content-Type to store and to serve: as it was put, or the embedded one where none was given.
    pub media_type: String,
    /// Its shape.
    pub kind: Kind,
    /// What must be there; each once, in the order of the body. Without the subject and non-distributable layers.
    pub references: Vec<Child>,
    /// The manifest that it refers to.
    pub subject: Option<Digest>,
    /// As the referrers API shows it (OCI distribution specification, "Listing Referrers"); may be empty.
    pub artifact_type: String,
    /// Its annotations, in the order of their keys.
    pub annotations: Vec<(String, String)>,
}

type Result<T> = std::result::Result<T, ManifestError>;

/// Parses a body that was put with a Content-Type.
pub fn parse_manifest(body: &[u8], content_type: Option<&str>) -> Result<ParsedManifest> {
    let given = content_type.map(essence).filter(|t| !t.is_empty());
    if given.is_some_and(is_schema_1) {
        return Err(ManifestError::Schema1);
    }
    let value = strict::parse(body).map_err(|e| ManifestError::Json(e.to_string()))?;
    let Value::Object(object) = value else { return Err(ManifestError::NotAnObject) };
    let object = Object(&object);
    object.refuse_lookalikes("manifest", MANIFEST_KEYS)?;
    let embedded = object.string("mediaType")?.filter(|t| !t.is_empty());
    let media_type = media_type(&object, given, embedded)?;
    check_schema_version(&object, media_type)?;
    let kind = kind(&object, media_type)?;
    Ok(ParsedManifest {
        media_type: content_type.filter(|_| given.is_some()).unwrap_or(media_type).to_owned(),
        kind,
        references: references(&object, kind)?,
        subject: object.object("subject")?.map(|d| descriptor(&d, "subject").map(|d| d.digest)).transpose()?,
        artifact_type: artifact_type(&object, kind)?,
        annotations: annotations(&object)?,
    })
}

/// What a manifest of any kind may have that matters here.
const MANIFEST_KEYS: &[&str] = &[
    "schemaVersion",
    "mediaType",
    "artifactType",
    "config",
    "layers",
    "blobs",
    "manifests",
    "subject",
    "annotations",
    "fsLayers",
];
/// The same of a descriptor.
const DESCRIPTOR_KEYS: &[&str] = &["mediaType", "digest", "size", "urls", "annotations", "data", "platform"];

/// Whether Go's JSON parser, which most clients use, takes a key for a known one: case does not count, "K" (Kelvin)
/// is a k, "ſ" an s. The length is compared first, because a body may have very many keys.
fn is_lookalike(key: &str, known: &str) -> bool {
    let fold = |text: &str| text.to_uppercase().to_lowercase();
    key.chars().count() == known.len() && fold(key) == fold(known)
}

fn field<T>(text: impl Into<String>) -> Result<T> {
    Err(ManifestError::Field(text.into()))
}

/// An object whose fields are taken out by type. `null` counts as absent: Go writes empty lists so.
struct Object<'a>(&'a Map<String, Value>);

impl<'a> Object<'a> {
    /// Refuses keys that some clients take for a known one, and others do not: they would see two manifests in one.
    fn refuse_lookalikes(&self, place: &str, known: &[&str]) -> Result<()> {
        let unknown = self.0.keys().filter(|key| !known.contains(&key.as_str()));
        for key in unknown {
            if let Some(known) = known.iter().find(|known| is_lookalike(key, known)) {
                return field(format!("{place} has a key that is easily taken for {known}: {key:?}"));
            }
        }
        Ok(())
    }

    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|v| !v.is_null())
    }

    fn string(&self, name: &str) -> Result<Option<&'a str>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => field(format!("{name} is not a string")),
        }
    }

    fn object(&self, name: &str) -> Result<Option<Object<'a>>> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Object(object))),
            Some(_) => field(format!("{name} is not an object")),
        }
    }

    fn list(&self, name: &str) -> Result<&'a [Value]> {
        match self.get(name) {
            None => Ok(&[]),
            Some(Value::Array(items)) => Ok(items),
            Some(_) => field(format!("{name} is not a list")),
        }
    }
}

/// The media type that decides: Content-Type and mediaType, which must agree where both are given.
fn media_type<'a>(object: &Object<'a>, given: Option<&'a str>, embedded: Option<&'a str>) -> Result<&'a str> {
    let media_type = match (given, embedded) {
        (Some(given), Some(embedded)) if given != embedded => {
            return field(format!("mediaType is {embedded:?}, but it was put as {given:?}"));
        }
        (Some(given), _) => given,
        (None, Some(embedded)) => embedded,
        (None, None) if object.get("manifests").is_some() => OCI_INDEX,
        (None, None) if object.get("config").is_some() => OCI_MANIFEST,
        (None, None) => return field("type is unknown: give a Content-Type or a mediaType"),
    };
    if is_schema_1(media_type) {
        return Err(ManifestError::Schema1);
    }
    // Parameters belong into the Content-Type alone: with them the same body would not match its own type (RFC 6838).
    let printable = media_type.bytes().all(|b| b.is_ascii_graphic() && b != b';');
    if !printable || media_type.len() > MEDIA_TYPE_LENGTH_MAX || !media_type.contains('/') {
        return field("mediaType is not a media type");
    }
    Ok(media_type)
}

fn check_schema_version(object: &Object<'_>, media_type: &str) -> Result<()> {
    match object.get("schemaVersion") {
        Some(version) if version.as_u64() == Some(2) => Ok(()),
        Some(version) if version.as_u64() == Some(1) => Err(ManifestError::Schema1),
        Some(version) => field(format!("schemaVersion is {version}, not 2")),
        None if object.get("fsLayers").is_some() => Err(ManifestError::Schema1),
        // The artifact manifest never had one, and of other types nothing is known.
        None if is_manifest(media_type) && media_type != OCI_ARTIFACT => field("schemaVersion is missing"),
        None => Ok(()),
    }
}

fn kind(object: &Object<'_>, media_type: &str) -> Result<Kind> {
    let has = |name| object.get(name).is_some();
    if has("manifests") && (has("layers") || has("config") || has("fsLayers") || has("blobs")) {
        return field("fields contradict each other: manifests stands beside layers, config or blobs");
    }
    match media_type {
        OCI_MANIFEST | DOCKER_MANIFEST if has("manifests") => field("type is that of an image, but it has manifests"),
        OCI_MANIFEST | DOCKER_MANIFEST if !has("config") => field("config is missing"),
        OCI_MANIFEST | DOCKER_MANIFEST => Ok(Kind::Image),
        OCI_INDEX | DOCKER_LIST if has("layers") || has("config") => {
            field("type is that of an index, but it has layers or a config")
        }
        OCI_INDEX | DOCKER_LIST => Ok(Kind::Index),
        _ if has("manifests") => Ok(Kind::Index),
        _ if has("config") || has("layers") => Ok(Kind::Image),
        _ => Ok(Kind::Other),
    }
}

/// A descriptor (OCI image specification, descriptor.md).
struct Descriptor<'a> {
    media_type: &'a str,
    digest: Digest,
    size: u64,
}

fn descriptor<'a>(object: &Object<'a>, place: &str) -> Result<Descriptor<'a>> {
    object.refuse_lookalikes(place, DESCRIPTOR_KEYS)?;
    let Some(media_type) = object.string("mediaType")?.filter(|t| !t.is_empty()) else {
        return field(format!("{place} has no mediaType"));
    };
    let Some(digest) = object.string("digest")? else { return field(format!("{place} has no digest")) };
    let digest = digest.parse().map_err(|e| ManifestError::Field(format!("{place} has an invalid digest: {e}")))?;
    match object.get("size").and_then(Value::as_u64).filter(|size| i64::try_from(*size).is_ok()) {
        Some(size) => Ok(Descriptor { media_type, digest, size }),
        None => field(format!("{place} has no valid size: a size is a whole number of bytes from 0 to 2^63 - 1")),
    }
}

fn descriptors<'a>(object: &Object<'a>, name: &str) -> Result<Vec<Descriptor<'a>>> {
    let items = object.list(name)?;
    if items.len() > REFERENCES_MAX {
        return Err(ManifestError::TooMany);
    }
    let each = items.iter().enumerate().map(|(index, item)| match item {
        Value::Object(item) => descriptor(&Object(item), &format!("{name}[{index}]")),
        _ => field(format!("{name}[{index}] is not an object")),
    });
    each.collect()
}

fn references(object: &Object<'_>, kind: Kind) -> Result<Vec<Child>> {
    let mut children = Children::default();
    if kind == Kind::Index {
        for child in descriptors(object, "manifests")? {
            let stored = if is_manifest(child.media_type) { ReferenceKind::Manifest } else { ReferenceKind::Blob };
            children.add(stored, &child)?;
        }
    }
    if let Some(config) = object.object("config")? {
        children.add(ReferenceKind::Blob, &descriptor(&config, "config")?)?;
    }
    for layer in descriptors(object, "layers")?.into_iter().chain(descriptors(object, "blobs")?) {
        if !is_non_distributable(layer.media_type) {
            children.add(ReferenceKind::Blob, &layer)?;
        }
    }
    Ok(children.list)
}

/// References, each once.
#[derive(Default)]
struct Children {
    list: Vec<Child>,
    sizes: std::collections::HashMap<Digest, u64>,
    seen: std::collections::HashSet<(bool, Digest)>,
}

impl Children {
    fn add(&mut self, kind: ReferenceKind, descriptor: &Descriptor<'_>) -> Result<()> {
        let known = *self.sizes.entry(descriptor.digest).or_insert(descriptor.size);
        if known != descriptor.size {
            let digest = descriptor.digest;
            return field(format!("descriptors give {digest} two sizes, {known} and {}", descriptor.size));
        }
        if self.seen.insert((kind == ReferenceKind::Manifest, descriptor.digest)) {
            self.list.push(Child { kind, digest: descriptor.digest, size: descriptor.size });
        }
        if self.list.len() > REFERENCES_MAX { Err(ManifestError::TooMany) } else { Ok(()) }
    }
}

fn artifact_type(object: &Object<'_>, kind: Kind) -> Result<String> {
    let own = object.string("artifactType")?.filter(|t| !t.is_empty());
    let config = match object.object("config")? {
        Some(config) if kind == Kind::Image => config.string("mediaType")?,
        _ => None,
    };
    Ok(own.or(config).unwrap_or_default().to_owned())
}

fn annotations(object: &Object<'_>) -> Result<Vec<(String, String)>> {
    let Some(annotations) = object.object("annotations")? else { return Ok(Vec::new()) };
    let pairs = annotations.0.iter().map(|(key, value)| match value {
        Value::String(value) => Ok((key.clone(), value.clone())),
        _ => field(format!("annotation {key:?} is not a string")),
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn described(content: &str, media_type: &str) -> Value {
        let digest = Digest::sha256(content.as_bytes()).to_string();
        json!({ "mediaType": media_type, "digest": digest, "size": content.len() })
    }

    fn image() -> Value {
        json!({ "schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": described("config", "application/x.config"),
            "layers": [described("one", "application/x.layer"), described("two", "application/x.layer")] })
    }

    fn parse(value: &Value, content_type: Option<&str>) -> Result<ParsedManifest> {
        parse_manifest(value.to_string().as_bytes(), content_type)
    }

    fn with(name: &str, value: Value) -> Value {
        let mut image = image();
        image[name] = value;
        image
    }

    #[test]
    fn an_image_refers_to_its_config_and_layers() {
        let parsed = parse(&image(), Some(OCI_MANIFEST)).unwrap();
        let want: Vec<_> = ["config", "one", "two"].map(|c| Digest::sha256(c.as_bytes())).to_vec();
        assert_eq!(parsed.references.iter().map(|c| c.digest).collect::<Vec<_>>(), want);
        assert_eq!((parsed.kind, parsed.artifact_type.as_str()), (Kind::Image, "application/x.config"));
    }

    #[test]
    fn a_key_that_differs_from_a_known_one_by_case_is_refused() {
        for twin in ["LAYERS", "Layers", "MediaType", "\u{17f}ubject", "bLobs"] {
            assert!(parse(&with(twin, json!([])), Some(OCI_MANIFEST)).is_err(), "{twin}");
        }
        let mut image = image();
        image["layers"][0]["Digest"] = json!("sha256:00");
        assert!(parse(&image, Some(OCI_MANIFEST)).is_err(), "in a descriptor, too");
        let annotations = json!({ "Layers": "1", "layers": "2" });
        assert!(parse(&with("annotations", annotations), Some(OCI_MANIFEST)).is_ok(), "annotations are free");
        assert!(parse(&with("org.example.Custom", json!(1)), Some(OCI_MANIFEST)).is_ok());
    }

    #[test]
    fn the_stored_type_is_the_one_it_was_put_with() {
        let put = "application/vnd.oci.image.manifest.v1+json; charset=utf-8";
        assert_eq!(parse(&image(), Some(put)).unwrap().media_type, put);
        assert_eq!(parse(&image(), None).unwrap().media_type, OCI_MANIFEST);
        assert_eq!(parse(&with("mediaType", Value::Null), None).unwrap().media_type, OCI_MANIFEST);
    }

    /// It would be refused under the very type that it is served with.
    #[test]
    fn parameters_belong_into_the_content_type_alone() {
        let error = parse(&with("mediaType", "application/x;y".into()), None).unwrap_err();
        assert!(error.to_string().contains("not a media type"), "{error}");
    }

    #[test]
    fn children_that_are_no_manifests_count_as_blobs() {
        let index =
            json!({ "schemaVersion": 2, "manifests": [described("a", OCI_MANIFEST), described("b", "text/x")] });
        let parsed = parse(&index, Some(OCI_INDEX)).unwrap();
        let kinds: Vec<_> = parsed.references.iter().map(|c| c.kind).collect();
        assert_eq!(kinds, [ReferenceKind::Manifest, ReferenceKind::Blob]);
    }

    #[test]
    fn non_distributable_layers_and_subjects_need_not_be_there() {
        let foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
        let mut image = with("layers", json!([described("x", foreign)]));
        image["subject"] = described("subject", OCI_MANIFEST);
        let parsed = parse(&image, Some(OCI_MANIFEST)).unwrap();
        assert_eq!(parsed.references.len(), 1, "the config alone");
        assert_eq!(parsed.subject, Some(Digest::sha256(b"subject")));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (body, why) in [
            (with("manifests", json!([described("x", OCI_MANIFEST)])), "contradict"),
            (with("mediaType", OCI_INDEX.into()), "put as"),
            (with("schemaVersion", 3.into()), "schemaVersion"),
            (with("schemaVersion", Value::Null), "schemaVersion"),
            (with("config", Value::Null), "config is missing"),
            (with("layers", "x".into()), "not a list"),
            (with("layers", json!([["x", "y", 1]])), "not an object"),
            (with("annotations", json!({ "a": 1 })), "not a string"),
        ] {
            let error = parse(&body, Some(OCI_MANIFEST)).unwrap_err().to_string();
            assert!(error.contains(why), "{error} does not say {why}");
        }
    }

    #[test]
    fn sizes_are_whole_and_fit_63_bits() {
        for size in ["-1", "1.5", "1e3", "9223372036854775808", "1000000000000000000000000000000", "\"1\"", "null"] {
            let digest = Digest::sha256(b"");
            let body = format!(
                r#"{{"schemaVersion":2,"config":{{"mediaType":"a/b","digest":"{digest}","size":{size}}},"layers":[]}}"#
            );
            let error = parse_manifest(body.as_bytes(), Some(OCI_MANIFEST)).unwrap_err().to_string();
            assert!(error.contains("size"), "{size}: {error}");
        }
    }

    #[test]
    fn one_digest_has_one_size() {
        let mut other = described("one", "application/x.layer");
        other["size"] = 4.into();
        let body = with("layers", json!([described("one", "application/x.layer"), other]));
        assert!(parse(&body, Some(OCI_MANIFEST)).unwrap_err().to_string().contains("two sizes"));
    }

    #[test]
    fn schema_1_is_refused_with_the_cure() {
        let old = json!({ "schemaVersion": 1, "fsLayers": [], "history": [] });
        for content_type in [Some("application/vnd.docker.distribution.manifest.v1+prettyjws"), Some("a/b")] {
            assert_eq!(parse(&old, content_type), Err(ManifestError::Schema1), "{content_type:?}");
        }
    }

    #[test]
    fn too_many_references_are_refused() {
        let layers: Vec<_> = (0..=REFERENCES_MAX).map(|i| described(&i.to_string(), "a/b")).collect();
        assert_eq!(parse(&with("layers", layers.into()), Some(OCI_MANIFEST)), Err(ManifestError::TooMany));
    }

    proptest! {
        #[test]
        fn no_body_makes_the_parser_panic(body: Vec<u8>, content_type: Option<String>) {
            let _ = parse_manifest(&body, content_type.as_deref());
        }

        #[test]
        fn no_mutation_makes_the_parser_panic(at in 0usize..500, byte: u8) {
            let mut body = image().to_string().into_bytes();
            let at = at % body.len();
            body[at] = byte;
            let _ = parse_manifest(&body, Some(OCI_MANIFEST));
        }
    }
}
