//! What two to four clients do, in every order. Calls are atomic, so all orders of calls are all
//! there is. T1 to T5: a task is in one place; it ends once; it is always claimable again; only the
//! current lease speaks for it; one key is one task.

use std::collections::BTreeMap;

use super::world::{By, DLQ_MS, LEASE_MS, New, World, id, number, token};
use crate::model::Refusal;
use crate::model::record::{End, Lease, Terminal};
use crate::store::Error;

/// One call of a client. A worker's later calls are about what its claim got, if it got anything.
#[derive(Clone, Copy, Debug)]
enum Act {
    Claim,
    Heartbeat,
    Submit,
    Nack,
    Abandon,
    /// The leases and delays of a while end.
    Later,
    Sweep,
    /// With an idempotency key: the same task twice, with ids of their own.
    Enqueue(u64),
    Cancel(u64),
    Redrive,
    Purge,
}

/// What a client remembers.
#[derive(Clone, Default)]
struct Client {
    lease: Option<(u64, String)>,
}

/// What must stay true from step to step.
#[derive(Default)]
struct History {
    leases: u64,
    /// Task and number of the end → its record.
    ends: BTreeMap<(u64, u16), Vec<u8>>,
    keyed: Vec<u64>,
}

const WORKERS: [&str; 4] = ["w0", "w1", "w2", "w3"];

struct Run<'a> {
    world: &'a mut World,
    clients: Vec<Client>,
    history: History,
    made: &'static [u64],
}

