//! Every script on a Redis in cluster mode: all keys of a partition are in one hash slot.

use std::net::TcpListener;

use bytes::Bytes;

use super::world::{NAMES, New, World, by, id, start};
use crate::app::Peek;
use crate::app::depths::{Depths, DepthsByPriority, DepthsOfTenant};
use crate::app::labels::{Label, ReadLabels};
use crate::app::rate_limit::Take;
use crate::app::workers::{WorkerCalled, WorkersLately};
use crate::model::DeliveryId;
use crate::model::delivery::Delivery;
use crate::queues::list::List;
use crate::queues::stats::{Queues, Stats, TenantNames};
use crate::store::testing::TestRedis;
use crate::subscriptions::expire::Expire;
use crate::subscriptions::heartbeat::Extend;
use crate::subscriptions::notify::{IsSubscribed, Pick, QueueReady};
use crate::subscriptions::upsert::Subscribe;
use crate::tasks::read::Await;
use crate::tasks::state::Read;
use crate::tasks::timeline::ReadTimeline;
use crate::topics::policy::{DeletePolicy, PutPolicy};
use crate::webhooks;
use crate::webhooks::admin::{Drop, Replay};
use crate::webhooks::destinations::scripts::{Destinations, Load, Unpark};
use crate::webhooks::of_task::OfTask;
use crate::webhooks::recover::{Begin, ReadRecovery, Stop};
use crate::webhooks::recovery::Step;
use crate::webhooks::scripts::{Claim, Dead, Later};
use crate::webhooks::search::Find;

/// A cluster of one node.
fn cluster() -> TestRedis {
    // The bus needs a port although nobody else is on it; it is free when the listener is gone.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let redis = start(&[
        "--bind",
        "127.0.0.1",
        "--cluster-enabled",
        "yes",
        "--cluster-port",
        &port,
        "--cluster-require-full-coverage",
        "no",
    ]);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut connection = client.get_connection().unwrap();
    let cluster = |words: &[&str]| redis::cmd("CLUSTER").arg(words).clone();
    cluster(&["ADDSLOTSRANGE", "0", "16383"]).exec(&mut connection).unwrap();
    loop {
        let info: String = cluster(&["INFO"]).query(&mut connection).unwrap();
        if info.contains("cluster_state:ok") {
            return redis;
        }
        std::thread::yield_now();
    }
}

fn every_transition(world: &mut World) {
    world.enqueue(&New { key: Some("k".into()), hooked: true, ..New::task(1) }).unwrap();
    world.enqueue(&New { delay_ms: 5_000, ..New::task(2) }).unwrap();
    world.enqueue(&New { priority: 9, max: 1, hooked: true, ..New::task(3) }).unwrap();
    world.enqueue(&New { queue: 1, ..New::task(4) }).unwrap();
    for n in 5..8 {
        world.enqueue(&New { queue: 3, ..New::task(n) }).unwrap();
    }
    world.cancel(6, 1).unwrap();
    assert_eq!(world.take(1), 3);
    world.heartbeat(3, &by(1)).unwrap();
    world.db.one(Await { id: &id(3), wait_ms: 5_000 }).unwrap();
    world.nack(3, &by(1), 0, "smtp").unwrap();
    assert_eq!(world.claim(0, &[], "w", &[2, 3]).unwrap().tasks.len(), 2);
    world.store_part(1, "p");
    let lease = if world.upload(1, &by(2), "f").unwrap().held { 2 } else { 3 };
    assert!(world.upload(1, &by(lease), "g").unwrap().held);
    world.submit_with(1, &by(lease), 1, 7, "p", "g").unwrap();
    assert!(!world.discard(1, "g"));
    world.abandon(4, &by(3), false).or_else(|_| world.abandon(4, &by(2), false)).unwrap();
    world.pause(0, true).unwrap();
    world.advance(5_000);
    assert_eq!(world.sweep().due, 1);
    world.redrive(0, &[], 10).unwrap();
    world.pause(0, false).unwrap();
    assert_eq!(world.take(4), 3);
    world.nack(3, &by(4), 0, "smtp").unwrap();
}

