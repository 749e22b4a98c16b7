//! The outbox: who may send what, in whose turn, and what a late word is worth.

use bytes::Bytes;

use super::world::{NAMES, RETENTION_S, START, World, id};
use crate::model::delivery::{Class, Delivery, Kind, Reason, State};
use crate::model::record::{self, End, Hooks, NewBody};
use crate::model::{Priority, TaskId};
use crate::store::Error;
use crate::tasks::create::Enqueue;
use crate::webhooks::scripts::{Claim, Claimed, Dead, Delivered, Later, Turn};

/// How long a claim is its node's.
pub const CLAIM_MS: u64 = 25_000;
/// How long the record of a delivery stays when its task is gone.
const ALONE_MS: u64 = 600_000;
/// Most that a destination gives in one claim.
pub const TURN: usize = 8;

/// Of the first tenant.
pub fn destination(at: usize) -> String {
    record::destination_digest(&NAMES.tenants[0], &origin(at))
}

fn origin(at: usize) -> String {
    format!("https://{at}.example")
}

/// The name of a delivery.
pub fn name(n: u64, ends: u16) -> String {
    format!("{}_{ends}", id(n).short())
}

/// What was said of a claimed delivery.
#[derive(Clone, Debug)]
pub struct Word {
    pub delivery: String,
    pub lease_ms: i64,
}

impl Word {
    pub fn of(claimed: &Claimed) -> Self {
        Self { delivery: claimed.delivery.clone(), lease_ms: claimed.lease_ms }
    }
}

impl World {
    /// A task with a webhook to that destination, and one attempt.
    pub fn enqueue_hooked(&mut self, n: u64, at: usize) {
        let (origin, names) = (origin(at), &*NAMES);
        let body = NewBody {
            queue: names.queues[0],
            priority: Priority::clamped(0),
            label: 1,
            idempotency: None,
            hooks: Hooks::ALL,
            destination: Some(&destination(at)),
            tenant: &names.tenants[0],
            command: &names.commands[0],
            webhook: Some(&origin),
            trace_parent: None,
            trace_state: None,
            baggage: None,
            payload: b"1",
        };
        self.db
            .one(Enqueue {
                max_attempts: 1,
                retention_s: RETENTION_S,
                id: &id(n),
                command: names.commands[0].as_str(),
                run_at_ms: 0,
                delay_ms: 0,
                max: 1,
                digest: &super::world::digest(0),
                stored: false,
                body: body.pack().into(),
            })
            .unwrap();
    }

    /// So many tasks end, and tell this destination.
    pub fn end_hooked(&mut self, n: std::ops::Range<u64>, at: usize) {
        for n in n {
            self.enqueue_hooked(n, at);
            self.cancel(n, 0).unwrap();
        }
    }

    pub fn outbox_claim(&mut self, most: u64, room: &str, parked: &str, aged_ms: u64) -> Turn {
        self.db.one(Claim { lease_ms: CLAIM_MS, most, room, parked, aged_ms }).unwrap()
    }

    /// A dead task stays as long as it would in any case, others were held longer.
    pub fn deliver(&mut self, word: &Word) -> bool {
        let Some(of) = self.delivery(&word.delivery) else { return false };
        let left_ms = of.completed.ms() + i64::from(RETENTION_S) * 1000 - self.now;
        let task_ms = match of.kind {
            Kind::End(End::Dead) => 0,
            _ => u64::try_from(left_ms).unwrap_or(1).max(1),
        };
        let record = of.delivered(super::webhook_admin::entry(Class::Success), self.now);
        self.db
            .one(Delivered {
                delivery: &word.delivery,
                tenant: &of.tenant_tag,
                destination: &of.destination,
                record: record.into(),
                stays_ms: task_ms.max(ALONE_MS),
                task_ms,
                idempotency: "",
                part: "",
            })
            .unwrap()
            .done
    }