impl Run<'_> {
    /// `seen`: the same calls were made before in another order's beginning, and checked.
    fn act(&mut self, who: usize, act: Act, seen: bool) -> Result<(), String> {
        let lease = self.clients[who].lease.clone();
        match act {
            Act::Claim => {
                self.history.leases += 1;
                let lease = self.history.leases;
                let claimed = self.world.claim(0, &[0], WORKERS[who], &[lease]);
                let tasks = claimed.map_err(|error| error.to_string())?.tasks;
                if let Some(task) = tasks.first() {
                    self.clients[who].lease = Some((number(&task.id), token(lease)));
                }
            }
            Act::Later => self.world.advance(LEASE_MS + 10_000),
            Act::Sweep => drop(self.world.sweep()),
            Act::Enqueue(n) => {
                let new = New { key: Some("k".into()), max: 2, hooked: true, ..New::task(n) };
                let made = self.world.enqueue(&new).map_err(|error| error.to_string())?;
                self.history.keyed.push(number(&made.id));
            }
            Act::Cancel(n) => drop(self.world.cancel(n, 0)),
            Act::Redrive => drop(self.world.redrive(0, &[], 10)),
            Act::Purge => drop(self.world.purge(0, &[], 10)),
            Act::Heartbeat | Act::Submit | Act::Nack | Act::Abandon => {
                if let Some((n, token)) = lease {
                    self.speak(who, n, token, act)?;
                }
            }
        }
        self.holds(seen)
    }

    /// T4: what is accepted, unless it repeats, came with the lease that was current.
    fn speak(&mut self, who: usize, n: u64, token: String, act: Act) -> Result<(), String> {
        let held: Option<Vec<u8>> = self.world.on_key("HGET", ":f", &[id(n).short().as_bytes()]);
        let current = held.map(|record| Lease::read(&record).unwrap().token);
        let by = By { tenant: 0, worker: WORKERS[who], token: token.clone() };
        let world = &mut *self.world;
        let done = match act {
            Act::Heartbeat => world.heartbeat(n, &by).map(|_| false),
            Act::Submit => world.submit(n, &by, 1, 1, "").map(|done| done.replayed),
            Act::Nack => world.nack(n, &by, 5_000, "smtp").map(|done| done.replayed),
            _ => world.abandon(n, &by, false).map(|done| done.replayed),
        };
        let ours = current.as_ref() == Some(&token);
        match done {
            Ok(false) if !ours => Err(format!("{act:?} was accepted with a lease that is over")),
            Ok(true) if ours => Err(format!("{act:?} repeats nothing and says so")),
            Err(Error::Refused(_)) if ours => Err(format!("{act:?} was refused to its holder")),
            Err(Error::Refused(Refusal::NotOwner)) => Err("a lease of its own, not owned".into()),
            Ok(_) | Err(Error::Refused(_)) => Ok(()),
            Err(other) => Err(other.to_string()),
        }
    }

    fn holds(&mut self, seen: bool) -> Result<(), String> {
        // T1, and that all counters and registries agree.
        let faults = if seen { Vec::new() } else { self.world.faults() };
        if !faults.is_empty() {
            return Err(faults.join("\n"));
        }
        // T2: an end that was seen is never seen otherwise.
        for &n in self.made {
            let suffix = format!(":c:{}", id(n).short());
            let record: Option<Vec<u8>> = self.world.on_key("GET", &suffix, &[]);
            let Some(record) = record else { continue };
            let end = Terminal::read(&record.clone().into()).unwrap();
            let known = self.history.ends.entry((n, end.ends)).or_insert_with(|| record.clone());
            if *known != record {
                return Err(format!("task {n} ended twice"));
            }
            let earlier = (1..end.ends).all(|ends| {
                let record = self.history.ends.get(&(n, ends)).cloned();
                record.is_some_and(|r| Terminal::read(&r.into()).unwrap().end == End::Dead)
            });
            if !earlier {
                return Err(format!("task {n} ended again without a requeue from the DLQ"));
            }
        }
        // T5.
        if self.history.keyed.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("one key, tasks {:?}", self.history.keyed));
        }
        Ok(())
    }

    /// T3: when nobody does anything any more, each task is claimed again, or has ended.
    fn settles(&mut self) -> Result<(), String> {
        for _ in 0..2 {
            self.world.advance(LEASE_MS + 10_000);
            self.world.sweep();
            self.holds(false)?;
        }
        for &n in self.made {
            let place = match self.world.read(n, 0) {
                Ok(task) => task.place,
                Err(_) => "gone".into(),
            };
            if place == "delayed" || place == "leased" {
                return Err(format!("task {n} is {place} long after everybody left"));
            }
        }
        self.history.leases += 8;
        let leases: Vec<u64> = (0..8).map(|n| self.history.leases - n).collect();
        self.world.claim(0, &[0], "last", &leases).map_err(|error| error.to_string())?;
        for &n in self.made {
            if self.world.read(n, 0).is_ok_and(|task| task.place == "ready") {
                return Err(format!("task {n} is ready and was not claimed"));
            }
        }
        self.holds(false)
    }
}

/// Every order in which programs of these lengths can be played: who is next, step by step.
fn orders(lengths: &[usize]) -> Vec<Vec<usize>> {
    let mut left = lengths.to_vec();
    let (mut all, mut order) = (Vec::new(), Vec::new());
    fn go(left: &mut [usize], order: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        if left.iter().all(|n| *n == 0) {
            all.push(order.clone());
        }
        for who in 0..left.len() {
            if left[who] > 0 {
                left[who] -= 1;
                order.push(who);
                go(left, order, all);
                order.pop();
                left[who] += 1;
            }
        }
    }
    go(&mut left, &mut order, &mut all);
    all
}

/// A scene: what is there before, and what each client does.
struct Scene {
    name: &'static str,
    before: fn(&mut World),
    made: &'static [u64],
    clients: &'static [&'static [Act]],
}

