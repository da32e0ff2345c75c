//! No retry of an old request undoes a newer acknowledged one.

use super::*;

fn pushed() -> World {
    let mut world = World::with_regions(&["east"]);
    let upload = world.upload("app", "layer", "east");
    world.ok(upload);
    world.ok(command(put("app", "old", vec![blob("layer")], &["v1"])));
    world
}

const EXPIRED: Outcome = Outcome::Rejected(Rejection::Expired);

#[test]
fn a_request_sent_twice_is_applied_once_and_answered_alike() {
    let mut world = pushed();
    let entry = world.entry(command(put("app", "new", vec![blob("layer")], &["v1"])));
    let first = world.apply(&entry);
    world.ok(command(put("app", "old", vec![blob("layer")], &["v1"])));
    let mut again = entry;
    again.envelope.attempt = 3;
    assert_eq!(world.apply(&again), first, "the same outcome with the revision of the first");
    assert_eq!(world.tag("app", "v1"), Some(digest("old")), "and nothing moved");
}

#[test]
fn a_refusal_is_kept_too() {
    let mut world = pushed();
    let entry = world.entry(delete_tag("app", "v2"));
    let first = world.apply(&entry);
    world.ok(command(put("app", "old", vec![blob("layer")], &["v2"])));
    assert_eq!(world.apply(&entry), first);
    assert_eq!(world.tag("app", "v2"), Some(digest("old")));
}

#[test]
fn a_request_id_names_one_write() {
    let mut world = pushed();
    let entry = world.entry(delete_tag("app", "v1"));
    let first = world.apply(&entry);
    let mut other = entry.clone();
    other.command = delete_manifest("app", "old");
    assert_eq!(world.apply(&other).outcome, Outcome::Rejected(Rejection::RequestReused));
    assert_eq!(world.apply(&entry), first, "which is still answered");
    let upload = world.upload("app", "layer", "east");
    let entry = world.entry(upload);
    let first = world.apply(&entry);
    let again = world.upload("app", "layer", "east");
    assert_eq!(world.apply(&Entry { command: again, ..entry }), first, "an upload sent again has another object");
}

#[test]
fn a_late_put_does_not_move_a_tag_back() {
    let mut world = pushed();
    let late = world.entry(command(put("app", "new", vec![blob("layer")], &["v1"])));
    world.ok(command(put("app", "newer", vec![blob("layer")], &["v1"])));
    assert_eq!(world.retry(&late), EXPIRED);
    assert_eq!(world.tag("app", "v1"), Some(digest("newer")));
    let late = world.entry(command(put("app", "new", vec![blob("layer")], &["v1"])));
    world.ok(delete_tag("app", "v1"));
    assert_eq!(world.retry(&late), EXPIRED, "a deletion counts");
    assert_eq!(world.tag("app", "v1"), None);
}

#[test]
fn a_late_put_does_not_bring_back_what_was_deleted() {
    let mut world = pushed();
    let late = world.entry(command(put("app", "old", vec![blob("layer")], &[])));
    world.ok(delete_manifest("app", "old"));
    assert_eq!(world.retry(&late), EXPIRED);
    let upload = world.upload("app", "layer", "east");
    let late = world.entry(upload);
    world.ok(delete_blob("app", "layer"));
    assert_eq!(world.retry(&late), EXPIRED);
    assert_eq!(read::link(&world.kv, &repository("app"), &digest("layer")).unwrap(), None);
}

