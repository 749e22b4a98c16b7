//! The queue model in plain Rust: what the scripts must do, without Redis.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::view::View;
use super::world::{
    BACKOFF_MS, By, DLQ_MS, HOLD_MS, LEASE_MS, MAX_ATTEMPTS, MAX_BACKOFF_MS, NAMES, New,
    RETENTION_S, START, token,
};
use crate::model::Refusal;

/// One call of a script, or time going on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    Enqueue(Vec<New>),
    Claim { tenant: usize, queues: Vec<usize>, worker: &'static str, leases: Vec<u64> },
    Heartbeat { n: u64, by: By },
    Nack { n: u64, by: By, delay_ms: u64 },
    Abandon { n: u64, by: By, undelivered: bool },
    Submit { n: u64, by: By, kind: u8, verdict: u64 },
    Cancel { n: u64, tenant: usize },
    Redrive { queue: usize, ids: Vec<u64>, limit: u64 },
    Purge { queue: usize, ids: Vec<u64>, limit: u64 },
    Pause { queue: usize, paused: bool },
    Advance(u64),
    Sweep,
}

/// What a call answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Replayed, which task, whether the payload differs, due, ready tasks of its list (0: none).
    Enqueued(Vec<(bool, u64, bool, i64, u64)>),
    /// Task, attempt, lease id, lease end, ready since; and what is left.
    Claimed(Vec<(u64, u16, String, i64, i64)>, u64),
    Kept(i64, u16),
    /// Replayed, dead, delay, attempt.
    Nacked(bool, bool, u64, u16),
    /// Replayed, attempt, ready tasks of its list.
    Abandoned(bool, u16, u64),
    /// Replayed, which end.
    Submitted(bool, u16),
    Cancelled(u16),
    /// Tasks, deliveries withdrawn.
    Redriven(Vec<u64>, u64),
    Purged(u64),
    /// Ready tasks.
    Paused(u64),
    /// Due, then lease by lease: task, dead; then retired.
    Swept(u64, Vec<(u64, bool)>, u64),
    Refused(Refusal),
    Nothing,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Ready,
    Delayed(i64),
    Leased {
        until: i64,
        by: By,
    },
    /// Since when. Its body goes before the sweep takes it out.
    Dead(i64),
    /// How, by whom, with what verdict, until when it is kept.
    Done {
        kind: u8,
        by: By,
        verdict: Option<u64>,
        until: i64,
    },
    Gone,
}

/// What the last attempt left, to answer a repeat.
#[derive(Clone, Debug, PartialEq)]
struct Left {
    attempts: u16,
    visible: i64,
    answer: Option<Repeatable>,
    by: By,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Repeatable {
    Delayed(u64),
    Dead,
    Abandoned,
}

#[derive(Clone, Debug)]
struct Task {
    new: New,
    max: u16,
    due: i64,
    place: Place,
    /// Of the current or last delivery.
    attempt: u16,
    ends: u16,
    left: Option<Left>,
}

/// The model.
#[derive(Clone, Debug)]
pub struct Reference {
    pub now: i64,
    tasks: BTreeMap<u64, Task>,
    ready: BTreeMap<(usize, u8), VecDeque<u64>>,
    waiting: BTreeMap<usize, i64>,
    paused: BTreeSet<usize>,
    deliveries: BTreeSet<(u64, u16)>,
}

fn ms(n: u64) -> i64 {
    i64::try_from(n).unwrap()
}

impl Reference {
    pub fn new() -> Self {
        Self {
            now: START,
            tasks: BTreeMap::new(),
            ready: BTreeMap::new(),
            waiting: BTreeMap::new(),
            paused: BTreeSet::new(),
            deliveries: BTreeSet::new(),
        }
    }