    /// `outcome` is 2 for an attempt, 1 for something that counts as none, 0 for nothing.
    pub fn put_off(&mut self, word: &Word, delay_ms: u64, outcome: u8, park_ms: u64) -> bool {
        let (entry, flags) = (Bytes::from_static(b"no"), 1);
        let (delivery, lease_ms) = (word.delivery.as_str(), word.lease_ms);
        let later = Later { delivery, lease_ms, delay_ms, outcome, entry, flags, park_ms };
        self.db.one(later).unwrap().done
    }

    pub fn give_up(&mut self, word: &Word) -> Result<bool, Error> {
        let dead = Dead {
            delivery: &word.delivery,
            lease_ms: word.lease_ms,
            reason: Reason::Exhausted as u8,
            attempted: true,
            entry: Bytes::from_static(b"no"),
            head: Bytes::new(),
            body: Bytes::from_static(b"{}"),
            event: "",
            to: "",
            says: Bytes::new(),
        };
        self.db.one(dead).map(|given_up| given_up.done)
    }

    /// The record of a delivery, but for its log, which is none here.
    pub fn delivery(&mut self, name: &str) -> Option<Delivery> {
        let raw: Option<Vec<u8>> = self.on_key("GET", &format!(":v:{name}"), &[]);
        let mut raw = raw?;
        // Entries of the log are words here: the reader of real ones would stumble over them.
        let at = 36 + 12 + 16;
        let error = u16::from_be_bytes([raw[at + 1], raw[at + 2]]);
        let entries = at + 3 + usize::from(error);
        let mut end = entries + 1;
        for _ in 0..raw[entries] {
            end += 2 + usize::from(u16::from_be_bytes([raw[end], raw[end + 1]]));
        }
        raw[entries] = 0;
        raw.drain(entries + 1..end);
        Some(Delivery::read(&raw).unwrap())
    }

    fn is_well(&mut self) {
        assert_eq!(self.faults(), Vec::<String>::new());
    }
}

/// The task numbers of a claim, in order.
fn numbers(turn: &Turn) -> Vec<u64> {
    let of = |claimed: &Claimed| super::world::number(&task(&claimed.delivery));
    turn.claimed.iter().map(of).collect()
}

fn task(delivery: &str) -> TaskId {
    TaskId::from_short(&delivery[..22]).unwrap()
}

#[test]
fn a_destination_with_a_thousand_due_keeps_none_waiting_for_more_than_one_turn() {
    let mut world = World::new();
    world.end_hooked(1..1001, 0);
    world.advance(1);
    let mut next = 2000;
    for turn in 0..20 {
        // However small a claim is, whoever came before it is in it, or in the next.
        let most = if turn % 2 == 0 { 64 } else { TURN as u64 };
        let others = next..next + 3;
        for (at, n) in (1..).zip(others.clone()) {
            world.end_hooked(n..n + 1, at);
        }
        next += 3;
        world.advance(1);
        let mut sent = numbers(&world.outbox_claim(most, "", "", 0));
        assert!(sent.iter().filter(|n| **n <= 1000).count() <= TURN);
        if most < 64 {
            world.advance(1);
            sent.extend(numbers(&world.outbox_claim(most, "", "", 0)));
        }
        assert!(others.clone().all(|n| sent.contains(&n)), "turn {turn}: {others:?} in {sent:?}");
    }
    world.is_well();
}

#[test]
fn forty_busy_destinations_have_turns_in_a_circle() {
    let mut world = World::new();
    for at in 0..40 {
        let first = 1 + 100 * at as u64;
        world.end_hooked(first..first + 20, at);
    }
    let mut turns = Vec::new();
    for _ in 0..80 {
        world.advance(1);
        let sent = numbers(&world.outbox_claim(TURN as u64, "", "", 0));
        assert_eq!(sent.len(), TURN);
        let at = sent[0] / 100;
        assert!(sent.iter().all(|n| n / 100 == at), "{sent:?}");
        turns.push(at);
    }
    for circle in turns.chunks(40) {
        let mut circle = circle.to_vec();
        circle.sort_unstable();
        assert_eq!(circle, (0..40).collect::<Vec<_>>());
    }
    world.is_well();
}

