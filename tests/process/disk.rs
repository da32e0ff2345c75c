//! A disk that fills up: pushes are refused and nothing is fetched while pulls go on, all by itself and back; and a node
//! ends before there is no room to start again.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{Cluster, Node, is_alive, wait_for};
use crate::oci::{Answer, Client, Image, expect, with_query};

const MIB: u64 = 1 << 20;
/// More than the databases of a node take at once.
const DISK_BYTES: u64 = 512 * MIB;
const STOP_BELOW_BYTES: u64 = 8 * MIB;
/// The node whose disk it is.
const FULL: usize = 2;

/// A small disk of its own for a folder, unmounted at the end.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(folder: &Path) -> Self {
        std::fs::create_dir_all(folder).expect("the folder is made");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={DISK_BYTES}"), "atoll-test"])
            .arg(folder)
            .status()
            .expect("`mount` runs");
        assert!(mounted.success(), "a tmpfs cannot be mounted on {}; this test needs root", folder.display());
        Self(folder.to_owned())
    }

    fn free_bytes(&self) -> u64 {
        let disk = rustix::fs::statvfs(&self.0).expect("a file system");
        disk.f_bavail * disk.f_frsize
    }

    /// Leaves about so much free, however much was before.
    fn leave_free(&self, bytes: u64) {
        let ballast = self.0.join("lost+found");
        std::fs::create_dir_all(&ballast).expect("a folder that no data folder minds");
        let file = File::options().create(true).truncate(false).write(true).open(ballast.join("ballast"));
        let file = file.expect("the ballast is opened");
        let (held, free) = (file.metadata().expect("a file").len(), self.free_bytes());
        let wanted = (held + free).saturating_sub(bytes);
        if wanted < held {
            return file.set_len(wanted).expect("it shrinks");
        }
        let block = vec![1_u8; MIB as usize];
        for offset in (held..wanted).step_by(block.len()) {
            let length = (wanted - offset).min(MIB) as usize;
            file.write_all_at(&block[..length], offset).expect("there is as much room");
        }
    }

    /// What took the room is now what a node that was killed has left of an upload.
    fn leave_as_upload(&self) {
        let left = self.0.join("blobs/tmp/0123456789abcdef0123456789abcdef-0");
        std::fs::rename(self.0.join("lost+found/ballast"), left).expect("the ballast is moved");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a node that was killed a moment ago may still have files open.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn percent(of: u64) -> u64 {
    DISK_BYTES / 100 * of
}

fn client(node: &Node) -> Client {
    Client::new(&node.http.to_string())
}

fn ready(node: &Node) -> Answer {
    client(node).get("/readyz?for=push").expect("an answer")
}

fn wait_until_ready(node: &Node) {
    wait_for(format!("{} takes pushes", node.name), || (ready(node).status == 200).then_some(()));
}

fn assert_no_room(answer: &Answer) {
    assert_eq!((answer.status, answer.code().as_str()), (503, "UNAVAILABLE"), "{}", answer.text());
    assert_eq!(answer.header("retry-after"), "30");
    assert!(answer.text().contains("MiB free") && answer.text().contains("/data"), "{}", answer.text());
}

fn lag_blobs(cluster: &Cluster, region: &str) -> u64 {
    let status = cluster.ask(0, &["replication", "status"]);
    let regions = status["regions"].as_array().cloned().unwrap_or_default();
    let lag = regions.iter().find(|r| r["region"] == region).and_then(|r| r["blobs"].as_u64());
    lag.unwrap_or_else(|| panic!("{region} is in {status}"))
}

/// A gauge of a node, labels included in its name.
fn gauge(node: &Node, name: &str) -> f64 {
    let page = Client::new(&node.admin.to_string()).get("/metrics").expect("the metrics");
    let page = String::from_utf8(page.body).expect("text");
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("{name} is in\n{page}"))
}

/// A cluster whose last node has a small disk. The disk is dropped first: detached while the node still has it open, so
/// that the folder can be removed.
fn start() -> (Cluster, SmallDisk) {
    let marks = format!("[disk]\nresume_above_percent = 20\nstop_below_bytes = {STOP_BELOW_BYTES}\n");
    let mut cluster = Cluster::prepare(&marks);
    let disk = SmallDisk::mount(&cluster.data().join(&cluster.nodes[FULL].name).join("data"));
    cluster.up();
    (cluster, disk)
}

