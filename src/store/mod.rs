//! Links to Redis, gathered calls, wake-ups. Everything that talks to Redis goes through here.
//!
//! Per primary there is one connection for scripts that write, one for reads and large values and
//! one for messages, each restoring itself (`link`). Calls of a kind are gathered while others
//! are under way (`lane`). Scripts are types ([`script`]), put together with their modules by
//! [`bundle`].

mod args;
pub mod bundle;
mod check;
mod connect;
#[cfg(test)]
pub(crate) mod direct;
mod error;
mod lane;
mod link;
mod memory;
mod publish;
mod reply;
pub mod script;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod wake;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use deadpool_redis::{Hook, Pool, Runtime, Timeouts};
use redis::AsyncConnectionConfig;
use smallvec::{SmallVec, smallvec};
use tokio::sync::broadcast;

pub use args::{Arg, Args};
pub use bundle::Library;
pub use check::{Finding, Findings, LAYOUT};
pub use connect::Options;
pub use error::Error;
pub use redis::Value;
pub use reply::{Field, Fields, Reply, Unexpected};
pub use script::{Class, Script, header};
pub use wake::{Heard, Listening};

use crate::model::{Partition, Partitions};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Cache, PoolState};
use crate::telemetry::trace;
use crate::telemetry::waits::Point;
use connect::{Primary, Topology};
use lane::{Answer, Called, Common, Job, Lane, Work, orphanage};
use link::Link;
use wake::Wake;

/// The store: one handle, cheap to clone. Connections end when the last one is dropped.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    partitions: Partitions,
    topology: Topology,
    /// By the index that the topology gives.
    primaries: Vec<Lanes>,
    wake: Wake,
    pool: Pool,
    nearly_full: AtomicBool,
    metrics: Metrics,
}

/// The lanes to one primary.
struct Lanes {
    /// Scripts that change something.
    write: Lane,
    /// Scripts that look.
    read: Lane,
    /// Large values beside the scripts, on the link of the reads, so that they delay no write.
    bulk: Lane,
}

impl Store {
    /// Makes a store. Needs a Tokio runtime; does no I/O itself, but connects in the background
    /// and goes on trying while Redis is away.
    pub fn new(options: Options, partitions: Partitions, metrics: Metrics) -> Self {
        let common = Common {
            library: options.library.clone(),
            metrics: metrics.clone(),
            command_timeout: options.command_timeout,
            roots: partitions.all().map(|p| partitions.root(p).into()).collect(),
        };
        let topology = Topology::new(&options);
        let primaries = topology.primaries();
        let lanes: Vec<Lanes> = primaries.iter().map(|p| Lanes::start(p, &common)).collect();
        let link = lanes[0].write.link().clone();
        let publish = Lane::start(link, common, Point::GatherPublish, Point::LinkPublish);
        let messages = primaries[0].clone();
        let wake = Wake::start(
            &partitions,
            options.command_timeout,
            |pushed| Link::start("messages", messages, pushed),
            publish,
        );
        let pool = pool(&options, &metrics);
        let nearly_full = AtomicBool::new(false);
        let primaries = lanes;
        let inner =
            Arc::new(Inner { partitions, topology, primaries, wake, pool, nearly_full, metrics });
        tokio::spawn(memory::watch(Arc::downgrade(&inner), options.soft_memory_ratio));
        Self(inner)
    }

    /// Runs one item of a script. It joins the next batch.
    ///
    /// A caller that goes away (drops the future) before the item is sent takes a `once_only`
    /// item with it; later the item is done, and its answer is lost with the caller. Where that
    /// matters, use [`run_with_orphan`](Self::run_with_orphan).
    ///
    /// # Errors
    /// See [`Error`]: each says whether something may have been done.
    pub async fn run<S: Script>(&self, partition: Partition, item: S) -> Result<S::Reply, Error> {
        let mut span = trace::store_call(S::NAME);
        let answered = async {
            let answer = self.call(partition, &item, None)?;
            drop(item);
            reply::read_item(S::NAME, answer.wait().await?)
        };
        answered.await.inspect_err(|error| error.fails(&mut span))
    }

