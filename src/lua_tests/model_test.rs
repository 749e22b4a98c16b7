//! Random sequences of calls against the scripts and against the model: what they answer and what
//! can be seen afterwards agree after every step.

use proptest::prelude::*;
use proptest::strategy::BoxedStrategy;
use proptest::test_runner::{Config, RngSeed, TestCaseError, TestError, TestRunner};
use proptest_state_machine::ReferenceStateMachine;

use super::reference::{Answer, Call, Reference};
use super::view::View;
use super::world::{By, NAMES, New, World, id, number, token};
use crate::model::Refusal;
use crate::store::Error;

/// Where a token or a worker comes from.
#[derive(Clone, Copy, Debug)]
pub enum Pick {
    Right,
    Wrong,
    None,
}

/// A step as it is drawn: `which` picks a task, a queue or an earlier call among those there are.
#[derive(Clone, Debug)]
pub enum Step {
    Enqueue(Vec<New>),
    Claim { tenant: usize, any: bool, queue: usize, worker: &'static str, count: u64 },
    Held { which: usize, verb: Verb, token: Pick, worker: Pick, other_tenant: bool },
    Cancel { which: usize, other_tenant: bool },
    Admin { queue: usize, purge: bool, named: Option<usize>, limit: u64 },
    Pause { queue: usize, paused: bool },
    Advance(u64),
    Sweep,
    Repeat(usize),
}

/// What a worker does with a task.
#[derive(Clone, Copy, Debug)]
pub enum Verb {
    Heartbeat,
    Nack(u64),
    Abandon(bool),
    Submit(u8, u64),
}

/// The model with what was called before.
#[derive(Clone, Debug)]
pub struct Played {
    pub model: Reference,
    calls: Vec<Call>,
    made: u64,
    leases: u64,
}

impl Played {
    pub fn new() -> Self {
        Self { model: Reference::new(), calls: Vec::new(), made: 0, leases: 0 }
    }

    /// A task: mostly one of a group where the call has something to do, by `share` in 8 each.
    fn pick(&self, which: usize, share: [usize; 3]) -> Option<u64> {
        let mut slot = which % 8;
        for (group, share) in self.model.groups().into_iter().zip(share) {
            if slot < share && !group.is_empty() {
                return Some(group[which / 8 % group.len()]);
            }
            slot = slot.saturating_sub(share);
        }
        (self.made > 0).then(|| which as u64 / 8 % self.made + 1)
    }

    /// The call that a step means now; none when it means nothing yet.
    fn resolve(&mut self, step: &Step) -> Option<Call> {
        Some(match step {
            Step::Enqueue(all) => {
                let mut all = all.clone();
                for new in &mut all {
                    self.made += 1;
                    new.n = self.made;
                }
                Call::Enqueue(all)
            }
            Step::Claim { tenant, any, queue, worker, count } => {
                let queues = if *any { vec![] } else { vec![tenant * 2 + queue, tenant * 2] };
                let leases = (0..*count).map(|n| self.leases + n).collect();
                self.leases += count;
                Call::Claim { tenant: *tenant, queues, worker, leases }
            }
            Step::Held { which, verb, token: wanted, worker, other_tenant } => {
                let n = self.pick(*which, [4, 3, 0])?;
                let of = self.model.queue_of(n).unwrap_or(0) / 2;
                let held = self.model.holder(n);
                let tenant = if *other_tenant { 1 - of } else { of };
                let right = held.as_ref().map_or("w", |by| by.worker);
                let worker = if matches!(worker, Pick::Wrong) { "thief" } else { right };
                let token = match (wanted, held) {
                    (Pick::None, _) => String::new(),
                    (Pick::Right, Some(by)) => by.token,
                    _ => token(99_999),
                };
                let by = By { tenant, worker, token };
                match *verb {
                    Verb::Heartbeat => Call::Heartbeat { n, by },
                    Verb::Nack(delay_ms) => Call::Nack { n, by, delay_ms },
                    Verb::Abandon(undelivered) => Call::Abandon { n, by, undelivered },
                    Verb::Submit(kind, verdict) => Call::Submit { n, by, kind, verdict },
                }
            }
            Step::Cancel { which, other_tenant } => {
                let n = self.pick(*which, [0, 0, 7])?;
                let of = self.model.queue_of(n).unwrap_or(0) / 2;
                Call::Cancel { n, tenant: if *other_tenant { 1 - of } else { of } }
            }
            Step::Admin { queue, purge, named, limit } => {
                let ids = named.and_then(|which| self.pick(which, [0; 3])).into_iter().collect();
                let (queue, limit) = (*queue, *limit);
                match purge {
                    true => Call::Purge { queue, ids, limit },
                    false => Call::Redrive { queue, ids, limit },
                }
            }
            Step::Pause { queue, paused } => Call::Pause { queue: *queue, paused: *paused },
            Step::Advance(by_ms) => Call::Advance(*by_ms),
            Step::Sweep => Call::Sweep,
            Step::Repeat(which) => {
                let call = self.calls.get(which % self.calls.len().max(1))?.clone();
                // Ids are never made twice, so a repeat that comes after everything is no case.
                if let Call::Enqueue(all) = &call
                    && all.iter().any(|new| self.model.is_gone(new.n))
                {
                    return None;
                }
                call
            }
        })
    }

