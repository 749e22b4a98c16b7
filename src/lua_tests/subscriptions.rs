//! Who is told that a queue has work, who comes next, and what is left when a subscription ends.

use insta::assert_snapshot;

use super::world::{HERE, NAMES, New, START, World};
use crate::app::depths::Depths;
use crate::model::{QueueName, TenantId};
use crate::store::Error;
use crate::subscriptions::expire::Expire;
use crate::subscriptions::heartbeat::Extend;
use crate::subscriptions::notify::{IsSubscribed, Pick, QueueReady};
use crate::subscriptions::upsert::{Subscribe, Subscribed};

const INTERVAL_MS: u64 = 5_000;
const TTL_MS: u64 = 60_000;

/// A subscription of the first tenant to its queue 0.
#[derive(Clone)]
struct Sub {
    n: u64,
    mode: &'static str,
    group: &'static str,
    interval_ms: u64,
    ttl_ms: u64,
    queues: Vec<usize>,
    tenant: usize,
    /// To all queues of the tenant, whatever `queues` says.
    all: bool,
}

fn sub(n: u64, mode: &'static str) -> Sub {
    let group = if mode == "g" { "blue--------" } else { "" };
    let (interval_ms, ttl_ms) = (INTERVAL_MS, TTL_MS);
    Sub { n, mode, group, interval_ms, ttl_ms, queues: vec![0], tenant: 0, all: false }
}

fn id(n: u64) -> String {
    format!("subscription-{n:07}")
}

fn tenant(at: usize) -> &'static TenantId {
    &NAMES.tenants[at]
}

impl World {
    fn subscribe(&mut self, sub: &Sub, most: usize) -> Result<Subscribed, Error> {
        let queues: String = match sub.all {
            true => QueueName::any_of(tenant(sub.tenant).tag()).as_str().to_owned(),
            false => sub.queues.iter().map(|&q| NAMES.queues[q].as_str()).collect(),
        };
        self.db.one(Subscribe {
            id: &id(sub.n),
            tenant: tenant(sub.tenant).as_str(),
            url: &format!("https://x.example/{}", sub.n),
            mode: sub.mode,
            group: sub.group,
            interval_ms: sub.interval_ms,
            queues: &queues,
            labels: "1",
            ttl_ms: sub.ttl_ms,
            most,
        })
    }

    fn subscribed(&mut self, subs: &[Sub]) {
        for sub in subs {
            self.subscribe(sub, 1000).unwrap();
        }
    }

    /// The numbers of those who are told, in order.
    fn told(&mut self, queue: usize, mode: &'static str) -> Vec<u64> {
        let pick = Pick { queue: &NAMES.queues[queue], mode, at_ms: 0, limit: 64 };
        let picked = self.db.one(pick).unwrap();
        assert!(!picked.more);
        let mut told: Vec<u64> =
            picked.told.iter().map(|t| t.id.rsplit('-').next().unwrap().parse().unwrap()).collect();
        if mode == "f" {
            told.sort_unstable();
        }
        told
    }

    fn extend(&mut self, n: u64, of: usize, ttl_ms: u64) -> Result<i64, Error> {
        self.db.one(Extend { id: &id(n), tenant: tenant(of), ttl_ms }).map(|kept| kept.ends_ms)
    }

    fn is_subscribed(&mut self, queue: usize) -> bool {
        let name = &NAMES.queues[queue];
        self.db.one(IsSubscribed { tenant: name.tenant_tag(), queue: name.as_str() }).unwrap().any
    }
}

