//! What administrators do with deliveries. In these pictures a delivery is `#1_1`: the first end of
//! the first task.

use bytes::Bytes;
use insta::assert_snapshot;

use super::world::{HOLD_MS, NAMES, New, START, World, by, id};
use crate::model::delivery::{Class, Delivery, Entry, Reason, State, Trigger};
use crate::model::{Command, Time};
use crate::store::Error;
use crate::store::direct::Direct;
use crate::webhooks::admin::{Again, Drop, Dropped, Found, Read, Replay};
use crate::webhooks::of_task::{Latest, OfTask};
use crate::webhooks::recover::{Begin, ReadRecovery, Stop};
use crate::webhooks::recovery::{Granted, Step};
use crate::webhooks::scripts::{Claim, Claimed, Dead, Delivered};
use crate::webhooks::search::{FOR_EVER_MS, Find, Looked};

const ASKED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn name(n: u64, ends: u16) -> String {
    format!("{}_{ends}", id(n).short())
}

pub fn entry(class: Class) -> Entry {
    Entry {
        at: Time::from_ms(START),
        trigger: Trigger::Schedule,
        duration_ms: 7,
        status: None,
        class,
        trace_id: None,
        excerpt: Vec::new(),
    }
}

/// A claimed delivery is accepted: whether that was news.
pub fn accept(db: &mut Direct, claimed: &Claimed, now: i64, keep_ms: i64) -> bool {
    let record = Delivery::read(&claimed.record).unwrap();
    let left_ms = record.completed.ms() + keep_ms - now;
    let task_ms = u64::try_from(left_ms).unwrap_or(1).max(1);
    let delivered = Delivered {
        delivery: &claimed.delivery,
        tenant: &record.tenant_tag,
        destination: &claimed.destination,
        record: record.delivered(entry(Class::Success), now).into(),
        stays_ms: task_ms,
        task_ms,
        idempotency: "",
        part: "",
    };
    db.one(delivered).unwrap().done
}

impl World {
    /// A task with a webhook ends; its delivery is pending.
    fn ended(&mut self, new: &New) {
        self.enqueue(&New { hooked: true, ..new.clone() }).unwrap();
        let queue = new.queue;
        self.claim(queue / 2, &[queue], "w", &[new.n]).unwrap();
        let by = super::world::By { tenant: queue / 2, ..by(new.n) };
        self.submit(new.n, &by, 1, 7, "").unwrap();
    }

    fn leased(&mut self) -> Vec<Claimed> {
        let claim = Claim { lease_ms: 30_000, most: 64, room: "", parked: "", aged_ms: 0 };
        self.db.one(claim).unwrap().claimed
    }

    /// Everything that is due dies.
    fn all_die(&mut self, reason: Reason, body: &'static str) {
        for claimed in self.leased() {
            let dead = Dead {
                delivery: &claimed.delivery,
                lease_ms: claimed.lease_ms,
                reason: reason as u8,
                attempted: true,
                entry: entry(Class::Http5xx).pack().into(),
                head: claimed.head.clone(),
                body: Bytes::from_static(body.as_bytes()),
                event: "",
                to: "",
                says: Bytes::new(),
            };
            assert!(self.db.one(dead).unwrap().done);
        }
    }

    /// Everything that is due is accepted, and its task stays as long as it would.
    fn all_arrive(&mut self) {
        for claimed in self.leased() {
            assert!(accept(&mut self.db, &claimed, self.now, 60_000));
        }
    }

    pub fn replay(&mut self, n: u64, ends: u16, tenant: usize) -> Result<Again, Error> {
        self.db.one(Replay {
            delivery: &name(n, ends),
            tenant: NAMES.tenants[tenant].tag(),
            asked: ASKED,
            hold_ms: HOLD_MS,
            recovery: "",
        })
    }

    fn drop_delivery(&mut self, n: u64, tenant: usize) -> Dropped {
        self.drop_of(n, tenant).unwrap()
    }

    pub fn drop_of(&mut self, n: u64, tenant: usize) -> Result<Dropped, Error> {
        let delivery = name(n, 1);
        self.db.one(Drop { delivery: &delivery, tenant: &NAMES.tenants[tenant] })
    }