    /// Does what a script should.
    pub fn call(&mut self, call: &Call) -> Answer {
        let before = self.ready_of_all();
        let answer = match call {
            Call::Enqueue(all) => {
                Answer::Enqueued(all.iter().map(|new| self.enqueue(new)).collect())
            }
            Call::Claim { tenant, queues, worker, leases } => {
                self.claim(*tenant, queues, worker, leases)
            }
            Call::Heartbeat { n, by } => self.held(*n, by, |model| model.heartbeat(*n)),
            Call::Nack { n, by, delay_ms } => self.nack(*n, by, *delay_ms),
            Call::Abandon { n, by, undelivered: _ } => self.abandon(*n, by),
            Call::Submit { n, by, kind, verdict } => self.submit(*n, by, *kind, *verdict),
            Call::Cancel { n, tenant } => self.cancel(*n, *tenant),
            Call::Redrive { queue, ids, limit } => self.redrive(*queue, ids, *limit),
            Call::Purge { queue, ids, limit } => self.purge(*queue, ids, *limit),
            Call::Pause { queue, paused } => {
                if *paused {
                    self.paused.insert(*queue)
                } else {
                    self.paused.remove(queue)
                };
                Answer::Paused(before[*queue])
            }
            Call::Advance(by_ms) => self.advance(*by_ms),
            Call::Sweep => self.sweep(),
        };
        self.queues_wait(before);
        answer
    }

    /// Ready tasks of each queue.
    fn ready_of_all(&self) -> [u64; 4] {
        let mut all = [0; 4];
        for ((queue, _), list) in &self.ready {
            all[*queue] += list.len() as u64;
        }
        all
    }

    /// A queue enters the line of those with ready tasks behind the others, and leaves it drained.
    fn queues_wait(&mut self, before: [u64; 4]) {
        for (queue, ready) in self.ready_of_all().into_iter().enumerate() {
            if ready == 0 {
                self.waiting.remove(&queue);
            } else if before[queue] == 0 {
                self.waiting.insert(queue, self.now);
            }
        }
    }

    fn list(&mut self, n: u64) -> &mut VecDeque<u64> {
        let new = &self.tasks[&n].new;
        self.ready.entry((new.queue, new.priority)).or_default()
    }

    fn push(&mut self, n: u64) -> u64 {
        self.list(n).push_back(n);
        self.task(n).place = Place::Ready;
        self.list(n).len() as u64
    }

    fn task(&mut self, n: u64) -> &mut Task {
        self.tasks.get_mut(&n).expect("the caller found it")
    }

    /// Whether the body is there and the tenant's.
    fn exists(&self, n: u64, tenant: usize) -> bool {
        self.tasks.get(&n).is_some_and(|task| {
            let expired = matches!(task.place, Place::Dead(at) if at + ms(DLQ_MS) <= self.now);
            task.place != Place::Gone && !expired && task.new.queue / 2 == tenant
        })
    }

    fn enqueue(&mut self, new: &New) -> (bool, u64, bool, i64, u64) {
        if self.exists(new.n, new.queue / 2) {
            return (false, new.n, false, self.tasks[&new.n].due, 0);
        }
        let same = |task: &&Task| {
            new.key.is_some() && (task.new.queue, &task.new.key) == (new.queue, &new.key)
        };
        let known = self.tasks.values().filter(same).map(|task| task.new.n);
        if let Some(n) = known.into_iter().find(|n| self.exists(*n, new.queue / 2)) {
            return (true, n, self.tasks[&n].new.payload != new.payload, 0, 0);
        }
        let due = self.now + new.delay_ms;
        let max = if new.max == 0 { MAX_ATTEMPTS } else { new.max };
        let place = Place::Delayed(due);
        let task = Task { new: new.clone(), max, due, place, attempt: 0, ends: 0, left: None };
        self.tasks.insert(new.n, task);
        let length = if due > self.now { 0 } else { self.push(new.n) };
        (false, new.n, false, due, length)
    }

    fn claim(
        &mut self,
        tenant: usize,
        queues: &[usize],
        worker: &'static str,
        leases: &[u64],
    ) -> Answer {
        let any = queues.is_empty();
        let mut line: Vec<usize> = queues.to_vec();
        if any {
            line = self.waiting.keys().copied().filter(|queue| queue / 2 == tenant).collect();
            line.sort_by_key(|queue| (self.waiting[queue], NAMES.queues[*queue].as_str()));
        }
        let (mut taken, mut last) = (Vec::new(), None);
        for queue in line {
            while taken.len() < leases.len() && !self.paused.contains(&queue) {
                let lists = self.ready.range_mut((queue, 0)..=(queue, 9)).rev();
                let Some(n) = lists.into_iter().find_map(|(_, list)| list.pop_front()) else {
                    break;
                };
                taken.push(self.grant(n, tenant, worker, leases[taken.len()]));
                last = Some(queue);
            }
            if any {
                self.waiting.insert(queue, self.now);
            }
            if taken.len() == leases.len() {
                break;
            }
        }
        let left = last.map_or(0, |queue| self.ready_of_all()[queue]);
        Answer::Claimed(taken, left)
    }

