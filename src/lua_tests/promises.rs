//! What once broke in a broker with this contract: one test each, with the number of the item in
//! the catalogue of failures.

use std::sync::Barrier;
use std::thread;

use super::world::{
    By, DLQ_MS, LEASE_MS, NAMES, New, SWEEP_LIMIT, World, by, connect, enqueue, id, number,
    sweep_of, token,
};
use crate::model::Refusal;
use crate::store::Error;
use crate::store::direct::Direct;

fn refused<T: std::fmt::Debug>(answer: Result<T, Error>) -> Refusal {
    match answer {
        Err(Error::Refused(refusal)) => refusal,
        other => panic!("{other:?}"),
    }
}

/// Item 1: a node that dies right after its claim ran leaves a whole lease, and the task returns.
#[test]
fn a_claim_whose_node_died_comes_back_after_its_lease() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    assert_eq!(world.read(1, 0).unwrap().place, "leased");
    assert_eq!(world.faults(), Vec::<String>::new());
    world.advance(LEASE_MS);
    world.sweep();
    world.advance(10_000);
    world.sweep();
    let again = world.claim(0, &[0], "w", &[2]).unwrap();
    assert_eq!((again.tasks[0].id, again.tasks[0].attempt), (id(1), 2));
}

/// Item 4: a due task that was claimed meanwhile stays its worker's, however often it is swept.
#[test]
fn a_sweep_never_overwrites_a_live_claim() {
    let mut world = World::new();
    world.enqueue(&New { delay_ms: 5_000, ..New::task(1) }).unwrap();
    world.advance(5_000);
    assert_eq!(world.sweep().due, 1);
    world.take(1);
    let claimed = world.dump();
    assert_eq!(world.sweep().due, 0);
    assert_eq!(world.dump(), claimed);
    world.submit(1, &by(1), 1, 7, "").unwrap();
}

/// Item 8: two sweeps at once bring a task once, and a finished one never again.
#[test]
fn two_sweeps_at_once_bring_each_task_once() {
    let mut world = World::new();
    for n in 1..33 {
        world.enqueue(&New { delay_ms: 5_000, max: 2, ..New::task(n) }).unwrap();
    }
    world.advance(5_000);
    let due: u64 =
        at_once(&world, 4, |db, _| db.one(sweep_of(SWEEP_LIMIT)).unwrap().due).into_iter().sum();
    assert_eq!(due, 32);
    assert_eq!(world.faults(), Vec::<String>::new());
    let leases: Vec<u64> = (1..40).collect();
    let claimed = world.claim(0, &[0], "w", &leases).unwrap();
    assert_eq!(claimed.tasks.len(), 32);
    for task in &claimed.tasks {
        let by = By { token: task.token.clone(), ..by(0) };
        world.submit(number(&task.id), &by, 1, 7, "").unwrap();
    }
    world.advance(LEASE_MS);
    let swept = at_once(&world, 4, |db, _| db.one(sweep_of(SWEEP_LIMIT)).unwrap());
    assert!(swept.iter().all(|swept| swept.due == 0 && swept.expired.is_empty()));
    assert!(world.claim(0, &[0], "w", &[99]).unwrap().tasks.is_empty());
}

/// Item 9: a heartbeat that comes behind a submit is refused and changes nothing.
#[test]
fn a_heartbeat_never_revives_a_finished_task() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.submit(1, &by(1), 1, 7, "").unwrap();
    let done = world.dump();
    assert_eq!(refused(world.heartbeat(1, &by(1))), Refusal::NotInProgress);
    assert_eq!(world.dump(), done);
    world.advance(LEASE_MS);
    world.sweep();
    assert!(world.claim(0, &[0], "w", &[2]).unwrap().tasks.is_empty());
}

/// Item 11: a lease lasts until the sweep ends it; from then on a heartbeat is refused.
#[test]
fn a_heartbeat_on_an_ended_lease_is_refused() {
    let mut world = World::new();
    world.enqueue(&New::task(1)).unwrap();
    world.take(1);
    world.advance(LEASE_MS);
    world.heartbeat(1, &by(1)).unwrap();
    assert_eq!(world.sweep().expired.len(), 0);
    world.advance(LEASE_MS);
    assert_eq!(world.sweep().expired.len(), 1);
    let delayed = world.dump();
    assert_eq!(refused(world.heartbeat(1, &by(1))), Refusal::NotInProgress);
    assert_eq!(world.dump(), delayed);
    world.advance(10_000);
    world.sweep();
    world.take(2);
    assert_eq!(refused(world.heartbeat(1, &by(1))), Refusal::LeaseLost);
}