    pub fn look_at(&mut self, n: u64, tenant: &str) -> Result<Found, Error> {
        self.db.one(Read { delivery: &name(n, 1), tenant, log: 1 })
    }

    pub fn of_task(&mut self, n: u64, tenant: usize) -> Result<Latest, Error> {
        self.db.one(OfTask { id: &id(n), tenant: &NAMES.tenants[tenant] })
    }

    fn read_delivery(&mut self, n: u64, log: u8) -> Result<(Delivery, Found), Error> {
        let found = self.db.one(Read { delivery: &name(n, 1), tenant: "", log })?;
        Ok((Delivery::read(&found.record).unwrap(), found))
    }

    fn is_whole(&mut self) {
        assert_eq!(self.faults(), Vec::<String>::new());
    }
}

fn not_found<T: std::fmt::Debug>(refused: Result<T, Error>) {
    assert_eq!(refused.unwrap_err(), Error::Refused(crate::model::Refusal::NotFound));
}

#[test]
fn a_tasks_webhook_is_that_of_its_last_end_wherever_the_task_is() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, max: 1, ..New::task(1) }).unwrap();
    world.enqueue(&New { priority: 9, ..New::task(2) }).unwrap();
    not_found(world.of_task(1, 0));
    not_found(world.of_task(2, 0));
    not_found(world.of_task(3, 0));
    assert_eq!(world.take(1), 2);
    world.take(2);
    not_found(world.of_task(1, 0));
    world.nack(1, &by(2), 0, "smtp").unwrap();
    let before = world.dump();
    not_found(world.of_task(1, 1));
    let latest = world.of_task(1, 0).unwrap();
    assert_eq!((latest.delivery, latest.due_ms, latest.parked_ms), (name(1, 1), START, 0));
    assert_eq!(world.dump(), before);

    world.redrive(0, &[1], 1).unwrap();
    let state = |world: &mut World| {
        let latest = world.of_task(1, 0).unwrap();
        (latest.delivery.clone(), Delivery::read(&latest.record).unwrap().state)
    };
    assert_eq!(state(&mut world), (name(1, 1), State::Superseded), "ready again");
    world.take(3);
    assert_eq!(state(&mut world), (name(1, 1), State::Superseded), "leased");
    world.submit(1, &by(3), 1, 7, "").unwrap();
    assert_eq!(state(&mut world), (name(1, 2), State::Pending));
    world.all_arrive();
    let latest = world.of_task(1, 0).unwrap();
    assert_eq!((latest.delivery, latest.due_ms), (name(1, 2), 0));
    world.is_whole();
}

#[test]
fn a_delivery_in_brief_names_its_task_and_has_the_last_of_its_log_and_no_body() {
    let mut world = World::new();
    world.ended(&New::task(1));
    let (pending, found) = world.read_delivery(1, 255).unwrap();
    assert!(pending.log.is_empty() && pending.head.len() > 100);
    assert_eq!((found.due_ms, found.parked_ms), (START, 0));
    world.all_die(Reason::Exhausted, "the body that was sent");
    world.replay(1, 1, 0).unwrap();
    world.all_die(Reason::Gone, "the body that was sent");
    let (whole, found) = world.read_delivery(1, 255).unwrap();
    assert_eq!((whole.log.len(), whole.reason, found.due_ms), (2, Some(Reason::Gone), 0));
    assert!(whole.body.is_empty());
    assert_eq!(world.read_delivery(1, 1).unwrap().0.log, whole.log[1..]);
    not_found(world.look_at(1, NAMES.tenants[1].tag()));
    world.is_whole();
}

