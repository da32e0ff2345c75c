//! Jobs: what goes on in steps, and that lag is never too low meanwhile.

use super::*;
use crate::CopyItem;

/// Runs the oldest job to its end, a step at a time, and returns the steps.
fn finish(world: &mut World) -> u32 {
    let job = read::jobs(&world.kv, 1).unwrap()[0];
    for step in 1..100 {
        if world.ok(Command::ContinueJob { job }) == (Done::Job { finished: true }) {
            return step;
        }
    }
    panic!("job {job} does not end");
}

fn blobs(at: &str, count: usize) -> World {
    let mut world = World::with_regions(&[at]);
    for index in 0..count {
        let upload = world.upload("app", &format!("layer {index}"), at);
        world.ok(upload);
    }
    world
}

#[test]
fn a_new_region_wants_all_blobs_and_its_lag_is_never_too_low() {
    let mut world = blobs("east", 7);
    world.ok(Command::RegisterRegion { region: region("west") });
    world.ok(Command::SetStore { region: region("west"), store: store("west", 0), replaces: None });
    let lag = |world: &World| read::lag(&world.kv, &region("west")).unwrap();
    assert_eq!((lag(&world).blobs, lag(&world).bytes, lag(&world).at_most), (7, 49, true));
    assert!(lag(&world).oldest_since_ms.is_some());
    assert!(world.wanted("west").is_empty());

    let jobs = read::jobs(&world.kv, 9).unwrap();
    assert_eq!(world.ok(Command::ContinueJob { job: jobs[0] }), Done::Job { finished: false });
    assert_eq!((world.wanted("west").len(), lag(&world).blobs), (2, 7));
    // Meanwhile: one more blob, one gone, one uploaded there, one copied there.
    let upload = world.upload("app", "another", "east");
    world.ok(upload);
    world.ok(delete_blob("app", "layer 0"));
    let upload = world.upload("app", "layer 1", "west");
    world.ok(upload);
    assert_eq!(lag(&world).blobs, 6);
    assert!(finish(&mut world) > 1);
    assert_eq!((world.wanted("west").len(), lag(&world).blobs, lag(&world).at_most), (6, 6, false));
    assert_eq!(world.refused(Command::ContinueJob { job: jobs[0] }), Rejection::JobUnknown(jobs[0]));
}

#[test]
fn what_a_job_puts_into_the_queue_is_as_old_as_the_job() {
    let mut world = blobs("east", 5);
    world.ok(Command::RegisterRegion { region: region("west") });
    let start = world.time_ms;
    let oldest = |world: &World| read::lag(&world.kv, &region("west")).unwrap().oldest_since_ms;
    world.time_ms += 60_000;
    let upload = world.upload("app", "another", "east");
    world.ok(upload);
    let job = read::jobs(&world.kv, 1).unwrap()[0];
    for _ in 0..2 {
        world.time_ms += 60_000;
        world.ok(Command::ContinueJob { job });
        assert_eq!(oldest(&world), Some(start));
    }
    finish(&mut world);
    assert_eq!(oldest(&world), Some(start), "the age does not fall when all are in the queue");
    let queue = read::wanted(&world.kv, &region("west"), None, 9).unwrap();
    assert!(queue.is_sorted_by_key(|wanted| wanted.since_ms) && queue.len() == 6, "oldest first: {queue:?}");
    assert_eq!(queue.last().map(|wanted| wanted.digest), Some(digest("another")), "pushed after the job's start");
}

#[test]
fn a_job_that_takes_the_place_of_another_keeps_its_age() {
    let mut world = blobs("east", 5);
    let set = |from, to| Command::SetStore {
        region: region("east"),
        store: store("east", to),
        replaces: Some(store("east", from)),
    };
    world.ok(set(0, 1));
    let start = world.time_ms;
    let oldest = |world: &World| read::lag(&world.kv, &region("east")).unwrap().oldest_since_ms;
    world.time_ms += 60_000;
    world.ok(set(1, 2));
    assert_eq!(oldest(&world), Some(start));
    finish(&mut world);
    assert_eq!(oldest(&world), Some(start));
    let upload = world.upload("app", "another", "east");
    world.ok(upload);
    world.ok(set(2, 3));
    let again = world.time_ms;
    for index in 0..5 {
        let upload = world.upload("app", &format!("layer {index}"), "east");
        world.ok(upload);
    }
    assert_eq!(oldest(&world), Some(again), "a job that ended leaves nothing behind");
}

#[test]
fn an_empty_cluster_needs_no_job() {
    let world = World::with_regions(&["east", "west"]);
    assert_eq!(read::jobs(&world.kv, 9).unwrap(), []);
}

