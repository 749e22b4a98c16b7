//! What can be seen of a partition, in the words of the model.

use std::collections::{BTreeMap, BTreeSet};

use redis::Value;

use super::world::{NAMES, World, number};
use crate::model::TaskId;
use crate::model::record::{Attempted, Lease, Terminal, idempotency_digest};

/// Where every task is, and what is counted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct View {
    /// Queue and priority → tasks, oldest first.
    pub ready: BTreeMap<(usize, u8), Vec<u64>>,
    /// Task → due.
    pub delayed: BTreeMap<u64, i64>,
    /// Task → end, attempt, ends before, lease id, worker.
    pub leased: BTreeMap<u64, (i64, u16, u16, String, String)>,
    /// Queue → task → time of death.
    pub dead: BTreeMap<usize, BTreeMap<u64, i64>>,
    /// Task → how, how many ends, attempts.
    pub done: BTreeMap<u64, (u8, u16, u16)>,
    /// Task → attempts and ends it brings along.
    pub attempted: BTreeMap<u64, (u16, u16)>,
    /// Queue and key → task.
    pub keys: BTreeMap<(usize, String), u64>,
    /// Task and end that a delivery is pending for.
    pub deliveries: BTreeSet<(u64, u16)>,
    /// Queues.
    pub paused: BTreeSet<usize>,
    /// Queue → ready, delayed, in progress, dead.
    pub counts: BTreeMap<usize, [i64; 4]>,
    /// Queue with ready tasks → when last served.
    pub waiting: BTreeMap<usize, i64>,
}

fn bytes(value: &Value) -> &[u8] {
    match value {
        Value::BulkString(bytes) => bytes,
        other => panic!("{other:?}"),
    }
}

fn text(value: &Value) -> &str {
    std::str::from_utf8(bytes(value)).unwrap()
}

fn task(text: &str) -> u64 {
    number(&TaskId::from_short(text).unwrap())
}

fn queue(text: &str) -> usize {
    NAMES.queues.iter().position(|queue| queue.as_str() == text).unwrap()
}

fn pairs(value: &Value) -> Vec<(Value, Value)> {
    match value {
        Value::Array(flat) => flat.chunks(2).map(|p| (p[0].clone(), p[1].clone())).collect(),
        Value::Map(pairs) => pairs.clone(),
        other => panic!("{other:?}"),
    }
}

fn scores(value: &Value) -> Vec<(String, i64)> {
    let pairs = pairs(value).into_iter();
    pairs.map(|(id, score)| (text(&id).to_owned(), text(&score).parse().unwrap())).collect()
}

impl View {
    /// Reads it.
    pub fn of(world: &mut World) -> Self {
        let root = world.db.root().to_owned();
        let keys: Vec<String> = world.db.query(redis::cmd("KEYS").arg(format!("{root}*")));
        let mut pipe = redis::pipe();
        let mut suffixes = Vec::new();
        for key in &keys {
            let suffix = &key[root.len()..];
            let kind = suffix[1..].split(':').next().unwrap();
            let of_one = suffix[1..].contains(':');
            let (command, rest): (_, &[&str]) = match (kind, of_one) {
                ("r", _) => ("LRANGE", &["0", "-1"]),
                ("d" | "l", _) | ("x" | "e" | "o", true) => ("ZRANGE", &["0", "-1", "WITHSCORES"]),
                ("f" | "a" | "n" | "t", _) => ("HGETALL", &[]),
                ("c" | "i", _) => ("GET", &[]),
                ("p", _) => ("SMEMBERS", &[]),
                _ => continue,
            };
            pipe.add_command(redis::cmd(command).arg(key).arg(rest).clone());
            suffixes.push(suffix.to_owned());
        }
        let values = world.db.pipeline(&pipe);
        let mut view = Self::default();
        let tombs: BTreeSet<u64> = suffixes
            .iter()
            .zip(&values)
            .filter(|(suffix, _)| *suffix == ":t")
            .flat_map(|(_, value)| pairs(value))
            .map(|(id, _)| task(text(&id)))
            .collect();
        for (suffix, value) in suffixes.iter().zip(&values) {
            let (kind, rest) = suffix[1..].split_once(':').unwrap_or((&suffix[1..], ""));
            view.add(kind, rest, value, &tombs);
        }
        view
    }

    fn add(&mut self, kind: &str, rest: &str, value: &Value, tombs: &BTreeSet<u64>) {
        match kind {
            "r" => {
                let Value::Array(ids) = value else { panic!("{value:?}") };
                let mut ids: Vec<u64> = ids.iter().rev().map(|id| task(text(id))).collect();
                ids.retain(|n| !tombs.contains(n));
                let (name, priority) = rest.split_once(':').unwrap();
                if !ids.is_empty() {
                    self.ready.insert((queue(name), priority.parse().unwrap()), ids);
                }
            }
            "d" => self.delayed = scores(value).into_iter().map(|(n, at)| (task(&n), at)).collect(),
            "l" => {
                for (id, until) in scores(value) {
                    self.leased.entry(task(&id)).or_default().0 = until;
                }
            }
            "f" => {
                for (id, record) in pairs(value) {
                    let of = Lease::read(bytes(&record)).unwrap();
                    let seen = self.leased.entry(task(text(&id))).or_default();
                    (seen.1, seen.2, seen.3, seen.4) = (of.attempt, of.ends, of.token, of.worker);
                }
            }
            "a" => {
                for (id, record) in pairs(value) {
                    let of = Attempted::read(bytes(&record)).unwrap();
                    self.attempted.insert(task(text(&id)), (of.attempts, of.ends));
                }
            }
            "x" => {
                let dead = scores(value).into_iter().map(|(n, at)| (task(&n), at)).collect();
                self.dead.insert(queue(rest), dead);
            }
            "c" => {
                let of = Terminal::read(&bytes(value).to_vec().into()).unwrap();
                self.done.insert(task(rest), (of.end.byte(), of.ends, of.attempts));
            }
            "i" => {
                let named = (0..4).flat_map(|q| ["k0", "k1"].map(|key| (q, key.to_owned())));
                let key = named
                    .into_iter()
                    .find(|(q, key)| idempotency_digest(&NAMES.queues[*q], key) == rest);
                self.keys.insert(key.unwrap(), task(&text(value)[..22]));
            }
            "o" => {
                for (delivery, _) in scores(value) {
                    let (id, ends) = (&delivery[..22], &delivery[23..]);
                    self.deliveries.insert((task(id), ends.parse().unwrap()));
                }
            }
            "p" => {
                let Value::Array(queues) = value else { panic!("{value:?}") };
                self.paused = queues.iter().map(|name| queue(text(name))).collect();
            }
            "n" => {
                for (field, number) in pairs(value) {
                    let Some((name, state)) = text(&field).split_at_checked(24) else { continue };
                    let at = "rdpx".find(state).unwrap();
                    self.counts.entry(queue(name)).or_default()[at] =
                        text(&number).parse().unwrap();
                }
            }
            "e" => {
                for (command, at) in scores(value) {
                    self.waiting.insert(queue(&format!("{rest}{command}")), at);
                }
            }
            _ => {}
        }
    }
}