#[test]
fn a_dead_delivery_gets_a_series_of_its_own_with_its_body_and_its_task_stays() {
    let mut world = World::new();
    world.ended(&New { key: Some("k".into()), ..New::task(1) });
    world.all_die(Reason::Exhausted, "{}");
    world.advance(100_000);
    assert!(world.replay(1, 1, 0).unwrap().moved);
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 flags=1 queue=acme/mail key=k@acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0001 digest=digest0000000007 worker=w}
    :i:k@acme/mail ttl=120s #1digest0000000000
    :o acme@x=1100000
    :o:acme@x #1_1=1100000
    :oa acme#1_1=1100000
    :v:#1_1 {attempts=1 base=1 flags=4 kind=1 ends=1 at=1000000 born=1100000 tenant=acme destination=acme@x asked=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 log=(at=1000000 took=7 class=4 ) head of 190 body={}}
    "#);
    world.is_whole();
    let claimed = &world.leased()[0];
    let record = Delivery::read(&claimed.record).unwrap();
    assert_eq!(
        (record.replay, record.attempts, record.base, &record.body[..]),
        (true, 1, 1, &b"{}"[..])
    );
}

#[test]
fn a_dead_delivery_is_sent_again_when_its_task_is_gone() {
    let mut world = World::new();
    world.ended(&New::task(1));
    world.all_die(Reason::Exhausted, "{}");
    world.advance(HOLD_MS);
    assert!(world.replay(1, 1, 0).unwrap().moved);
    assert_snapshot!(world.dump(), @r"
    :o acme@x=1120000
    :o:acme@x #1_1=1120000
    :oa acme#1_1=1120000
    :v:#1_1 {attempts=1 base=1 flags=4 kind=1 ends=1 at=1000000 born=1120000 tenant=acme destination=acme@x asked=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 log=(at=1000000 took=7 class=4 ) head of 168 body={}}
    ");
    world.is_whole();
    world.all_arrive();
    not_found(world.replay(1, 1, 0));
}

#[test]
fn a_delivered_one_is_sent_again_on_every_call_while_its_task_lives() {
    let mut world = World::new();
    world.ended(&New::task(1));
    for series in 1..4 {
        world.all_arrive();
        let (record, _) = world.read_delivery(1, 255).unwrap();
        assert_eq!(
            (record.state, record.attempts, record.log.len()),
            (State::Delivered, series, usize::from(series))
        );
        world.advance(20_000);
        if series < 3 {
            assert!(world.replay(1, 1, 0).unwrap().moved);
            world.is_whole();
        }
    }
    not_found(world.replay(1, 1, 0));
    assert_snapshot!(world.dump(), @"");
}

#[test]
fn a_pending_one_is_due_now_but_not_while_an_attempt_is_under_way_and_parked_stays_parked() {
    let mut world = World::new();
    world.ended(&New::task(1));
    let claimed = world.leased().remove(0);
    let before = world.dump();
    assert!(!world.replay(1, 1, 0).unwrap().moved);
    assert_eq!(world.dump(), before, "an attempt is under way");
    let later = crate::webhooks::scripts::Later {
        delivery: &claimed.delivery,
        lease_ms: claimed.lease_ms,
        delay_ms: 600_000,
        outcome: 2,
        entry: Bytes::new(),
        flags: 0,
        park_ms: 0,
    };
    assert!(world.db.one(later.clone()).unwrap().done);
    world.replay(1, 1, 0).unwrap();
    let claimed = world.leased().remove(0);
    let parked =
        crate::webhooks::scripts::Later { lease_ms: claimed.lease_ms, park_ms: 50_000, ..later };
    assert!(world.db.one(parked).unwrap().done);
    world.replay(1, 1, 0).unwrap();
    assert!(world.leased().is_empty(), "the destination is parked");
    let (_, found) = world.read_delivery(1, 1).unwrap();
    assert_eq!((found.due_ms, found.parked_ms), (START, START + 50_000));
    world.is_whole();
}

#[test]
fn what_is_superseded_gone_or_anothers_is_not_sent_again() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, max: 1, ..New::task(1) }).unwrap();
    world.take(1);
    world.nack(1, &by(1), 0, "smtp").unwrap();
    let before = world.dump();
    not_found(world.replay(1, 1, 1));
    not_found(world.replay(1, 2, 0));
    assert_eq!(world.dump(), before);
    world.redrive(0, &[1], 1).unwrap();
    let before = world.dump();
    not_found(world.replay(1, 1, 0));
    assert_eq!(world.dump(), before);
    world.is_whole();
}