    fn grant(
        &mut self,
        n: u64,
        tenant: usize,
        worker: &'static str,
        lease: u64,
    ) -> (u64, u16, String, i64, i64) {
        let until = self.now + ms(LEASE_MS);
        let task = self.task(n);
        let left = task.left.take();
        task.attempt = left.as_ref().map_or(0, |left| left.attempts) + 1;
        let visible = left.map_or(task.due, |left| left.visible);
        task.place = Place::Leased { until, by: By { tenant, worker, token: token(lease) } };
        (n, task.attempt, token(lease), until, visible)
    }

    /// Whether the caller may speak for a task.
    fn held(&mut self, n: u64, by: &By, step: impl FnOnce(&mut Self) -> Answer) -> Answer {
        if !self.exists(n, by.tenant) {
            return Answer::Refused(Refusal::NotFound);
        }
        let Place::Leased { by: holder, .. } = &self.task(n).place else {
            return Answer::Refused(Refusal::NotInProgress);
        };
        if !by.token.is_empty() && by.token != holder.token {
            return Answer::Refused(Refusal::LeaseLost);
        }
        if by.worker != holder.worker {
            return Answer::Refused(Refusal::NotOwner);
        }
        step(self)
    }

    /// What a call of the holder of the lease that ended last repeats.
    fn repeats(&self, n: u64, by: &By) -> Option<(Repeatable, u16)> {
        let left = self.tasks.get(&n)?.left.as_ref()?;
        let same =
            !by.token.is_empty() && (&left.by.token, left.by.worker) == (&by.token, by.worker);
        left.answer.filter(|_| same).map(|answer| (answer, left.attempts))
    }

    fn heartbeat(&mut self, n: u64) -> Answer {
        let end = self.now + ms(LEASE_MS);
        let task = self.task(n);
        if let Place::Leased { until, .. } = &mut task.place {
            *until = end;
        }
        Answer::Kept(end, task.attempt)
    }

    fn nack(&mut self, n: u64, by: &By, delay_ms: u64) -> Answer {
        let delay = if delay_ms == 0 { BACKOFF_MS } else { delay_ms.min(MAX_BACKOFF_MS) };
        let answer = self.held(n, by, |model| {
            let attempt = model.tasks[&n].attempt;
            let dead = model.failed(n, delay, true);
            Answer::Nacked(false, dead, if dead { 0 } else { delay }, attempt)
        });
        if answer != Answer::Refused(Refusal::NotInProgress) {
            return answer;
        }
        match self.repeats(n, by) {
            Some((Repeatable::Delayed(delay), at)) => Answer::Nacked(true, false, delay, at),
            Some((Repeatable::Dead, at)) => Answer::Nacked(true, true, 0, at),
            _ => answer,
        }
    }

    /// An attempt ends without success. Returns whether it was the last. Only a nack leaves an
    /// answer for its repeat: a lease that ran out ends all that it allowed.
    fn failed(&mut self, n: u64, delay_ms: u64, by_nack: bool) -> bool {
        let now = self.now;
        let task = self.task(n);
        let Place::Leased { by, .. } = task.place.clone() else { panic!("only a lease ends so") };
        let dead = task.attempt >= task.max;
        let due = now + ms(delay_ms);
        let (answer, visible) =
            if dead { (Repeatable::Dead, 0) } else { (Repeatable::Delayed(delay_ms), due) };
        task.left =
            Some(Left { attempts: task.attempt, visible, answer: by_nack.then_some(answer), by });
        if dead {
            task.place = Place::Dead(now);
            self.ended(n);
        } else {
            task.place = Place::Delayed(due);
        }
        dead
    }

    fn ended(&mut self, n: u64) -> u16 {
        let task = self.task(n);
        task.ends += 1;
        let (ends, hooked) = (task.ends, task.new.hooked);
        if hooked {
            self.deliveries.insert((n, ends));
        }
        ends
    }