    /// Plays a step on the model: the call, and what it must answer.
    pub fn play(&mut self, step: &Step) -> Option<(Call, Answer)> {
        let call = self.resolve(step)?;
        let answer = self.model.call(&call);
        let repeatable = !matches!(call, Call::Claim { .. } | Call::Advance(_));
        if repeatable && !matches!(step, Step::Repeat(_)) {
            self.calls.push(call.clone());
        }
        Some((call, answer))
    }
}

impl World {
    /// Makes a call of the scripts.
    pub fn call(&mut self, call: &Call) -> Answer {
        self.answer(call).unwrap_or_else(|error| match error {
            Error::Refused(refusal) => Answer::Refused(refusal),
            other => panic!("{call:?}: {other}"),
        })
    }

    fn answer(&mut self, call: &Call) -> Result<Answer, Error> {
        Ok(match call {
            Call::Enqueue(all) => {
                let made = self.enqueue_all(all)?;
                let mut answers = Vec::new();
                for (new, made) in all.iter().zip(made) {
                    let made = made?;
                    let length = made.length;
                    let due = if made.replayed { 0 } else { made.due_ms };
                    let tombs = self.tombs(new.queue, new.priority);
                    let length = if length > 0 { length - tombs } else { 0 };
                    answers.push((made.replayed, number(&made.id), made.mismatch, due, length));
                }
                Answer::Enqueued(answers)
            }
            Call::Claim { tenant, queues, worker, leases } => {
                let claimed = self.claim(*tenant, queues, worker, leases)?;
                let tasks = claimed.tasks.into_iter();
                let tasks = tasks
                    .map(|t| (number(&t.id), t.attempt, t.token, t.until_ms, t.visible_ms))
                    .collect();
                Answer::Claimed(tasks, claimed.left)
            }
            Call::Heartbeat { n, by } => {
                let kept = self.heartbeat(*n, by)?;
                Answer::Kept(kept.until_ms, kept.attempt)
            }
            Call::Nack { n, by, delay_ms } => {
                let nacked = self.nack(*n, by, *delay_ms, "smtp")?;
                let dead = nacked.outcome == "dead";
                Answer::Nacked(nacked.replayed, dead, nacked.delay_ms, nacked.attempt)
            }
            Call::Abandon { n, by, undelivered } => {
                let back = self.abandon(*n, by, *undelivered)?;
                // The list is the task's own.
                let length = if back.replayed { 0 } else { back.length - self.tombs_of(*n) };
                Answer::Abandoned(back.replayed, back.attempt, length)
            }
            Call::Submit { n, by, kind, verdict } => {
                let done = self.submit(*n, by, *kind, *verdict, "")?;
                let record = crate::model::record::Terminal::read(&done.record).unwrap();
                Answer::Submitted(done.replayed, record.ends)
            }
            Call::Cancel { n, tenant } => {
                let done = self.cancel(*n, *tenant)?;
                let record = crate::model::record::Terminal::read(&done.record).unwrap();
                Answer::Cancelled(record.ends)
            }
            Call::Redrive { queue, ids, limit } => {
                let back = self.redrive(*queue, ids, *limit)?;
                let tasks = back.tasks.iter().map(|task| number(&task.id)).collect();
                Answer::Redriven(tasks, back.superseded)
            }
            Call::Purge { queue, ids, limit } => {
                Answer::Purged(self.purge(*queue, ids, *limit)?.purged.len() as u64)
            }
            Call::Pause { queue, paused } => Answer::Paused(self.pause(*queue, *paused)?.ready),
            Call::Advance(by_ms) => {
                self.advance(*by_ms);
                Answer::Nothing
            }
            Call::Sweep => {
                let swept = self.sweep();
                let ended = swept.expired.iter();
                let ended = ended.map(|e| (number(&e.id), e.outcome == "dead")).collect();
                Answer::Swept(swept.due, ended, swept.retired.len() as u64)
            }
        })
    }

