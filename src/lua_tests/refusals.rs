//! Every word of every `FAILS` line, and that a refused item leaves the database as it was.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::destinations::{HERS, HIS, of_another};
use super::world::{By, NAMES, New, World, by, id, token};
use crate::model::Refusal;
use crate::store::Error;
use crate::store::direct::source;
use crate::subscriptions::heartbeat::Extend;
use crate::subscriptions::upsert::Subscribe;
use crate::tasks::timeline::ReadTimeline;
use crate::topics::policy::PutPolicy;
use crate::webhooks::scripts::{Dead, Later};

/// A word, how the world comes to be so, and the call that must be refused with it.
struct Case {
    script: &'static str,
    word: &'static str,
    before: fn(&mut World),
    call: fn(&mut World) -> Result<(), Error>,
}

fn case(
    script: &'static str,
    word: &'static str,
    before: fn(&mut World),
    call: fn(&mut World) -> Result<(), Error>,
) -> Case {
    Case { script, word, before, call }
}

fn ready(world: &mut World) {
    world.enqueue(&New { key: Some("k".into()), hooked: true, ..New::task(1) }).unwrap();
}

fn leased(world: &mut World) {
    ready(world);
    world.take(1);
}

fn done(world: &mut World) {
    leased(world);
    world.submit(1, &by(1), 1, 7, "").unwrap();
}

fn orphan(world: &mut World) {
    world.store_body(&New::task(1));
}

/// A later version of the broker wrote the body.
fn newer_body(world: &mut World) {
    leased(world);
    world.on_key::<()>("SETRANGE", &format!(":b:{}", id(1).short()), &[b"0", b"\x02"]);
}

/// A later version of the broker wrote the lease.
fn newer_lease(world: &mut World) {
    leased(world);
    world.on_key::<()>("HSET", ":f", &[id(1).short().as_bytes(), b"\x02"]);
}

/// A later version of the broker wrote what the task brings along.
fn newer_attempts(world: &mut World) {
    ready(world);
    world.on_key::<()>("HSET", ":a", &[id(1).short().as_bytes(), b"\x02"]);
}

/// A later version of the broker wrote the delivery.
fn newer_delivery(world: &mut World) {
    done(world);
    world.on_key::<()>("SET", &format!(":v:{}_1", id(1).short()), &[b"\x02"]);
}

/// A later version of the broker wrote the queue's policy.
fn newer_policy(world: &mut World) {
    world.on_key::<()>("SET", &format!(":u:{}", NAMES.queues[0].as_str()), &[b"\x02"]);
}

const SUBSCRIPTIONS: [&str; 2] = ["subscription-0000000", "subscription-0000001"];

/// The `n`-th subscription of the first tenant, which may have `most`.
fn subscription(n: usize, most: usize) -> Subscribe<'static> {
    Subscribe {
        id: SUBSCRIPTIONS[n],
        tenant: NAMES.tenants[0].as_str(),
        url: "https://x.example/",
        mode: "f",
        group: "",
        interval_ms: 5_000,
        queues: NAMES.queues[0].as_str(),
        labels: "1",
        ttl_ms: 60_000,
        most,
    }
}

fn subscribed(world: &mut World) {
    world.db.one(subscription(0, 1)).unwrap();
}

fn thief() -> By {
    By { worker: "thief", ..by(1) }
}

fn stranger() -> By {
    By { tenant: 1, ..by(1) }
}

/// The calls of a lease's holder, each with its name.
macro_rules! of_the_holder {
    ($($script:literal: $call:expr),* $(,)?) => {
        vec![$(
            case($script, "NOT_FOUND", |_| {}, |w| ($call)(w, &by(1))),
            case($script, "NOT_FOUND", leased, |w| ($call)(w, &stranger())),
            case($script, "NOT_IN_PROGRESS", ready, |w| ($call)(w, &by(1))),
            case($script, "NOT_IN_PROGRESS", done, |w| {
                ($call)(w, &By { token: token(9), ..by(1) })
            }),
            case($script, "LEASE_LOST", leased, |w| ($call)(w, &by(2))),
            case($script, "NOT_OWNER", leased, |w| ($call)(w, &thief())),
            case($script, "NOT_OWNER", leased, |w| {
                ($call)(w, &By { token: String::new(), ..thief() })
            }),
            case($script, "UNKNOWN_VERSION", newer_body, |w| ($call)(w, &by(1))),
            case($script, "UNKNOWN_VERSION", newer_lease, |w| ($call)(w, &by(1))),
        )*]
    };
}