    /// As [`run`](Self::run), with a home for the answer when the caller is not there any more: it
    /// dropped the future, or was told [`Error::OutcomeUnknown`] before the answer came. Each
    /// answer goes to exactly one of the two. It never arrives when its connection ends first.
    ///
    /// `on_orphan` is called within the runtime and must not block.
    pub async fn run_with_orphan<S: Script>(
        &self,
        partition: Partition,
        item: S,
        on_orphan: impl FnOnce(S::Reply) + Send + 'static,
    ) -> Result<S::Reply, Error> {
        let mut span = trace::store_call(S::NAME);
        let answered = async {
            let answer = self.call(partition, &item, Some(orphanage::<S>(on_orphan)))?;
            drop(item);
            reply::read_item(S::NAME, answer.wait().await?)
        };
        answered.await.inspect_err(|error| error.fails(&mut span))
    }

    fn call<S: Script>(
        &self,
        partition: Partition,
        item: &S,
        orphanage: Option<Arc<dyn lane::Orphanage>>,
    ) -> Result<lane::Pending, Error> {
        let work = Work::Item { script: Called::of::<S>(), partition, args: Args::of(item) };
        let lanes = self.lanes(partition);
        let lane = match S::CLASS {
            Class::Write => &lanes.write,
            Class::Read => &lanes.read,
        };
        let (job, pending) = Job::new(work, orphanage);
        lane.submit(job)?;
        Ok(pending)
    }