    /// Cancelled tasks still in a list.
    fn tombs(&mut self, queue: usize, priority: u8) -> u64 {
        let list = format!("{}:{priority}", NAMES.queues[queue].as_str());
        self.on_key::<Option<u64>>("HGET", ":tn", &[list.as_bytes()]).unwrap_or(0)
    }

    fn tombs_of(&mut self, n: u64) -> u64 {
        let head: Vec<u8> =
            self.on_key("GETRANGE", &format!(":b:{}", id(n).short()), &[b"0", b"100"]);
        let queue = NAMES.queues.iter().position(|q| q.as_str().as_bytes() == &head[28..52]);
        self.tombs(queue.unwrap(), head[23])
    }

    /// Plays a step on both. The error says where they differ.
    pub fn agrees(&mut self, played: &mut Played, step: &Step) -> Result<(), String> {
        let Some((call, expected)) = played.play(step) else { return Ok(()) };
        let tell = |what: String| Err(format!("after {call:?}\n{what}"));
        // An undelivered claim or a batch is where lengths are told before the batch ends.
        let got = settled(self.call(&call));
        if got != settled(expected.clone()) {
            return tell(format!("answered {got:?}\nexpected {expected:?}"));
        }
        let (seen, wanted) = (View::of(self), played.model.view());
        if seen != wanted {
            return tell(format!("seen     {seen:?}\nexpected {wanted:?}"));
        }
        let faults = self.faults();
        if !faults.is_empty() {
            return tell(faults.join("\n"));
        }
        Ok(())
    }
}

/// Cancelled tasks in a list are counted after the call, so where a call enters several tasks only
/// whether a length was told is compared.
fn settled(answer: Answer) -> Answer {
    let Answer::Enqueued(mut all) = answer else { return answer };
    if all.len() > 1 {
        for one in &mut all {
            one.4 = one.4.min(1);
        }
    }
    Answer::Enqueued(all)
}

fn new_task() -> impl Strategy<Value = New> {
    let delay = prop_oneof![4 => Just(0i64), 1 => Just(5_000), 1 => Just(30_000)];
    let key = proptest::option::weighted(0.4, prop_oneof![Just("k0"), Just("k1")]);
    let priority = prop_oneof![6 => Just(0u8), 1 => Just(4), 1 => Just(9)];
    (0..4usize, priority, delay, 0..3u16, key, 0..2u64, any::<bool>()).prop_map(
        |(queue, priority, delay_ms, max, key, payload, hooked)| New {
            queue,
            priority,
            delay_ms,
            max,
            key: key.map(str::to_owned),
            payload,
            hooked,
            ..New::task(0)
        },
    )
}

fn pick() -> impl Strategy<Value = Pick> {
    prop_oneof![6 => Just(Pick::Right), 2 => Just(Pick::Wrong), 2 => Just(Pick::None)]
}

fn step() -> BoxedStrategy<Step> {
    let verb = prop_oneof![
        2 => Just(Verb::Heartbeat),
        3 => prop_oneof![Just(0u64), Just(5_000), Just(60_000)].prop_map(Verb::Nack),
        2 => any::<bool>().prop_map(Verb::Abandon),
        3 => (1..=2u8, 0..2u64).prop_map(|(kind, verdict)| Verb::Submit(kind, verdict)),
    ];
    let claim = (0..2usize, any::<bool>(), 0..2usize, prop_oneof![Just("w"), Just("v")], 1..4u64);
    let held = (any::<usize>(), verb, pick(), pick(), proptest::bool::weighted(0.05));
    let admin = (0..4usize, any::<bool>(), proptest::option::of(any::<usize>()), 1..4u64);
    prop_oneof![
        6 => proptest::collection::vec(new_task(), 1..4).prop_map(Step::Enqueue),
        8 => claim.prop_map(|(tenant, any, queue, worker, count)| {
            Step::Claim { tenant, any, queue, worker, count }
        }),
        14 => held.prop_map(|(which, verb, token, worker, other_tenant)| {
            Step::Held { which, verb, token, worker, other_tenant }
        }),
        3 => (any::<usize>(), proptest::bool::weighted(0.1))
            .prop_map(|(which, other_tenant)| Step::Cancel { which, other_tenant }),
        4 => admin.prop_map(|(queue, purge, named, limit)| {
            Step::Admin { queue, purge, named, limit }
        }),
        1 => (0..4usize, any::<bool>()).prop_map(|(queue, paused)| Step::Pause { queue, paused }),
        4 => prop_oneof![
            4 => Just(5_000u64),
            3 => Just(10_000),
            2 => Just(25_000),
            2 => Just(30_000),
            1 => Just(60_000),
            1 => Just(600_000),
        ]
        .prop_map(Step::Advance),
        5 => Just(Step::Sweep),
        4 => any::<usize>().prop_map(Step::Repeat),
    ]
    .boxed()
}

/// The model as proptest plays it.
struct Machine;

impl ReferenceStateMachine for Machine {
    type State = Played;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Played> {
        Just(Played::new()).boxed()
    }

