//! Waking waiters on other nodes: one channel per partition, subscribed only while somebody here
//! waits. A lost message costs latency, never a task: waiters poll slowly as well.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::{PushInfo, PushKind, Value};
use tokio::sync::{Notify, broadcast, mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until, timeout};

use super::lane::Lane;
use super::link::{Broken, Link, Live, State};
use super::publish::Publisher;
use crate::model::{Partition, Partitions};

/// How long a node stays subscribed after its last waiter left: waiters come and go.
const LINGER: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 10_000 });
/// How often a subscribed connection is asked whether it is still alive.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Messages that a slow reader may fall behind.
const BEHIND: usize = 4096;

/// What a node hears.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Somebody published.
    Message {
        /// On which partition's channel; what is said to the whole fleet comes behind the last.
        partition: Partition,
        /// What.
        text: Arc<str>,
    },
    /// The subscription was interrupted, and is whole again: wake everything once. A reader that
    /// lags ([`broadcast::error::RecvError::Lagged`]) must do the same.
    MayHaveMissed,
}

/// The pub/sub side of a store.
pub(super) struct Wake {
    ears: Arc<Ears>,
    heard: broadcast::Sender<Heard>,
    /// Stands for the channel of the whole fleet, behind those of the partitions.
    fleet: Partition,
    outbox: mpsc::UnboundedSender<(Partition, String)>,
    subscriber: AbortHandle,
}

impl Drop for Wake {
    fn drop(&mut self) {
        // It holds its link; a store that is gone connects no more.
        self.subscriber.abort();
    }
}

impl Wake {
    /// Starts listening on `link` and publishing through `lane`.
    pub fn start(
        partitions: &Partitions,
        command_timeout: Duration,
        link: impl FnOnce(Box<dyn Fn(PushInfo) + Send + Sync>) -> Link,
        lane: Lane,
    ) -> Self {
        let of_partitions = partitions.all().map(|p| format!("{}:wake", partitions.root(p)));
        let of_fleet = format!("{}:fleet", partitions.root(Partition::new(0)));
        let channels: Arc<[String]> = of_partitions.chain([of_fleet]).collect();
        let fleet = Partition::new(partitions.count());
        let heard = broadcast::Sender::new(BEHIND);
        let ears = Arc::new(Ears::new(partitions.count() + 1));
        let subscriber = Subscriber {
            link: link(relay(&channels, heard.clone())),
            channels: channels.clone(),
            ears: ears.clone(),
            heard: heard.clone(),
            command_timeout,
            idle_since: HashMap::new(),
            interrupted: false,
        };
        let subscriber = tokio::spawn(subscriber.run()).abort_handle();
        let (outbox, inbox) = mpsc::unbounded_channel();
        tokio::spawn(Publisher::new(inbox, lane, channels).run());
        Self { ears, heard, fleet, outbox, subscriber }
    }

    pub fn publish(&self, partition: Partition, text: String) {
        // The publisher ends only with the store.
        let _ = self.outbox.send((partition, text));
    }

    pub fn publish_to_fleet(&self, text: String) {
        self.publish(self.fleet, text);
    }

    pub fn listen_to_fleet(&self) -> Listening {
        self.listen(self.fleet)
    }

    pub fn listen(&self, partition: Partition) -> Listening {
        Listening::new(self.ears.clone(), partition)
    }

    pub fn messages(&self) -> broadcast::Receiver<Heard> {
        self.heard.subscribe()
    }
}

/// Turns pushes of Redis into messages.
fn relay(
    channels: &Arc<[String]>,
    heard: broadcast::Sender<Heard>,
) -> Box<dyn Fn(PushInfo) + Send + Sync> {
    let numbered = channels.iter().zip(0..).map(|(name, number)| (name.clone(), number));
    let partitions: HashMap<String, u16> = numbered.collect();
    Box::new(move |push| {
        if push.kind != PushKind::Message {
            return;
        }
        if let [Value::BulkString(channel), Value::BulkString(text)] = &push.data[..]
            && let Ok(channel) = std::str::from_utf8(channel)
            && let Some(number) = partitions.get(channel)
        {
            let text = String::from_utf8_lossy(text).into();
            // Without a reader there is nobody to wake.
            let _ = heard.send(Heard::Message { partition: Partition::new(*number), text });
        }
    })
}

/// Who listens where.
struct Ears {
    partitions: Box<[Ear]>,
    changed: Notify,
}

struct Ear {
    listeners: AtomicUsize,
    ready: watch::Sender<bool>,
}

impl Ears {
    fn new(partitions: u16) -> Self {
        let ear = |_| Ear { listeners: AtomicUsize::new(0), ready: watch::Sender::new(false) };
        Self { partitions: (0..partitions).map(ear).collect(), changed: Notify::new() }
    }

    fn is_wanted(&self, index: usize) -> bool {
        self.partitions[index].listeners.load(Ordering::SeqCst) > 0
    }

    fn set_ready(&self, index: usize, ready: bool) {
        self.partitions[index].ready.send_replace(ready);
    }
}

