//! Two nodes work on an outbox in random ways, late and twice: what they are told and what is left
//! is what a model of a few lines says.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestCaseError, TestRunner};

use super::outbox::{CLAIM_MS, TURN, Word, destination, name};
use super::world::{START, World, by, number};
use crate::model::delivery::State;

const DESTINATIONS: usize = 3;
/// Time that may go by in one sequence: less than what anything is kept for.
const ENOUGH_MS: i64 = 110_000;

#[derive(Clone, Debug)]
enum Step {
    /// A task ends; if it dies, it may come back.
    End {
        at: usize,
        dies: bool,
    },
    Claim {
        node: usize,
        most: u64,
        short: Option<(usize, usize)>,
    },
    ClaimAged {
        node: usize,
        age_ms: u64,
    },
    /// A node says what came of something that it claimed once.
    Say {
        node: usize,
        which: usize,
        what: What,
    },
    Unpark {
        at: usize,
    },
    Redrive {
        limit: u64,
    },
    Purge {
        limit: u64,
    },
    Advance(u64),
    Sweep,
}

#[derive(Clone, Copy, Debug)]
enum What {
    Delivered,
    Later { delay_ms: u64, outcome: u8, park_ms: u64 },
    Dead,
}

/// A delivery as it should be.
#[derive(Clone, PartialEq, Debug)]
struct Told {
    at: usize,
    state: State,
    attempts: u16,
    claims: u8,
    born: i64,
    /// When it is due, or its lease ends.
    due: i64,
}

#[derive(Default)]
struct Model {
    told: BTreeMap<String, Told>,
    /// Until when a destination is left alone.
    parked: BTreeMap<usize, i64>,
    /// Destinations that were just to be looked at again: until then they are parked for a moment only.
    roused: BTreeMap<usize, i64>,
    /// What each node claimed.
    words: [Vec<Word>; 2],
    /// Dead tasks by the time of their death, with their ends so far and their destination.
    dead: BTreeMap<(i64, u64), (u16, usize)>,
    /// Tasks that came back, with the ends before.
    ready: BTreeMap<u64, (u16, usize)>,
    made: u64,
    leases: u64,
}

impl Model {
    fn enter(&mut self, n: u64, ends: u16, at: usize, now: i64) {
        let told = Told { at, state: State::Pending, attempts: 0, claims: 0, born: now, due: now };
        self.told.insert(name(n, ends), told);
    }

    fn pending(&self, at: usize) -> impl Iterator<Item = (&String, &Told)> {
        let such = move |told: &Told| told.at == at && told.state == State::Pending;
        self.told.iter().filter(move |(_, told)| such(told))
    }

    fn is_parked(&self, at: usize, now: i64) -> bool {
        self.parked.get(&at).is_some_and(|till| *till > now)
    }

    /// Names that a claim of a destination may bring.
    fn due(&self, at: usize, now: i64) -> Vec<String> {
        let due = self.pending(at).filter(|(_, told)| told.due <= now);
        due.map(|(name, _)| name.clone()).collect()
    }

    fn claimed(&mut self, node: usize, word: &Word, now: i64) -> Result<(), String> {
        let told = self.told.get_mut(&word.delivery).ok_or("claimed what never was")?;
        if told.state != State::Pending || told.due > now {
            return Err(format!("claimed {told:?} at {now}"));
        }
        told.due = now + i64::try_from(CLAIM_MS).unwrap();
        if told.due != word.lease_ms {
            return Err(format!("a lease until {} at {now}", word.lease_ms));
        }
        told.claims += 1;
        self.words[node].push(word.clone());
        Ok(())
    }

    /// What a script must answer to a word.
    fn say(&mut self, word: &Word, what: What, now: i64) -> bool {
        let told = self.told.get_mut(&word.delivery).unwrap();
        let late = told.due != word.lease_ms;
        if told.state != State::Pending || (late && !matches!(what, What::Delivered)) {
            return false;
        }
        let at = told.at;
        match what {
            What::Delivered => (told.state, told.claims) = (State::Delivered, 0),
            What::Dead => (told.state, told.claims) = (State::Dead, 0),
            What::Later { delay_ms, outcome, park_ms } => {
                told.due = now + i64::try_from(delay_ms).unwrap();
                told.claims = if outcome == 0 { told.claims.saturating_sub(1) } else { 0 };
                if park_ms > 0 {
                    let roused = self.roused.get(&at).is_some_and(|till| *till > now);
                    let longest = if roused { 500 } else { i64::MAX };
                    let till = now + i64::try_from(park_ms).unwrap().min(longest);
                    let parked = self.parked.entry(at).or_default();
                    *parked = till.max(*parked);
                }
            }
        }
        told.attempts += u16::from(!matches!(what, What::Later { outcome: 0 | 1, .. }));
        self.forget_parked(at);
        true
    }

    /// With nothing pending nothing is parked.
    fn forget_parked(&mut self, at: usize) {
        if self.pending(at).next().is_none() {
            self.parked.remove(&at);
        }
    }
}

/// The scripts and the model, step by step.
struct Both<'a> {
    world: &'a mut World,
    model: Model,
}

