use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::TaskId;

/// Recoveries that somebody may have to carry on: only their ids. What they are and how far they
/// came is in the store; what is lost here is found by the next sweep.
#[derive(Default)]
pub struct Recoveries {
    due: Mutex<BTreeSet<TaskId>>,
    changed: Notify,
}

impl Recoveries {
    /// Says that one is due.
    pub fn nudge(&self, id: TaskId) {
        self.due.lock().unwrap_or_else(PoisonError::into_inner).insert(id);
        self.changed.notify_one();
    }

    /// Takes those that are due; waits until there is one.
    pub async fn next(&self) -> BTreeSet<TaskId> {
        loop {
            let changed = self.changed.notified();
            let due = std::mem::take(&mut *self.due.lock().unwrap_or_else(PoisonError::into_inner));
            if !due.is_empty() {
                return due;
            }
            changed.await;
        }
    }
}
