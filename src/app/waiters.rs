use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::model::QueueName;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Held, Wait, Wakeup};
use crate::telemetry::waits::Point;

/// Claims of this node that wait for a task.
///
/// First come, first served. A wake-up for `n` tasks gives a turn to at most `n` waiters, so ten
/// thousand of them and one task cause one claim. A turn that its waiter cannot use goes on to the
/// next one.
#[derive(Clone)]
pub struct Waiters(Arc<Inner>);

struct Inner {
    lines: Mutex<Lines>,
    metrics: Metrics,
}

#[derive(Default)]
struct Lines {
    next_ticket: u64,
    by_queue: HashMap<QueueName, BTreeMap<u64, Arc<Place>>>,
    /// Waiters for any queue, by the tenant's tag.
    by_tenant: HashMap<String, BTreeMap<u64, Arc<Place>>>,
}

/// What a claim waits for.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Any of these queues.
    Queues(Vec<QueueName>),
    /// Any queue of the tenant with this tag.
    Any(String),
}

/// What gave a waiter its turn.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Turn {
    /// A message said that a task is there.
    Message,
    /// The safety poll found one.
    Poll,
}

impl Turn {
    fn source(self) -> Wakeup {
        match self {
            Self::Message => Wakeup::ClaimPubsub,
            Self::Poll => Wakeup::ClaimPoll,
        }
    }
}

const IDLE: u8 = 0;
const WOKEN: u8 = 1;
const WOKEN_BY_POLL: u8 = 2;

struct Place {
    state: AtomicU8,
    /// Set while a claim of this waiter is under way.
    looking: AtomicBool,
    woken_for: Mutex<Option<QueueName>>,
    notify: Notify,
}

/// A place in line; leaving it passes an unused turn on.
pub struct Waiter {
    waiters: Waiters,
    wanted: Wanted,
    ticket: u64,
    place: Arc<Place>,
    _counted: Held,
}

impl Waiters {
    /// Nobody waits yet.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { lines: Mutex::default(), metrics }))
    }

    /// Joins the line. Do so before looking for a task, so that none can come between.
    pub fn join(&self, wanted: Wanted) -> Waiter {
        let place = Arc::new(Place {
            state: AtomicU8::new(IDLE),
            looking: AtomicBool::new(false),
            woken_for: Mutex::default(),
            notify: Notify::new(),
        });
        let mut lines = self.lines();
        let ticket = lines.next_ticket;
        lines.next_ticket += 1;
        match &wanted {
            Wanted::Queues(queues) => {
                for queue in queues {
                    lines.by_queue.entry(*queue).or_default().insert(ticket, place.clone());
                }
            }
            Wanted::Any(tenant) => {
                lines.by_tenant.entry(tenant.clone()).or_default().insert(ticket, place.clone());
            }
        }
        drop(lines);
        let counted = self.0.metrics.waiters.with(Wait::Claim).hold();
        Waiter { waiters: self.clone(), wanted, ticket, place, _counted: counted }
    }

    /// A queue has `tasks` ready tasks that nobody was told of.
    pub fn wake(&self, queue: &QueueName, tasks: usize, turn: Turn) {
        let lines = self.lines();
        let mut of_queue = lines.by_queue.get(queue).into_iter().flatten().peekable();
        let mut of_tenant =
            lines.by_tenant.get(queue.tenant_tag()).into_iter().flatten().peekable();
        let mut left = tasks;
        while left > 0 {
            // The older of the two lines' heads.
            let place = match (of_queue.peek(), of_tenant.peek()) {
                (Some((a, _)), Some((b, _))) if a > b => of_tenant.next(),
                (Some(_), _) => of_queue.next(),
                (None, _) => of_tenant.next(),
            };
            let Some((_, place)) = place else { return };
            left -= usize::from(place.give(queue, turn));
        }
    }

    /// Messages may have been missed: everybody looks once.
    pub fn wake_all(&self) {
        let lines = self.lines();
        for place in
            lines.by_queue.values().chain(lines.by_tenant.values()).flat_map(BTreeMap::values)
        {
            place.state.store(WOKEN_BY_POLL, Ordering::Release);
            place.notify.notify_one();
        }
    }

    /// What somebody here waits for: queues, and tags of tenants.
    pub fn waited_for(&self) -> (Vec<QueueName>, Vec<String>) {
        let lines = self.lines();
        (lines.by_queue.keys().copied().collect(), lines.by_tenant.keys().cloned().collect())
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.metrics.waits().lock(Point::LockWaiters, &self.0.lines)
    }
}

impl Place {
    /// Whether the place took the turn: it had none yet.
    fn give(&self, queue: &QueueName, turn: Turn) -> bool {
        let woken = if turn == Turn::Message { WOKEN } else { WOKEN_BY_POLL };
        let taken =
            self.state.compare_exchange(IDLE, woken, Ordering::AcqRel, Ordering::Acquire).is_ok();
        if taken {
            *self.woken_for.lock().unwrap_or_else(PoisonError::into_inner) = Some(*queue);
            self.notify.notify_one();
        }
        taken
    }
}

impl Waiter {
    /// Waits for a turn. A turn that came since the last one is taken at once.
    pub async fn turn(&self) -> Turn {
        loop {
            let notified = self.place.notify.notified();
            match self.place.state.load(Ordering::Acquire) {
                WOKEN => return self.counted(Turn::Message),
                WOKEN_BY_POLL => return self.counted(Turn::Poll),
                _ => notified.await,
            }
        }
    }

    fn counted(&self, turn: Turn) -> Turn {
        self.waiters.0.metrics.wakeups.with(turn.source()).inc();
        turn
    }

    /// The claim that was given this turn is answered, so long after the task was ready.
    pub fn answered(&self, turn: Turn, latency: Duration) {
        let latencies = &self.waiters.0.metrics.wakeup_latency;
        latencies.with(turn.source()).observe(latency.as_secs_f64());
    }

    /// The waiter is about to look: from now on a wake-up is a new turn.
    pub fn looks(&self) {
        self.place.looking.store(true, Ordering::Release);
        self.place.state.store(IDLE, Ordering::Release);
    }

    /// The waiter has looked.
    pub fn looked(&self) {
        self.place.looking.store(false, Ordering::Release);
    }
}

impl Drop for Waiter {
    fn drop(&mut self) {
        let mut lines = self.waiters.lines();
        match &self.wanted {
            Wanted::Queues(queues) => {
                for queue in queues {
                    remove(&mut lines.by_queue, queue, self.ticket);
                }
            }
            Wanted::Any(tenant) => remove(&mut lines.by_tenant, tenant, self.ticket),
        }
        drop(lines);
        // Out of the line no further turn can come; one that came, or whose use was cut short, goes on.
        let unused = self.place.state.load(Ordering::Acquire) != IDLE;
        if unused || self.place.looking.load(Ordering::Acquire) {
            let queue = *self.place.woken_for.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(queue) = queue {
                self.waiters.wake(&queue, 1, Turn::Message);
            }
        }
    }
}

fn remove<K: std::hash::Hash + Eq>(
    lines: &mut HashMap<K, BTreeMap<u64, Arc<Place>>>,
    line: &K,
    ticket: u64,
) {
    if let Some(places) = lines.get_mut(line) {
        places.remove(&ticket);
        if places.is_empty() {
            lines.remove(line);
        }
    }
}
