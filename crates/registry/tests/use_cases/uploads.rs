//! Upload sessions.

use std::io;
use std::time::Duration;

use crate::support::{REPOSITORY, Region, World, access, access_of, content, eventually, pieces, whole, write};
use atoll_auth::{Access, Push};
use atoll_registry::{Body, Linked, NoRoom, Owner, RegistryConfig, RegistryError, Room, SessionId};
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
    Ok(region.registry.finish_upload(&push(), id, &digest, None, None, nothing, write).await?.digest)
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
    let done = world.us.registry.finish_upload(&push(), &id, &digest, Some(8), Some(5), last, write).await.unwrap();
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
    let digest = Digest::sha256(&bytes);
    let node = world.us.node.clone();
    let rest = whole(&bytes.slice(200_000..)).inspect(move |_| node.cut_off(true));
    let refused = registry.finish_upload(&push(), &id, &digest, None, Some(100_000), rest, write).await;
    assert!(matches!(refused, Err(Error::ReadOnly { .. })), "{refused:?}");
    assert_eq!((files(), open()), (vec![300_000], 0), "after a finish that was refused when all bytes were here");
    world.us.node.cut_off(false);
    let rest = whole(&bytes.slice(200_000..));
    registry.finish_upload(&push(), &id, &digest, None, Some(100_000), rest, write).await.unwrap();
    assert_eq!((files(), open()), (Vec::new(), 0), "after the end");

    let id = registry.start_upload(&push(), None).await.unwrap().id;
    let torn = pieces(vec![Ok(bytes.clone()), Err(self::torn())]);
    let refused = registry.finish_upload(&push(), &id, &digest, None, None, torn, write).await;
    assert!(matches!(refused, Err(Error::BodyTorn(_))), "{refused:?}");
    assert_eq!((files(), open()), (Vec::new(), 0), "after a finish that was torn and had brought all bytes");
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
    world.us.registry.finish_upload(&push(), &id, &digest, None, None, nothing, write).await.unwrap();
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

/// Why a last request is refused, each time after some of its body was taken.
#[derive(Clone, Copy, Debug)]
enum Refusal {
    Torn,
    NoRoom,
    ReadOnly,
}

impl Refusal {
    const ALL: [Self; 3] = [Self::Torn, Self::NoRoom, Self::ReadOnly];

    /// A body during which it happens.
    fn body(self, world: &World, room: &Room, content: &Bytes) -> impl Body + use<> {
        let (first, second) = (content.slice(..content.len() / 2), content.slice(content.len() / 2..));
        let last = match self {
            Self::Torn => Err(torn()),
            Self::NoRoom | Self::ReadOnly => Ok(second),
        };
        let (node, room, mut count) = (world.us.node.clone(), room.clone(), 0);
        pieces(vec![Ok(first), last]).inspect(move |_| {
            count += 1;
            match self {
                Self::NoRoom if count == 2 => room.set(Some(no_room())),
                Self::ReadOnly if count == 2 => node.cut_off(true),
                _ => {}
            }
        })
    }

    fn passes(world: &World, room: &Room) {
        world.us.node.cut_off(false);
        room.set(None);
    }

    fn is_seen_in(self, refused: &Result<Linked, Error>) -> bool {
        match self {
            Self::Torn => matches!(refused, Err(Error::BodyTorn(_))),
            Self::NoRoom => matches!(refused, Err(Error::NoRoom(_))),
            Self::ReadOnly => matches!(refused, Err(Error::ReadOnly { .. })),
        }
    }
}

fn no_room() -> NoRoom {
    NoRoom { folder: "/data".into(), free_bytes: 1, needed_bytes: 2 }
}

fn world_with_room() -> (World, Room) {
    let room = Room::default();
    (World::configured(|config| RegistryConfig { room: room.clone(), ..config }), room)
}

