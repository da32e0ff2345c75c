//! Upload sessions.

use std::io;
use std::time::Duration;

use crate::support::{REPOSITORY, Region, World, access, access_of, content, eventually, pieces, whole, write};
use atoll_auth::{Access, Push};
use atoll_registry::{Owner, RegistryConfig, RegistryError, SessionId};
use atoll_testkit::NextProposal;
use atoll_types::{Algorithm, Digest, NodeId};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::sync::mpsc;

type Error = RegistryError;

fn push() -> Access<Push> {
    access(REPOSITORY)
}

async fn open(region: &Region) -> SessionId {
    region.registry.start_upload(&push(), None).await.unwrap().id
}

async fn append(region: &Region, id: &SessionId, start: Option<u64>, bytes: &[u8]) -> Result<u64, Error> {
    let (length, body) = (Some(bytes.len() as u64), whole(&Bytes::copy_from_slice(bytes)));
    Ok(region.registry.append(&push(), id, start, length, body).await?.offset)
}

async fn finish(region: &Region, id: &SessionId, content: &[u8]) -> Result<Digest, Error> {
    let digest = Digest::sha256(content);
    let nothing = pieces(Vec::new());
    Ok(region.registry.finish_upload(&push(), id, &digest, None, None, nothing, &write()).await?.digest)
}

async fn offset(region: &Region, id: &SessionId) -> u64 {
    region.registry.upload_status(&push(), id).await.unwrap().offset
}

fn torn() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionReset, "the client left")
}

#[tokio::test]
async fn chunks_make_a_blob() {
    let world = World::new();
    let id = open(&world.us).await;
    assert_eq!(append(&world.us, &id, Some(0), b"one ").await.unwrap(), 4);
    assert_eq!(append(&world.us, &id, None, b"two ").await.unwrap(), 8);
    let digest = Digest::sha256(b"one two three");
    let last = whole(&Bytes::from_static(b"three"));
    let done = world.us.registry.finish_upload(&push(), &id, &digest, Some(8), Some(5), last, &write()).await.unwrap();
    assert_eq!(done.digest, digest);
    assert_eq!(world.eu.blob(&digest).await.unwrap(), "one two three");
    assert!(matches!(world.us.registry.upload_status(&push(), &id).await, Err(Error::UploadUnknown(_))));
}

#[tokio::test]
async fn a_session_that_waits_for_its_next_request_holds_no_file_open_and_no_bytes() {
    let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
    let registry = world.us.registry_in(folder.path());
    let bytes = content(300_000, 1);
    let temporary = folder.path().canonicalize().unwrap().join("tmp");
    let files = || {
        let files = std::fs::read_dir(&temporary).unwrap().map(|e| e.unwrap());
        let files = files.filter(|e| !e.file_name().to_string_lossy().ends_with(".lock"));
        files.map(|e| e.metadata().unwrap().len()).collect::<Vec<_>>()
    };
    let open = || {
        let files =
            std::fs::read_dir("/proc/self/fd").unwrap().filter_map(|e| std::fs::read_link(e.unwrap().path()).ok());
        files.filter(|f| f.starts_with(&temporary) && f.extension().is_none()).count()
    };
    let id = registry.start_upload(&push(), None).await.unwrap().id;
    registry.append(&push(), &id, None, Some(100_000), whole(&bytes.slice(..100_000))).await.unwrap();
    assert_eq!((files(), open()), (vec![100_000], 0), "after a chunk");
    let torn = pieces(vec![Ok(bytes.slice(100_000..200_000)), Err(torn())]);
    let error = registry.append(&push(), &id, None, Some(200_000), torn).await.unwrap_err();
    assert!(matches!(error, Error::BodyTorn(_)), "{error}");
    assert_eq!((files(), open()), (vec![200_000], 0), "after a chunk that was torn");
    let (digest, rest) = (Digest::sha256(&bytes), whole(&bytes.slice(200_000..)));
    registry.append_last(&push(), &id, None, Some(100_000), rest).await.unwrap();
    world.us.node.cut_off(true);
    let refused = registry.finish_upload(&push(), &id, &digest, None, None, pieces(Vec::new()), &write()).await;
    assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    assert_eq!((files(), open()), (vec![300_000], 0), "after a finish that was refused when all bytes were here");
    world.us.node.cut_off(false);
    registry.finish_upload(&push(), &id, &digest, None, None, pieces(Vec::new()), &write()).await.unwrap();
    assert_eq!((files(), open()), (Vec::new(), 0), "after the end");
}

#[tokio::test]
async fn an_upload_may_be_empty_or_of_another_algorithm() {
    let world = World::new();
    let id = open(&world.us).await;
    finish(&world.us, &id, b"").await.unwrap();
    assert_eq!(world.us.blob(&Digest::sha256(b"")).await.unwrap(), "");
    let blob = content(600_000, 4);
    let digest = Algorithm::Sha512.digest(&blob);
    let id = open(&world.us).await;
    append(&world.us, &id, None, &blob).await.unwrap();
    let nothing = pieces(Vec::new());
    world.us.registry.finish_upload(&push(), &id, &digest, None, None, nothing, &write()).await.unwrap();
    assert!(world.eu.blob(&digest).await.unwrap() == blob);
}