fn cases() -> Vec<Case> {
    let mut cases = of_the_holder! {
        "heartbeat": |w: &mut World, by: &By| w.heartbeat(1, by).map(drop),
        "nack": |w: &mut World, by: &By| w.nack(1, by, 0, "smtp").map(drop),
        "abandon": |w: &mut World, by: &By| w.abandon(1, by, false).map(drop),
        "submit": |w: &mut World, by: &By| w.submit(1, by, 1, 7, "").map(drop),
    };
    let timeline =
        |w: &mut World| w.db.one(ReadTimeline { id: &id(1), tenant: &NAMES.tenants[0] }).map(drop);
    cases.extend([
        case("submit", "PART_LOST", leased, |w| w.submit(1, &by(1), 1, 7, "gone").map(drop)),
        // Another verdict than the one that was stored.
        case("submit", "NOT_IN_PROGRESS", done, |w| w.submit(1, &by(1), 1, 8, "").map(drop)),
        case("submit", "NOT_IN_PROGRESS", done, |w| w.submit(1, &by(1), 2, 7, "").map(drop)),
        case("submit", "NOT_IN_PROGRESS", done, |w| w.submit(1, &thief(), 1, 7, "").map(drop)),
        case("cancel", "NOT_FOUND", |_| {}, |w| w.cancel(1, 0).map(drop)),
        case("cancel", "NOT_FOUND", ready, |w| w.cancel(1, 1).map(drop)),
        case("cancel", "NOT_CANCELLABLE", leased, |w| w.cancel(1, 0).map(drop)),
        case("cancel", "NOT_CANCELLABLE", done, |w| w.cancel(1, 0).map(drop)),
        case("cancel", "NOT_CANCELLABLE", |w| w.bury(&New::task(1)), |w| w.cancel(1, 0).map(drop)),
        case("cancel", "UNKNOWN_VERSION", newer_body, |w| w.cancel(1, 0).map(drop)),
        case("cancel", "UNKNOWN_VERSION", newer_attempts, |w| w.cancel(1, 0).map(drop)),
        case(
            "enqueue",
            "PART_LOST",
            |_| {},
            |w| w.enqueue(&New { stored: true, key: Some("k".into()), ..New::task(1) }).map(drop),
        ),
        case("read", "NOT_FOUND", |_| {}, |w| w.read(1, 0).map(drop)),
        case("read", "NOT_FOUND", ready, |w| w.read(1, 1).map(drop)),
        case("read", "UNKNOWN_VERSION", newer_body, |w| w.read(1, 0).map(drop)),
        case("timeline", "NOT_FOUND", |_| {}, timeline),
        // A body whose enqueue never came is invisible.
        case("read", "NOT_FOUND", orphan, |w| w.read(1, 0).map(drop)),
        case("cancel", "NOT_FOUND", orphan, |w| w.cancel(1, 0).map(drop)),
        case("heartbeat", "NOT_FOUND", orphan, |w| w.heartbeat(1, &by(1)).map(drop)),
        case("timeline", "UNKNOWN_VERSION", newer_body, timeline),
        case("subscribe", "TOO_MANY", subscribed, |w| w.db.one(subscription(1, 1)).map(drop)),
        case("subscription_extend", "NOT_FOUND", subscribed, |w| {
            let tenant = &NAMES.tenants[1];
            w.db.one(Extend { id: SUBSCRIPTIONS[0], tenant, ttl_ms: 60_000 }).map(drop)
        }),
        case("policy_put", "UNKNOWN_VERSION", newer_policy, |w| {
            let queue = &NAMES.queues[0];
            w.db.one(PutPolicy { queue, max: 1, retention_s: 1, text: "{}" }).map(drop)
        }),
    ]);
    cases.extend(of_destinations());
    cases.extend(of_deliveries());
    cases
}

/// Of a destination that nothing was ever sent to, or another tenant's.
fn of_destinations() -> [Case; 5] {
    let nothing: fn(&mut World) = |_| {};
    let look: fn(&mut World) = |world| drop(world.look(&HIS));
    [
        case("destination_failed", "NOT_FOUND", nothing, |world| {
            world.fail_as(&HERS, true, 1_000).map(drop)
        }),
        case("destination_succeeded", "NOT_FOUND", nothing, |world| world.succeed(&HERS).map(drop)),
        case("destination_unprobed", "NOT_FOUND", nothing, |world| {
            world.unprobed(&HERS, 1).map(drop)
        }),
        case("destination_pause", "NOT_FOUND", look, |world| {
            world.pause_destination(&of_another(), true).map(drop)
        }),
        case("destination_limit", "NOT_FOUND", look, |world| {
            world.limit(&of_another(), Some(1.0), None).map(drop)
        }),
    ]
}

