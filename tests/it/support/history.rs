//! What callers saw, written down and checked afterwards: the promises about leases and ends.

use std::collections::{BTreeMap, HashSet};
use std::sync::Mutex;

use tokio::time::Instant;

/// What happened to a task, as far as its caller knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Did {
    /// Delivered, for this attempt.
    Claimed(u64),
    /// A heartbeat of this attempt was accepted.
    Kept(u64),
    /// The submit of this attempt was accepted, and not as a repetition.
    Finished(u64),
}

#[derive(Clone, Copy, Debug)]
struct Event {
    did: Did,
    began: Instant,
    ended: Instant,
}

/// Events of many tasks, from many callers.
#[derive(Default)]
pub struct History(Mutex<BTreeMap<String, Vec<Event>>>);

impl History {
    /// A call that began then has just been answered.
    pub fn add(&self, task: &str, did: Did, began: Instant) {
        let event = Event { did, began, ended: Instant::now() };
        self.0.lock().unwrap().entry(task.to_owned()).or_default().push(event);
    }

    /// How many tasks were finished.
    pub fn finished(&self) -> usize {
        let is_end = |event: &Event| matches!(event.did, Did::Finished(_));
        self.0.lock().unwrap().values().filter(|events| events.iter().any(is_end)).count()
    }

    /// How many deliveries there were.
    pub fn claimed(&self) -> usize {
        let is_claim = |event: &&Event| matches!(event.did, Did::Claimed(_));
        self.0.lock().unwrap().values().flatten().filter(is_claim).count()
    }

    /// At most one end for each task; no attempt delivered twice; nothing accepted from an attempt
    /// after a later one was delivered.
    pub fn check(&self) {
        for (task, events) in self.0.lock().unwrap().iter() {
            check(events).unwrap_or_else(|broken| panic!("{task}: {broken}: {events:#?}"));
        }
    }
}

fn check(events: &[Event]) -> Result<(), &'static str> {
    let mut attempts = HashSet::new();
    let mut ends = 0;
    for event in events {
        let attempt = match event.did {
            Did::Claimed(attempt) => {
                if !attempts.insert(attempt) {
                    return Err("an attempt was delivered twice");
                }
                continue;
            }
            Did::Kept(attempt) => attempt,
            Did::Finished(attempt) => {
                ends += 1;
                attempt
            }
        };
        // Only what certainly came in this order counts: answered before the other was asked.
        let superseded = events.iter().any(|other| match other.did {
            Did::Claimed(later) => later > attempt && other.ended < event.began,
            _ => false,
        });
        if superseded {
            return Err("a call was accepted from an attempt that another one had followed");
        }
    }
    if ends > 1 { Err("it ended more than once") } else { Ok(()) }
}