#[test]
fn a_word_under_an_old_lease_changes_nothing_but_a_success_which_counts_once() {
    let mut world = World::new();
    world.end_hooked(1..2, 0);
    let old = Word::of(&world.outbox_claim(8, "", "", 0).claimed[0]);
    assert_eq!(world.outbox_claim(8, "", "", 0).claimed.len(), 0, "it is the first node's");
    world.advance(CLAIM_MS);
    let new = Word::of(&world.outbox_claim(8, "", "", 0).claimed[0]);
    let before = world.dump();
    assert!(!world.put_off(&old, 1_000, 2, 0));
    assert!(!world.put_off(&old, 1_000, 0, 60_000));
    assert!(!world.give_up(&old).unwrap());
    assert_eq!(world.dump(), before);
    assert!(world.deliver(&old));
    let after = world.dump();
    assert!(!world.deliver(&old) && !world.deliver(&new));
    assert!(!world.put_off(&new, 0, 2, 0) && !world.give_up(&new).unwrap());
    assert_eq!(world.dump(), after);
    let told = world.delivery(&old.delivery).unwrap();
    assert_eq!((told.state, told.attempts, told.claims), (State::Delivered, 1, 0));
    world.is_well();
}

#[test]
fn claims_without_an_outcome_are_counted_until_there_is_one() {
    let mut world = World::new();
    world.end_hooked(1..2, 0);
    // What a node reads is how often others claimed it before.
    for before in 0..10 {
        let turn = world.outbox_claim(8, "", "", 0);
        assert_eq!(Delivery::read(&turn.claimed[0].record).unwrap().claims, before);
        world.advance(CLAIM_MS);
    }
    // One that is given back unsent does not count, one that ended begins anew.
    let back = Word::of(&world.outbox_claim(8, "", "", 0).claimed[0]);
    assert_eq!(world.delivery(&back.delivery).unwrap().claims, 11);
    assert!(world.put_off(&back, 0, 0, 0));
    assert_eq!(world.delivery(&back.delivery).unwrap().claims, 10);
    let tried = Word::of(&world.outbox_claim(8, "", "", 0).claimed[0]);
    assert!(world.put_off(&tried, 0, 2, 0));
    let of = world.delivery(&tried.delivery).unwrap();
    assert_eq!((of.claims, of.attempts), (0, 1));
    world.is_well();
}

#[test]
fn a_parked_destination_is_one_entry_however_much_waits_for_it() {
    let mut world = World::new();
    world.end_hooked(1..201, 0);
    world.end_hooked(301..302, 1);
    world.advance(1);
    let until = START + 60_000;
    let parked = format!("{}{until:013}", destination(0));
    // The whole destination by one write, and the other one is not held up.
    assert_eq!(numbers(&world.outbox_claim(64, "", &parked, 0)), [301]);
    let waits: Vec<(String, i64)> = world.on_key("ZRANGE", ":oz", &[b"0", b"-1", b"WITHSCORES"]);
    assert_eq!(waits, [(destination(0), until)]);
    // More that comes does not wake it.
    world.end_hooked(302..303, 0);
    assert_eq!(world.outbox_claim(64, "", "", 0).claimed.len(), 0);
    assert!(!world.sweep().outbox);
    world.advance(59_999);
    assert!(world.sweep().outbox);
    let mut sent = Vec::new();
    for _ in 0..26 {
        sent.extend(numbers(&world.outbox_claim(64, "", "", 0)));
        world.advance(1);
    }
    // And the one whose lease was over meanwhile.
    assert_eq!(sent.len(), 202);
    world.is_well();
}