fn of_deliveries() -> [Case; 12] {
    let of_task = |w: &mut World| w.of_task(1, 0).map(drop);
    let look = |w: &mut World| w.look_at(1, NAMES.tenants[0].tag()).map(drop);
    let replay = |w: &mut World| w.replay(1, 1, 0).map(drop);
    [
        case("outbox_of_task", "NOT_FOUND", leased, of_task),
        case("outbox_of_task", "NOT_FOUND", done, |w| w.of_task(1, 1).map(drop)),
        case("outbox_of_task", "UNKNOWN_VERSION", newer_delivery, of_task),
        case("outbox_read", "NOT_FOUND", leased, look),
        case("outbox_read", "NOT_FOUND", done, |w| w.look_at(1, NAMES.tenants[1].tag()).map(drop)),
        case("outbox_read", "UNKNOWN_VERSION", newer_delivery, look),
        case("outbox_drop", "UNKNOWN_VERSION", newer_delivery, |w| w.drop_of(1, 0).map(drop)),
        case("outbox_replay", "NOT_FOUND", leased, replay),
        case("outbox_replay", "NOT_FOUND", done, |w| w.replay(1, 1, 1).map(drop)),
        case("outbox_replay", "UNKNOWN_VERSION", newer_delivery, replay),
        case("outbox_later", "UNKNOWN_VERSION", newer_delivery, |w| {
            let delivery = format!("{}_1", id(1).short());
            let (delay_ms, park_ms) = (1, 0);
            let entry = Bytes::new();
            let (outcome, flags, lease_ms) = (2, 0, 1);
            w.db.one(Later {
                delivery: &delivery,
                lease_ms,
                delay_ms,
                outcome,
                entry,
                flags,
                park_ms,
            })
            .map(drop)
        }),
        case("outbox_dead", "UNKNOWN_VERSION", newer_delivery, |w| {
            let dead = Dead {
                delivery: &format!("{}_1", id(1).short()),
                lease_ms: 1,
                reason: 2,
                attempted: true,
                entry: Bytes::new(),
                head: Bytes::new(),
                body: Bytes::new(),
                event: "",
                to: "",
                says: Bytes::new(),
            };
            w.db.one(dead).map(drop)
        }),
    ]
}

/// Plays every case. The error tells the first that goes wrong.
pub fn play(world: &mut World) -> Result<(), String> {
    for Case { script, word, before, call } in cases() {
        world.reset();
        before(world);
        let dump = world.dump();
        let answer = call(world);
        if answer != Err(Error::Refused(Refusal::from_word(word).unwrap())) {
            return Err(format!("{script} gave {answer:?} and not {word} in\n{dump}"));
        }
        let after = world.dump();
        if after != dump {
            return Err(format!("{script} refused with {word} and left\n{after}\nof\n{dump}"));
        }
    }
    Ok(())
}

#[test]
fn a_refused_call_changes_nothing() {
    play(&mut World::new()).unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn every_word_of_every_header_is_provoked() {
    let provoked: BTreeSet<_> =
        cases().iter().map(|case| (case.script.to_owned(), case.word.to_owned())).collect();
    let mut said = BTreeSet::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("lua");
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let Some(script) = name.strip_suffix(".lua") else { continue };
        let text = source(script);
        let lines = text.lines().filter_map(|line| line.strip_prefix("-- FAILS "));
        for word in lines.flat_map(str::split_whitespace) {
            said.insert((script.to_owned(), word.to_owned()));
        }
    }
    assert_eq!(provoked, said);
}

/// A batch is items that know nothing of each other: one that is refused leaves its neighbours be.
#[test]
fn a_refused_item_does_not_touch_its_neighbours() {
    let mut world = World::new();
    let lost = New { stored: true, ..New::task(2) };
    let made = world.enqueue_all(&[New::task(1), lost, New::task(3)]).unwrap();
    let told: Vec<_> = made.into_iter().map(|item| item.map(|made| made.id)).collect();
    assert_eq!(told, [Ok(id(1)), Err(Error::Refused(Refusal::PartLost)), Ok(id(3))]);
    assert_eq!(world.faults(), Vec::<String>::new());
}

/// What a later version wrote is left alone, also by calls that take what they find.
#[test]
fn records_of_a_later_version_stay_where_they_are() {
    let mut world = World::new();
    world.bury(&New::task(1));
    world.enqueue(&New { delay_ms: 5_000, ..New::task(2) }).unwrap();
    world.enqueue(&New::task(3)).unwrap();
    world.take(3);
    world.enqueue(&New::task(4)).unwrap();
    for n in 1..5 {
        world.on_key::<()>("SETRANGE", &format!(":b:{}", id(n).short()), &[b"0", b"\x02"]);
    }
    world.advance(60_000);
    let before = world.dump();
    assert_eq!(world.claim(0, &[0], "w", &[9]).unwrap().tasks.len(), 0);
    assert_eq!(world.redrive(0, &[], 10).unwrap().tasks.len(), 0);
    assert_eq!(world.purge(0, &[1], 0).unwrap().purged, [0; 0]);
    assert_eq!((world.sweep().due, world.sweep().expired.len()), (0, 0));
    assert_eq!(world.dump(), before);
}
