//! What a handler can reach. Cheap to clone; holds nothing that can be lost.

pub mod artifacts;
pub(crate) mod depths;
mod destinations;
pub mod keys;
pub(crate) mod labels;
mod nudges;
mod outbox;
pub(crate) mod rate_limit;
mod recoveries;
mod result_waiters;
mod tenants;
mod waiters;
mod wakes;
pub(crate) mod workers;

use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::auth::Auth;
use crate::config::Settings;
use crate::egress::Egress;
use crate::model::{Command, Partition, Partitions, QueueName};
use crate::objects::Objects;
use crate::store::Store;
use crate::telemetry::{LogControl, Metrics};

pub use artifacts::{Deletions, NotStored, Submitter};
pub use depths::{Counted, Depth};
pub use destinations::{Destination, KnownDestinations, Sight};
pub use labels::Labels;
pub use nudges::{Cause, Nudges};
pub use outbox::{Outbox, Todo};
pub use rate_limit::{NotTaken, Scope};
pub use recoveries::Recoveries;
pub use result_waiters::{Awaiting, ResultWaiters};
pub use tenants::TenantCounts;
pub use waiters::{Turn, Waiter, Waiters, Wanted};
pub use wakes::Peek;
pub use workers::Workers;

/// Everything a handler can reach.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// The parts of an [`App`].
pub struct Parts {
    /// What the operator set.
    pub settings: Arc<Settings>,
    /// Redis.
    pub store: Store,
    /// Who a token is.
    pub auth: Auth,
    /// The way to receivers of webhooks.
    pub egress: Egress,
    /// Where artifacts lie.
    pub objects: Objects,
    /// Turns at deleting artifacts.
    pub deletions: Deletions,
    /// What is counted.
    pub metrics: Metrics,
    /// Where things live.
    pub partitions: Partitions,
    /// The metric labels of commands.
    pub labels: Labels,
    /// What is counted per tenant, if the settings name any.
    pub tenants: TenantCounts,
    /// Workers that called this node lately.
    pub workers: Workers,
    /// Claims that wait for a task.
    pub waiters: Waiters,
    /// Reads that wait for a result.
    pub results: ResultWaiters,
    /// What this node knows of deliveries that are due.
    pub outbox: Outbox,
    /// Queues that became ready, for those who tell subscribers.
    pub nudges: Nudges,
    /// What this node knows of destinations of webhooks.
    pub destinations: KnownDestinations,
    /// What this node knows of recoveries that want to be carried on.
    pub recoveries: Recoveries,
    /// What is written to the log.
    pub log: LogControl,
    /// Whether the store was looked at and may be used.
    open: AtomicBool,
    /// Cancelled when the node drains: waits answer at once.
    pub draining: CancellationToken,
    /// Work that goes on behind an answer; the node waits for it when it stops.
    pub background: TaskTracker,
}

/// The machinery that a node brings along.
pub struct Machinery {
    /// Redis.
    pub store: Store,
    /// Who a token is.
    pub auth: Auth,
    /// The way to receivers of webhooks.
    pub egress: Egress,
    /// Where artifacts lie.
    pub objects: Objects,
    /// What is counted.
    pub metrics: Metrics,
    /// What is written to the log.
    pub log: LogControl,
}

impl App {
    /// Puts the parts together; nothing runs yet.
    pub fn new(
        settings: Arc<Settings>,
        machinery: Machinery,
        partitions: Partitions,
        draining: CancellationToken,
    ) -> Self {
        let Machinery { store, auth, egress, objects, metrics, log } = machinery;
        Self(Arc::new(Parts {
            labels: Labels::new(&settings.metrics, metrics.clone()),
            tenants: TenantCounts::new(&settings.metrics.tenants, &metrics),
            workers: Workers::default(),
            waiters: Waiters::new(metrics.clone()),
            results: ResultWaiters::new(metrics.clone()),
            outbox: Outbox::default(),
            nudges: Nudges::default(),
            destinations: KnownDestinations::default(),
            recoveries: Recoveries::default(),
            settings,
            store,
            auth,
            egress,
            objects,
            deletions: Deletions::default(),
            metrics,
            partitions,
            log,
            open: AtomicBool::new(false),
            draining,
            background: TaskTracker::new(),
        }))
    }

    /// Lets calls in: the store is one that this node may use.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    /// Whether calls are let in.
    pub fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

    /// The rules by which failed attempts go on, as scripts take them.
    pub fn rules(&self) -> Rules {
        let tasks = &self.settings.tasks;
        let ms = |seconds: u32| u64::from(seconds) * 1000;
        Rules {
            policy: tasks.backoff.policy.as_str(),
            base_ms: ms(tasks.backoff.base_seconds),
            max_ms: ms(tasks.backoff.max_seconds),
            dlq_ms: ms(tasks.dlq_retention_seconds),
            hold_ms: self.hold_ms(),
            age_ms: whole_ms(self.settings.webhook.max_age),
            lost_ms: whole_ms(self.settings.webhook.dead_retention),
        }
    }

    /// The least time, in ms, that a task is kept after its end while its webhook is pending: as
    /// long as a delivery may be pending, and a day in which no node need be there to notice.
    pub fn hold_ms(&self) -> u64 {
        whole_ms(self.settings.webhook.max_age + Duration::from_secs(86_400))
    }

    /// The partitions that a queue lies on: one, or several when its command is spread.
    pub fn partitions_of(
        &self,
        queue: &QueueName,
        command: &Command,
    ) -> impl Iterator<Item = Partition> + use<> {
        let (partitions, queue) = (self.partitions.clone(), *queue);
        let shards = self.settings.spread_of(command).clamp(1, partitions.count());
        (0..shards).map(move |shard| partitions.of_shard(&queue, shard))
    }
}

/// How failed attempts go on.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// Name of the backoff policy.
    pub policy: &'static str,
    /// Its base.
    pub base_ms: u64,
    /// Its longest delay.
    pub max_ms: u64,
    /// How long a dead task stays.
    pub dlq_ms: u64,
    /// The least retention while a delivery is pending.
    pub hold_ms: u64,
    /// How long a delivery may be pending.
    pub age_ms: u64,
    /// How long a dead delivery stays.
    pub lost_ms: u64,
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).expect("settings bound it")
}

impl Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}