#[tokio::test]
async fn a_chunk_goes_on_where_the_last_one_ended() {
    let world = World::new();
    let id = open(&world.us).await;
    append(&world.us, &id, Some(0), b"0123456789").await.unwrap();
    for start in [0, 5, 9, 11, u64::MAX] {
        let refused = append(&world.us, &id, Some(start), b"xx").await;
        assert!(matches!(refused, Err(Error::UploadRange { stated, offset: 10 }) if stated == start), "{refused:?}");
    }
    assert_eq!(offset(&world.us, &id).await, 10, "a refused chunk changes nothing");
    append(&world.us, &id, Some(10), b"ab").await.unwrap();
    finish(&world.us, &id, b"0123456789ab").await.unwrap();
}

#[tokio::test]
async fn a_torn_body_is_gone_on_with_from_where_it_was_torn() {
    let world = World::new();
    let id = open(&world.us).await;
    let body = pieces(vec![Ok(Bytes::from_static(b"abc")), Err(torn())]);
    let refused = world.us.registry.append(&push(), &id, Some(0), Some(6), body).await;
    assert!(matches!(refused, Err(Error::BodyTorn(_))));
    assert_eq!(offset(&world.us, &id).await, 3, "what came is kept, and said");
    let short = world.us.registry.append(&push(), &id, Some(3), Some(9), whole(&Bytes::from_static(b"d"))).await;
    assert!(matches!(short, Err(Error::SizeInvalid { stated: 9, actual: 1 })), "{short:?}");
    let long = world.us.registry.append(&push(), &id, Some(4), Some(1), whole(&Bytes::from_static(b"ef"))).await;
    assert!(matches!(long, Err(Error::SizeInvalid { stated: 1, actual: 2 })), "{long:?}");
    assert_eq!(offset(&world.us, &id).await, 4);
    append(&world.us, &id, Some(4), b"ef").await.unwrap();
    finish(&world.us, &id, b"abcdef").await.unwrap();
}

#[tokio::test]
async fn a_torn_finish_can_be_sent_again_and_a_done_one_too() {
    let world = World::new();
    let id = open(&world.us).await;
    let digest = Digest::sha256(b"abcdef");
    let body = pieces(vec![Ok(Bytes::from_static(b"abc")), Err(torn())]);
    let refused = world.us.registry.finish_upload(&push(), &id, &digest, None, Some(6), body, &write()).await;
    assert!(matches!(refused, Err(Error::BodyTorn(_))));
    assert!(world.us.blob(&digest).await.is_err());
    append(&world.us, &id, Some(3), b"def").await.unwrap();
    let first = finish(&world.us, &id, b"abcdef").await.unwrap();
    assert_eq!(finish(&world.us, &id, b"abcdef").await.unwrap(), first, "the answer may have been lost");
    assert!(matches!(finish(&world.us, &id, b"other").await, Err(Error::UploadUnknown(_))));
}

#[tokio::test]
async fn one_request_holds_a_session_at_a_time() {
    let world = World::new();
    let id = open(&world.us).await;
    let (sender, receiver) = mpsc::channel::<io::Result<Bytes>>(1);
    let slow = futures::stream::unfold(receiver, |mut r| async move { r.recv().await.map(|piece| (piece, r)) }).boxed();
    let (registry, session) = (world.us.registry.clone(), id.clone());
    let first = tokio::spawn(async move { registry.append(&push(), &session, None, None, slow).await });
    sender.send(Ok(Bytes::from_static(b"ab"))).await.unwrap();
    sender.send(Ok(Bytes::from_static(b"cd"))).await.unwrap();
    let busy = |result: Result<(), Error>| assert!(matches!(result, Err(Error::UploadBusy(_))), "{result:?}");
    busy(append(&world.us, &id, None, b"xx").await.map(drop));
    busy(finish(&world.us, &id, b"abcd").await.map(drop));
    busy(world.us.registry.cancel_upload(&push(), &id).await);
    assert_eq!(offset(&world.us, &id).await, 0, "the status is that of the last request that ended");
    drop(sender);
    assert_eq!(first.await.unwrap().unwrap().offset, 4);
    finish(&world.us, &id, b"abcd").await.unwrap();
}

#[tokio::test]
async fn a_request_that_is_dropped_gives_its_session_back() {
    let world = World::new();
    let id = open(&world.us).await;
    let never = futures::stream::iter([Ok(Bytes::from_static(b"ab"))]).chain(futures::stream::pending()).boxed();
    let push = push();
    let append_never = world.us.registry.append(&push, &id, None, None, never);
    assert!(tokio::time::timeout(Duration::from_millis(20), append_never).await.is_err());
    assert_eq!(offset(&world.us, &id).await, 2);
    append(&world.us, &id, Some(2), b"cd").await.unwrap();
    finish(&world.us, &id, b"abcd").await.unwrap();
}