const SCENES: &[Scene] = &[
    Scene {
        name: "two workers and a sweep that ends leases",
        before: |world| drop(world.enqueue(&New { max: 2, hooked: true, ..New::task(1) })),
        made: &[1],
        clients: &[
            &[Act::Claim, Act::Heartbeat, Act::Submit],
            &[Act::Claim, Act::Submit, Act::Nack],
            &[Act::Later, Act::Sweep],
        ],
    },
    Scene {
        name: "workers give back, the sweep brings it again",
        before: |world| drop(world.enqueue(&New { max: 3, ..New::task(1) })),
        made: &[1],
        clients: &[
            &[Act::Claim, Act::Nack, Act::Nack],
            &[Act::Claim, Act::Abandon, Act::Abandon],
            &[Act::Later, Act::Sweep, Act::Sweep],
        ],
    },
    Scene {
        name: "a producer that repeats itself and cancels, a worker",
        before: |_| {},
        made: &[1, 2],
        clients: &[
            &[Act::Enqueue(1), Act::Cancel(1)],
            &[Act::Enqueue(2)],
            &[Act::Claim, Act::Heartbeat, Act::Submit],
            &[Act::Claim, Act::Abandon],
        ],
    },
    Scene {
        name: "one in the middle is cancelled while its neighbours are claimed",
        before: |world| {
            for n in 1..4 {
                drop(world.enqueue(&New::task(n)));
            }
        },
        made: &[1, 2, 3],
        clients: &[
            &[Act::Cancel(2)],
            &[Act::Claim, Act::Submit, Act::Claim],
            &[Act::Claim, Act::Abandon, Act::Claim],
        ],
    },
    Scene {
        name: "the last attempt, the DLQ and an admin",
        before: |world| {
            let key = Some("k".into());
            let last = New { max: 1, hooked: true, key, ..New::task(1) };
            drop(world.enqueue(&last));
        },
        made: &[1],
        clients: &[
            &[Act::Claim, Act::Nack, Act::Submit],
            &[Act::Redrive, Act::Claim, Act::Submit],
            &[Act::Later, Act::Sweep],
        ],
    },
    Scene {
        name: "purge and requeue at once",
        before: |world| world.bury(&New::task(1)),
        made: &[1],
        clients: &[
            &[Act::Redrive, Act::Claim, Act::Nack],
            &[Act::Purge, Act::Redrive],
            &[Act::Claim, Act::Submit],
        ],
    },
];

/// Plays every order of every scene, or one of so many. The error tells the first that goes wrong.
pub fn play(world: &mut World, one_of: usize) -> Result<usize, String> {
    let mut played = 0;
    for scene in SCENES {
        let lengths: Vec<usize> = scene.clients.iter().map(|acts| acts.len()).collect();
        let mut earlier = Vec::new();
        for order in orders(&lengths).into_iter().step_by(one_of) {
            let shared = order.iter().zip(&earlier).take_while(|(a, b)| a == b).count();
            world.reset();
            (scene.before)(world);
            let clients = vec![Client::default(); lengths.len()];
            let history = History { leases: 100, ..History::default() };
            let mut run = Run { world: &mut *world, clients, history, made: scene.made };
            let mut next = vec![0; lengths.len()];
            let mut told = Vec::new();
            let tell = |told: &[_], why| format!("{}: {told:?}\n{why}", scene.name);
            run.holds(false).map_err(|why| tell(&told, why))?;
            for (at, &who) in order.iter().enumerate() {
                let act = scene.clients[who][next[who]];
                next[who] += 1;
                told.push((who, act));
                run.act(who, act, at < shared).map_err(|why| tell(&told, why))?;
            }
            run.settles().map_err(|why| tell(&told, why))?;
            played += 1;
            earlier = order;
        }
    }
    Ok(played)
}

#[test]
fn every_order_of_a_few_clients_calls_keeps_the_promises() {
    let played = play(&mut World::new(), 1).unwrap_or_else(|error| panic!("{error}"));
    assert!(played > 2_000, "{played} orders");
}

#[test]
fn all_orders_are_all_orders() {
    assert_eq!(orders(&[2, 1]), [[0, 0, 1], [0, 1, 0], [1, 0, 0]]);
    assert_eq!(orders(&[3, 3, 2]).len(), 560);
}

/// A dead task stays as long as the model says; the scenes above never outlast it.
const _: () = assert!(DLQ_MS > 8 * (LEASE_MS + 10_000));
