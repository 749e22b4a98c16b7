//! Artifacts in the store: each folder is named by a record, or somebody is told to delete it.

use super::world::{By, HOLD_MS, LEASE_MS, New, RETENTION_S, UPLOAD_MS, World, by, id};
use crate::model::Refusal;
use crate::store::Error;
use crate::store::direct::Change;

/// As [`crate::objects::Folder::name`] gives it.
const FOLDER: &str = "attempt-00000001acme";

fn leased() -> World {
    leased_with(None)
}

fn leased_with(change: Option<Change>) -> World {
    let mut world = World::changed(change);
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world
}

fn whole(n: u64) -> String {
    format!("{}{FOLDER}", id(n).short())
}

/// The folders that a sweep gives up, after so many milliseconds.
fn doomed_after(world: &mut World, ms: u64) -> Vec<String> {
    world.advance(ms);
    assert_eq!(world.faults(), Vec::<String>::new());
    world.sweep().doomed
}

#[test]
fn nothing_is_written_down_for_a_caller_who_does_not_hold_the_task() {
    let mut world = leased();
    let refused = |world: &mut World, n, caller: By| {
        let before = world.dump();
        assert!(!world.upload(n, &caller, FOLDER).unwrap().held, "{caller:?}");
        assert_eq!(world.dump(), before);
    };
    refused(&mut world, 1, By { worker: "thief", ..by(1) });
    refused(&mut world, 1, By { tenant: 1, ..by(1) });
    refused(&mut world, 1, by(2));
    refused(&mut world, 2, by(1));
    world.submit(1, &by(1), 1, 7, "").unwrap();
    refused(&mut world, 1, by(1));
}

#[test]
fn an_upload_without_a_submit_is_given_up_once_it_is_due() {
    let mut world = leased();
    assert!(world.upload(1, &by(1), FOLDER).unwrap().held);
    assert!(doomed_after(&mut world, UPLOAD_MS - 5_000).is_empty());
    assert_eq!(doomed_after(&mut world, 5_000), [whole(1)]);
    assert!(world.sweep().doomed.is_empty(), "one node deletes it");
    // That node died: another is told.
    assert_eq!(doomed_after(&mut world, 300_000), [whole(1)]);
    assert!(world.discard(1, FOLDER));
    assert!(!world.discard(1, FOLDER));
    assert!(doomed_after(&mut world, 600_000).is_empty());
}

#[test]
fn a_submit_behind_the_sweep_is_refused_and_the_lease_stays() {
    let mut world = leased();
    world.upload(1, &by(1), FOLDER).unwrap();
    assert_eq!(doomed_after(&mut world, UPLOAD_MS), [whole(1)]);
    let before = world.dump();
    let late = world.submit_with(1, &by(1), 1, 7, "", FOLDER);
    assert!(matches!(late, Err(Error::Refused(Refusal::PartLost))), "{late:?}");
    assert_eq!(world.dump(), before);
    world.upload(1, &by(1), "attempt-00000002acme").unwrap();
    world.submit_with(1, &by(1), 1, 7, "", "attempt-00000002acme").unwrap();
}

#[test]
fn artifacts_live_as_long_as_their_record() {
    let mut world = leased();
    world.upload(1, &by(1), FOLDER).unwrap();
    world.submit_with(1, &by(1), 1, 7, "", FOLDER).unwrap();
    assert!(!world.discard(1, FOLDER), "a record names it");
    let retention = u64::from(RETENTION_S) * 1000;
    assert!(doomed_after(&mut world, retention - 5_000).is_empty());
    assert_eq!(doomed_after(&mut world, 10_000), [whole(1)]);
}

#[test]
fn a_record_that_is_given_more_time_keeps_its_artifacts() {
    let mut world = leased();
    world.upload(1, &by(1), FOLDER).unwrap();
    world.submit_with(1, &by(1), 1, 7, "", FOLDER).unwrap();
    // As a pending delivery does to the record and the body.
    for kind in ["b", "c"] {
        let key = format!(":{kind}:{}", id(1).short());
        world.on_key::<()>("PEXPIRE", &key, &[HOLD_MS.to_string().as_bytes()]);
    }
    assert!(doomed_after(&mut world, u64::from(RETENTION_S) * 1000 + 5_000).is_empty());
    assert_eq!(doomed_after(&mut world, HOLD_MS), [whole(1)]);
}

#[test]
fn the_record_of_a_lease_that_ended_meanwhile_does_not_name_them() {
    let mut world = leased();
    world.upload(1, &by(1), FOLDER).unwrap();
    world.advance(LEASE_MS);
    world.sweep();
    let late = world.submit_with(1, &by(1), 1, 7, "", FOLDER);
    assert!(matches!(late, Err(Error::Refused(Refusal::NotInProgress))), "{late:?}");
    assert!(world.discard(1, FOLDER), "by the node that the sweep told, or by this one");
}

#[test]
fn a_sweep_gives_up_as_many_folders_as_its_node_can_delete() {
    let mut world = leased();
    for n in 0..5 {
        world.upload(1, &by(1), &format!("attempt-0000000{n}acme")).unwrap();
    }
    world.advance(UPLOAD_MS);
    for (room, given_up) in [(0, 0), (3, 3), (3, 2), (3, 0)] {
        let swept = world.db.one(super::world::sweep_of(room)).unwrap();
        assert_eq!(swept.doomed.len(), given_up);
    }
}

/// These tests notice when the two lines of the submit that they are about are not there.
#[test]
fn a_submit_that_does_not_keep_its_folder_or_takes_a_lost_one_is_noticed() {
    let change = |from, to| Some(Change { file: "submit", from, to });
    let mut careless = leased_with(change("redis.call(\"ZREM\", key.folders, full)", ""));
    careless.upload(1, &by(1), FOLDER).unwrap();
    careless.submit_with(1, &by(1), 1, 7, "", FOLDER).unwrap();
    assert_eq!(careless.faults().len(), 2, "one folder in two states");
    let mut blind = leased_with(change("not redis.call(\"ZSCORE\", key.folders, full)", "false"));
    assert!(blind.submit_with(1, &by(1), 1, 7, "", FOLDER).is_ok());
}