#[tokio::test]
async fn a_refused_finish_can_be_sent_again_as_it_was() {
    let blob = content(3_000, 21);
    let digest = Digest::sha256(&blob);
    for (refusal, before) in Refusal::ALL.into_iter().flat_map(|refusal| [(refusal, 0), (refusal, 1_000)]) {
        for start in [None, Some(before as u64)] {
            let what = format!("{refusal:?} after {before} bytes, from {start:?}");
            let (world, room) = world_with_room();
            let (registry, id) = (&world.us.registry, open(&world.us).await);
            append(&world.us, &id, None, &blob[..before]).await.unwrap();
            let rest = blob.slice(before..);
            let finish = async |body| {
                let length = Some(rest.len() as u64);
                registry.finish_upload(&push(), &id, &digest, start, length, body, write).await
            };
            for _ in 0..2 {
                let refused = finish(refusal.body(&world, &room, &rest).boxed()).await;
                assert!(refusal.is_seen_in(&refused), "{what}: {refused:?}");
                assert_eq!(offset(&world.us, &id).await, before as u64, "{what}");
                Refusal::passes(&world, &room);
            }
            let done = finish(whole(&rest).boxed()).await;
            assert!(done.is_ok_and(|linked| linked.digest == digest), "{what}");
            assert!(world.us.blob(&digest).await.unwrap() == blob, "{what}");
            assert_eq!(world.us.objects().await, 1, "{what}");
        }
    }
}

#[tokio::test]
async fn after_a_refused_finish_a_client_may_also_go_on_from_where_the_session_says() {
    let world = World::new();
    for before in [0, 2] {
        let id = open(&world.us).await;
        append(&world.us, &id, None, &b"abcdefgh"[..before]).await.unwrap();
        let digest = Digest::sha256(b"abcdefgh");
        let body = pieces(vec![Ok(Bytes::copy_from_slice(&b"abcdef"[before..])), Err(torn())]);
        let refused = world.us.registry.finish_upload(&push(), &id, &digest, None, None, body, write).await;
        assert!(matches!(refused, Err(Error::BodyTorn(_))));
        assert!(world.us.blob(&digest).await.is_err());
        // In other pieces than before, the first of which ends in the midst of what had come.
        for (from, to) in [(before, before + 1), (before + 1, 7), (7, 8)] {
            assert_eq!(offset(&world.us, &id).await, from as u64);
            append(&world.us, &id, Some(from as u64), &b"abcdefgh"[from..to]).await.unwrap();
        }
        finish(&world.us, &id, b"abcdefgh").await.unwrap();
        assert_eq!(world.us.blob(&digest).await.unwrap(), "abcdefgh");
        world.us.registry.delete_blob(&access(REPOSITORY), &digest, &write()).await.unwrap();
    }
}

#[tokio::test]
async fn a_finish_that_brought_all_bytes_can_be_sent_again_when_the_blob_was_not_linked() {
    let world = World::new();
    let (id, blob) = (open(&world.us).await, Bytes::from_static(b"abcdef"));
    let digest = Digest::sha256(&blob);
    let finish =
        async || world.us.registry.finish_upload(&push(), &id, &digest, None, Some(6), whole(&blob), write).await;
    for next in [NextProposal::NotProposed, NextProposal::LostUnknown] {
        world.us.node.next_proposal(next);
        assert!(matches!(finish().await, Err(Error::Propose(_))), "{next:?}");
    }
    assert_eq!(finish().await.unwrap().digest, digest);
    assert_eq!(world.us.blob(&digest).await.unwrap(), blob);
}

#[tokio::test]
async fn a_finish_that_is_done_can_be_sent_again_also_when_nothing_is_taken() {
    let (world, room) = world_with_room();
    let id = open(&world.us).await;
    append(&world.us, &id, None, b"abc").await.unwrap();
    let first = finish(&world.us, &id, b"abc").await.unwrap();
    assert_eq!(finish(&world.us, &id, b"abc").await.unwrap(), first, "the answer may have been lost");
    room.set(Some(no_room()));
    assert_eq!(finish(&world.us, &id, b"abc").await.unwrap(), first);
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
        let finish = registry.finish_upload(&other, &id, &digest, None, None, body(), write).await;
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