#[test]
fn a_late_delete_does_not_destroy_a_newer_push() {
    let mut world = pushed();
    let manifest = world.entry(delete_manifest("app", "old"));
    let tag = world.entry(delete_tag("app", "v1"));
    world.ok(command(put("app", "old", vec![blob("layer")], &["v1"])));
    assert_eq!(world.retry(&manifest), EXPIRED, "put again, though nothing changed");
    assert_eq!(world.retry(&tag), EXPIRED, "a tag put on the same digest moved");
    assert_eq!(world.tag("app", "v1"), Some(digest("old")));
    let upload = world.upload("app", "fresh", "east");
    world.ok(upload);
    let blob = world.entry(delete_blob("app", "fresh"));
    let upload = world.upload("app", "fresh", "east");
    world.ok(upload);
    assert_eq!(world.retry(&blob), EXPIRED);
    assert!(read::link(&world.kv, &repository("app"), &digest("fresh")).unwrap().is_some());
}

#[test]
fn a_late_request_that_disturbs_nobody_is_applied() {
    let mut world = pushed();
    let late = world.entry(command(put("app", "new", vec![blob("layer")], &["v2"])));
    world.ok(command(put("app", "new", vec![blob("layer")], &["v1"])));
    assert_eq!(world.retry(&late), Outcome::Done(Done::ManifestPut { created: false }));
    assert_eq!(world.tag("app", "v2"), Some(digest("new")));
}

#[test]
fn a_hidden_tag_counts_as_deleted() {
    let mut world = pushed();
    world.ok(command(put("app", "old", vec![blob("layer")], &["v1", "v2", "v3"])));
    let late = world.entry(command(put("app", "new", vec![blob("layer")], &["v3"])));
    assert_eq!(world.ok(delete_manifest("app", "old")), Done::Deleted { continues: true });
    assert_eq!(world.retry(&late), EXPIRED);
}

#[test]
fn an_expired_retry_expires_its_first_attempt_too() {
    let mut world = pushed();
    let first = world.entry(command(put("app", "new", vec![blob("layer")], &["v1"])));
    world.ok(command(put("app", "newer", vec![blob("layer")], &["v1"])));
    assert_eq!(world.retry(&first), EXPIRED);
    assert_eq!(world.apply(&first).outcome, EXPIRED, "the client was told that it is unknown: it stays undone");
}

#[test]
fn nothing_older_than_the_outcomes_is_applied() {
    let mut world = pushed();
    let old = world.entry(delete_tag("app", "v1"));
    world.revision = old.envelope.seen.0 + 65_535;
    let mut at_the_edge = old.clone();
    at_the_edge.envelope.request = RequestId::from_bytes([9; 16]);
    let mut beyond = world.kv.clone();
    assert_eq!(world.apply(&at_the_edge).outcome, Outcome::Done(Done::Deleted { continues: false }));
    let late = apply(&mut beyond, Revision(world.revision + 1), &old).unwrap();
    assert_eq!(late.outcome, EXPIRED);
    let mut future = world.entry(delete_manifest("app", "old"));
    future.envelope.seen = Revision(world.revision + 1);
    assert_eq!(world.apply(&future).outcome, EXPIRED, "a revision that nobody can have seen");
}

#[test]
fn outcomes_and_tombstones_are_pruned_and_a_deleted_tag_loses_its_history() {
    let mut world = pushed();
    let entry = world.entry(delete_tag("app", "v1"));
    let first = world.apply(&entry);
    world.ok(delete_manifest("app", "old"));
    let history = |world: &World| read::tag_history(&world.kv, &repository("app"), &tag("v1"), 99).unwrap().len();
    let keys = |world: &World, prefix: u8| {
        use crate::KvRead;
        world.kv.scan(Family::State, &[prefix], &[prefix + 1], 1_000).unwrap().len()
    };
    assert_eq!((history(&world), keys(&world, 0x33)), (2, 2));
    assert_eq!(world.apply(&entry), first);
    world.revision += 65_536;
    for _ in 0..20 {
        world.ok(Command::RegisterRegion { region: region("east") });
    }
    assert_eq!((history(&world), keys(&world, 0x33), keys(&world, 0x34)), (0, 0, 0));
    assert_eq!((keys(&world, 0x30), keys(&world, 0x31)), (20, 20));
    assert_eq!(world.apply(&entry).outcome, EXPIRED);
}