/// Item 13: one hundred producers with one key at once are one task; key and task are one script.
#[test]
fn one_idempotency_key_is_one_task_however_many_ask_at_once() {
    let mut world = World::new();
    let keyed = |n| New { key: Some("k".into()), ..New::task(n) };
    let made = at_once(&world, 10, |db, who| {
        let ids = (1..11).map(|n| enqueue(db, &[keyed(who * 10 + n)]).unwrap().remove(0));
        ids.map(|made| made.unwrap().id).collect::<Vec<_>>()
    });
    let first = made[0][0];
    assert!(made.iter().flatten().all(|id| *id == first), "{made:?}");
    assert_eq!(world.faults(), Vec::<String>::new());
    assert_eq!(world.claim(0, &[0], "w", &[1, 2]).unwrap().tasks.len(), 1);
}

/// Item 14: `maxAttempts: 5` means five deliveries, whichever way they fail.
#[test]
fn five_attempts_are_five_deliveries() {
    for silent in [false, true] {
        let mut world = World::new();
        world.enqueue(&New { max: 5, hooked: true, ..New::task(1) }).unwrap();
        let mut deliveries = 0;
        while deliveries < 9 {
            let claimed = world.claim(0, &[0], "w", &[deliveries]).unwrap();
            let Some(task) = claimed.tasks.first() else { break };
            deliveries += 1;
            assert_eq!(u64::from(task.attempt), deliveries);
            if !silent {
                world.nack(1, &by(deliveries - 1), 0, "smtp").unwrap();
            }
            world.advance(LEASE_MS);
            world.sweep();
            world.advance(10_000);
            world.sweep();
        }
        assert_eq!((deliveries, world.read(1, 0).unwrap().place.as_str()), (5, "dead"));
        let record = world.read(1, 0).unwrap().record;
        let end = crate::model::record::Terminal::read(&record).unwrap();
        let error = if silent { "LEASE_EXPIRED" } else { "smtp" };
        assert_eq!((end.attempts, end.error.as_deref()), (5, Some(error)));
        assert_eq!(world.dump().matches(":v:").count(), 1);
    }
}

/// Item 29: entries whose record is gone leave the indexes, however many stand in front.
#[test]
fn entries_whose_record_is_gone_do_not_stall_a_sweep() {
    let mut world = World::new();
    for n in 1..8 {
        world.bury(&New::task(n));
    }
    // As an operator's hand or an eviction would: all that belongs to them is gone at once.
    for n in 1..8 {
        for kind in ["b", "c", "h"] {
            world.on_key::<()>("DEL", &format!(":{kind}:{}", id(n).short()), &[]);
        }
    }
    for n in 20..28 {
        let ghost = id(n).short();
        world.on_key::<()>("ZADD", ":d", &[b"5", ghost.as_bytes()]);
        let ghost = id(n + 20).short();
        world.on_key::<()>("ZADD", ":l", &[b"5", ghost.as_bytes()]);
    }
    world.enqueue(&New { delay_ms: 5_000, ..New::task(60) }).unwrap();
    world.enqueue(&New::task(61)).unwrap();
    world.take(1);
    world.advance(DLQ_MS);
    let (mut due, mut expired, mut retired) = (0, 0, 0);
    for _ in 0..8 {
        let swept = world.db.one(sweep_of(2)).unwrap();
        due += swept.due;
        expired += swept.expired.len();
        retired += swept.retired.len();
    }
    assert_eq!((due, expired, retired), (1, 1, 7));
    assert_eq!(world.faults(), Vec::<String>::new());
}

/// Runs on so many connections at the same moment.
fn at_once<T: Send>(
    world: &World,
    threads: u64,
    act: impl Fn(&mut Direct, u64) -> T + Sync,
) -> Vec<T> {
    let start = Barrier::new(usize::try_from(threads).unwrap());
    thread::scope(|scope| {
        let handles: Vec<_> = (0..threads)
            .map(|who| {
                let mut db = connect(&world.redis, None);
                let (start, act) = (&start, &act);
                scope.spawn(move || {
                    start.wait();
                    act(&mut db, who)
                })
            })
            .collect();
        handles.into_iter().map(|handle| handle.join().unwrap()).collect()
    })
}

/// A second submit of one lease at the same moment: one transition, and both hear of it.
#[test]
fn a_hundred_equal_submits_are_one_end() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, ..New::task(1) }).unwrap();
    world.take(1);
    let (task, lease) = (id(1), token(1));
    let replayed = at_once(&world, 10, |db, _| {
        let submit = || crate::tasks::submit::Submit {
            hold_ms: 0,
            id: &task,
            tenant: &NAMES.tenants[0],
            worker: "w",
            token: &lease,
            kind: 1,
            digest: "0123456789abcdef",
            error: "",
            parts: bytes::Bytes::new(),
            apart: "",
            folder: "",
            span: "",
        };
        (0..10).filter(|_| db.one(submit()).unwrap().replayed).count()
    });
    assert_eq!(replayed.into_iter().sum::<usize>(), 99);
    assert_eq!(world.faults(), Vec::<String>::new());
}