#[test]
fn a_delivered_one_whose_task_ended_again_since_is_not_sent_with_the_other_end() {
    let mut world = World::new();
    world.enqueue(&New { hooked: true, max: 1, ..New::task(1) }).unwrap();
    world.take(1);
    world.nack(1, &by(1), 0, "smtp").unwrap();
    world.all_arrive();
    world.redrive(0, &[1], 1).unwrap();
    world.take(2);
    world.submit(1, &by(2), 1, 7, "").unwrap();
    not_found(world.replay(1, 1, 0));
    world.all_arrive();
    assert!(world.replay(1, 2, 0).unwrap().moved);
    world.is_whole();
}

#[test]
fn a_dropped_delivery_leaves_nothing_and_what_was_delivered_stays() {
    let mut world = World::new();
    world.ended(&New::task(1));
    world.ended(&New::task(2));
    assert!(!world.drop_delivery(1, 1).dropped, "another's");
    let gone = world.drop_delivery(1, 0);
    assert!(gone.dropped && !gone.dead);
    assert!(!world.drop_delivery(1, 0).dropped, "again");
    world.all_die(Reason::Exhausted, "{}");
    let gone = world.drop_delivery(2, 0);
    assert!(gone.dropped && gone.dead);
    world.ended(&New::task(3));
    world.all_arrive();
    assert!(!world.drop_delivery(3, 0).dropped);
    world.is_whole();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#2 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#3 ttl=60s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0001 digest=digest0000000007 worker=w}
    :c:#2 ttl=120s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0002 digest=digest0000000007 worker=w}
    :c:#3 ttl=60s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0003 digest=digest0000000007 worker=w}
    :v:#3_1 ttl=60s {state=1 attempts=1 kind=1 ends=1 at=1000000 born=1000000 changed=1000000 tenant=acme destination=acme@x log=(at=1000000 took=7 )}
    "#);
}

fn all_of(tenant: &str) -> Find<'_> {
    Find {
        dead: true,
        tenant,
        destination: "",
        command: "",
        reason: 0,
        until_ms: FOR_EVER_MS,
        from_ms: 0,
        after: "",
        span: 100,
    }
}

fn found(world: &mut World, find: Find<'_>) -> Vec<u64> {
    let looked = world.db.one(find).unwrap();
    numbers(&looked)
}

fn numbers(looked: &Looked) -> Vec<u64> {
    let id = |hit: &crate::webhooks::search::Hit| {
        let id = crate::model::DeliveryId::from_short(hit.name()).unwrap();
        super::world::number(&id.task)
    };
    looked.found.iter().map(id).collect()
}

/// Six of two tenants and two commands die, one each second but the last two at once.
fn six_dead() -> World {
    let mut world = World::new();
    for n in 1..=6 {
        world.ended(&New {
            queue: [0, 1, 2, 0, 0, 0][usize::try_from(n).unwrap() - 1],
            ..New::task(n)
        });
        if n != 5 {
            let reason = if n == 2 { Reason::Gone } else { Reason::Exhausted };
            world.all_die(reason, "{}");
            world.advance(1_000);
        }
    }
    world
}

#[test]
fn dead_deliveries_are_found_oldest_first_by_everything_that_narrows_them() {
    let mut world = six_dead();
    let before = world.dump();
    let [acme, beta] = [0, 1].map(|n| NAMES.tenants[n].tag());
    assert_eq!(found(&mut world, all_of(acme)), [1, 2, 4, 5, 6]);
    assert_eq!(found(&mut world, all_of(beta)), [3]);
    assert_eq!(found(&mut world, all_of("")), [1, 2, 3, 4, 5, 6]);
    let command = Command::parse("MAIL").unwrap().tag();
    assert_eq!(found(&mut world, Find { command: &command, ..all_of(acme) }), [1, 4, 5, 6]);
    let reason = Reason::Gone as u8;
    assert_eq!(found(&mut world, Find { reason, ..all_of(acme) }), [2]);
    let until_ms = START + 3_000;
    assert_eq!(found(&mut world, Find { from_ms: START + 1_000, until_ms, ..all_of(acme) }), [2]);
    assert_eq!(found(&mut world, Find { destination: "0123456789abcdef", ..all_of("") }), [0; 0]);
    assert_eq!(found(&mut world, Find { dead: false, ..all_of("") }), [0; 0]);
    assert_eq!(world.dump(), before);
    world.advance(HOLD_MS);
    let by_head = Find { command: &command, ..all_of(acme) };
    assert_eq!(found(&mut world, by_head), [1, 4, 5, 6], "the tasks are gone");
}