    fn abandon(&mut self, n: u64, by: &By) -> Answer {
        let answer = self.held(n, by, |model| {
            let now = model.now;
            let task = model.task(n);
            let Place::Leased { by, .. } = task.place.clone() else { panic!("it is held") };
            let (attempts, answer) = (task.attempt - 1, Some(Repeatable::Abandoned));
            task.left = Some(Left { attempts, visible: now, answer, by });
            task.place = Place::Ready;
            model.list(n).push_front(n);
            Answer::Abandoned(false, attempts + 1, model.list(n).len() as u64)
        });
        match self.repeats(n, by) {
            Some((Repeatable::Abandoned, at))
                if answer == Answer::Refused(Refusal::NotInProgress) =>
            {
                Answer::Abandoned(true, at + 1, 0)
            }
            _ => answer,
        }
    }

    fn end(&mut self, n: u64, kind: u8, by: By, verdict: Option<u64>) -> u16 {
        let ends = self.ended(n);
        let keep = if self.tasks[&n].new.hooked { HOLD_MS } else { u64::from(RETENTION_S) * 1000 };
        let until = self.now + ms(keep);
        let task = self.task(n);
        task.left = None;
        task.place = Place::Done { kind, by, verdict, until };
        ends
    }

    fn submit(&mut self, n: u64, by: &By, kind: u8, verdict: u64) -> Answer {
        let answer = self.held(n, by, |model| {
            let Place::Leased { by, .. } = model.tasks[&n].place.clone() else {
                panic!("it is held")
            };
            Answer::Submitted(false, model.end(n, kind, by, Some(verdict)))
        });
        if answer == Answer::Refused(Refusal::NotInProgress)
            && let Place::Done { kind: had, by: its, verdict: said, .. } = &self.tasks[&n].place
            && (*had, *said, its.worker) == (kind, Some(verdict), by.worker)
            && (by.token.is_empty() || by.token == its.token)
        {
            return Answer::Submitted(true, self.tasks[&n].ends);
        }
        answer
    }

    fn cancel(&mut self, n: u64, tenant: usize) -> Answer {
        if !self.exists(n, tenant) {
            return Answer::Refused(Refusal::NotFound);
        }
        if !matches!(self.tasks[&n].place, Place::Ready | Place::Delayed(_)) {
            return Answer::Refused(Refusal::NotCancellable);
        }
        self.list(n).retain(|other| *other != n);
        let task = self.task(n);
        task.attempt = task.left.as_ref().map_or(0, |left| left.attempts);
        let nobody = By { tenant, worker: "", token: String::new() };
        Answer::Cancelled(self.end(n, 4, nobody, None))
    }

    /// Those an admin means, in the order of their death.
    fn chosen(&self, queue: usize, ids: &[u64], limit: u64) -> Vec<u64> {
        if !ids.is_empty() {
            return ids.to_vec();
        }
        let mut dead: Vec<(i64, u64)> = self.dead(queue).map(|(n, died)| (died, n)).collect();
        dead.sort_unstable();
        dead.into_iter().map(|(_, n)| n).take(usize::try_from(limit).unwrap()).collect()
    }

    fn dead(&self, queue: usize) -> impl Iterator<Item = (u64, i64)> {
        self.tasks.values().filter_map(move |task| match task.place {
            Place::Dead(died) if task.new.queue == queue => Some((task.new.n, died)),
            _ => None,
        })
    }

    fn redrive(&mut self, queue: usize, ids: &[u64], limit: u64) -> Answer {
        let (mut back, mut withdrawn) = (Vec::new(), 0);
        for n in self.chosen(queue, ids, limit) {
            if !self.dead(queue).any(|(dead, _)| dead == n) {
                continue;
            }
            if !self.exists(n, queue / 2) {
                self.task(n).place = Place::Gone;
                self.task(n).left = None;
                continue;
            }
            withdrawn += u64::from(self.deliveries.remove(&(n, self.tasks[&n].ends)));
            let now = self.now;
            let left = self.task(n).left.as_mut().expect("an attempt failed");
            (left.attempts, left.visible, left.answer) = (0, now, None);
            self.push(n);
            back.push(n);
        }
        Answer::Redriven(back, withdrawn)
    }

    fn purge(&mut self, queue: usize, ids: &[u64], limit: u64) -> Answer {
        let chosen = self.chosen(queue, ids, limit);
        let dead: BTreeSet<u64> = self.dead(queue).map(|(n, _)| n).collect();
        let gone: BTreeSet<u64> = chosen.into_iter().filter(|n| dead.contains(n)).collect();
        for n in &gone {
            self.task(*n).place = Place::Gone;
            self.task(*n).left = None;
        }
        Answer::Purged(gone.len() as u64)
    }