/// While one of these lives, and some seconds after, this node hears a partition's messages.
pub struct Listening {
    ears: Arc<Ears>,
    index: usize,
}

impl Listening {
    fn new(ears: Arc<Ears>, partition: Partition) -> Self {
        let index = usize::from(partition.number());
        if ears.partitions[index].listeners.fetch_add(1, Ordering::SeqCst) == 0 {
            ears.changed.notify_one();
        }
        Self { ears, index }
    }

    /// Waits until Redis has confirmed the subscription: what is published from now on is heard,
    /// or [`Heard::MayHaveMissed`] says that it may not have been. Waits on while Redis is away.
    pub async fn ready(&self) {
        let mut ready = self.ears.partitions[self.index].ready.subscribe();
        // The sender lives in `self`, so there is no error.
        let _ = ready.wait_for(|ready| *ready).await;
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        if self.ears.partitions[self.index].listeners.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.ears.changed.notify_one();
        }
    }
}

/// Keeps the subscriptions of the node equal to what is wanted.
struct Subscriber {
    link: Link,
    channels: Arc<[String]>,
    ears: Arc<Ears>,
    heard: broadcast::Sender<Heard>,
    command_timeout: Duration,
    /// Since when nobody listens to a subscribed partition.
    idle_since: HashMap<usize, Instant>,
    /// Messages may have been lost since the last connection ended.
    interrupted: bool,
}

impl Subscriber {
    async fn run(mut self) {
        loop {
            if let State::Up(live) = self.link.state() {
                self.serve(live).await;
                self.idle_since.clear();
                self.interrupted = true;
                for index in 0..self.channels.len() {
                    self.ears.set_ready(index, false);
                }
            }
            // With the store gone the ears are ours alone, and nobody will ever listen again.
            let (gone, changed) = (Arc::strong_count(&self.ears) == 1, self.link.changed());
            if gone || !changed.await {
                return;
            }
        }
    }

    /// Serves one connection, to its end.
    async fn serve(&mut self, mut live: Live) {
        let mut subscribed = HashSet::new();
        let mut ask_at = Instant::now() + ASK_EVERY;
        loop {
            if self.reconcile(&mut live, &mut subscribed).await.is_none() {
                self.link.broken(live.number, Broken::Lost);
                return;
            }
            if std::mem::take(&mut self.interrupted) {
                // Without a reader there is nobody to wake.
                let _ = self.heard.send(Heard::MayHaveMissed);
            }
            let linger_ends = self.idle_since.values().min().map(|since| *since + LINGER);
            let wake_at = linger_ends.map_or(ask_at, |end| end.min(ask_at));
            tokio::select! {
                _ = self.link.changed() => return,
                () = self.ears.changed.notified() => {}
                () = sleep_until(wake_at) => {}
            }
            if Arc::strong_count(&self.ears) == 1 {
                return;
            }
            if Instant::now() >= ask_at {
                ask_at = Instant::now() + ASK_EVERY;
                let alive = subscribed.is_empty() || self.is_alive(&mut live).await;
                if !alive {
                    self.link.broken(live.number, Broken::Silent);
                    return;
                }
            }
        }
    }

    async fn is_alive(&self, live: &mut Live) -> bool {
        let ping = redis::cmd("PING");
        let answer = live.connection.send_packed_command(&ping);
        matches!(timeout(self.command_timeout, answer).await, Ok(Ok(_)))
    }

    /// Subscribes and unsubscribes what has changed. `None` when the connection failed.
    async fn reconcile(&mut self, live: &mut Live, subscribed: &mut HashSet<usize>) -> Option<()> {
        let new: Vec<usize> = (0..self.channels.len())
            .filter(|index| self.ears.is_wanted(*index) && !subscribed.contains(index))
            .collect();
        if !new.is_empty() {
            let names = self.names(&new);
            timeout(self.command_timeout, live.connection.subscribe(names)).await.ok()?.ok()?;
            for index in new {
                subscribed.insert(index);
                self.ears.set_ready(index, true);
            }
        }

        let now = Instant::now();
        let mut old = Vec::new();
        for index in subscribed.iter().copied() {
            if self.ears.is_wanted(index) {
                self.idle_since.remove(&index);
            } else if *self.idle_since.entry(index).or_insert(now) + LINGER <= now {
                // Who begins to listen now either sees `false` here and waits for the next
                // subscription, or is seen below and keeps this one.
                self.ears.set_ready(index, false);
                if self.ears.is_wanted(index) {
                    self.ears.set_ready(index, true);
                } else {
                    old.push(index);
                }
            }
        }
        if !old.is_empty() {
            let names = self.names(&old);
            timeout(self.command_timeout, live.connection.unsubscribe(names)).await.ok()?.ok()?;
            for index in old {
                subscribed.remove(&index);
                self.idle_since.remove(&index);
            }
            // Who began to listen meanwhile has left a notice, so the next round subscribes again.
        }
        Some(())
    }

    fn names(&self, indexes: &[usize]) -> Vec<&str> {
        indexes.iter().map(|index| self.channels[*index].as_str()).collect()
    }
}