#[test]
fn pending_deliveries_are_found_by_the_beginning_of_their_series() {
    let mut world = six_dead();
    for n in [4, 1, 3] {
        world.replay(n, 1, usize::from(n == 3)).unwrap();
        world.advance(1_000);
    }
    let pending = |tenant| Find { dead: false, ..all_of(tenant) };
    let [acme, beta] = [0, 1].map(|n| NAMES.tenants[n].tag());
    assert_eq!(found(&mut world, pending("")), [4, 1, 3]);
    assert_eq!(found(&mut world, pending(acme)), [4, 1]);
    assert_eq!(found(&mut world, pending(beta)), [3]);
    assert_eq!(found(&mut world, all_of("")), [2, 5, 6]);
}

#[test]
fn a_look_goes_on_behind_the_last_one_also_among_those_of_one_moment_and_when_that_is_gone() {
    let acme = NAMES.tenants[0].tag();
    for (tenant, all) in [(acme, vec![1, 2, 4, 5, 6]), ("", vec![1, 2, 3, 4, 5, 6])] {
        let mut world = six_dead();
        let (mut seen, mut from_ms, mut after) = (Vec::new(), 0, String::new());
        for _ in 0..10 {
            let find = Find { from_ms, after: &after, span: 1, ..all_of(tenant) };
            let looked = world.db.one(find).unwrap();
            for n in numbers(&looked) {
                seen.push(n);
                assert!(world.drop_delivery(n, usize::from(n == 3)).dropped);
            }
            (from_ms, after) = (looked.from_ms, looked.after);
            if looked.ended {
                break;
            }
        }
        assert_eq!(seen, all);
    }
}

const RECOVERY: u64 = 50;

impl World {
    fn begin(&mut self, rate: u64, limit: u64) {
        let (recovery, tenant) = (&id(RECOVERY), &NAMES.tenants[0]);
        let begin = Begin { recovery, tenant, ask: "what", rate, limit, matched: 5 };
        assert!(self.db.one(begin.clone()).unwrap().began);
        assert!(!self.db.one(begin).unwrap().began, "twice");
    }

    fn step(&mut self, held_ms: i64, moved: u64, over: bool) -> Granted {
        let step = Step { recovery: &id(RECOVERY), lease_ms: 700, held_ms, moved, over };
        self.db.one(step).unwrap()
    }

    fn recover(&mut self, n: u64) -> bool {
        let again = self.db.one(Replay {
            delivery: &name(n, 1),
            tenant: NAMES.tenants[0].tag(),
            asked: ASKED,
            hold_ms: HOLD_MS,
            recovery: &id(RECOVERY).short(),
        });
        again.unwrap().moved
    }
}