fn every_look(world: &mut World) {
    let (db, queue) = (&mut world.db, &NAMES.queues[0]);
    let (id, tenant) = (&id(3), &NAMES.tenants[0]);
    assert_eq!(db.one(Read { id, tenant }).unwrap().place, "dead");
    assert_eq!(db.one(ReadTimeline { id, tenant }).unwrap().past.len(), 3);
    assert_eq!(db.one(Stats { queue }).unwrap().dead, 1);
    for (state, found) in [("ready", 1), ("delayed", 0), ("in_progress", 0), ("dlq", 1)] {
        let list = List { queue, state, score: "-inf", after: "", span: 10 };
        assert_eq!(db.one(list).unwrap().ids.len(), found, "{state}");
    }
    assert_eq!(db.one(Peek { queue: queue.as_str(), tenant: "" }).unwrap().ready, 1);
    assert_eq!(db.one(Queues { tenant: tenant.tag(), cursor: "0" }).unwrap().commands.len(), 2);
    assert_eq!(db.one(TenantNames { cursor: "0" }).unwrap().names.len(), 2);
    assert_eq!(db.one(Depths { labels: 2 }).unwrap().numbers.len(), 21);
    assert_eq!(db.one(DepthsByPriority { label: 1 }).unwrap().ready[0], 1);
    let of_tenant = DepthsOfTenant { tenant: tenant.tag(), cursor: "0" };
    assert_eq!(db.one(of_tenant).unwrap().numbers, [2, 0, 0, 1]);
    let called = WorkerCalled { label: 1, worker: "w", keep_ms: 9_000, most: 9 };
    assert!(db.one(called).unwrap().counted);
    let workers = WorkersLately { labels: 2, keep_ms: 9_000 };
    assert_eq!(db.one(workers).unwrap().numbers, [0, 1, 0]);
    assert_eq!(db.one(Label { command: "a", spelling: "A", cap: 9 }).unwrap().label, 1);
    assert_eq!(db.one(ReadLabels { from: 1, most: 9 }).unwrap().spellings, ["A"]);
    let (one, tag) = ("subscription-0000001", tenant.tag());
    let subscribe = Subscribe {
        id: one,
        tenant: tenant.as_str(),
        url: "https://x.example/",
        mode: "g",
        group: "blue--------",
        interval_ms: 5_000,
        queues: queue.as_str(),
        labels: "1",
        ttl_ms: 60_000,
        most: 1,
    };
    assert!(db.one(subscribe).unwrap().created);
    assert!(db.one(IsSubscribed { tenant: tag, queue: queue.as_str() }).unwrap().any);
    assert_eq!(db.one(QueueReady { queue }).unwrap().ready, 1);
    assert!(db.one(Extend { id: one, tenant, ttl_ms: 60_000 }).unwrap().ends_ms > 0);
    assert_eq!(db.one(Pick { queue, mode: "g", at_ms: 0, limit: 9 }).unwrap().told.len(), 1);
    assert_eq!(db.one(Expire { limit: 9 }).unwrap().gone.len(), 0);
    let put = PutPolicy { queue, max: 1, retention_s: 1, text: "{}" };
    assert!(db.one(put).unwrap().created);
    assert!(db.one(DeletePolicy { queue }).unwrap().deleted);
    every_delivery(db);
    assert!(db.one(Take { bucket: "me", cost: 1, per_minute: 1, burst: 1 }).unwrap().allowed);
    every_destination(world);
}

/// The task that died had a webhook.
fn every_delivery(db: &mut crate::store::direct::Direct) {
    let take = || Claim { lease_ms: 1, most: 8, room: "", parked: "", aged_ms: 0 };
    let turn = db.one(take()).unwrap();
    let of = &turn.claimed[0];
    let (delivery, lease_ms) = (of.delivery.as_str(), of.lease_ms);
    let later = Later {
        delivery,
        lease_ms,
        delay_ms: 0,
        outcome: 2,
        entry: Bytes::from_static(b"log"),
        flags: 1,
        park_ms: 0,
    };
    assert!(db.one(later).unwrap().done);
    let lease_ms = db.one(take()).unwrap().claimed[0].lease_ms;
    let event = Delivery::event("0123456789abcdef", b"{}");
    let dead = Dead {
        delivery,
        lease_ms,
        reason: 2,
        attempted: true,
        entry: Bytes::new(),
        head: Bytes::from_static(b"head"),
        body: Bytes::from_static(b"body"),
        event: "0000000000000000000000_1",
        to: "0123456789abcdef",
        says: event.into(),
    };
    assert!(db.one(dead).unwrap().done);
    let told = db.one(take()).unwrap();
    let turn_ms = told.now_ms;
    assert!(super::webhook_admin::accept(db, &told.claimed[0], turn_ms, 60_000));
    every_look_at_deliveries(db, delivery);
}