#[tokio::test]
async fn a_session_belongs_to_its_repository_and_identity() {
    let world = World::new();
    let registry = &world.us.registry;
    let id = registry.start_upload(&access_of("alice", REPOSITORY), None).await.unwrap().id;
    for other in [access_of::<Push>("alice", "team/other"), access_of("bob", REPOSITORY), access_of("", REPOSITORY)] {
        let body = || whole(&Bytes::from_static(b"x"));
        assert!(matches!(registry.upload_status(&other, &id).await, Err(Error::UploadUnknown(_))));
        assert!(matches!(registry.append(&other, &id, None, None, body()).await, Err(Error::UploadUnknown(_))));
        let digest = Digest::sha256(b"x");
        let finish = registry.finish_upload(&other, &id, &digest, None, None, body(), &write()).await;
        assert!(matches!(finish, Err(Error::UploadUnknown(_))));
        assert!(matches!(registry.cancel_upload(&other, &id).await, Err(Error::UploadUnknown(_))));
    }
    assert_eq!(registry.upload_status(&access_of("alice", REPOSITORY), &id).await.unwrap().offset, 0);
}

#[tokio::test]
async fn a_wrong_digest_ends_the_session_and_leaves_nothing() {
    let world = World::new();
    let id = open(&world.us).await;
    append(&world.us, &id, None, b"some bytes").await.unwrap();
    assert!(matches!(finish(&world.us, &id, b"other bytes").await, Err(Error::DigestMismatch { .. })));
    assert!(matches!(append(&world.us, &id, None, b"x").await, Err(Error::UploadUnknown(_))));
    let body = whole(&Bytes::from_static(b"some bytes"));
    let digest = Digest::sha256(b"other bytes");
    let refused = world.us.registry.upload_whole(&push(), &digest, None, body, &write()).await;
    assert!(matches!(refused, Err(Error::DigestMismatch { .. })));
    let body = pieces(vec![Ok(Bytes::from_static(b"some")), Err(torn())]);
    assert!(world.us.registry.upload_whole(&push(), &digest, None, body, &write()).await.is_err());
    assert_eq!(world.us.objects().await, 0);
}

#[tokio::test]
async fn an_object_is_kept_only_if_it_may_have_been_recorded() {
    for (next, kept) in
        [(NextProposal::NotProposed, 0), (NextProposal::LostUnknown, 1), (NextProposal::AppliedUnknown, 1)]
    {
        let world = World::new();
        let id = open(&world.us).await;
        append(&world.us, &id, None, b"bytes").await.unwrap();
        world.us.node.next_proposal(next);
        assert!(matches!(finish(&world.us, &id, b"bytes").await, Err(Error::Propose(_))));
        assert_eq!(world.us.objects().await, kept, "{next:?}");
        let there = world.us.blob(&Digest::sha256(b"bytes")).await.is_ok();
        assert_eq!(there, next == NextProposal::AppliedUnknown);
    }
}

#[tokio::test]
async fn a_new_upload_replaces_the_copy() {
    let world = World::new();
    let blob = Bytes::from_static(b"twice");
    world.us.push_blob(REPOSITORY, &blob).await;
    let digest = Digest::sha256(&blob);
    let first = world.copy(&world.us, &digest).unwrap();
    world.us.push_blob(REPOSITORY, &blob).await;
    let second = world.copy(&world.us, &digest).unwrap();
    assert_ne!(first, second);
    assert_eq!(world.us.blob(&digest).await.unwrap(), blob);
}

#[tokio::test]
async fn sessions_are_bounded_end_when_idle_and_at_shutdown() {
    let world = World::configured(|config| RegistryConfig { uploads_max: 2, ..config });
    let (first, _second) = (open(&world.us).await, open(&world.us).await);
    assert!(matches!(world.us.registry.start_upload(&push(), None).await, Err(Error::Busy(_))));
    world.us.registry.cancel_upload(&push(), &first).await.unwrap();
    let third = open(&world.us).await;
    world.us.registry.shutdown().await;
    assert!(matches!(world.us.registry.upload_status(&push(), &third).await, Err(Error::UploadUnknown(_))));

    let world = World::configured(|config| RegistryConfig { upload_idle: Duration::from_millis(40), ..config });
    let idle = open(&world.us).await;
    let is_gone = async || world.us.registry.upload_status(&push(), &idle).await.is_err();
    eventually("the idle session ends", is_gone).await;
}

#[tokio::test]
async fn a_session_says_who_owns_it() {
    let world = World::new();
    let id = open(&world.us).await;
    assert_eq!(world.us.registry.session_owner(&id.to_string()), Owner::Here(id.clone()));
    let there = Owner::Node { region: world.us.name.clone(), node: NodeId(0) };
    assert_eq!(world.eu.registry.session_owner(&id.to_string()), there);
    for bad in ["", "unknown", "../..", &format!("eu-west.0.{}", "0".repeat(32))] {
        assert_eq!(world.us.registry.session_owner(bad), Owner::Invalid, "{bad}");
    }
}
