//! Manifests, lists and blobs, across two regions.

use std::time::Duration;

use crate::support::{OCI_MANIFEST, REPOSITORY, World, access, bytes_of, collect, content, options, write};
use atoll_auth::{Access, Pull};
use atoll_metadata::{Command, Expected, Rejection};
use atoll_registry::{BarrierError, Consistency, PutTarget, ReadOptions, RegistryConfig, RegistryError};
use atoll_types::{Algorithm, Digest, Reference, Revision, Tag};
use bytes::Bytes;
use tokio::time::Instant;

type Error = RegistryError;

#[tokio::test]
async fn what_is_pushed_in_one_region_is_pulled_in_another() {
    let world = World::new();
    let manifest = world.us.push_image("v1", "one").await;
    let digest = Digest::sha256(&manifest).to_string();
    for region in [&world.us, &world.eu] {
        assert_eq!(region.get("v1").await.unwrap(), manifest);
        assert_eq!(region.get(&digest).await.unwrap(), manifest);
        let layer = Bytes::from_static(b"layer of one");
        assert_eq!(region.blob(&Digest::sha256(&layer)).await.unwrap(), layer);
    }
    assert_eq!((world.us.others.reads(), world.eu.others.reads()), (0, 1), "only the other region reads through");
    let head = world.eu.registry.head_manifest(&access(REPOSITORY), &"v1".parse().unwrap(), &options()).await.unwrap();
    assert_eq!((head.size, head.media_type.as_str()), (manifest.len() as u64, OCI_MANIFEST));
}