/// The task that died has a dead delivery.
fn every_look_at_deliveries(db: &mut crate::store::direct::Direct, delivery: &str) {
    let tenant = &NAMES.tenants[0];
    let find = Find {
        dead: true,
        tenant: tenant.tag(),
        destination: "",
        command: "",
        reason: 0,
        until_ms: i64::MAX >> 12,
        from_ms: 0,
        after: "",
        span: 9,
    };
    assert_eq!(db.one(find).unwrap().found.len(), 1);
    let read = webhooks::admin::Read { delivery, tenant: "", log: 1 };
    assert!(!db.one(read).unwrap().record.is_empty());
    let task = DeliveryId::from_short(delivery).unwrap().task;
    assert_eq!(db.one(OfTask { id: &task, tenant }).unwrap().delivery, delivery);
    let (tag, recovery) = (tenant.tag(), "");
    let replay = Replay { delivery, tenant: tag, asked: "", hold_ms: 1000, recovery };
    assert!(db.one(replay).unwrap().moved);
    let (recovery, at) = (&id(50), 1);
    let begin = Begin { recovery, tenant, ask: "?", rate: 1, limit: 0, matched: 1 };
    assert!(db.one(begin).unwrap().began);
    let step = Step { recovery, lease_ms: 1, held_ms: 0, moved: 0, over: false };
    assert!(db.one(step).unwrap().till_ms > at);
    assert!(db.one(Stop { recovery, tenant }).unwrap().stopped);
    assert_eq!(db.one(ReadRecovery { recovery }).unwrap().state, "stopped");
    let unknown = id(99).short() + "_1";
    assert!(!db.one(Drop { delivery: &unknown, tenant }).unwrap().dropped);
}

fn every_destination(world: &mut World) {
    let of = &super::destinations::HERS;
    world.look(of);
    world.fail(of, 5);
    world.unprobed(of, 1).unwrap();
    assert!(world.succeed(of).unwrap().recovered);
    world.limit(of, Some(2.0), None).unwrap();
    assert_eq!(world.pace(of, 1).delays_ms, [0]);
    world.pause_destination(of, true).unwrap();
    let page = Destinations { tag: "", state: "paused", after: "", most: 9 };
    assert_eq!(world.db.one(page).unwrap().records.len(), 1);
    let id = of.id.as_str();
    assert_eq!(world.db.one(Load { destinations: id }).unwrap().pending, [0]);
    assert!(!world.db.one(Unpark { destination: id }).unwrap().parked);
    assert_eq!(world.depth().states, [0, 0, 1, 0]);
}

#[test]
fn every_script_keeps_to_one_slot_of_a_cluster() {
    let mut world = World::on(cluster(), None);
    every_transition(&mut world);
    every_look(&mut world);
    assert_eq!(world.faults(), Vec::<String>::new());
    let keys: Vec<String> = world.db.query(redis::cmd("KEYS").arg("*"));
    assert!(keys.len() > 20, "{keys:?}");
    let mut slots: Vec<u32> = keys
        .iter()
        .map(|key| world.db.query(redis::cmd("CLUSTER").arg("KEYSLOT").arg(key)))
        .collect();
    slots.dedup();
    assert_eq!(slots.len(), 1, "{keys:?}");
    world.purge(0, &[3], 0).unwrap();

    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    let files = std::fs::read_dir(folder).unwrap();
    let mut scripts: Vec<String> = files
        .filter_map(|file| {
            Some(file.unwrap().file_name().to_str()?.strip_suffix(".lua")?.to_owned())
        })
        .collect();
    scripts.sort();
    let mut called = world.db.called();
    called.retain(|name| *name != "invariants");
    assert_eq!(called, scripts, "every script was called");
}

#[test]
fn the_store_works_on_a_cluster_of_one_node() {
    let redis = cluster();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(super::smoke::a_good_life(&redis));
}