    /// Stores a large value beside a script, for `ttl`.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn put(
        &self,
        partition: Partition,
        key: String,
        bytes: Bytes,
        ttl: Duration,
    ) -> Result<(), Error> {
        let ttl_ms = ttl.as_millis().max(1).to_string();
        let word = Bytes::from_static;
        let args = smallvec![word(b"SET"), key.into(), bytes, word(b"PX"), ttl_ms.into()];
        self.command(&self.lanes(partition).bulk, "put", args).await.map(drop)
    }

    /// Reads values beside the scripts, in the order of the keys.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn get(
        &self,
        partition: Partition,
        keys: Vec<String>,
    ) -> Result<Vec<Option<Bytes>>, Error> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut args = smallvec![Bytes::from_static(b"MGET")];
        args.extend(keys.into_iter().map(Bytes::from));
        let Value::Array(values) = self.command(&self.lanes(partition).bulk, "get", args).await?
        else {
            return Err(Error::Script("MGET did not answer an array".into()));
        };
        Ok(values
            .into_iter()
            .map(|value| match value {
                Value::BulkString(bytes) => Some(bytes.into()),
                _ => None,
            })
            .collect())
    }

    async fn command(
        &self,
        lane: &Lane,
        operation: &'static str,
        args: SmallVec<[Bytes; 5]>,
    ) -> Answer {
        let (job, pending) = Job::new(Work::Command { operation, args }, None);
        lane.submit(job)?;
        pending.wait().await
    }

    /// Tells every node that listens to the partition, this one included. Returns at once; lost
    /// while Redis is away. Repetitions within 2 ms are sent once, at their end.
    pub fn publish(&self, partition: Partition, message: String) {
        self.0.wake.publish(partition, message);
    }

    /// Listens to a partition while the guard lives, and some seconds after.
    pub fn listen(&self, partition: Partition) -> Listening {
        self.0.wake.listen(partition)
    }

    /// Tells every node, whatever it listens to otherwise, as [`publish`](Self::publish) does.
    pub fn publish_to_fleet(&self, message: String) {
        self.0.wake.publish_to_fleet(message);
    }

    /// Listens to what is said to the whole fleet, as [`listen`](Self::listen).
    pub fn listen_to_fleet(&self) -> Listening {
        self.0.wake.listen_to_fleet()
    }

    /// What is heard on every partition this node listens to, from now on.
    pub fn messages(&self) -> broadcast::Receiver<Heard> {
        self.0.wake.messages()
    }

    /// Whether calls can be sent now.
    pub fn is_up(&self) -> bool {
        self.0.primaries.iter().all(|p| p.write.link().is_up() && p.read.link().is_up())
    }

    /// Waits until calls can be sent.
    pub async fn up(&self) {
        for primary in &self.0.primaries {
            primary.write.link().up().await;
            primary.read.link().up().await;
        }
    }

    /// Waits until another connection is up than the one of this number (0: any), and gives its
    /// number. Behind another connection may be a Redis that was started anew: what was read from
    /// it before may no longer be so.
    pub async fn another_connection(&self, than: u64) -> u64 {
        self.0.primaries[0].write.link().another(than).await
    }

    /// How long Redis takes to answer on the link of the writes.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub async fn ping(&self) -> Result<Duration, Error> {
        let start = Instant::now();
        for primary in &self.0.primaries {
            let args = smallvec![Bytes::from_static(b"PING")];
            self.command(&primary.write, "ping", args).await?;
        }
        Ok(start.elapsed())
    }

    /// A connection for rare work, pinged before it is handed out: never for a task's way.
    ///
    /// # Errors
    /// When none comes free, or Redis does not answer, in time.
    pub async fn rare(&self) -> Result<deadpool_redis::Connection, deadpool_redis::PoolError> {
        let status = self.0.pool.status();
        let is_empty = status.available == 0 && status.size >= status.max_size;
        let _waiting = is_empty.then(|| self.0.metrics.waits().begin(Point::Pool));
        self.0.pool.get().await
    }

    /// Connections for rare work that are borrowed, that wait, and how many there may be.
    pub fn borrowed(&self) -> [usize; 3] {
        let status = self.0.pool.status();
        [status.size.saturating_sub(status.available), status.available, status.max_size]
    }

    /// Shows in the metrics how the pool is used.
    pub fn show_pool(&self) {
        let states = [PoolState::InUse, PoolState::Idle, PoolState::Max];
        for (state, count) in states.into_iter().zip(self.borrowed()) {
            #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
            self.0.metrics.store_pool_connections.with(state).set(count as f64);
        }
    }

    /// Whether Redis uses more of its `maxmemory` than the soft limit: creates are refused, so
    /// that the rest can drain it. Read once a second; without `maxmemory` never.
    pub fn nearly_full(&self) -> bool {
        self.0.nearly_full.load(std::sync::atomic::Ordering::Relaxed)
    }

    /// The map of partitions.
    pub fn partitions(&self) -> &Partitions {
        &self.0.partitions
    }

    fn lanes(&self, partition: Partition) -> &Lanes {
        &self.0.primaries[self.0.topology.of(partition)]
    }
}

impl Lanes {
    fn start(primary: &Primary, common: &Common) -> Self {
        let write = Link::start("writes", primary.clone(), drop);
        let read = Link::start("reads", primary.clone(), drop);
        Self {
            write: Lane::start(write, common.clone(), Point::GatherWrite, Point::LinkWrite),
            read: Lane::start(read.clone(), common.clone(), Point::GatherRead, Point::LinkRead),
            bulk: Lane::start(read, common.clone(), Point::GatherBulk, Point::LinkBulk),
        }
    }
}

/// The pool for rare work. Its own defaults would wait without end.
fn pool(options: &Options, metrics: &Metrics) -> Pool {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.command_timeout));
    let manager = deadpool_redis::Manager::new_with_config(options.tuned_address(), config)
        .expect("opening a client only copies the address");
    let timeouts = Timeouts {
        wait: Some(options.command_timeout),
        create: Some(options.connect_timeout),
        recycle: Some(options.command_timeout),
    };
    let counts = |cache| {
        let counter = metrics.cache_requests.with(cache).clone();
        Hook::sync_fn(move |_, _| {
            counter.inc();
            Ok(())
        })
    };
    Pool::builder(manager)
        .post_create(counts(Cache::ConnectionMiss))
        .post_recycle(counts(Cache::ConnectionHit))
        .max_size(options.pool_size)
        .timeouts(timeouts)
        .runtime(Runtime::Tokio1)
        .build()
        .expect("timeouts have a runtime")
}
