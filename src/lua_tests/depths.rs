//! What a scrape reads: where tasks are, how late the latest are, and who works.

use super::world::{BACKOFF_MS, LEASE_MS, NAMES, New, World, by};
use crate::app::depths::{Depths, DepthsByPriority, DepthsOfTenant};
use crate::app::workers::{WorkerCalled, WorkersLately};

/// Of label 1: ready, delayed, in progress, dead, subscriptions, whether paused, age of the oldest.
fn label_1(world: &mut World) -> Vec<u64> {
    world.db.one(Depths { labels: 2 }).unwrap().numbers[7..14].to_vec()
}

#[test]
fn the_oldest_ready_task_of_a_label_tells_its_age_over_tenants_priorities_and_attempts() {
    let mut world = World::new();
    assert_eq!(label_1(&mut world), [0; 7]);
    // The second tenant's queue of the same command, and it was there first.
    world.enqueue(&New { queue: 2, delay_ms: 3_600_000, ..New::task(1) }).unwrap();
    world.advance(1_000);
    world.enqueue(&New { priority: 3, ..New::task(2) }).unwrap();
    world.advance(2_000);
    world.enqueue(&New { queue: 2, ..New::task(3) }).unwrap();
    world.advance(4_000);
    assert_eq!(label_1(&mut world), [2, 1, 0, 0, 0, 0, 6_000]);
    // A task that comes back waits from then on.
    assert_eq!(world.take(1), 2);
    assert_eq!(label_1(&mut world)[6], 4_000);
    world.abandon(2, &by(1), false).unwrap();
    world.advance(500);
    assert_eq!(label_1(&mut world)[6], 4_500);
    let other = super::world::By { tenant: 1, worker: "v", token: super::world::token(2) };
    assert_eq!(world.claim(1, &[2], "v", &[2]).unwrap().tasks.len(), 1);
    assert_eq!(label_1(&mut world)[6], 500);
    world.nack(3, &other, 0, "").unwrap();
    world.advance(BACKOFF_MS + 250);
    world.sweep();
    world.take(3);
    assert_eq!(label_1(&mut world)[6], 250, "from when the retry was due");
}

#[test]
fn one_more_paused_queue_is_seen_and_a_label_without_is_not() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.pause(2, true).unwrap();
    assert_eq!(label_1(&mut world)[5], 1, "the other tenant's, and nothing is in it");
    let numbers = world.db.one(Depths { labels: 2 }).unwrap().numbers;
    assert_eq!((numbers[5], numbers[19]), (0, 0));
    world.pause(2, false).unwrap();
    assert_eq!(label_1(&mut world)[5], 0);
}

#[test]
fn the_most_overdue_delayed_task_tells_its_lateness() {
    let mut world = World::new();
    let overdue = |world: &mut World| world.db.one(Depths { labels: 0 }).unwrap().overdue_ms;
    world.enqueue(&New { delay_ms: 5_000, ..New::task(1) }).unwrap();
    assert_eq!(overdue(&mut world), 0);
    world.advance(7_000);
    assert_eq!(overdue(&mut world), 2_000);
    world.sweep();
    assert_eq!(overdue(&mut world), 0);
}

#[test]
fn a_look_goes_no_further_than_it_must() {
    let mut world = World::new();
    for n in 0..4 {
        world.enqueue(&New { queue: n, ..New::task(n as u64 + 1) }).unwrap();
        world.advance(1_000);
    }
    let (before, _) = looks(&mut world);
    let mut of = label_1(&mut world);
    let (after, _) = looks(&mut world);
    assert_eq!(of.split_off(6), [4_000]);
    // The queue that was there first has the oldest task: the other tenant's is not looked into. Two
    // labels have ready tasks, each queue has ten lists.
    assert_eq!(after - before, 20);
}

/// How often the end of a list was read, and the script was called.
fn looks(world: &mut World) -> (u64, u64) {
    let stats: String = world.db.query(redis::cmd("INFO").arg("commandstats"));
    let calls = |command: &str| {
        let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |l| l.split(',').next().unwrap().parse().unwrap())
    };
    (calls("lindex"), calls("evalsha"))
}

#[test]
fn ready_tasks_are_counted_by_priority_without_cancelled_ones() {
    let mut world = World::new();
    for n in 1..=4 {
        world.enqueue(&New { priority: 7, ..New::task(n) }).unwrap();
    }
    world.enqueue(&New { queue: 2, ..New::task(5) }).unwrap();
    world.enqueue(&New { queue: 1, ..New::task(6) }).unwrap();
    world.cancel(2, 0).unwrap();
    world.cancel(3, 0).unwrap();
    let ready = world.db.one(DepthsByPriority { label: 1 }).unwrap().ready;
    assert_eq!(ready, [1, 0, 0, 0, 0, 0, 0, 2, 0, 0]);
}

#[test]
fn the_tasks_of_a_tenant_are_counted_over_its_queues() {
    let mut world = World::new();
    world.bury(&New::task(1));
    world.enqueue(&New::task(2)).unwrap();
    world.enqueue(&New { queue: 1, delay_ms: 1_000, ..New::task(3) }).unwrap();
    world.enqueue(&New { queue: 2, ..New::task(4) }).unwrap();
    let counted = |world: &mut World, tenant: usize| {
        let tenant = NAMES.tenants[tenant].tag();
        world.db.one(DepthsOfTenant { tenant, cursor: "0" }).unwrap().numbers
    };
    assert_eq!(counted(&mut world, 0), [1, 1, 0, 1]);
    assert_eq!(counted(&mut world, 1), [1, 0, 0, 0]);
}

#[test]
fn a_worker_counts_for_two_minutes_after_its_last_call_and_leaves_nothing() {
    let mut world = World::new();
    let keep_ms = 120_000;
    let called = |world: &mut World, worker: &str| {
        let called = WorkerCalled { label: 1, worker, keep_ms, most: 2 };
        world.db.one(called).unwrap().counted
    };
    let lately =
        |world: &mut World| world.db.one(WorkersLately { labels: 2, keep_ms }).unwrap().numbers;
    assert!(called(&mut world, "v") && called(&mut world, "v"));
    world.advance(LEASE_MS);
    assert!(called(&mut world, "w"));
    assert_eq!(lately(&mut world), [0, 2, 0]);
    assert!(!called(&mut world, "x"), "no more than two are told apart here");
    assert!(called(&mut world, "w"), "and those go on to count");
    world.advance(keep_ms - LEASE_MS);
    assert_eq!(lately(&mut world), [0, 1, 0]);
    assert!(called(&mut world, "x"), "who left makes room");
    world.advance(keep_ms);
    assert_eq!(lately(&mut world), [0, 0, 0]);
    assert_eq!(world.dump(), "");
}

#[test]
fn leases_that_ended_are_overdue_until_a_sweep_has_noticed() {
    let mut world = World::new();
    let overdue = |world: &mut World| world.db.one(Depths { labels: 0 }).unwrap().overdue_leases;
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    assert_eq!(overdue(&mut world), 0);
    world.advance(LEASE_MS);
    assert_eq!(overdue(&mut world), 1);
    world.sweep();
    assert_eq!(overdue(&mut world), 0);
}