    fn transitions(_: &Played) -> BoxedStrategy<Step> {
        step()
    }

    fn apply(mut played: Played, step: &Step) -> Played {
        played.play(step);
        played
    }
}

/// Plays so many random sequences. The error is the shortest that was found to go wrong.
pub fn play(world: World, cases: u32, seed: RngSeed, shrink: u32) -> Result<(), String> {
    let config = Config {
        cases,
        rng_seed: seed,
        failure_persistence: None,
        max_shrink_iters: shrink,
        ..Config::default()
    };
    let world = std::cell::RefCell::new(world);
    let sequences = Machine::sequential_strategy(10..60);
    let outcome = TestRunner::new(config).run(&sequences, |(mut played, steps, seen)| {
        let mut world = world.borrow_mut();
        world.reset();
        for step in &steps {
            if let Some(seen) = &seen {
                seen.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            }
            world.agrees(&mut played, step).map_err(TestCaseError::fail)?;
        }
        Ok(())
    });
    outcome.map_err(|error| match error {
        TestError::Fail(why, (_, steps, _)) => format!("{why}\nin {steps:#?}"),
        TestError::Abort(why) => why.to_string(),
    })
}

/// `CODEQ_CASES` raises the number of sequences.
#[test]
fn random_calls_answer_and_leave_what_the_model_says() {
    let cases = std::env::var("CODEQ_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(150);
    if let Err(error) = play(World::new(), cases, RngSeed::Random, 500) {
        panic!("{error}");
    }
}

/// The model knows the refusals that a caller can provoke; it would be of little use otherwise.
#[test]
fn random_calls_meet_every_refusal() {
    let mut met = std::collections::HashSet::new();
    let mut runner = TestRunner::deterministic();
    for _ in 0..200 {
        let tree = Machine::sequential_strategy(60).new_tree(&mut runner).unwrap();
        let (mut played, steps, _) = proptest::strategy::ValueTree::current(&tree);
        for step in &steps {
            if let Some((_, Answer::Refused(refusal))) = played.play(step) {
                met.insert(format!("{refusal:?}"));
            }
        }
    }
    for refusal in [
        Refusal::NotFound,
        Refusal::NotInProgress,
        Refusal::LeaseLost,
        Refusal::NotOwner,
        Refusal::NotCancellable,
    ] {
        assert!(met.contains(&format!("{refusal:?}")), "{refusal:?} in {met:?}");
    }
}
