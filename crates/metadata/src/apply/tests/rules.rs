//! The rules, one by one.

use super::*;
use crate::read::{Lag, LinkState};
use crate::{CopyItem, CopyOutcome, DropItem, LinkItem, NodeConflict, NodeRole, RegisterNode, TooLarge};
use atoll_types::{Incarnation, NodeId};

fn pushed(regions: &[&str]) -> World {
    let mut world = World::with_regions(regions);
    let upload = world.upload("team/app", "layer", regions[0]);
    world.ok(upload);
    world.ok(command(put("team/app", "image", vec![blob("layer")], &["v1"])));
    world
}

fn record(world: &mut World, at: &str, content: &str) -> (Command, ObjectName) {
    let (of, size) = (region(at), content.len() as u64);
    let object = world.object(&of);
    let copies = vec![CopyItem { digest: digest(content), size, object }];
    (Command::RecordCopies { region: of, store: store(at, 0), copies }, object)
}

fn copies(outcome: Done) -> Vec<CopyOutcome> {
    match outcome {
        Done::Copies(copies) => copies,
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_first_command_names_the_cluster_and_others_are_refused() {
    let mut world = World::new();
    let mut entry = world.entry(Command::RegisterRegion { region: region("east") });
    entry.envelope.epoch = 2;
    let before = world.kv.clone();
    assert_eq!(world.apply(&entry).outcome, Outcome::Rejected(Rejection::WrongCluster));
    assert!(world.kv == before, "not even an outcome is kept for another cluster");
    let other = ClusterId::from_bytes([2; 16]);
    assert_eq!(world.refused(Command::InitCluster { cluster: other, epoch: 1 }), Rejection::WrongCluster);
    assert_eq!(world.ok(Command::InitCluster { cluster: CLUSTER, epoch: 1 }), Done::Empty);
    entry.envelope.epoch = 1;
    entry.envelope.feature_level = 2;
    assert_eq!(world.apply(&entry).outcome, Outcome::Rejected(Rejection::FeatureLevel(2)));
    let cluster = read::cluster(&world.kv).unwrap().unwrap();
    assert_eq!((cluster.id, cluster.epoch), (CLUSTER, 1));
}

#[test]
fn nothing_is_applied_before_the_cluster_has_a_name() {
    let mut kv = MemoryKv::new();
    let entry = World::new().entry(Command::RegisterRegion { region: region("east") });
    let applied = apply(&mut kv, Revision(1), &entry).unwrap();
    assert_eq!(applied.outcome, Outcome::Rejected(Rejection::WrongCluster));
    assert!(kv == MemoryKv::new());
}

#[test]
fn leader_time_never_goes_back() {
    let mut world = World::new();
    let before = read::last_time_ms(&world.kv).unwrap();
    let mut entry = world.entry(Command::RegisterRegion { region: region("east") });
    entry.time_ms = 5;
    apply(&mut world.kv, Revision(world.revision + 1), &entry).unwrap();
    assert_eq!(read::last_time_ms(&world.kv).unwrap(), before);
}

#[test]
fn a_push_is_wanted_everywhere_but_where_it_was_made() {
    let mut world = pushed(&["east", "west", "south"]);
    assert!(world.wanted("east").is_empty());
    assert_eq!((world.wanted("west"), world.wanted("south")), (vec![digest("layer")], vec![digest("layer")]));
    let lag = read::lag(&world.kv, &region("west")).unwrap();
    assert_eq!(lag, Lag { blobs: 1, bytes: 5, oldest_since_ms: lag.oldest_since_ms, at_most: false });
    assert!(lag.oldest_since_ms.is_some());

    let (recorded, object) = record(&mut world, "west", "layer");
    assert_eq!(copies(world.ok(recorded.clone())), [CopyOutcome::Done]);
    assert_eq!(copies(world.ok(recorded)), [CopyOutcome::Already], "the very same name");
    let (other, _) = record(&mut world, "west", "layer");
    assert_eq!(copies(world.ok(other)), [CopyOutcome::NotWanted], "another name");
    assert_eq!(read::lag(&world.kv, &region("west")).unwrap(), Lag::default());
    assert!(read::blob(&world.kv, &digest("layer")).unwrap().unwrap().copies.contains(&(region("west"), object)));
}

#[test]
fn a_copy_is_recorded_only_as_it_should_be() {
    let mut world = pushed(&["east", "west"]);
    let at = region("west");
    let item = |world: &mut World, epoch, size, content| CopyItem {
        digest: digest(content),
        size,
        object: world.object_at(epoch),
    };
    for _ in 0..2 {
        world.time_ms += 25 * 3_600_000;
        world.ok(Command::AdvanceSweep { region: at.clone() });
    }
    let items =
        vec![item(&mut world, 3, 4, "layer"), item(&mut world, 1, 5, "layer"), item(&mut world, 3, 5, "unknown")];
    let outcome = world.ok(Command::RecordCopies { region: at.clone(), store: store("west", 0), copies: items });
    assert_eq!(copies(outcome), [CopyOutcome::SizeMismatch, CopyOutcome::StaleEpoch, CopyOutcome::NotWanted]);
    let items = vec![item(&mut world, 2, 5, "layer")];
    let refused =
        world.refused(Command::RecordCopies { region: at.clone(), store: store("west", 1), copies: items.clone() });
    assert_eq!(refused, Rejection::StoreMismatch("west".into()));
    let outcome = world.ok(Command::RecordCopies { region: at, store: store("west", 0), copies: items });
    assert_eq!(copies(outcome), [CopyOutcome::Done], "the epoch before is still good");
}

#[test]
fn the_sweep_epoch_rises_once_a_day() {
    let mut world = World::with_regions(&["east"]);
    let advance = Command::AdvanceSweep { region: region("east") };
    assert_eq!(world.ok(advance.clone()), Done::SweepEpoch(1));
    world.time_ms += 24 * 3_600_000;
    assert_eq!(world.ok(advance.clone()), Done::SweepEpoch(2));
    assert_eq!(world.ok(advance), Done::SweepEpoch(2));
}

#[test]
fn an_upload_replaces_the_copy_and_the_old_object_becomes_garbage() {
    let mut world = pushed(&["east"]);
    let old = read::blob(&world.kv, &digest("layer")).unwrap().unwrap().copies[0].1;
    let again = world.upload("team/other", "layer", "east");
    world.ok(again);
    let garbage = read::garbage_items(&world.kv, &region("east"), None, 10).unwrap();
    assert_eq!((garbage.len(), garbage[0].object, garbage[0].size), (1, old, 5));
    assert_eq!(garbage[0].since_ms, world.time_ms);
    let objects = read::garbage(&world.kv, &region("east"), None, 10).unwrap();
    assert_eq!(read::garbage(&world.kv, &region("east"), Some(objects[0]), 10).unwrap(), []);
    world.ok(Command::ForgetGarbage { region: region("east"), objects });
    assert_eq!(read::garbage(&world.kv, &region("east"), None, 10).unwrap(), []);
}

#[test]
fn an_upload_must_fit() {
    let mut world = pushed(&["east"]);
    let change = |world: &mut World, change: &dyn Fn(&mut u64, &mut RegionId, &mut StoreId, &mut ObjectName)| {
        let mut command = world.upload("team/app", "layer", "east");
        if let Command::LinkBlob { size, source: BlobSource::Uploaded { region, store, object }, .. } = &mut command {
            change(size, region, store, object);
        }
        world.refused(command)
    };
    let size = change(&mut world, &|size, _, _, _| *size = 6);
    assert_eq!(size, Rejection::SizeMismatch { digest: digest("layer"), stated: 6, actual: 5 });
    let other = change(&mut world, &|_, _, of, _| *of = store("east", 1));
    assert_eq!(other, Rejection::StoreMismatch("east".into()));
    let nowhere = change(&mut world, &|_, at, _, _| *at = region("nowhere"));
    assert_eq!(nowhere, Rejection::RegionUnknown("nowhere".into()));
    for _ in 0..2 {
        world.time_ms += 25 * 3_600_000;
        world.ok(Command::AdvanceSweep { region: region("east") });
    }
    let old = change(&mut world, &|_, _, _, object| *object = ObjectName::from_parts(1, [0; 16]));
    assert_eq!(old, Rejection::StaleEpoch);
}

#[test]
fn a_mount_needs_a_link_at_its_source() {
    let mut world = pushed(&["east"]);
    let mount = |to: &str, from: &str, size| Command::LinkBlob {
        repository: repository(to),
        digest: digest("layer"),
        size,
        source: BlobSource::Mounted { from: repository(from) },
    };
    assert_eq!(world.refused(mount("b", "c", 5)), Rejection::BlobUnknown(digest("layer")));
    assert!(!read::repository_exists(&world.kv, &repository("b")).unwrap(), "a refusal creates nothing");
    assert!(matches!(world.refused(mount("b", "team/app", 6)), Rejection::SizeMismatch { .. }));
    assert_eq!(world.ok(mount("b", "team/app", 5)), Done::Linked);
    let linking = read::linking_repositories(&world.kv, &digest("layer"), None, 10).unwrap();
    assert_eq!(linking, [repository("b"), repository("team/app")]);
}

#[test]
fn a_manifest_needs_what_it_refers_to() {
    let mut world = pushed(&["east"]);
    let missing = command(put("team/app", "other", vec![blob("layer"), blob("absent")], &["v2"]));
    assert_eq!(world.refused(missing), Rejection::BlobsMissing(vec![digest("absent")]));
    let wrong = vec![ManifestReference::Blob(digest("layer"), 6)];
    let wrong = world.refused(command(put("team/app", "other", wrong, &[])));
    assert_eq!(wrong, Rejection::SizeMismatch { digest: digest("layer"), stated: 6, actual: 5 });
    let child = vec![ManifestReference::Manifest(digest("image")), ManifestReference::Manifest(digest("absent"))];
    let missing = world.refused(command(put("team/app", "index", child, &[])));
    assert_eq!(missing, Rejection::ManifestsMissing(vec![digest("absent")]));
    let elsewhere = world.refused(command(put("team/other", "image", vec![blob("layer")], &[])));
    assert_eq!(elsewhere, Rejection::BlobsMissing(vec![digest("layer")]), "a link is of one repository");
    let stored = PutManifest { body: ManifestBody::Stored { size: 6 }, ..put("team/app", "large", vec![], &[]) };
    assert_eq!(world.refused(command(stored)), Rejection::BlobsMissing(vec![digest("large")]));
    assert_eq!(world.tag("team/app", "v2"), None);
}

#[test]
fn a_manifest_put_again_changes_its_tags_alone() {
    let mut world = pushed(&["east"]);
    let again = world.ok(command(put("team/app", "image", vec![blob("layer")], &["v2"])));
    assert_eq!(again, Done::ManifestPut { created: false });
    assert_eq!(
        (world.tag("team/app", "v1"), world.tag("team/app", "v2")),
        (Some(digest("image")), Some(digest("image")))
    );
    let other = PutManifest { media_type: "other".into(), ..put("team/app", "image", vec![blob("layer")], &["v3"]) };
    let conflict = world.refused(command(other));
    assert!(matches!(conflict, Rejection::MediaTypeConflict { .. }), "{conflict:?}");
}

#[test]
fn tags_move_all_or_none_and_only_as_expected() {
    let mut world = pushed(&["east"]);
    let expect = |name: &str, tags: &[(&str, Expected)]| {
        let tags = tags.iter().map(|(name, expected)| TagUpdate { tag: tag(name), expected: *expected }).collect();
        command(PutManifest { tags, ..put("team/app", name, vec![], &[]) })
    };
    let image = Expected::Digest(digest("image"));
    let conflict = world.refused(expect("new", &[("v2", Expected::Absent), ("v1", Expected::Absent)]));
    assert_eq!(conflict, Rejection::TagConflict { tag: tag("v1"), found: Some(digest("image")) });
    assert_eq!(world.tag("team/app", "v2"), None);
    assert!(read::manifest(&world.kv, &repository("team/app"), &digest("new")).unwrap().is_none());
    world.ok(expect("new", &[("v2", Expected::Absent), ("v1", image)]));
    let conflict = world.refused(expect("newer", &[("v1", image)]));
    assert_eq!(conflict, Rejection::TagConflict { tag: tag("v1"), found: Some(digest("new")) });
    let conflict = world.refused(expect("newer", &[("v9", image)]));
    assert_eq!(conflict, Rejection::TagConflict { tag: tag("v9"), found: None });
}

#[test]
fn the_history_of_a_tag_is_kept_and_bounded() {
    let mut world = pushed(&["east"]);
    world.ok(delete_tag("team/app", "v1"));
    let history = read::tag_history(&world.kv, &repository("team/app"), &tag("v1"), 10).unwrap();
    let digests: Vec<_> = history.iter().map(|entry| entry.digest).collect();
    assert_eq!(digests, [None, Some(digest("image"))]);
    assert_eq!(history[0].actor, "someone");
    for _ in 0..40 {
        world.ok(command(put("team/app", "image", vec![blob("layer")], &["v1"])));
    }
    let history = read::tag_history(&world.kv, &repository("team/app"), &tag("v1"), 100).unwrap();
    assert_eq!((history.len(), history[0].revision.0), (16, world.revision), "a put of the same digest is a move too");
}

#[test]
fn deleting_takes_tags_referrers_and_condemns_links() {
    let mut world = pushed(&["east"]);
    let signature = PutManifest {
        subject: Some(digest("image")),
        artifact_type: "a/sig".into(),
        annotations: Some(vec![("k".into(), "v".into())]),
        ..put("team/app", "sig", vec![], &["sig"])
    };
    world.ok(command(signature));
    let referrers =
        |world: &World| read::referrers(&world.kv, &repository("team/app"), &digest("image"), None, 9).unwrap();
    assert_eq!(referrers(&world)[0].annotations, Some(vec![("k".into(), "v".into())]));
    assert_eq!(referrers(&world)[0].artifact_type, "a/sig");

    assert_eq!(world.ok(delete_manifest("team/app", "image")), Done::Deleted { continues: false });
    assert_eq!(world.tag("team/app", "v1"), None);
    assert_eq!(referrers(&world).len(), 1, "a subject need not exist");
    let condemned = LinkState::Condemned { revision: Revision(world.revision), since_ms: world.time_ms };
    let link = |world: &World| read::link(&world.kv, &repository("team/app"), &digest("layer")).unwrap();
    assert_eq!(link(&world), Some(condemned));
    world.ok(delete_manifest("team/app", "sig"));
    assert_eq!(referrers(&world), []);
    assert_eq!(world.refused(delete_manifest("team/app", "sig")), Rejection::ManifestUnknown(digest("sig")));
    assert_eq!(world.refused(delete_tag("team/app", "v1")), Rejection::TagUnknown(tag("v1")));
    assert_eq!(world.refused(delete_tag("none", "v1")), Rejection::RepositoryUnknown(repository("none")));

    world.ok(command(put("team/app", "next", vec![blob("layer")], &[])));
    assert_eq!(link(&world), Some(LinkState::Live), "a put revives a condemned link");
}

#[test]
fn what_is_referred_to_is_not_deleted() {
    let mut world = pushed(&["east"]);
    let referenced = |of: &str, by: &str| Rejection::Referenced { digest: digest(of), by: digest(by) };
    world.ok(command(put("team/app", "index", vec![ManifestReference::Manifest(digest("image"))], &["all"])));
    assert_eq!(world.refused(delete_manifest("team/app", "image")), referenced("image", "index"));
    assert_eq!(world.refused(delete_blob("team/app", "layer")), referenced("layer", "image"));
    world.ok(delete_manifest("team/app", "index"));
    world.ok(delete_manifest("team/app", "image"));
    assert_eq!(world.ok(delete_blob("team/app", "layer")), Done::Deleted { continues: false });
    assert_eq!(world.refused(delete_blob("team/app", "layer")), Rejection::BlobUnknown(digest("layer")));
    assert_eq!(read::link(&world.kv, &repository("team/app"), &digest("layer")).unwrap(), None);
    assert_eq!(read::blob(&world.kv, &digest("layer")).unwrap(), None, "the last link took the blob with it");
    assert_eq!(read::garbage(&world.kv, &region("east"), None, 9).unwrap().len(), 1);
}

#[test]
fn a_stored_body_is_protected_by_its_manifest() {
    let mut world = pushed(&["east", "west"]);
    let upload = world.upload("team/app", "large", "east");
    world.ok(upload);
    let stored = PutManifest { body: ManifestBody::Stored { size: 5 }, ..put("team/app", "large", vec![], &["big"]) };
    world.ok(command(stored));
    let refused = world.refused(delete_blob("team/app", "large"));
    assert_eq!(refused, Rejection::Referenced { digest: digest("large"), by: digest("large") });
    let manifest = read::manifest(&world.kv, &repository("team/app"), &digest("large")).unwrap().unwrap();
    assert_eq!(manifest.body, ManifestBody::Stored { size: 5 });
    assert!(world.wanted("west").contains(&digest("large")), "a stored body is copied like a blob");
}

#[test]
fn idle_links_are_condemned_and_dropped_by_the_change_that_was_seen() {
    let mut world = World::with_regions(&["east"]);
    let upload = world.upload("app", "layer", "east");
    world.ok(upload.clone());
    let idle = |world: &World, condemned| {
        let page = read::idle_links(&world.kv, condemned, None, 9).unwrap();
        page.into_iter().map(|(item, _)| item).collect::<Vec<LinkItem>>()
    };
    let unused = idle(&world, false);
    assert_eq!(unused.len(), 1);
    let again = world.upload("app", "layer", "east");
    world.ok(again);
    world.ok(Command::CondemnLinks { links: unused });
    assert_eq!(idle(&world, true), [], "it was uploaded again since");
    let unused = idle(&world, false);
    world.ok(Command::CondemnLinks { links: unused });
    let condemned = idle(&world, true);
    assert_eq!(condemned.len(), 1);
    world.ok(command(put("app", "image", vec![blob("layer")], &[])));
    world.ok(Command::DropLinks { links: condemned.clone() });
    assert_eq!(read::link(&world.kv, &repository("app"), &digest("layer")).unwrap(), Some(LinkState::Live));
    world.ok(delete_manifest("app", "image"));
    world.ok(Command::DropLinks { links: condemned });
    assert!(read::link(&world.kv, &repository("app"), &digest("layer")).unwrap().is_some(), "condemned anew since");
    let condemned = idle(&world, true);
    world.ok(Command::DropLinks { links: condemned });
    assert_eq!(read::blob(&world.kv, &digest("layer")).unwrap(), None);
}

fn drop_copy(at: &str, content: &str, object: ObjectName) -> Command {
    Command::DropCopies { region: region(at), copies: vec![DropItem { digest: digest(content), object }] }
}

fn stored(world: &World, content: &str) -> read::Blob {
    read::blob(&world.kv, &digest(content)).unwrap().unwrap()
}

#[test]
fn a_copy_is_dropped_by_its_exact_name_while_another_region_has_one() {
    let mut world = pushed(&["east", "west"]);
    let object = stored(&world, "layer").copies[0].1;
    let (recorded, _) = record(&mut world, "west", "layer");
    world.ok(recorded);
    let other = world.object_at(1);
    assert_eq!(copies(world.ok(drop_copy("east", "layer", other))), [CopyOutcome::Already], "another object");
    assert_eq!(copies(world.ok(drop_copy("east", "layer", object))), [CopyOutcome::Done]);
    assert_eq!(world.wanted("east"), [digest("layer")]);
    assert_eq!(read::garbage(&world.kv, &region("east"), None, 9).unwrap()[0].1, object);
    assert!(stored(&world, "layer").is_sound());
}

/// A world of two regions whose only copy is suspect: of `layer`, in east.
fn suspected() -> (World, ObjectName) {
    let mut world = pushed(&["east", "west"]);
    let object = stored(&world, "layer").copies[0].1;
    assert_eq!(copies(world.ok(drop_copy("east", "layer", object))), [CopyOutcome::LastCopy]);
    (world, object)
}

#[test]
fn the_last_copy_is_never_dropped_but_it_is_suspect_from_then_on() {
    let (mut world, object) = suspected();
    let found = stored(&world, "layer");
    assert_eq!((&found.copies[..], found.suspect), (&[(region("east"), object)][..], true));
    assert_eq!((world.wanted("east"), world.wanted("west")), (vec![], vec![digest("layer")]));
    assert_eq!(copies(world.ok(drop_copy("east", "layer", object))), [CopyOutcome::LastCopy], "once more");

    let again = world.refused(command(put("team/app", "image", vec![blob("layer")], &["v2"])));
    assert_eq!(again, Rejection::BlobsMissing(vec![digest("layer")]), "nobody could pull it");
    let mount = Command::LinkBlob {
        repository: repository("b"),
        digest: digest("layer"),
        size: 5,
        source: BlobSource::Mounted { from: repository("team/app") },
    };
    assert_eq!(world.refused(mount.clone()), Rejection::BlobUnknown(digest("layer")));
    let upload = world.upload("team/app", "layer", "east");
    world.ok(upload);
    assert!(stored(&world, "layer").is_sound());
    assert_eq!(read::garbage(&world.kv, &region("east"), None, 9).unwrap()[0].1, object);
    world.ok(mount);
    world.ok(command(put("team/app", "image", vec![blob("layer")], &["v2"])));
}

#[test]
fn a_suspect_copy_is_wanted_anew_once_another_region_has_a_good_one() {
    for uploaded in [true, false] {
        let (mut world, object) = suspected();
        let good =
            if uploaded { world.upload("team/app", "layer", "west") } else { record(&mut world, "west", "layer").0 };
        world.ok(good);
        let blob = stored(&world, "layer");
        assert!(blob.is_sound() && blob.copies.len() == 1 && blob.copies[0].0 == region("west"), "{blob:?}");
        assert_eq!((world.wanted("east"), world.wanted("west")), (vec![digest("layer")], vec![]));
        assert_eq!(read::garbage(&world.kv, &region("east"), None, 9).unwrap()[0].1, object);
        let (recorded, _) = record(&mut world, "east", "layer");
        assert_eq!(copies(world.ok(recorded)), [CopyOutcome::Done]);
        assert_eq!(stored(&world, "layer").copies.len(), 2);
    }
}

#[test]
fn a_suspect_copy_that_goes_with_its_store_leaves_a_blob_that_is_lost() {
    let (mut world, _) = suspected();
    let replaces = Some(store("east", 0));
    world.ok(Command::SetStore { region: region("east"), store: store("east", 1), replaces });
    let blob = stored(&world, "layer");
    assert!(!blob.is_sound() && !blob.suspect && blob.copies.is_empty(), "{blob:?}");
    let upload = world.upload("team/app", "layer", "east");
    world.ok(upload);
    assert!(stored(&world, "layer").is_sound());
}

fn node(number: u64, name: &str, at: &str, of: u8) -> RegisterNode {
    RegisterNode {
        node: NodeId(number),
        name: name.parse().unwrap(),
        region: region(at),
        role: NodeRole::Voter,
        grpc_address: "g:1".into(),
        http_address: "h:1".into(),
        admin_address: "a:1".into(),
        store: Some(store(at, of)),
        store_kind: "fs".into(),
        feature_level: 1,
        incarnation: None,
    }
}

#[test]
fn a_node_registers_with_its_regions_store_and_its_own_number() {
    let mut world = World::with_regions(&["east", "west"]);
    let register = |node| Command::RegisterNode(Box::new(node));
    world.ok(register(node(1, "east-1", "east", 0)));
    world.ok(register(node(1, "east-1", "east", 0)));
    world.ok(register(node(2, "east-2", "east", 0)));
    assert_eq!(world.refused(register(node(3, "east-3", "east", 1))), Rejection::StoreMismatch("east".into()));
    let other_kind = RegisterNode { store_kind: "s3".into(), ..node(3, "east-3", "east", 0) };
    assert_eq!(world.refused(register(other_kind)), Rejection::StoreMismatch("east".into()));
    let witness =
        RegisterNode { store: None, store_kind: String::new(), role: NodeRole::Witness, ..node(4, "w", "east", 0) };
    world.ok(register(witness));
    let conflict = Rejection::NodeConflict;
    let taken = NodeConflict::NumberTaken { node: NodeId(1), name: "east-1".parse().unwrap() };
    assert_eq!(world.refused(register(node(1, "other", "east", 0))), conflict(taken));
    let taken = NodeConflict::NameTaken { name: "east-1".parse().unwrap(), node: NodeId(1) };
    assert_eq!(world.refused(register(node(9, "east-1", "east", 0))), conflict(taken));
    assert!(matches!(world.refused(register(node(9, "n", "none", 0))), Rejection::RegionUnknown(_)));

    world.ok(Command::RemoveNode { node: NodeId(1) });
    let again = world.refused(Command::RemoveNode { node: NodeId(1) });
    assert_eq!(again, conflict(NodeConflict::Unknown(NodeId(1))));
    let again = world.refused(register(node(1, "east-1", "east", 0)));
    assert_eq!(again, conflict(NodeConflict::Removed(NodeId(1))));
    world.ok(register(node(9, "east-1", "east", 0)));
    let numbers: Vec<_> = read::nodes(&world.kv).unwrap().iter().map(|node| node.node.0).collect();
    assert_eq!(numbers, [2, 4, 9]);
}

/// A node whose folder was emptied has forgotten its votes: it is not the one that registered.
#[test]
fn a_node_registers_again_from_the_folder_that_it_registered_first() {
    let mut world = World::with_regions(&["east"]);
    let from = |folder: Option<u8>| {
        let incarnation = folder.map(|b| Incarnation::from_bytes([b; 16]));
        Command::RegisterNode(Box::new(RegisterNode { incarnation, ..node(1, "east-1", "east", 0) }))
    };
    let recorded = |world: &World| read::nodes(&world.kv).unwrap()[0].incarnation;
    world.ok(from(None));
    world.ok(from(Some(1)));
    world.ok(from(Some(1)));
    let Rejection::NodeConflict(why) = world.refused(from(Some(2))) else { panic!("a conflict") };
    assert_eq!(why, NodeConflict::OtherFolder { node: NodeId(1), name: "east-1".parse().unwrap() });
    world.ok(from(None));
    assert_eq!(recorded(&world), Some(Incarnation::from_bytes([1; 16])), "an older build does not take it away");
    assert!(matches!(world.refused(from(Some(2))), Rejection::NodeConflict(_)));
}

#[test]
fn a_lease_is_granted_when_free_ended_or_ones_own() {
    let mut world = World::with_regions(&["east"]);
    let ask = |holder, ttl_ms| Command::AcquireLease {
        region: region("east"),
        duty: "replication".into(),
        holder: NodeId(holder),
        ttl_ms,
    };
    let granted = |done| matches!(done, Done::Lease { granted: true, .. });
    assert!(granted(world.ok(ask(1, 10_000))));
    let refused = world.ok(ask(2, 10_000));
    let lease = read::lease(&world.kv, &region("east"), "replication").unwrap().unwrap();
    assert_eq!(
        refused,
        Done::Lease { granted: false, holder: NodeId(1), expires_ms: lease.expires_ms, now_ms: world.time_ms }
    );
    assert!(granted(world.ok(ask(1, 10_000))), "renewed");
    world.time_ms += 10_000;
    assert!(granted(world.ok(ask(2, 10_000))), "ended");
    let long = TooLarge::LeaseTtl { ttl_ms: u64::MAX, limit_ms: 600_000 };
    assert_eq!(world.refused(ask(2, u64::MAX)), Rejection::TooLarge(long));
}

#[test]
fn fetching_is_paused_and_resumed() {
    let mut world = World::with_regions(&["east"]);
    for paused in [true, false] {
        world.ok(Command::SetReplicationPaused { region: region("east"), paused });
        assert_eq!(read::region(&world.kv, &region("east")).unwrap().unwrap().paused, paused);
    }
    let unknown = Command::SetReplicationPaused { region: region("none"), paused: true };
    assert_eq!(world.refused(unknown), Rejection::RegionUnknown("none".into()));
}

#[test]
fn listings_are_paged_in_byte_order() {
    let mut world = World::new();
    for name in ["b", "a/b", "a", "a-b"] {
        world.ok(command(put(name, "image", vec![], &["v1", "V1", "v10", "v1.0", "_"])));
    }
    let names = |last, limit| {
        let page = read::repositories(&world.kv, last, limit).unwrap();
        page.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(names(None, 9), ["a", "a-b", "a/b", "b"]);
    assert_eq!(names(Some("a"), 2), ["a-b", "a/b"]);
    assert_eq!(names(Some("a0"), 2), ["b"]);
    let tags = |last, limit| {
        let page = read::tags(&world.kv, &repository("a"), last, limit).unwrap();
        page.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(tags(None, 9), ["V1", "_", "v1", "v1.0", "v10"]);
    assert_eq!(tags(Some("v1"), 9), ["v1.0", "v10"]);
    assert_eq!(tags(Some("v1\0x"), 9), ["v1.0", "v10"]);
    assert_eq!(tags(Some("absent"), 1), ["v1"]);
    assert_eq!(tags(None, 0), [""; 0]);
}

#[test]
fn what_is_too_large_is_refused() {
    let mut world = World::with_regions(&["east"]);
    let large = PutManifest {
        body: ManifestBody::Inline(vec![0; Command::INLINE_BODY_BYTES_MAX + 1].into()),
        ..put("a", "m", vec![], &[])
    };
    let mut direct = world.kv.clone();
    let entry = world.entry(command(large));
    let applied = apply(&mut direct, Revision(world.revision + 1), &entry).unwrap();
    let too_large = TooLarge::InlineManifest { bytes: 32_769, limit: 32_768 };
    assert_eq!(applied.outcome, Outcome::Rejected(Rejection::TooLarge(too_large)));
    assert!(Entry::decode(&entry.encode()).is_err());
}
