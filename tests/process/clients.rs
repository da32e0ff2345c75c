//! Real clients: what one pushes in a region, each of them pulls byte for byte in every other. A client that is not
//! installed fails its test.

use std::path::Path;
use std::process::{Command, Stdio};

use atoll_types::Digest;
use serde_json::json;

use crate::harness::Cluster;
use crate::oci::{INDEX, Image, MANIFEST};

/// A multi-architecture image as an OCI layout on disk.
struct Layout {
    folder: tempfile::TempDir,
    index: Vec<u8>,
    contents: Vec<Vec<u8>>,
}

impl Layout {
    /// `flat`: index.json is the index itself, as crane wants it; otherwise it names the index `v1`.
    fn new(seed: u64, flat: bool) -> Self {
        let images = [("amd64", Image::new(seed, 2, 300_000)), ("arm64", Image::new(seed + 1, 2, 300_000))];
        let manifests: Vec<_> = images
            .iter()
            .map(|(architecture, image)| {
                json!({ "mediaType": MANIFEST, "digest": image.digest.to_string(), "size": image.manifest.len(),
                    "platform": { "architecture": architecture, "os": "linux" } })
            })
            .collect();
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests }).to_string().into_bytes();
        let contents: Vec<Vec<u8>> = images
            .into_iter()
            .flat_map(|(_, image)| image.blobs.into_iter().chain([image.manifest]))
            .chain([index.clone()])
            .collect();
        let layout = Self { folder: tempfile::tempdir().expect("a folder"), index, contents };
        layout.write(flat);
        layout
    }

    fn write(&self, flat: bool) {
        let blobs = self.path().join("blobs/sha256");
        std::fs::create_dir_all(&blobs).expect("a folder of blobs");
        for content in &self.contents {
            std::fs::write(blobs.join(Digest::sha256(content).hex()), content).expect("a blob is written");
        }
        let top = json!({ "schemaVersion": 2, "manifests": [{ "mediaType": INDEX, "size": self.index.len(),
            "digest": Digest::sha256(&self.index).to_string(),
            "annotations": { "org.opencontainers.image.ref.name": "v1" } }] });
        let top = if flat { self.index.clone() } else { top.to_string().into_bytes() };
        std::fs::write(self.path().join("index.json"), top).expect("index.json is written");
        std::fs::write(self.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).expect("oci-layout");
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Every byte of the index and of all its images lies in the layout that a client wrote.
    fn assert_in(&self, folder: &Path, what: &str) {
        for content in &self.contents {
            let file = folder.join("blobs/sha256").join(Digest::sha256(content).hex());
            let got = std::fs::read(&file).unwrap_or_else(|e| panic!("{what}: {}: {e}", file.display()));
            assert!(got == *content, "{what}: {} differs", file.display());
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Client {
    Skopeo,
    Crane,
    Oras,
    Regctl,
}

const CLIENTS: [Client; 4] = [Client::Skopeo, Client::Crane, Client::Oras, Client::Regctl];

fn run(command: &mut Command, what: &str) {
    let output =
        command.stdin(Stdio::null()).output().unwrap_or_else(|e| panic!("{what}: cannot run {command:?}: {e}"));
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{what}: {command:?} ended with {}: {said}", output.status);
}

impl Client {
    fn push(self, layout: &Path, host: &str, repository: &str) {
        let (at, reference) = (layout.display(), format!("{host}/{repository}:v1"));
        let mut command = match self {
            Self::Skopeo => {
                let mut c = Command::new("skopeo");
                c.args(["copy", "--all", "--preserve-digests", "--dest-tls-verify=false", &format!("oci:{at}:v1")]);
                c.arg(format!("docker://{reference}"));
                c
            }
            Self::Crane => {
                let mut c = Command::new("crane");
                c.args(["push", "--insecure", "--index", &at.to_string(), &reference]);
                c
            }
            Self::Oras => {
                let mut c = Command::new("oras");
                c.args(["cp", "--from-oci-layout", "--to-plain-http", &format!("{at}:v1"), &reference]);
                c
            }
            Self::Regctl => {
                let mut c = Command::new("regctl");
                c.args(["--host", &format!("reg={host},tls=disabled"), "image", "copy", &format!("ocidir://{at}:v1")]);
                c.arg(reference);
                c
            }
        };
        run(&mut command, &format!("{self:?} pushes to {host}"));
    }

    fn pull(self, host: &str, name: &str, to: &Path) {
        let (to, reference) = (to.display(), format!("{host}/{name}"));
        let mut command = match self {
            Self::Skopeo => {
                let mut c = Command::new("skopeo");
                c.args(["copy", "--all", "--preserve-digests", "--src-tls-verify=false"]);
                c.args([format!("docker://{reference}"), format!("oci:{to}:v1")]);
                c
            }
            Self::Crane => {
                let mut c = Command::new("crane");
                c.args(["pull", "--insecure", "--format=oci", &reference, &to.to_string()]);
                c
            }
            Self::Oras => {
                let mut c = Command::new("oras");
                c.args(["cp", "--from-plain-http", "--to-oci-layout", &reference, &format!("{to}:v1")]);
                c
            }
            Self::Regctl => {
                let mut c = Command::new("regctl");
                c.args(["--host", &format!("reg={host},tls=disabled"), "image", "copy", &reference]);
                c.arg(format!("ocidir://{to}:v1"));
                c
            }
        };
        run(&mut command, &format!("{self:?} pulls {reference}"));
    }
}

/// Each client pushes at one node; each pulls it at another, so that every ordered pair of regions is used, by tag and
/// by digest.
#[test]
fn every_client_pulls_in_every_region_what_any_client_pushed_in_another() {
    let cluster = Cluster::start();
    let hosts: Vec<String> = cluster.nodes.iter().map(|n| n.http.to_string()).collect();
    for (k, pusher) in CLIENTS.into_iter().enumerate() {
        let layout = Layout::new(1_000 + 10 * k as u64, pusher == Client::Crane);
        let (from, repository) = (k % hosts.len(), format!("clients/{}", format!("{pusher:?}").to_lowercase()));
        pusher.push(layout.path(), &hosts[from], &repository);
        for (j, puller) in CLIENTS.into_iter().enumerate() {
            let to = tempfile::tempdir().expect("a folder");
            let at = (from + 1 + j % 2) % hosts.len();
            let name = match j % 2 {
                0 => format!("{repository}:v1"),
                _ => format!("{repository}@{}", Digest::sha256(&layout.index)),
            };
            puller.pull(&hosts[at], &name, &to.path().join("out"));
            layout
                .assert_in(&to.path().join("out"), &format!("{puller:?} at {at} of what {pusher:?} pushed at {from}"));
        }
    }
}

/// The OCI conformance suite at every node, followers included: no failure and no error, and as many tests as the
/// suite has.
#[test]
fn the_conformance_suite_passes_at_every_node() {
    let cluster = Cluster::start();
    for (version, tests_min) in [("1.1", 850), ("dev", 980)] {
        for node in &cluster.nodes {
            let results = tempfile::tempdir().expect("a folder");
            let repository = format!("conformance/v{}-{}", version.replace('.', ""), node.name);
            let mut suite = Command::new("conformance");
            suite.env("OCI_REGISTRY", node.http.to_string()).env("OCI_TLS", "disabled").env("OCI_VERSION", version);
            suite.env("OCI_REPO1", &repository).env("OCI_REPO2", format!("{repository}-other"));
            suite.env("OCI_RESULTS_DIR", results.path()).current_dir(results.path());
            let output = suite.stdin(Stdio::null()).output().expect("the conformance suite is installed");
            let report = std::fs::read_to_string(results.path().join("junit.xml"));
            let report = report.unwrap_or_else(|e| panic!("{version} at {}: no report: {e}: {output:?}", node.name));
            let count = |name: &str| attribute(&report, name);
            assert_eq!((count("failures"), count("errors")), (0, 0), "{version} at {}: {report:.4000}", node.name);
            assert!(count("tests") >= tests_min, "{version} at {}: {} tests", node.name, count("tests"));
            assert!(count("skipped") <= 2, "{version} at {}: {} skipped", node.name, count("skipped"));
        }
    }
}

/// A number of the report's outermost element.
fn attribute(report: &str, name: &str) -> u64 {
    let top = report.split("<testsuites").nth(1).and_then(|rest| rest.split('>').next()).unwrap_or_default();
    let value = top.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or("0");
    value.parse().unwrap_or_else(|e| panic!("{name} of {top}: {e}"))
}