#[test]
fn a_replaced_store_is_wanted_again_and_what_was_only_there_is_lost_until_it_is_uploaded() {
    let mut world = blobs("east", 3);
    world.ok(Command::RegisterRegion { region: region("west") });
    world.ok(Command::SetStore { region: region("west"), store: store("west", 0), replaces: None });
    finish(&mut world);
    let wanted = read::wanted(&world.kv, &region("west"), None, 1).unwrap()[0];
    let copy = CopyItem { digest: wanted.digest, size: wanted.size, object: world.object_at(1) };
    world.ok(Command::RecordCopies { region: region("west"), store: store("west", 0), copies: vec![copy] });

    let set = |replaces| Command::SetStore { region: region("east"), store: store("east", 1), replaces };
    assert_eq!(world.refused(set(None)), Rejection::StoreMismatch("east".into()));
    assert_eq!(world.refused(set(Some(store("east", 5)))), Rejection::StoreMismatch("east".into()));
    world.ok(set(Some(store("east", 0))));
    world.ok(set(Some(store("east", 0))));
    let lag = |world: &World| read::lag(&world.kv, &region("east")).unwrap();
    assert_eq!((lag(&world).blobs, lag(&world).at_most), (3, true));
    let copies = |world: &World, of: &Digest| read::blob(&world.kv, of).unwrap().unwrap().copies;
    assert_eq!(copies(&world, &wanted.digest).len(), 1, "copies of the old store count at once as gone");
    finish(&mut world);
    assert_eq!((world.wanted("east").len(), lag(&world).blobs), (3, 3));
    assert_eq!(read::totals(&world.kv).unwrap().lost, 2);
    assert_eq!(read::garbage(&world.kv, &region("east"), None, 9).unwrap(), [], "it went with the store");

    let lost =
        (0..3).map(|i| format!("layer {i}")).find(|content| copies(&world, &digest(content)).is_empty()).unwrap();
    let refused = world.refused(command(put("app", "image", vec![blob(&lost)], &[])));
    assert_eq!(refused, Rejection::BlobsMissing(vec![digest(&lost)]), "nobody could pull it");
    let upload = world.upload("app", &lost, "east");
    world.ok(upload);
    assert_eq!(read::totals(&world.kv).unwrap().lost, 1);
    world.ok(command(put("app", "image", vec![blob(&lost)], &[])));
}

#[test]
fn a_store_replaced_twice_starts_its_job_again() {
    let mut world = blobs("east", 5);
    let set = |from, to| Command::SetStore {
        region: region("east"),
        store: store("east", to),
        replaces: Some(store("east", from)),
    };
    world.ok(set(0, 1));
    let first = read::jobs(&world.kv, 9).unwrap()[0];
    world.ok(Command::ContinueJob { job: first });
    let upload = world.upload("app", "layer 3", "east");
    world.ok(upload);
    world.ok(set(1, 0));
    assert_eq!(world.refused(Command::ContinueJob { job: first }), Rejection::JobUnknown(first));
    assert_eq!(read::lag(&world.kv, &region("east")).unwrap().blobs, 5, "the first store is as good as new");
    finish(&mut world);
    assert_eq!(world.wanted("east").len(), 5);
}

#[test]
fn the_tags_of_a_deleted_manifest_are_hidden_at_once() {
    let mut world = World::with_regions(&["east"]);
    let names: Vec<String> = (0..9).map(|index| format!("v{index}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    world.ok(command(put("app", "image", vec![], &names)));
    world.ok(command(put("app", "other", vec![], &["x"])));
    assert_eq!(world.ok(delete_manifest("app", "image")), Done::Deleted { continues: true });
    let tags = |world: &World| read::tags(&world.kv, &repository("app"), None, 3).unwrap();
    assert_eq!((tags(&world), world.tag("app", "v3")), (vec![tag("x")], None));
    assert_eq!(world.refused(delete_tag("app", "v3")), Rejection::TagUnknown(tag("v3")));

    // The manifest comes back with one of its tags: only that one is seen, and the job leaves it alone.
    let back = PutManifest {
        tags: vec![TagUpdate { tag: tag("v3"), expected: Expected::Absent }],
        ..put("app", "image", vec![], &[])
    };
    world.ok(command(back));
    assert_eq!(tags(&world), [tag("v3"), tag("x")]);
    world.ok(command(put("app", "other", vec![], &["v4"])));
    assert!(finish(&mut world) > 2);
    assert_eq!(tags(&world), [tag("v3"), tag("v4"), tag("x")]);
    assert_eq!(world.tag("app", "v3"), Some(digest("image")));
}

#[test]
fn a_manifest_deleted_again_meanwhile_starts_the_removal_again() {
    let mut world = World::with_regions(&["east"]);
    world.ok(command(put("app", "image", vec![], &["a", "b", "c", "d"])));
    world.ok(delete_manifest("app", "image"));
    let first = read::jobs(&world.kv, 9).unwrap()[0];
    world.ok(Command::ContinueJob { job: first });
    world.ok(command(put("app", "image", vec![], &["a"])));
    assert_eq!(world.ok(delete_manifest("app", "image")), Done::Deleted { continues: true });
    assert_eq!(world.tag("app", "a"), None);
    assert_eq!(world.refused(Command::ContinueJob { job: first }), Rejection::JobUnknown(first));
    finish(&mut world);
    assert_eq!(read::tags(&world.kv, &repository("app"), None, 9).unwrap(), []);
}