    fn advance(&mut self, by_ms: u64) -> Answer {
        self.now += ms(by_ms);
        let now = self.now;
        for task in self.tasks.values_mut() {
            if matches!(task.place, Place::Done { until, .. } if until <= now) {
                task.place = Place::Gone;
            }
        }
        Answer::Nothing
    }

    fn sweep(&mut self) -> Answer {
        let now = self.now;
        let mut due: Vec<(i64, u64)> = Vec::new();
        let mut late: Vec<(i64, u64)> = Vec::new();
        let mut retired = 0;
        for (n, task) in &mut self.tasks {
            match &task.place {
                Place::Delayed(at) if *at <= now => due.push((*at, *n)),
                Place::Leased { until, .. } if *until <= now => late.push((*until, *n)),
                Place::Dead(died) if died + ms(DLQ_MS) <= now => {
                    (task.place, task.left) = (Place::Gone, None);
                    retired += 1;
                }
                _ => {}
            }
        }
        due.sort_unstable();
        for (_, n) in &due {
            self.push(*n);
        }
        late.sort_unstable();
        let ended = late.into_iter().map(|(_, n)| (n, self.failed(n, BACKOFF_MS, false))).collect();
        Answer::Swept(due.len() as u64, ended, retired)
    }

    /// What should be seen.
    pub fn view(&self) -> View {
        let mut view = View { waiting: self.waiting.clone(), ..View::default() };
        view.paused.clone_from(&self.paused);
        view.deliveries.clone_from(&self.deliveries);
        for (at, list) in self.ready.iter().filter(|(_, list)| !list.is_empty()) {
            view.ready.insert(*at, list.iter().copied().collect());
        }
        for (n, task) in &self.tasks {
            let state = match &task.place {
                Place::Ready => Some(0),
                Place::Delayed(due) => {
                    view.delayed.insert(*n, *due);
                    Some(1)
                }
                Place::Leased { until, by } => {
                    let lease =
                        (*until, task.attempt, task.ends, by.token.clone(), by.worker.into());
                    view.leased.insert(*n, lease);
                    Some(2)
                }
                Place::Dead(died) => {
                    view.dead.entry(task.new.queue).or_default().insert(*n, *died);
                    if self.exists(*n, task.new.queue / 2) {
                        view.done.insert(*n, (3, task.ends, task.attempt));
                    }
                    Some(3)
                }
                Place::Done { kind, .. } => {
                    view.done.insert(*n, (*kind, task.ends, task.attempt));
                    None
                }
                Place::Gone => None,
            };
            if let Some(state) = state {
                view.counts.entry(task.new.queue).or_default()[state] += 1;
            }
            if let Some(left) = &task.left {
                view.attempted.insert(*n, (left.attempts, task.ends));
            }
            if let Some(key) = task.new.key.clone().filter(|_| self.exists(*n, task.new.queue / 2))
            {
                view.keys.insert((task.new.queue, key), *n);
            }
        }
        view
    }

    /// The lease id and worker that a task has, or had last.
    pub fn holder(&self, n: u64) -> Option<By> {
        let task = self.tasks.get(&n)?;
        match &task.place {
            Place::Leased { by, .. } | Place::Done { by, .. } => Some(by.clone()),
            _ => task.left.as_ref().map(|left| left.by.clone()),
        }
    }

    /// Tasks that somebody holds, that answer a repeat, and that can be cancelled.
    pub fn groups(&self) -> [Vec<u64>; 3] {
        let mut groups = [const { Vec::new() }; 3];
        for (n, task) in &self.tasks {
            match task.place {
                Place::Leased { .. } => groups[0].push(*n),
                Place::Done { .. } => groups[1].push(*n),
                Place::Ready | Place::Delayed(_) => groups[2].push(*n),
                _ => {}
            }
            if task.left.as_ref().is_some_and(|left| left.answer.is_some()) {
                groups[1].push(*n);
            }
        }
        groups
    }

    /// The queue of a task.
    pub fn queue_of(&self, n: u64) -> Option<usize> {
        self.tasks.get(&n).map(|task| task.new.queue)
    }

    /// Whether a task of that number was made and is gone: a node never makes an id twice.
    pub fn is_gone(&self, n: u64) -> bool {
        self.tasks.get(&n).is_some_and(|task| !self.exists(n, task.new.queue / 2))
    }
}