#[test]
fn a_subscription_stands_in_the_lines_of_its_queues() {
    let mut world = World::new();
    let made = world.subscribe(&Sub { queues: vec![0, 1], ..sub(1, "f") }, 10).unwrap();
    assert_eq!((made.ends_ms, made.created, made.gone.len()), (START + 60_000, true, 0));
    assert_snapshot!(world.dump(), @"
    :sb:subscription-0000001 ends=1060000 | group= | interval=5000 | labels=1 | mode=f | next=1000000 | queues=acme/mailacme/print | tenant=acme | url=https://x.example/1
    :sbl:1 subscription-0000001=1060000
    :sbn:acme/mail:f subscription-0000001=1000000
    :sbn:acme/print:f subscription-0000001=1000000
    :sbt:acme subscription-0000001=1060000
    :sbx subscription-0000001=1060000
    ");
}

#[test]
fn a_group_has_a_line_of_its_own_and_its_place_among_groups() {
    let mut world = World::new();
    world.subscribed(&[sub(1, "g"), Sub { all: true, ..sub(2, "g") }]);
    assert_snapshot!(world.dump(), @"
    :sb:subscription-0000001 ends=1060000 | group=blue-------- | interval=5000 | labels=1 | mode=g | next=1000000 | queues=acme/mail | tenant=acme | url=https://x.example/1
    :sb:subscription-0000002 ends=1060000 | group=blue-------- | interval=5000 | labels=1 | mode=g | next=1000000 | queues=acme:::::::::::: | tenant=acme | url=https://x.example/2
    :sbg:acme:::::::::::: blue--------=1000000
    :sbg:acme/mail blue--------=1000000
    :sbl:1 subscription-0000001=1060000 | subscription-0000002=1060000
    :sbn:acme:::::::::::::gblue-------- subscription-0000002=1000000
    :sbn:acme/mail:gblue-------- subscription-0000001=1000000
    :sbt:acme subscription-0000001=1060000 | subscription-0000002=1060000
    :sbx subscription-0000001=1060000 | subscription-0000002=1060000
    ");
}

#[test]
fn subscribing_again_changes_mode_and_lines_but_not_when_it_may_be_told() {
    let mut world = World::new();
    world.subscribed(&[sub(1, "g")]);
    assert_eq!(world.told(0, "g"), [1]);
    world.advance(1_000);
    let again = world.subscribe(&Sub { interval_ms: 60_000, ..sub(1, "f") }, 1).unwrap();
    assert!(!again.created);
    assert_eq!(world.told(0, "g"), [0; 0]);
    assert_eq!(world.told(0, "f"), [0; 0], "it was told a second ago");
    assert_snapshot!(world.dump(), @"
    :sb:subscription-0000001 ends=1061000 | group= | interval=60000 | labels=1 | mode=f | next=1005000 | queues=acme/mail | tenant=acme | url=https://x.example/1
    :sbl:1 subscription-0000001=1061000
    :sbn:acme/mail:f subscription-0000001=1005000
    :sbt:acme subscription-0000001=1061000
    :sbx subscription-0000001=1061000
    ");
    world.advance(4_000);
    assert_eq!(world.told(0, "f"), [1]);
}

#[test]
fn all_are_told_once_in_their_interval() {
    let mut world = World::new();
    let slow = Sub { interval_ms: 20_000, ..sub(2, "f") };
    world.subscribed(&[sub(1, "f"), slow, Sub { all: true, ..sub(3, "f") }]);
    assert_eq!(world.told(0, "f"), [1, 2, 3]);
    assert_eq!(world.told(0, "f"), [0; 0]);
    world.advance(5_000);
    assert_eq!(world.told(0, "f"), [1, 3]);
    world.advance(15_000);
    assert_eq!(world.told(0, "f"), [1, 2, 3]);
}

#[test]
fn an_interval_holds_over_all_queues_of_a_subscription() {
    let mut world = World::new();
    for mode in ["f", "g", "h"] {
        world.reset();
        world.subscribed(&[Sub { queues: vec![0, 1], ..sub(1, mode) }]);
        assert_eq!(world.told(0, mode), [1]);
        assert_eq!(world.told(1, mode), [0; 0], "{mode}");
        world.advance(5_000);
        assert_eq!(world.told(1, mode), [1], "{mode}");
        assert_eq!(world.told(0, mode), [0; 0], "{mode}");
    }
}

#[test]
fn a_group_takes_turns_and_a_throttled_member_gives_way() {
    let mut world = World::new();
    world.subscribed(&[sub(1, "g")]);
    world.advance(1_000);
    world.subscribed(&[Sub { all: true, ..sub(2, "g") }]);
    world.advance(1_000);
    world.subscribed(&[sub(3, "g"), Sub { group: "red---------", ..sub(4, "g") }]);
    let mut turns = Vec::new();
    for _ in 0..3 {
        let mut told = world.told(0, "g");
        assert_eq!(told.contains(&4), turns.is_empty(), "the other group is on its own");
        told.retain(|n| *n != 4);
        turns.extend(told);
        world.advance(1_000);
    }
    assert_eq!(turns, [1, 2, 3], "one at a time, the throttled ones passed over");
    assert_eq!(world.told(0, "g"), [0; 0], "all were told");
    world.advance(2_000);
    assert_eq!(world.told(0, "g"), [1, 4]);
}

#[test]
fn one_of_all_is_told_and_the_next_when_that_one_was() {
    let mut world = World::new();
    world.subscribed(&[sub(1, "h"), sub(2, "h"), Sub { all: true, ..sub(3, "h") }]);
    let mut turns: Vec<u64> = (0..4).flat_map(|_| world.told(0, "h")).collect();
    assert_eq!(turns.len(), 3);
    turns.sort_unstable();
    assert_eq!(turns, [1, 2, 3]);
    let mut first = std::collections::BTreeSet::new();
    for _ in 0..3 {
        world.reset();
        world.subscribed(&[sub(1, "h"), sub(2, "h"), sub(3, "h")]);
        world.advance(1_000 * u64::try_from(first.len()).unwrap());
        first.extend(world.told(0, "h"));
    }
    assert_eq!(first.len(), 3, "each second another one begins");
}

#[test]
fn many_are_told_in_several_calls_each_once() {
    let mut world = World::new();
    let group = |n: u64| ["a-----------", "b-----------", "c-----------"][(n % 3) as usize];
    for mode in ["f", "g"] {
        world.reset();
        for n in 1..=9 {
            let group = if mode == "g" { group(n) } else { "" };
            world.subscribed(&[Sub { group, all: n > 5, ..sub(n, mode) }]);
        }
        let (mut told, mut at_ms, mut more, mut calls) = (0, 0, true, 0);
        while more {
            let pick = Pick { queue: &NAMES.queues[0], mode, at_ms, limit: 2 };
            let picked = world.db.one(pick).unwrap();
            assert!(picked.told.len() <= 2);
            (told, at_ms, more) = (told + picked.told.len(), picked.at_ms, picked.more);
            calls += 1;
        }
        assert_eq!((told, calls), if mode == "f" { (9, 5) } else { (3, 2) }, "{mode}");
    }
}

#[test]
fn who_has_ended_is_told_nothing_and_leaves_nothing() {
    let mut world = World::new();
    for mode in ["f", "g", "h"] {
        world.reset();
        let short = Sub { ttl_ms: 10_000, queues: vec![0, 1], ..sub(1, mode) };
        world.subscribed(&[short, sub(2, mode)]);
        world.advance(10_000);
        assert_eq!(world.told(0, mode), [2], "{mode}");
        assert!(world.extend(1, 0, 1_000).is_err(), "it does not come back");
        let gone = world.db.one(Expire { limit: 16 }).unwrap().gone;
        assert_eq!(gone.len(), 1);
        assert_eq!((gone[0].id.as_str(), gone[0].tenant.as_str()), (id(1).as_str(), "acme"));
        assert!(!world.is_subscribed(1) && world.is_subscribed(0));
        world.advance(60_000);
        world.db.one(Expire { limit: 16 }).unwrap();
        assert_eq!(world.dump(), "", "{mode}");
    }
}

#[test]
fn a_heartbeat_moves_the_end_and_another_tenants_does_not() {
    let mut world = World::new();
    world.subscribed(&[sub(1, "f")]);
    world.advance(50_000);
    assert_eq!(world.extend(1, 1, 60_000).unwrap_err().to_string(), "not found");
    assert_eq!(world.extend(1, 0, 60_000).unwrap(), START + 110_000);
    world.advance(50_000);
    assert_eq!(world.db.one(Expire { limit: 16 }).unwrap().gone.len(), 0);
    assert_eq!(world.told(0, "f"), [1]);
}

#[test]
fn a_tenant_has_no_more_than_it_may_and_what_ended_does_not_count() {
    let mut world = World::new();
    world.subscribe(&Sub { ttl_ms: 10_000, ..sub(1, "f") }, 2).unwrap();
    world.subscribe(&sub(2, "f"), 2).unwrap();
    let before = world.dump();
    assert_eq!(world.subscribe(&sub(3, "f"), 2).unwrap_err().to_string(), "too many");
    assert_eq!(world.dump(), before);
    world.subscribe(&Sub { tenant: 1, queues: vec![2], ..sub(4, "f") }, 2).unwrap();
    assert!(!world.subscribe(&sub(2, "h"), 2).unwrap().created, "a known one is no other");
    world.advance(10_000);
    let made = world.subscribe(&sub(3, "f"), 2).unwrap();
    assert_eq!((made.created, made.gone.len()), (true, 1), "and makes room");
}

#[test]
fn a_tenant_hears_of_its_own_queues_only() {
    let mut world = World::new();
    world.subscribed(&[Sub { all: true, ..sub(1, "f") }]);
    assert!(world.is_subscribed(0) && world.is_subscribed(1));
    assert!(!world.is_subscribed(2) && !world.is_subscribed(3));
    assert_eq!(world.told(2, "f"), [0; 0]);
    let any = |tag| IsSubscribed { tenant: tag, queue: "" };
    assert!(world.db.one(any(tenant(0).tag())).unwrap().any);
    assert!(!world.db.one(any(tenant(1).tag())).unwrap().any);
}

#[test]
fn subscriptions_are_counted_by_label_until_they_end() {
    let mut world = World::new();
    world.subscribed(&[Sub { ttl_ms: 10_000, ..sub(1, "f") }, sub(2, "g")]);
    let counted = |world: &mut World| world.db.one(Depths { labels: 1 }).unwrap().numbers[11];
    assert_eq!(counted(&mut world), 2);
    world.advance(10_000);
    assert_eq!(counted(&mut world), 1);
}

#[test]
fn a_nudge_says_how_much_is_ready_and_nothing_of_a_paused_queue() {
    let mut world = World::new();
    assert_eq!(HERE.number(), 3);
    let ready = |world: &mut World| {
        let found = world.db.one(QueueReady { queue: &NAMES.queues[0] }).unwrap();
        (found.command, found.ready)
    };
    assert_eq!(ready(&mut world), (String::new(), 0));
    world.enqueue(&New::task(1)).unwrap();
    world.enqueue(&New { priority: 9, ..New::task(2) }).unwrap();
    assert_eq!(ready(&mut world), ("Mail".to_owned(), 2));
    world.pause(0, true).unwrap();
    assert_eq!(ready(&mut world), ("Mail".to_owned(), 0));
}
