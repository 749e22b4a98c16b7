//! The messages by which nodes tell each other that there is something to look for.

use std::time::Duration;

use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::model::record;
use crate::model::{Partition, QueueName, TaskId};
use crate::script;
use crate::store::Heard;

use super::{App, Turn};

script! {
    /// Whether there is something ready.
    pub struct Peek<'a> = "peek", read, repeatable {
        once {}
        each { queue: &'a str, tenant: &'a str }
    } -> Peeked { ready: u64 }
}

/// How often waiters look without having been told: it covers messages that got lost.
const SAFETY_POLL: Duration = Duration::from_secs(2);

impl App {
    /// Tells the fleet that a queue went from empty to not empty.
    pub fn announce_ready(&self, partition: Partition, queue: &QueueName) {
        self.store.publish(partition, format!("q{}", queue.as_str()));
    }

    /// Tells the fleet that a task came back to the head of its queue, if that was empty.
    pub fn returned(&self, id: &TaskId, head: &[u8], length: u64) {
        if length == 1
            && let Ok(body) = record::Body::read_head(head)
        {
            self.announce_ready(id.partition(), &body.queue);
        }
    }

    /// Tells the fleet that a task whose result is waited for has ended.
    pub fn announce_done(&self, id: &TaskId) {
        self.results.wake(id);
        self.store.publish(id.partition(), format!("d{}", id.short()));
    }

    /// Hands messages to those who wait, and polls slowly for those that got lost.
    pub async fn run_wakes(self, stop: CancellationToken) {
        let mut messages = self.store.messages();
        let mut poll = tokio::time::interval(SAFETY_POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = poll.tick() => self.poll_for_waiters().await,
                heard = messages.recv() => match heard {
                    Ok(Heard::Message { text, .. }) => self.hear(&text),
                    Ok(Heard::MayHaveMissed) | Err(RecvError::Lagged(_)) => {
                        self.results.wake_all();
                        self.poll_for_waiters().await;
                    }
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    fn hear(&self, text: &str) {
        let Some((kind, name)) = text.split_at_checked(1) else { return };
        match kind {
            "q" => {
                if let Some(queue) = QueueName::from_text(name) {
                    self.waiters.wake(&queue, 1, Turn::Message);
                }
            }
            "d" => {
                if let Some(id) = TaskId::from_short(name) {
                    self.results.wake(&id);
                }
            }
            _ => {} // of a later version
        }
    }

    /// Asks once for all waiters of this node: one call per partition, however many they are.
    async fn poll_for_waiters(&self) {
        let (queues, tenants) = self.waiters.waited_for();
        if queues.is_empty() && tenants.is_empty() {
            return;
        }
        let of_queues = queues.iter().flat_map(|queue| {
            let spread = self.settings.spread.values().copied().max().unwrap_or(1).max(1);
            let shards = spread.min(self.partitions.count());
            (0..shards).map(move |shard| async move {
                let partition = self.partitions.of_shard(queue, shard);
                let peek = Peek { queue: queue.as_str(), tenant: "" };
                if let Ok(Peeked { ready }) = self.store.run(partition, peek).await {
                    self.waiters.wake(queue, usize::try_from(ready).unwrap_or(0), Turn::Poll);
                }
            })
        });
        let of_tenants = tenants.iter().flat_map(|tenant| {
            self.partitions.all().map(move |partition| async move {
                let peek = Peek { queue: "", tenant };
                if let Ok(Peeked { ready }) = self.store.run(partition, peek).await {
                    // No queue of that name need exist: the tenant's part of it is what counts.
                    let any = QueueName::any_of(tenant);
                    self.waiters.wake(&any, usize::try_from(ready).unwrap_or(0), Turn::Poll);
                }
            })
        });
        futures_util::future::join_all(of_queues).await;
        futures_util::future::join_all(of_tenants).await;
    }
}