#[test]
fn below_the_mark_pushes_are_refused_and_nothing_is_fetched_until_there_is_room() {
    let (cluster, disk) = start();
    let (other, full) = (&cluster.nodes[0], &cluster.nodes[FULL]);
    let (before, meanwhile) = (Image::new(1, 2, 300_000), Image::new(2, 2, 700_000));
    client(full).push("disk/r", "before", &before).expect("there is room");
    let session = client(full).open_upload("disk/r").expect("there is room");
    let first = client(full).call("PATCH", &session, &[], &before.blobs[0][..1_000]).expect("an answer");
    let session = expect(first, 202).expect("there is room").header("location").to_owned();

    disk.leave_free(percent(8));
    let refused = wait_for("the node says that its disk is full", || Some(ready(full)).filter(|a| a.status == 503));
    assert!(refused.text().contains("MiB free"), "{}", refused.text());
    assert_no_room(&client(full).call("POST", "/v2/disk/r/blobs/uploads/", &[], b"").expect("an answer"));
    assert_no_room(&client(full).call("PATCH", &session, &[], &before.blobs[0][1_000..]).expect("an answer"));
    let put = [("content-type", crate::oci::MANIFEST)];
    assert_no_room(&client(full).call("PUT", "/v2/disk/r/manifests/t", &put, &before.manifest).expect("an answer"));
    assert_eq!(client(full).get("/readyz").expect("an answer").status, 200, "pulls go on");

    // What is pushed elsewhere is seen here and pulled through; nothing of it is kept, and lag says so.
    let revision = client(other).push("disk/r", "meanwhile", &meanwhile).expect("others have room");
    let known = [("atoll-min-revision", revision.to_string())];
    let known: Vec<(&str, &str)> = known.iter().map(|(k, v)| (*k, v.as_str())).collect();
    client(full).call("GET", "/v2/disk/r/manifests/meanwhile", &known, b"").expect("an answer");
    client(full).check("disk/r", "before", &before).expect("what is here is served");
    client(full).check("disk/r", "meanwhile", &meanwhile).expect("what is elsewhere is read through");
    assert_eq!(lag_blobs(&cluster, full.region), meanwhile.blobs.len() as u64);
    assert!(gauge(full, "atoll_disk_has_room") < 1.0);

    // Between the marks nothing changes.
    disk.leave_free(percent(15));
    let measured = || gauge(full, "atoll_disk_free_bytes{folder=\"data\"}");
    wait_for("the node has looked at the disk", || (measured() > percent(12) as f64).then_some(()));
    assert_eq!(ready(full).status, 503);

    disk.leave_free(percent(60));
    wait_until_ready(full);
    wait_for("all is fetched", || (lag_blobs(&cluster, full.region) == 0).then_some(()));
    let rest = client(full).call("PATCH", &session, &[], &before.blobs[0][1_000..]).expect("an answer");
    let session = expect(rest, 202).expect("the session has waited").header("location").to_owned();
    let digest = atoll_types::Digest::sha256(&before.blobs[0]);
    let end = client(full).call("PUT", &with_query(&session, &format!("digest={digest}")), &[], b"");
    expect(end.expect("an answer"), 201).expect("the upload goes on where it was");
    client(full).push("disk/r", "after", &Image::new(3, 1, 10_000)).expect("there is room again");
}

#[test]
fn a_node_ends_while_there_is_room_to_start_again_and_not_before_it_has_some() {
    let (cluster, disk) = start();
    let full = &cluster.nodes[FULL];
    client(full).push("disk/r", "t", &Image::new(1, 1, 10_000)).expect("there is room");
    let log = || std::fs::read_to_string(cluster.data().join(&full.name).join("log")).unwrap_or_default();
    let process = cluster.pid(&full.name);
    disk.leave_free(STOP_BELOW_BYTES / 2);
    wait_for("the node ends", || (!is_alive(process)).then_some(()));
    let death = format!("{} died: exited with code 1", full.name);
    wait_for("the supervisor reports it", || cluster.output().contains(&death).then_some(()));
    assert!(log().contains("to run: free some there"), "{}", log());

    // Its databases have given back what they had set aside.
    disk.leave_free(STOP_BELOW_BYTES);
    let again = cluster.dev(&["start", &full.name]).output().expect("`atoll dev` runs");
    assert!(!again.status.success(), "it started without room");

    disk.leave_as_upload();
    cluster.node("start", &full.name);
    wait_until_ready(full);
    client(full).check("disk/r", "t", &Image::new(1, 1, 10_000)).expect("nothing is lost");
    let check = cluster.ask(0, &["cluster", "check", "--deep"]);
    assert_eq!(check["equal"], true, "{check}");
}