#[test]
fn a_recovery_moves_each_delivery_once_and_counts_where_it_lies() {
    let mut world = six_dead();
    world.begin(50, 0);
    assert!(world.recover(1) && world.recover(2));
    assert!(!world.recover(2), "it is no longer dead");
    assert!(!world.recover(3), "another tenant's");
    world.drop_delivery(4, 0);
    assert!(!world.recover(4), "gone");
    let known = world.db.one(ReadRecovery { recovery: &id(RECOVERY) }).unwrap();
    assert_eq!(
        (known.state.as_str(), known.matched, known.done, known.failed),
        ("running", 5, 2, 3)
    );
    world.is_whole();
    assert_snapshot!(world.dump(), @r#"
    :b:#1 ttl=120s {created=1000000 due=1000000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#2 ttl=120s {created=1001000 due=1001000 max=5 retention=60 hooks=15 label=2 queue=acme/print destination=acme@x 1:acme 2:Print 3:TRACE 4:https://x.example {"p":0}}
    :b:#3 ttl=120s {created=1002000 due=1002000 max=5 retention=60 hooks=15 label=1 queue=beta/mail destination=beta@x 1:beta 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#4 ttl=120s {created=1003000 due=1003000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#5 ttl=120s {created=1004000 due=1004000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :b:#6 ttl=120s {created=1004000 due=1004000 max=5 retention=60 hooks=15 label=1 queue=acme/mail destination=acme@x 1:acme 2:Mail 3:TRACE 4:https://x.example {"p":0}}
    :c:#1 ttl=120s {kind=1 ends=1 completed=1000000 claimed=1000000 attempts=1 token=L0001 digest=digest0000000007 worker=w}
    :c:#2 ttl=120s {kind=1 ends=1 completed=1001000 claimed=1001000 attempts=1 token=L0002 digest=digest0000000007 worker=w}
    :c:#3 ttl=120s {kind=1 ends=1 completed=1002000 claimed=1002000 attempts=1 token=L0003 digest=digest0000000007 worker=w}
    :c:#4 ttl=120s {kind=1 ends=1 completed=1003000 claimed=1003000 attempts=1 token=L0004 digest=digest0000000007 worker=w}
    :c:#5 ttl=120s {kind=1 ends=1 completed=1004000 claimed=1004000 attempts=1 token=L0005 digest=digest0000000007 worker=w}
    :c:#6 ttl=120s {kind=1 ends=1 completed=1004000 claimed=1004000 attempts=1 token=L0006 digest=digest0000000007 worker=w}
    :o acme@x=1005000
    :o:acme@x #1_1=1005000 | #2_1=1005000
    :oa acme#1_1=1005000 | acme#2_1=1005000
    :oc beta@x=1 | acme@x=2
    :od beta=1002000 | acme=1004000
    :od:acme #5_1=1004000 | #6_1=1004000
    :od:beta #3_1=1002000
    :or #50=1005000
    :or:#50 ask=what | begun=1005000 | credit=1 | last=1005000 | limit=0 | matched=5 | rate=50 | state=running | tenant=acme
    :orm:#50 ttl=691200s done=2 | failed=3
    :v:#1_1 {attempts=1 base=1 flags=4 kind=1 ends=1 at=1000000 born=1005000 tenant=acme destination=acme@x asked=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 log=(at=1000000 took=7 class=4 ) head of 168 body={}}
    :v:#2_1 {attempts=1 base=1 flags=4 kind=1 ends=1 at=1001000 born=1005000 tenant=acme destination=acme@x asked=00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01 log=(at=1000000 took=7 class=4 ) head of 169 body={}}
    :v:#3_1 {state=2 attempts=1 reason=2 kind=1 ends=1 at=1002000 born=1002000 changed=1002000 tenant=beta destination=beta@x log=(at=1000000 took=7 class=4 ) head of 168 body={}}
    :v:#5_1 {state=2 attempts=1 reason=2 kind=1 ends=1 at=1004000 born=1004000 changed=1004000 tenant=acme destination=acme@x log=(at=1000000 took=7 class=4 ) head of 168 body={}}
    :v:#6_1 {state=2 attempts=1 reason=2 kind=1 ends=1 at=1004000 born=1004000 changed=1004000 tenant=acme destination=acme@x log=(at=1000000 took=7 class=4 ) head of 168 body={}}
    "#);
}

#[test]
fn one_node_has_a_recovery_and_another_takes_it_over_when_that_falls_silent() {
    let mut world = World::new();
    world.begin(100, 0);
    assert_eq!(world.sweep().recoveries, [id(RECOVERY)]);
    let first = world.step(0, 0, false);
    assert_eq!((first.till_ms, first.grant, first.ask.as_str()), (START + 700, 0, "what"));
    assert!(world.sweep().recoveries.is_empty(), "it is carried on");
    assert_eq!(world.step(0, 0, false).till_ms, 0, "it is the first node's");
    world.advance(700);
    assert_eq!(world.sweep().recoveries, [id(RECOVERY)]);
    let second = world.step(0, 0, false);
    assert_eq!(second.till_ms, START + 1_400);
    let before = world.dump();
    let late = world.step(first.till_ms, 10, true);
    assert_eq!((late.till_ms, late.grant), (0, 0));
    assert_eq!(world.dump(), before, "a late step changes nothing");
    assert_eq!(world.step(second.till_ms, 0, true).till_ms, 0, "over");
    assert!(world.sweep().recoveries.is_empty());
    assert_snapshot!(world.dump(), @":or:#50 ttl=604800s ask=what | begun=1000000 | credit=1.0000 | last=1000700 | limit=0 | matched=5 | rate=100 | state=done | tenant=acme");
}

#[test]
fn a_recovery_keeps_its_rate_and_makes_up_for_a_death_without_a_burst() {
    let mut world = World::new();
    world.begin(1_000, 0);
    let mut held = world.step(0, 0, false).till_ms;
    let mut moved = 0;
    let pass = |world: &mut World, held: &mut i64, moved: &mut u64, steps: u64, after_ms| {
        let mut most = 0;
        for _ in 0..steps {
            world.advance(after_ms);
            let granted = world.step(*held, *moved, false);
            *held = granted.till_ms;
            *moved += granted.grant as u64;
            most = most.max(granted.grant);
        }
        most
    };
    pass(&mut world, &mut held, &mut moved, 20, 100);
    assert_eq!(moved, 2_001, "two seconds, and one at the very beginning");
    world.advance(1_200);
    held = world.step(0, moved, false).till_ms;
    let most = pass(&mut world, &mut held, &mut moved, 100, 100);
    assert!(most <= 105, "{most} in 100 ms");
    assert!((12_300..=12_500).contains(&moved), "{moved}: 10 s at 4 % more than the rate");
    pass(&mut world, &mut held, &mut moved, 300, 100);
    assert_eq!(moved, 43_201, "caught up");
}

#[test]
fn a_slow_recovery_moves_one_when_its_time_has_come() {
    let mut world = World::new();
    world.begin(1, 0);
    let mut held = world.step(0, 0, false).till_ms;
    let mut at = Vec::new();
    for n in 1..=35 {
        world.advance(100);
        let granted = world.step(held, at.len() as u64, false);
        held = granted.till_ms;
        assert!(granted.grant <= 1);
        if granted.grant == 1 {
            at.push(n * 100);
        }
    }
    assert_eq!(at, [100, 1_000, 2_000, 3_000]);
}

#[test]
fn a_recovery_ends_at_its_limit_or_when_it_is_stopped_and_is_forgotten_after_a_week() {
    let mut world = World::new();
    world.begin(1_000, 3);
    let held = world.step(0, 0, false).till_ms;
    world.advance(100);
    let granted = world.step(held, 0, false);
    assert_eq!(granted.grant, 3);
    assert_eq!(world.step(granted.till_ms, 3, false).till_ms, 0);
    let state =
        |world: &mut World| world.db.one(ReadRecovery { recovery: &id(RECOVERY) }).unwrap().state;
    assert_eq!(state(&mut world), "done");
    world.reset();
    world.begin(1_000, 0);
    let held = world.step(0, 0, false).till_ms;
    let (recovery, tenants) = (&id(RECOVERY), &NAMES.tenants);
    assert!(!world.db.one(Stop { recovery, tenant: &tenants[1] }).unwrap().stopped);
    assert!(world.db.one(Stop { recovery, tenant: &tenants[0] }).unwrap().stopped);
    assert!(!world.db.one(Stop { recovery, tenant: &tenants[0] }).unwrap().stopped, "again");
    assert_eq!(world.step(held, 0, false).till_ms, 0);
    assert_eq!(state(&mut world), "stopped");
    world.advance(7 * 86_400_000);
    assert_snapshot!(world.dump(), @"");
}
