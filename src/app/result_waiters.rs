use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::model::TaskId;
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Held, Wait};

/// Reads of this node that wait for a result.
#[derive(Clone)]
pub struct ResultWaiters(Arc<Inner>);

struct Inner {
    waiting: Mutex<HashMap<TaskId, (Arc<Notify>, usize)>>,
    metrics: Metrics,
}

/// One that waits.
pub struct Awaiting {
    waiters: ResultWaiters,
    id: TaskId,
    notify: Arc<Notify>,
    _counted: Held,
}

impl ResultWaiters {
    /// Nobody waits yet.
    pub fn new(metrics: Metrics) -> Self {
        Self(Arc::new(Inner { waiting: Mutex::default(), metrics }))
    }

    /// Joins those who wait for this task. Do so before looking.
    pub fn join(&self, id: TaskId) -> Awaiting {
        let notify = {
            let mut waiting = self.waiting();
            let entry = waiting.entry(id).or_default();
            entry.1 += 1;
            entry.0.clone()
        };
        let counted = self.0.metrics.waiters.with(Wait::Result).hold();
        Awaiting { waiters: self.clone(), id, notify, _counted: counted }
    }

    /// The task ended.
    pub fn wake(&self, id: &TaskId) {
        if let Some((notify, _)) = self.waiting().get(id) {
            notify.notify_waiters();
        }
    }

    /// Messages may have been missed: everybody looks once.
    pub fn wake_all(&self) {
        for (notify, _) in self.waiting().values() {
            notify.notify_waiters();
        }
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<TaskId, (Arc<Notify>, usize)>> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Awaiting {
    /// Resolves at the next wake-up after this call, if it is polled or `enable`d before.
    pub fn woken(&self) -> tokio::sync::futures::Notified<'_> {
        self.notify.notified()
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
