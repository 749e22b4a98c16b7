use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::Notify;

use crate::model::TaskId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Held, Wait, Wakeup};
use crate::telemetry::waits::Point;

/// Reads of this node that wait for a result.
#[derive(Clone)]
pub struct ResultWaiters(Arc<Inner>);

struct Inner {
    waiting: Mutex<HashMap<TaskId, (Arc<Bell>, usize)>>,
    metrics: Metrics,
}

#[derive(Default)]
struct Bell {
    notify: Notify,
    /// It rang because messages may have been missed, and not by one.
    is_a_guess: AtomicBool,
}

impl Bell {
    fn ring(&self, is_a_guess: bool) {
        self.is_a_guess.store(is_a_guess, Ordering::Relaxed);
        self.notify.notify_waiters();
    }
}

/// One that waits.
pub struct Awaiting {
    waiters: ResultWaiters,
    id: TaskId,
    bell: Arc<Bell>,
    _counted: Held,
}

impl ResultWaiters {
    /// Nobody waits yet.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), metrics }))
    }

    /// Joins those who wait for this task. Do so before looking.
    pub fn join(&self, id: TaskId) -> Awaiting {
        let bell = {
            let mut waiting = self.waiting();
            let entry = waiting.entry(id).or_default();
            entry.1 += 1;
            entry.0.clone()
        };
        let counted = self.0.metrics.waiters.with(Wait::Result).hold();
        Awaiting { waiters: self.clone(), id, bell, _counted: counted }
    }

    /// The task ended.
    pub fn wake(&self, id: &TaskId) {
        if let Some((bell, _)) = self.waiting().get(id) {
            bell.ring(false);
        }
    }

    /// Messages may have been missed: everybody looks once.
    pub fn wake_all(&self) {
        for (bell, _) in self.waiting().values() {
            bell.ring(true);
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<TaskId, (Arc<Bell>, usize)>> {
        self.0.metrics.waits().lock(Point::LockResults, &self.0.waiting)
    }
}

impl Awaiting {
    /// Resolves at the next wake-up after this call, if it is polled or `enable`d before.
    pub fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.bell.notify.notified()
    }

    /// What the last wake-up was.
    pub fn source(&self) -> Wakeup {
        match self.bell.is_a_guess.load(Ordering::Relaxed) {
            true => Wakeup::ResultPoll,
            false => Wakeup::ResultPubsub,
        }
    }
}

impl Drop for Awaiting {
    fn drop(&mut self) {
        let mut waiting = self.waiters.waiting();
        if let Some(entry) = waiting.get_mut(&self.id) {
            entry.1 -= 1;
            if entry.1 == 0 {
                waiting.remove(&self.id);
            }
        }
    }
}
