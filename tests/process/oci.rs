//! A small OCI client and random images, for looking at a cluster from outside.

use std::collections::HashMap;
use std::time::Duration;

use atoll_types::Digest;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde_json::{Value, json};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
const BODY_BYTES_MAX: u64 = 2 << 30;

/// An answer of the registry, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The first OCI error code of the body, or nothing.
    pub(crate) fn code(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap_or_default();
        body["errors"][0]["code"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn revision(&self) -> u64 {
        self.header("atoll-revision").parse().unwrap_or(0)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(400).collect()
    }
}

/// A client of one node.
#[derive(Clone)]
pub(crate) struct Client {
    base: String,
    agent: ureq::Agent,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_global(Some(Duration::from_secs(120)))
            .build();
        Self { base: format!("http://{address}"), agent: config.into() }
    }

    /// One request; an error is a lost connection or a time-out.
    pub(crate) fn call(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, String> {
        let mut request = http::Request::builder().method(method).uri(format!("{}{path}", self.base));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.to_vec()).map_err(|e| e.to_string())?;
        let mut response = self.agent.run(request).map_err(|e| format!("{method} {path}: {e}"))?;
        let headers = response
            .headers()
            .iter()
            .map(|(k, v)| (k.as_str().to_owned(), String::from_utf8_lossy(v.as_bytes()).into_owned()))
            .collect();
        let body = response
            .body_mut()
            .with_config()
            .limit(BODY_BYTES_MAX)
            .read_to_vec()
            .map_err(|e| format!("{method} {path}: {e}"))?;
        Ok(Answer { status: response.status().as_u16(), headers, body })
    }

    pub(crate) fn get(&self, path: &str) -> Result<Answer, String> {
        self.call("GET", path, &[], b"")
    }

    /// The path of a new upload session.
    pub(crate) fn open_upload(&self, repository: &str) -> Result<String, String> {
        let answer = expect(self.call("POST", &format!("/v2/{repository}/blobs/uploads/"), &[], b"")?, 202)?;
        Ok(answer.header("location").to_owned())
    }

    pub(crate) fn push_blob(&self, repository: &str, data: &[u8]) -> Result<Answer, String> {
        let at = with_query(&self.open_upload(repository)?, &format!("digest={}", Digest::sha256(data)));
        expect(self.call("PUT", &at, &[("content-type", "application/octet-stream")], data)?, 201)
    }

    /// Whether the node says that a repository has a blob, as clients ask before they upload it.
    pub(crate) fn has_blob(&self, repository: &str, data: &[u8]) -> bool {
        let path = format!("/v2/{repository}/blobs/{}", Digest::sha256(data));
        self.call("HEAD", &path, &[], b"").is_ok_and(|answer| answer.status == 200)
    }

    pub(crate) fn push_manifest(&self, repository: &str, reference: &str, body: &[u8]) -> Result<Answer, String> {
        let path = format!("/v2/{repository}/manifests/{reference}");
        expect(self.call("PUT", &path, &[("content-type", MANIFEST)], body)?, 201)
    }

    /// Pushes all of an image; the revision of its manifest.
    pub(crate) fn push(&self, repository: &str, tag: &str, image: &Image) -> Result<u64, String> {
        for blob in &image.blobs {
            self.push_blob(repository, blob)?;
        }
        Ok(self.push_manifest(repository, tag, &image.manifest)?.revision())
    }

    /// Whether the image is there, byte for byte: by tag, by digest, and each blob.
    pub(crate) fn check(&self, repository: &str, tag: &str, image: &Image) -> Result<(), String> {
        for reference in [tag, &image.digest.to_string()] {
            let answer = expect(self.get(&format!("/v2/{repository}/manifests/{reference}"))?, 200)?;
            same(&answer.body, &image.manifest, &format!("manifest {repository}:{reference} at {}", self.base))?;
        }
        for blob in &image.blobs {
            let answer = expect(self.get(&format!("/v2/{repository}/blobs/{}", Digest::sha256(blob)))?, 200)?;
            same(&answer.body, blob, &format!("a blob of {repository}:{tag} at {}", self.base))?;
        }
        Ok(())
    }
}

fn same(got: &[u8], want: &[u8], what: &str) -> Result<(), String> {
    if got == want { Ok(()) } else { Err(format!("{what} differs: {} bytes, want {}", got.len(), want.len())) }
}

/// The answer if it has the status, else what it says.
pub(crate) fn expect(answer: Answer, status: u16) -> Result<Answer, String> {
    if answer.status == status {
        Ok(answer)
    } else {
        Err(format!("status {}, want {status}: {} {:?}", answer.status, answer.text(), answer.headers))
    }
}

pub(crate) fn with_query(path: &str, query: &str) -> String {
    format!("{path}{}{query}", if path.contains('?') { '&' } else { '?' })
}

/// A random image; its seed decides all bytes.
pub(crate) struct Image {
    pub(crate) blobs: Vec<Vec<u8>>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) digest: Digest,
}

impl Image {
    pub(crate) fn new(seed: u64, layers: usize, layer_bytes: usize) -> Self {
        Self::with_subject(seed, layers, layer_bytes, None)
    }

    /// An artifact that refers to another manifest.
    pub(crate) fn with_subject(seed: u64, layers: usize, layer_bytes: usize, subject: Option<&Self>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let mut blobs: Vec<Vec<u8>> = (0..layers).map(|_| random_bytes(&mut random, layer_bytes)).collect();
        let layers: Vec<Value> = blobs.iter().map(|b| descriptor(LAYER, b)).collect();
        let config = json!({ "architecture": "amd64", "os": "linux", "config": {}, "seed": seed.to_string(),
            "rootfs": { "type": "layers", "diff_ids": blobs.iter().map(|b| Digest::sha256(b).to_string()).collect::<Vec<_>>() } });
        let config = config.to_string().into_bytes();
        let mut manifest = json!({ "schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, &config), "layers": layers });
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(MANIFEST, &subject.manifest);
            manifest["artifactType"] = "application/vnd.example.test".into();
        }
        blobs.push(config);
        let manifest = manifest.to_string().into_bytes();
        Self { digest: Digest::sha256(&manifest), manifest, blobs }
    }
}

fn descriptor(media_type: &str, content: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": Digest::sha256(content).to_string(), "size": content.len() })
}

pub(crate) fn random_bytes(random: &mut StdRng, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    random.fill_bytes(&mut bytes);
    bytes
}