impl Both<'_> {
    fn play(&mut self, step: &Step) -> Result<(), String> {
        let now = self.world.now;
        match step.clone() {
            Step::End { at, dies: false } => {
                self.model.made += 1;
                let n = self.model.made;
                self.world.end_hooked(n..n + 1, at);
                self.model.enter(n, 1, at, now);
            }
            Step::End { at, dies: true } => self.die(at),
            Step::Claim { node, most, short } => self.claim(node, most, short)?,
            Step::ClaimAged { node, age_ms } => self.claim_aged(node, age_ms)?,
            Step::Say { node, which, what } => {
                let words = &self.model.words[node];
                let Some(word) = words.get(which % words.len().max(1)).cloned() else {
                    return Ok(());
                };
                let done = match what {
                    What::Delivered => self.world.deliver(&word),
                    What::Later { delay_ms, outcome, park_ms } => {
                        self.world.put_off(&word, delay_ms, outcome, park_ms)
                    }
                    What::Dead => self.world.give_up(&word).unwrap(),
                };
                if done != self.model.say(&word, what, now) {
                    return Err(format!("{word:?} is {done}"));
                }
            }
            Step::Unpark { at } => {
                let of = destination(at);
                let unpark = crate::webhooks::destinations::scripts::Unpark { destination: &of };
                let parked = self.world.db.one(unpark).unwrap().parked;
                // One whose time is over may have been looked at since.
                if !parked && self.model.is_parked(at, now) {
                    return Err(format!("{at} was not parked"));
                }
                self.model.parked.remove(&at);
                self.model.roused.insert(at, now + 2_500);
            }
            Step::Redrive { limit } => self.redrive(limit)?,
            Step::Purge { limit } => {
                let purged = self.world.purge(0, &[], limit).unwrap().purged.len() as u64;
                let all = self.model.dead.len() as u64;
                if purged != limit.min(all) {
                    return Err(format!("purged {purged} of {all}"));
                }
                for _ in 0..purged {
                    self.model.dead.pop_first();
                }
            }
            Step::Advance(by_ms) if now + i64::try_from(by_ms).unwrap() > START + ENOUGH_MS => {}
            Step::Advance(by_ms) => self.world.advance(by_ms),
            Step::Sweep => {
                let any = (0..DESTINATIONS).any(|at| {
                    !self.model.is_parked(at, now) && !self.model.due(at, now).is_empty()
                });
                if any && !self.world.sweep().outbox {
                    return Err("the sweep sees nothing due".into());
                }
            }
        }
        self.agree()
    }

    /// The oldest task that came back dies again, else a new one.
    fn die(&mut self, at: usize) {
        if self.model.ready.is_empty() {
            self.model.made += 1;
            self.world.enqueue_hooked(self.model.made, at);
            self.model.ready.insert(self.model.made, (0, at));
        }
        self.model.leases += 1;
        let n = self.world.take(self.model.leases);
        self.world.nack(n, &by(self.model.leases), 0, "smtp").unwrap();
        let (ends, at) = self.model.ready.remove(&n).unwrap();
        self.model.enter(n, ends + 1, at, self.world.now);
        self.model.dead.insert((self.world.now, n), (ends + 1, at));
    }

    fn claim(
        &mut self,
        node: usize,
        most: u64,
        short: Option<(usize, usize)>,
    ) -> Result<(), String> {
        let now = self.world.now;
        let room = short.map(|(at, room)| format!("{}{room:02}", destination(at)));
        let turn = self.world.outbox_claim(most, room.as_deref().unwrap_or_default(), "", 0);
        let before: Vec<_> = (0..DESTINATIONS).map(|at| self.model.due(at, now)).collect();
        if turn.claimed.len() as u64 > most {
            return Err(format!("{} of {most}", turn.claimed.len()));
        }
        let mut took = [0; DESTINATIONS];
        for claimed in &turn.claimed {
            self.model.claimed(node, &Word::of(claimed), now)?;
            let at = self.model.told[&claimed.delivery].at;
            took[at] += 1;
            if self.model.is_parked(at, now) || claimed.destination != destination(at) {
                return Err(format!("{} of a parked one", claimed.delivery));
            }
        }
        for (at, due) in before.iter().enumerate() {
            let room = short.filter(|(short, _)| *short == at).map_or(TURN, |(_, room)| room);
            if took[at] > room {
                return Err(format!("{} of {at} which has room for {room}", took[at]));
            }
            // What is left is told, or nobody would come for it.
            let left = due.len() - took[at];
            let told = turn.more || turn.busy.contains(&destination(at));
            if left > 0 && !self.model.is_parked(at, now) && !told {
                return Err(format!("{left} of {at} are left and nobody knows"));
            }
        }
        self.model.parked.retain(|_, till| *till > now);
        Ok(())
    }

    fn claim_aged(&mut self, node: usize, age_ms: u64) -> Result<(), String> {
        let now = self.world.now;
        let oldest = now - i64::try_from(age_ms).unwrap();
        let mut expected: Vec<_> = (0..DESTINATIONS)
            .flat_map(|at| self.model.due(at, now))
            .filter(|name| self.model.told[name].born <= oldest)
            .collect();
        let turn = self.world.outbox_claim(1000, "", "", age_ms);
        let mut got: Vec<_> = turn.claimed.iter().map(|one| one.delivery.clone()).collect();
        expected.sort();
        got.sort();
        if got != expected {
            return Err(format!("of age: {got:?}, not {expected:?}"));
        }
        turn.claimed.iter().try_for_each(|one| self.model.claimed(node, &Word::of(one), now))
    }

    fn redrive(&mut self, limit: u64) -> Result<(), String> {
        let back = self.world.redrive(0, &[], limit).unwrap();
        let mut superseded = 0;
        for task in &back.tasks {
            let ((_, n), (ends, at)) = self.model.dead.pop_first().unwrap();
            if n != number(&task.id) {
                return Err(format!("{} came back before {n}", number(&task.id)));
            }
            let told = self.model.told.get_mut(&name(n, ends)).unwrap();
            if told.state == State::Pending {
                told.state = State::Superseded;
                superseded += 1;
            }
            self.model.ready.insert(n, (ends, at));
            self.model.forget_parked(at);
        }
        match superseded == back.superseded {
            true => Ok(()),
            false => Err(format!("superseded {}, not {superseded}", back.superseded)),
        }
    }

    /// Every record says what the model says, and no index says anything else.
    fn agree(&mut self) -> Result<(), String> {
        for (name, told) in &self.model.told {
            let pending = format!(":o:{}", destination(told.at));
            let due: Option<i64> = self.world.on_key("ZSCORE", &pending, &[name.as_bytes()]);
            let wanted = (told.state == State::Pending).then_some(told.due);
            if due != wanted {
                return Err(format!("{name} is due at {due:?}, not {wanted:?}"));
            }
            let Some(of) = self.world.delivery(name) else {
                if matches!(told.state, State::Pending | State::Dead) {
                    return Err(format!("{name} is gone: {told:?}"));
                }
                continue;
            };
            let got = (of.state, of.attempts);
            // The claims of one that was superseded are nobody's business.
            let claims = told.state == State::Superseded || of.claims == told.claims;
            if got != (told.state, told.attempts) || !claims {
                return Err(format!("{name} is {of:?}, not {told:?}"));
            }
        }
        let faults = self.world.faults();
        if faults.is_empty() { Ok(()) } else { Err(faults.join("\n")) }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let at = 0..DESTINATIONS;
    let delay = prop_oneof![Just(0u64), Just(1_003), Just(40_007)];
    let park = prop_oneof![4 => Just(0u64), 1 => Just(5_000), 1 => Just(30_000)];
    let what = prop_oneof![
        3 => Just(What::Delivered),
        5 => (delay, 0..3u8, park)
            .prop_map(|(delay_ms, outcome, park_ms)| What::Later { delay_ms, outcome, park_ms }),
        2 => Just(What::Dead),
    ];
    let short = proptest::option::of((at.clone(), 0..TURN));
    let most = prop_oneof![Just(1u64), Just(9), Just(64)];
    prop_oneof![
        6 => (at.clone(), any::<bool>()).prop_map(|(at, dies)| Step::End { at, dies }),
        6 => (0..2usize, most, short)
            .prop_map(|(node, most, short)| Step::Claim { node, most, short }),
        1 => (0..2usize, prop_oneof![Just(1u64), Just(10_000), Just(60_000)])
            .prop_map(|(node, age_ms)| Step::ClaimAged { node, age_ms }),
        9 => (0..2usize, any::<usize>(), what)
            .prop_map(|(node, which, what)| Step::Say { node, which, what }),
        1 => at.prop_map(|at| Step::Unpark { at }),
        2 => (1..4u64).prop_map(|limit| Step::Redrive { limit }),
        1 => (1..4u64).prop_map(|limit| Step::Purge { limit }),
        3 => prop_oneof![Just(1u64), Just(1_000), Just(5_000), Just(CLAIM_MS)]
            .prop_map(Step::Advance),
        1 => Just(Step::Sweep),
    ]
}

/// Plays so many sequences. The error is the shortest that was found to go wrong.
pub fn play(world: World, cases: u32, shrink: u32) -> Result<(), String> {
    let config =
        Config { cases, failure_persistence: None, max_shrink_iters: shrink, ..Config::default() };
    let world = std::cell::RefCell::new(world);
    let steps = proptest::collection::vec(step(), 10..60);
    let outcome = TestRunner::new(config).run(&steps, |steps| {
        let mut world = world.borrow_mut();
        world.reset();
        let mut both = Both { world: &mut world, model: Model::default() };
        for (n, step) in steps.iter().enumerate() {
            both.play(step).map_err(|why| TestCaseError::fail(format!("{n} {step:?}: {why}")))?;
        }
        Ok(())
    });
    outcome.map_err(|error| error.to_string())
}

/// `CODEQ_CASES` raises the number of sequences.
#[test]
fn two_nodes_lose_nothing_send_nothing_under_two_leases_and_say_nothing_twice() {
    let cases = std::env::var("CODEQ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(100);
    if let Err(error) = play(World::new(), cases, 500) {
        panic!("{error}");
    }
}
