use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::Notify;

use crate::model::Partition;

/// What this node knows of deliveries that are due: only where to look. What is due is in the store;
/// what is lost here is found by the next sweep.
#[derive(Default)]
pub struct Outbox {
    todo: Mutex<BTreeMap<u16, Todo>>,
    changed: Notify,
}

/// What to look for in a partition.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Todo {
    /// Deliveries that are pending for too long, beside those that are due.
    pub aged: bool,
    /// Nobody else may know: the nudge is this node's own.
    pub own: bool,
}

impl Outbox {
    /// Says that something is due in a partition.
    pub fn nudge(&self, partition: Partition, aged: bool) {
        self.add(partition, Todo { aged, own: true });
    }

    /// Another node has said so.
    pub fn hear(&self, partition: Partition) {
        self.add(partition, Todo::default());
    }

    fn add(&self, partition: Partition, more: Todo) {
        let mut todo = self.todo.lock().unwrap_or_else(PoisonError::into_inner);
        todo.entry(partition.number()).or_default().merge(more);
        drop(todo);
        self.changed.notify_one();
    }

    /// Takes what there is to do; waits until there is something.
    pub async fn next(&self) -> Vec<(Partition, Todo)> {
        loop {
            let changed = self.changed.notified();
            let todo =
                std::mem::take(&mut *self.todo.lock().unwrap_or_else(PoisonError::into_inner));
            if !todo.is_empty() {
                let partition = |(number, todo)| (Partition::new(number), todo);
                return todo.into_iter().map(partition).collect();
            }
            changed.await;
        }
    }
}

impl Todo {
    /// Both.
    pub fn merge(&mut self, more: Self) {
        self.aged |= more.aged;
        self.own |= more.own;
    }
}
