//! The messages by which nodes tell each other that there is something to look for.

use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::broadcast::error::RecvError;
use tokio_util::sync::CancellationToken;

use crate::model::record;
use crate::model::{Partition, QueueName, TaskId};
use crate::script;
use crate::store::Heard;

use super::{App, Cause, Turn};

script! {
    /// Whether there is something ready.
    pub struct Peek<'a> = "peek", read, repeatable {
        once {}
        each { queue: &'a str, tenant: &'a str }
    } -> Peeked { ready: u64 }
}

/// How often waiters look without having been told: it covers messages that got lost.
const SAFETY_POLL: Duration = Duration::from_millis(1900);
/// How long a message may take that was sent.
const ON_THE_WAY: Duration = Duration::from_millis(100);

impl App {
    /// Tells the fleet that a queue went from empty to not empty, and hands it over to those who
    /// tell subscribers. `cause` is the task that did it, put together only if somebody may ask.
    pub fn announce_ready(
        &self,
        partition: Partition,
        queue: &QueueName,
        cause: impl FnOnce() -> Cause,
    ) {
        self.store.publish(partition, format!("q{}", queue.as_str()));
        self.nudges.offer(queue, cause);
    }

    /// Tells the fleet that a task came back to the head of its queue, if that was empty.
    /// `latest` is the trace context it came back with.
    pub fn returned(&self, id: &TaskId, head: &[u8], length: u64, latest: Option<String>) {
        if length == 1
            && let Ok(body) = record::Body::read_head(head)
        {
            let queue = body.queue;
            self.announce_ready(id.partition(), &queue, || Cause::of(body, latest));
        }
    }

    /// Tells the fleet that a task whose result is waited for has ended.
    pub fn announce_done(&self, id: &TaskId) {
        self.results.wake(id);
        self.store.publish(id.partition(), format!("d{}", id.short()));
    }

    /// Asks other nodes to look at a partition whose deliveries this one has no room for.
    pub fn ask_for_help(&self, partition: Partition) {
        self.store.publish_to_fleet(format!("o{}", partition.number()));
    }

    /// Hands messages to those who wait, and polls slowly for those that got lost.
    pub async fn run_wakes(self, stop: CancellationToken) {
        let missed = Notify::new();
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.hear_all(&missed) => {}
            () = self.poll_all(&missed) => {}
        }
    }

    async fn hear_all(&self, missed: &Notify) {
        let mut messages = self.store.messages();
        loop {
            match messages.recv().await {
                Ok(Heard::Message { text, .. }) => self.hear(&text),
                Ok(Heard::MayHaveMissed) | Err(RecvError::Lagged(_)) => {
                    self.results.wake_all();
                    missed.notify_one();
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    /// Beside the hearing, so that no message waits for the answers of a poll.
    async fn poll_all(&self, missed: &Notify) {
        let mut poll = tokio::time::interval(SAFETY_POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = missed.notified() => {}
                _ = poll.tick() => {
                    // What became ready just now has its message under way: only what is still
                    // there after it should have come was not told.
                    if !self.is_promising().await {
                        continue;
                    }
                    tokio::time::sleep(ON_THE_WAY).await;
                }
            }
            self.poll_for_waiters(true).await;
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
            "o" => {
                if let Ok(number) = name.parse()
                    && number < self.partitions.count()
                {
                    self.outbox.hear(Partition::new(number));
                }
            }
            _ => {} // of a later version
        }
    }

    /// Whether there is something ready that a waiter of this node could take.
    async fn is_promising(&self) -> bool {
        self.poll_for_waiters(false).await
    }

    /// Asks once for all waiters of this node: one call per partition, however many they are. Says
    /// whether something is ready, and wakes those who wait for it.
    async fn poll_for_waiters(&self, wakes: bool) -> bool {
        let (queues, tenants) = self.waiters.waited_for();
        if queues.is_empty() && tenants.is_empty() {
            return false;
        }
        let of_queues = queues.iter().flat_map(|queue| {
            let spread = self.settings.spread.values().copied().max().unwrap_or(1).max(1);
            let shards = spread.min(self.partitions.count());
            (0..shards).map(move |shard| async move {
                let partition = self.partitions.of_shard(queue, shard);
                let peek = Peek { queue: queue.as_str(), tenant: "" };
                self.look(partition, peek, queue, wakes).await
            })
        });
        let of_tenants = tenants.iter().flat_map(|tenant| {
            self.partitions.all().map(move |partition| async move {
                let peek = Peek { queue: "", tenant };
                // No queue of that name need exist: the tenant's part of it is what counts.
                self.look(partition, peek, &QueueName::any_of(tenant), wakes).await
            })
        });
        let (of_queues, of_tenants) = tokio::join!(
            futures_util::future::join_all(of_queues),
            futures_util::future::join_all(of_tenants)
        );
        of_queues.into_iter().chain(of_tenants).any(|ready| ready)
    }

    async fn look(
        &self,
        partition: Partition,
        peek: Peek<'_>,
        queue: &QueueName,
        wakes: bool,
    ) -> bool {
        let Ok(Peeked { ready }) = self.store.run(partition, peek).await else { return false };
        if wakes {
            self.waiters.wake(queue, usize::try_from(ready).unwrap_or(0), Turn::Poll);
        }
        ready > 0
    }
}