#[tokio::test]
async fn a_put_says_what_it_did() {
    let world = World::new();
    let subject = Digest::sha256(b"subject");
    let more =
        serde_json::json!({ "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 7 } });
    let manifest = world.us.push_parts("one", more).await;
    let digest = Algorithm::Sha512.digest(&manifest);
    let tags: Vec<Tag> = ["b", "a", "b"].map(|t| t.parse().unwrap()).to_vec();
    let target = PutTarget { reference: Reference::Digest(digest), extra_tags: tags, expected: Expected::Any };
    let registry = &world.us.registry;
    let put =
        registry.put_manifest(&access(REPOSITORY), target.clone(), None, manifest.clone(), &write()).await.unwrap();
    assert_eq!((put.digest, put.subject, put.created), (digest, Some(subject), true));
    assert_eq!(put.tags.iter().map(Tag::as_str).collect::<Vec<_>>(), ["b", "a"]);
    assert_eq!(world.eu.get("a").await.unwrap(), manifest);
    let again = world.us.registry.put_manifest(&access(REPOSITORY), target, None, manifest, &write()).await.unwrap();
    assert!(!again.created && again.revision > put.revision);
}

#[tokio::test]
async fn a_put_that_cannot_stand_is_refused_and_changes_nothing() {
    let world = World::new();
    let manifest = world.us.push_image("v1", "one").await;
    let other = Digest::sha256(b"other").to_string();
    assert!(matches!(world.us.put(&other, &manifest).await, Err(Error::DigestMismatch { .. })));
    let junk = Bytes::from_static(b"{");
    assert!(matches!(world.us.put("bad", &junk).await, Err(Error::ManifestInvalid(_))));
    let huge = content((4 << 20) + 1, 1);
    assert!(matches!(world.us.put("bad", &huge).await, Err(Error::ManifestTooLarge { .. })));
    let missing =
        crate::support::image(&Bytes::from_static(b"no"), &Bytes::from_static(b"nor"), serde_json::Value::Null);
    assert!(matches!(world.us.put("bad", &missing).await, Err(Error::Rejected(Rejection::BlobsMissing(_)))));
    let taken = world.us.put_to("v1", &manifest, Expected::Absent).await;
    assert!(matches!(taken, Err(Error::Rejected(Rejection::TagConflict { .. }))));
    let unknown = world.us.get("bad").await;
    assert!(matches!(unknown, Err(Error::Rejected(Rejection::TagUnknown(_)))), "{unknown:?}");
}

#[tokio::test]
async fn a_large_manifest_is_stored_like_a_blob_and_read_in_every_region() {
    let world = World::new();
    let subject = Digest::sha256(b"subject");
    let more = serde_json::json!({
        "annotations": { "pad": "x".repeat(300 << 10), "kept": "yes" },
        "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 7 },
    });
    let manifest = world.us.push_parts("large", more).await;
    assert!(manifest.len() > Command::INLINE_BODY_BYTES_MAX);
    world.us.put("large", &manifest).await.unwrap();
    for region in [&world.us, &world.eu] {
        assert_eq!(region.get("large").await.unwrap(), manifest);
    }
    let page = world.eu.registry.referrers(&access(REPOSITORY), &subject, None, None, &options()).await.unwrap();
    let annotations: Vec<_> = page.items[0].annotations.iter().filter(|(k, _)| k == "kept").collect();
    assert_eq!(annotations, [&("kept".to_owned(), "yes".to_owned())], "they are read from the body");
}

#[tokio::test]
async fn a_tag_and_a_manifest_are_deleted() {
    let world = World::new();
    let manifest = world.us.push_image("v1", "one").await;
    world.us.put("v2", &manifest).await.unwrap();
    let registry = &world.eu.registry;
    let digest = Digest::sha256(&manifest);
    let v1 = "v1".parse().unwrap();
    registry.delete_manifest(&access(REPOSITORY), &v1, &write()).await.unwrap();
    assert!(matches!(world.us.get("v1").await, Err(Error::Rejected(Rejection::TagUnknown(_)))));
    assert_eq!(world.us.get("v2").await.unwrap(), manifest);
    let layer = Digest::sha256(b"layer of one");
    let refused = registry.delete_blob(&access(REPOSITORY), &layer, &write()).await;
    assert!(matches!(refused, Err(Error::Rejected(Rejection::Referenced { .. }))));
    registry.delete_manifest(&access(REPOSITORY), &Reference::Digest(digest), &write()).await.unwrap();
    assert!(world.us.get("v2").await.is_err() && world.us.get(&digest.to_string()).await.is_err());
    registry.delete_blob(&access(REPOSITORY), &layer, &write()).await.unwrap();
    assert!(matches!(world.us.blob(&layer).await, Err(Error::Rejected(Rejection::BlobUnknown(_)))));
}

#[tokio::test]
async fn a_condemned_blob_is_read_but_clients_upload_it_again_or_revive_it() {
    // Without a grace period its second half begins at once.
    for (link_grace, is_shown) in [(RegistryConfig::LINK_GRACE, true), (Duration::ZERO, false)] {
        let world = World::configured(|config| RegistryConfig { link_grace, ..config });
        let manifest = world.us.push_image("v1", "one").await;
        let (layer, whole) = (Digest::sha256(b"layer of one"), Reference::Digest(Digest::sha256(&manifest)));
        let registry = &world.us.registry;
        let head = async || registry.head_blob(&access(REPOSITORY), &layer, &options()).await.is_ok();
        let condemn = async || {
            registry.delete_manifest(&access(REPOSITORY), &whole, &write()).await.unwrap();
            assert_eq!(head().await, is_shown, "{link_grace:?}");
            assert_eq!(world.us.blob(&layer).await.unwrap(), "layer of one", "who reads gets it all the same");
        };
        assert!(head().await);
        condemn().await;
        world.us.put("v1", &manifest).await.unwrap();
        assert!(head().await, "a put has revived it");
        condemn().await;
        let source: Access<Pull> = access(REPOSITORY);
        registry.mount(&access(REPOSITORY), &layer, Some(&source), &write()).await.unwrap().unwrap();
        assert!(head().await, "a mount has revived it");
        world.us.put("v1", &manifest).await.unwrap();
        condemn().await;
        world.us.push_blob(REPOSITORY, &Bytes::from_static(b"layer of one")).await;
        assert!(head().await, "an upload has revived it");
    }
}

#[tokio::test]
async fn what_is_not_found_is_asked_of_the_majority_first() {
    let world = World::new();
    world.us.push_image("old", "zero").await;
    world.eu.node.lag();
    let manifest = world.us.push_image("v1", "one").await;
    assert_eq!(world.eu.get("v1").await.unwrap(), manifest, "a barrier shows it");
    assert_eq!(world.eu.node.barriers(), 1);
    world.us.push_image("v2", "two").await;
    let layer = Digest::sha256(b"layer of two");
    let head = world.eu.registry.head_blob(&access(REPOSITORY), &layer, &options()).await;
    assert!(matches!(head, Err(Error::Rejected(Rejection::BlobUnknown(_)))), "HEAD answers what is known here");
    assert_eq!(world.eu.node.barriers(), 1);
    assert!(world.eu.blob(&layer).await.is_ok(), "GET does not");
    let subject = Digest::sha256(b"none");
    let page = world.eu.registry.referrers(&access(REPOSITORY), &subject, None, None, &options()).await.unwrap();
    assert!(page.items.is_empty() && page.next.is_none());
    assert_eq!(world.eu.node.barriers(), 3, "an empty list takes one, too");
}

#[tokio::test]
async fn a_read_by_tag_is_as_old_as_it_may_be_and_no_older() {
    let tag_reads = vec![
        ("team/strict".to_owned(), Consistency::Linearizable),
        ("team/strict/not".to_owned(), Consistency::Default),
    ];
    let world = World::configured(|config| RegistryConfig { tag_reads: tag_reads.clone(), ..config });
    let one = world.us.push_image("v", "one").await;
    world.eu.node.lag();
    let two = world.us.push_image("v", "two").await;
    assert_eq!(world.eu.get("v").await.unwrap(), one, "within the bound it is answered here");
    let strict = ReadOptions { consistency: Consistency::Linearizable, ..options() };
    let registry = &world.eu.registry;
    let got = registry.get_manifest(&access(REPOSITORY), &"v".parse().unwrap(), &strict).await.unwrap();
    assert_eq!(bytes_of(got).await, two, "whoever asks for it gets the newest");
    let three = world.us.push_image("v", "three").await;
    world.eu.node.set_staleness(Some(Duration::from_millis(1_001)));
    assert_eq!(world.eu.get("v").await.unwrap(), three, "beyond the bound a barrier comes first");
    let four = world.us.push_image("v", "four").await;
    world.eu.node.set_staleness(None);
    assert_eq!(world.eu.get("v").await.unwrap(), four, "unknown is not zero");
    world.eu.node.set_staleness(Some(Duration::ZERO));
    let before = world.eu.node.barriers();
    let _ = registry.list_tags(&access("team/strict"), None, 10, &options()).await;
    assert!(world.eu.node.barriers() > before, "a prefix that is configured so always takes one");
}

#[tokio::test]
async fn a_revision_that_is_asked_for_is_waited_for() {
    let world = World::new();
    world.us.push_image("v", "one").await;
    world.eu.node.lag();
    let two = world.us.push_parts("two", serde_json::Value::Null).await;
    let put = world.us.put("v", &two).await.unwrap();
    let asked = ReadOptions { min_revision: Some(put.revision), ..options() };
    let got = world.eu.registry.get_manifest(&access(REPOSITORY), &"v".parse().unwrap(), &asked).await.unwrap();
    assert_eq!(bytes_of(got).await, two);
    let far = Revision(put.revision.0 + 1_000);
    let soon = Instant::now() + Duration::from_millis(20);
    let asked = ReadOptions { min_revision: Some(far), deadline: soon, ..options() };
    let got = world.eu.registry.head_manifest(&access(REPOSITORY), &"v".parse().unwrap(), &asked).await;
    assert!(matches!(got, Err(Error::RevisionAhead { asked, .. }) if asked == far), "{got:?}");
}

#[tokio::test]
async fn a_region_that_is_cut_off_serves_what_it_has_and_takes_no_write() {
    let world = World::new();
    let manifest = world.us.push_image("v1", "one").await;
    world.us.node.cut_off(true);
    world.us.node.set_staleness(None);
    world.us.others.set_unreachable(true);
    let registry = &world.us.registry;
    assert_eq!(world.us.get("v1").await.unwrap(), manifest);
    assert!(world.us.blob(&Digest::sha256(b"layer of one")).await.is_ok());
    assert!(matches!(world.us.get("none").await, Err(Error::Rejected(Rejection::TagUnknown(_)))));
    assert_eq!(registry.list_tags(&access(REPOSITORY), None, 10, &options()).await.unwrap().items.len(), 1);
    let page = registry.referrers(&access(REPOSITORY), &Digest::sha256(b"x"), None, None, &options()).await.unwrap();
    assert!(page.items.is_empty());
    let strict = ReadOptions { consistency: Consistency::Linearizable, ..options() };
    let refused = registry.get_manifest(&access(REPOSITORY), &"v1".parse().unwrap(), &strict).await;
    assert!(matches!(refused, Err(Error::Barrier(BarrierError::NoQuorum))));

    let digest = Digest::sha256(b"x");
    let read_only = |result: Result<(), Error>| assert!(matches!(result, Err(Error::ReadOnly { .. })), "{result:?}");
    read_only(world.us.put("v2", &manifest).await.map(drop));
    read_only(registry.start_upload(&access(REPOSITORY), None).await.map(drop));
    let from = access::<Pull>(REPOSITORY);
    read_only(registry.mount(&access("a"), &digest, Some(&from), &write()).await.map(drop));
    read_only(registry.delete_blob(&access(REPOSITORY), &digest, &write()).await.map(drop));
    read_only(registry.delete_manifest(&access(REPOSITORY), &"v1".parse().unwrap(), &write()).await.map(drop));
    let body = crate::support::whole(&Bytes::from_static(b"x"));
    read_only(registry.upload_whole(&access(REPOSITORY), &digest, None, body, &write()).await.map(drop));
}

#[tokio::test]
async fn a_read_that_waits_is_answered_when_the_quorum_turns_out_lost() {
    let world = World::new();
    let manifest = world.us.push_image("v1", "one").await;
    world.us.node.stall();
    world.us.node.set_staleness(None);
    let (got, ()) = tokio::join!(world.us.get("v1"), async {
        crate::support::eventually("the read waits", async || world.us.node.barriers() > 0).await;
        world.us.node.cut_off(true);
    });
    assert_eq!(got.unwrap(), manifest);
}

#[tokio::test]
async fn pages_hold_every_entry_once() {
    let world = World::new();
    let manifest = world.us.push_image("t00", "one").await;
    for n in 1..23 {
        world.us.put(&format!("t{n:02}"), &manifest).await.unwrap();
    }
    for size in [1, 2, 7, 22, 23, 24] {
        let (mut all, mut last): (Vec<Tag>, Option<String>) = (Vec::new(), None);
        loop {
            let page =
                world.eu.registry.list_tags(&access(REPOSITORY), last.as_deref(), size, &options()).await.unwrap();
            assert!(page.items.len() == size || !page.more, "only the last page is short");
            all.extend(page.items);
            last = all.last().map(ToString::to_string);
            if !page.more {
                break;
            }
        }
        let want: Vec<Tag> = (0..23).map(|n| format!("t{n:02}").parse().unwrap()).collect();
        assert_eq!(all, want, "pages of {size}");
    }
    let none = world.us.registry.list_tags(&access("team/none"), None, 5, &options()).await;
    assert!(matches!(none, Err(Error::Rejected(Rejection::RepositoryUnknown(_)))));
    for name in ["b", "a/c", "a"] {
        world.us.push_blob(name, &Bytes::from_static(b"x")).await;
    }
    let page = world.us.registry.catalog(None, 2, &options()).await.unwrap();
    assert_eq!((page.items.iter().map(|n| n.as_str()).collect::<Vec<_>>(), page.more), (vec!["a", "a/c"], true));
    let page = world.us.registry.catalog(Some("a/c"), 9, &options()).await.unwrap();
    assert_eq!((page.items.iter().map(|n| n.as_str()).collect::<Vec<_>>(), page.more), (vec!["b", REPOSITORY], false));
}

#[tokio::test]
async fn referrers_are_paged_and_filtered() {
    let world = World::new();
    let subject = Digest::sha256(b"subject");
    let mut put = std::collections::BTreeSet::new();
    for n in 0..150 {
        let more = serde_json::json!({
            "artifactType": if n % 2 == 0 { "a/even" } else { "a/odd" },
            "annotations": { "n": n.to_string(), "pad": "x".repeat(20_000) },
            "subject": { "mediaType": OCI_MANIFEST, "digest": subject.to_string(), "size": 7 },
        });
        let manifest = world.us.push_parts("same", more).await;
        put.insert(world.us.put(&Digest::sha256(&manifest).to_string(), &manifest).await.unwrap().digest);
    }
    for (filter, want) in [(None, 150), (Some("a/even"), 75), (Some("a/none"), 0)] {
        let (mut all, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = world.eu.registry.referrers(&access(REPOSITORY), &subject, filter, after, &options()).await;
            let page = page.unwrap();
            pages += 1;
            all.extend(page.items);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let digests: std::collections::BTreeSet<_> = all.iter().map(|r| r.digest).collect();
        assert_eq!((all.len(), digests.len()), (want, want), "{filter:?}");
        assert!(digests.is_subset(&put) && all.iter().all(|r| r.annotations.len() == 2));
        assert!(filter.is_some() || pages > 1, "3 MB do not fit into one page");
    }
}

#[tokio::test]
async fn a_blob_is_there_only_through_a_repository_that_links_it() {
    let world = World::new();
    let blob = Bytes::from_static(b"secret");
    world.us.push_blob("team/private", &blob).await;
    let digest = Digest::sha256(&blob);
    let registry = &world.us.registry;
    for other in [REPOSITORY, "team/other"] {
        assert!(registry.head_blob(&access(other), &digest, &options()).await.is_err());
        assert!(registry.open_blob(&access(other), &digest, &options()).await.is_err());
        let from = access::<Pull>(other);
        assert_eq!(registry.mount(&access("mine"), &digest, Some(&from), &write()).await.unwrap(), None);
    }
    assert_eq!(registry.mount(&access("mine"), &digest, None, &write()).await.unwrap(), None, "a source is named");
    let from = access::<Pull>("team/private");
    let linked = registry.mount(&access("mine"), &digest, Some(&from), &write()).await.unwrap().unwrap();
    assert_eq!(linked.digest, digest);
    let handle = world.eu.registry.open_blob(&access("mine"), &digest, &options()).await.unwrap();
    assert_eq!(collect(world.eu.registry.read_blob(&handle, 2..4).await.unwrap()).await.unwrap(), "cr");
}
