//! Gathering: while calls are under way, the next ones wait for each other and travel together.
//!
//! A lane is a bounded queue and one task that owns everything behind it, so the path of a call
//! has no lock and no timer: at low load a batch is one item and nothing waits. At most
//! [`FLIGHTS`] batches are under way; what arrives meanwhile forms the next one.
//!
//! ```text
//! run() ─► queue ─► batch ─► flight ─► landing ─► answer, or back to `held` for another flight
//! ```
//!
//! What is held goes before what is queued. A job leaves only with an answer, and the rule for
//! that answer is in [`Job::fail`]: once its outcome is unknown, nothing says "nothing was done".

#![expect(clippy::vec_box, reason = "a job moves often, from queue to batch to flight and back")]

mod batch;
mod flight;
mod job;
mod landing;

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use super::link::{Link, Live, State};
use super::{Error, Library};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::StoreFailure;
use crate::telemetry::waits::{Point, Tally};
use batch::{Batch, Scripts};
use flight::Flight;
pub(super) use job::{Answer, Called, Job, Orphanage, Pending, Work, orphanage};

/// Batches of a lane that are under way at once: the second keeps Redis busy while the answers of
/// the first are handed out. More would make batches smaller.
const FLIGHTS: usize = 2;
/// Most items of a batch. Twice as many gain nothing, and a script blocks Redis while it runs.
const BATCH_ITEMS: usize = 64;
/// Most bytes of a batch, unless one item alone has more.
const BATCH_BYTES: usize = 256 * 1024;
/// Most items that wait in a lane.
pub(super) const QUEUE_ITEMS: usize = 16_384;
/// Most bytes that wait in a lane: bodies are held in memory until they are sent.
const QUEUE_BYTES: usize = 64 * 1024 * 1024;

/// What all lanes of a store have in common.
#[derive(Clone)]
pub(super) struct Common {
    pub library: Library,
    pub metrics: Metrics,
    pub command_timeout: Duration,
    /// Root of each partition's keys.
    pub roots: Arc<[Box<str>]>,
}

/// The entrance to a lane. The lane ends when the last one is dropped.
#[derive(Clone)]
pub(super) struct Lane {
    queue: mpsc::Sender<Box<Job>>,
    waiting_bytes: Arc<AtomicUsize>,
    link: Link,
    metrics: Metrics,
}

impl Lane {
    /// `gather` and `bound` are where its items and its batches wait.
    pub fn start(link: Link, common: Common, gather: Point, bound: Point) -> Self {
        let (queue, jobs) = mpsc::channel(QUEUE_ITEMS);
        let waiting_bytes = Arc::new(AtomicUsize::new(0));
        let metrics = common.metrics.clone();
        let runner = Runner {
            queue: jobs,
            waiting_bytes: waiting_bytes.clone(),
            link: link.clone(),
            state: State::Dialing,
            held: VecDeque::new(),
            flights: FuturesUnordered::new(),
            scripts: Scripts::new(common.library.clone()),
            timeouts: 0,
            gathered: common.metrics.waits().tally(gather),
            bounded: common.metrics.waits().tally(bound),
            full_since: None,
            common,
        };
        tokio::spawn(runner.run());
        Self { queue, waiting_bytes, link, metrics }
    }

    /// How many jobs wait to be sent.
    #[cfg(test)]
    pub fn waiting(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// The link below.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// Hands a job in, unless it could only wait in vain.
    pub fn submit(&self, job: Box<Job>) -> Result<(), Error> {
        if self.link.is_down() {
            self.metrics.store_errors.with(StoreFailure::CircuitOpen).inc();
            return Err(Error::Unavailable);
        }
        let (operation, bytes) = (job.work.operation(), job.work.bytes());
        let waiting = self.waiting_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if waiting <= QUEUE_BYTES && self.queue.try_send(job).is_ok() {
            return Ok(());
        }
        self.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        self.metrics.store_errors.with(StoreFailure::QueueFull).inc();
        Err(Error::Full { operation })
    }
}

/// The task behind a lane.
struct Runner {
    queue: mpsc::Receiver<Box<Job>>,
    waiting_bytes: Arc<AtomicUsize>,
    link: Link,
    /// What the link said last. A connection that this lane gave up counts as dialing.
    state: State,
    /// Jobs on their way to another flight, and at most one that did not fit into the last batch.
    held: VecDeque<Box<Job>>,
    flights: FuturesUnordered<Flight>,
    scripts: Scripts,
    /// Flights in a row that no answer came to.
    timeouts: u32,
    /// How long items waited to be sent.
    gathered: Tally,
    /// How long batches waited for one under way to come back.
    bounded: Tally,
    /// Since when [`FLIGHTS`] are under way.
    full_since: Option<Instant>,
    common: Common,
}

impl Runner {
    async fn run(mut self) {
        loop {
            if self.link.has_changed() {
                self.state = self.link.state();
            }
            let room = self.send_or_refuse();
            let late = self.next_late();
            tokio::select! {
                biased;
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.land(landed),
                alive = self.link.changed() => if alive { self.state = self.link.state() } else { return },
                job = self.queue.recv(), if room => match job {
                    Some(job) => {
                        self.waiting_bytes.fetch_sub(job.work.bytes(), Ordering::Relaxed);
                        self.held.push_back(job);
                    }
                    None => return self.finish().await,
                },
                () = until(late) => {}
            }
        }
    }

    /// Does what the link allows, and says whether another job may be taken from the queue.
    ///
    /// Gathering empties the queue unless two flights are under way, so waiting for a job then
    /// misses none. While dialing the queue keeps its jobs, with their order and its limit.
    fn send_or_refuse(&mut self) -> bool {
        let room = match &self.state {
            State::Up(live) => {
                let live = live.clone();
                while self.flights.len() < FLIGHTS
                    && let Some(batch) = self.gather()
                {
                    let flight = self.take_off(live.clone(), batch);
                    self.flights.push(flight);
                    if self.flights.len() == FLIGHTS {
                        self.full_since = Some(Instant::now());
                    }
                }
                self.flights.len() < FLIGHTS
            }
            State::Dialing => false,
            State::Down => {
                self.refuse_unsent();
                true
            }
        };
        if !self.held.is_empty() {
            self.drop_late();
        }
        room
    }

    /// The store was dropped: what is under way may still end.
    async fn finish(mut self) {
        while let Some(landed) = self.flights.next().await {
            self.land(landed);
        }
    }

    /// The next batch, of what is held first and then of what waits. `None` when nothing does.
    fn gather(&mut self) -> Option<Batch> {
        let mut batch = Batch::default();
        let now = Instant::now();
        let (full_since, mut oldest) = (self.full_since.take(), now);
        while batch.items < BATCH_ITEMS {
            let Some(mut job) = self.next_job() else { break };
            if job.abandoned() {
                continue;
            }
            if now >= job.send_before(self.common.command_timeout) {
                self.too_late(&mut job);
                continue;
            }
            if batch.items > 0 && batch.bytes + job.work.bytes() > BATCH_BYTES {
                self.held.push_front(job);
                break;
            }
            if let Work::Item { script, .. } = &job.work
                && let Err(error) = self.scripts.know(script)
            {
                self.fail(&mut job, Error::Script(error), StoreFailure::Other);
                continue;
            }
            oldest = oldest.min(job.since);
            if !std::mem::replace(&mut job.is_counted, true) {
                self.gathered.add(now.saturating_duration_since(job.since));
            }
            batch.add(job);
        }
        if let Some(full_since) = full_since.filter(|_| batch.items > 0) {
            self.bounded.add(now.saturating_duration_since(oldest.max(full_since)));
        }
        self.gathered.tell();
        self.bounded.tell();
        (batch.items > 0).then_some(batch)
    }

    fn next_job(&mut self) -> Option<Box<Job>> {
        self.held.pop_front().or_else(|| self.next_queued())
    }

    fn next_queued(&mut self) -> Option<Box<Job>> {
        let job = self.queue.try_recv().ok()?;
        self.waiting_bytes.fetch_sub(job.work.bytes(), Ordering::Relaxed);
        Some(job)
    }

    /// While the link is down: what was never sent is refused, what was waits for the next
    /// connection until it is too late.
    fn refuse_unsent(&mut self) {
        while let Some(mut job) = self.next_queued() {
            self.fail(&mut job, Error::Unavailable, StoreFailure::CircuitOpen);
        }
        for mut job in std::mem::take(&mut self.held) {
            if job.unknown {
                self.held.push_back(job);
            } else {
                self.fail(&mut job, Error::Unavailable, StoreFailure::CircuitOpen);
            }
        }
    }

    /// Answers held jobs whose time is over.
    fn drop_late(&mut self) {
        let now = Instant::now();
        for mut job in std::mem::take(&mut self.held) {
            if now >= job.send_before(self.common.command_timeout) {
                self.too_late(&mut job);
            } else {
                self.held.push_back(job);
            }
        }
    }

    /// When the next held job is too late, to answer it even if nothing else happens.
    fn next_late(&self) -> Option<Instant> {
        self.held.iter().map(|job| job.send_before(self.common.command_timeout)).min()
    }

    fn too_late(&self, job: &mut Job) {
        let operation = job.work.operation();
        self.fail(job, Error::Full { operation }, StoreFailure::Deadline);
    }

    fn fail(&self, job: &mut Job, error: Error, reason: StoreFailure) {
        self.common.metrics.store_errors.with(reason).inc();
        let operation = self.common.metrics.operation(job.work.operation());
        operation.results.with(crate::telemetry::metrics::StoreResult::Error).inc();
        job.fail(error);
    }
}

/// Sleeps until then, or for ever.
async fn until(then: Option<Instant>) {
    match then {
        Some(then) => sleep_until(then).await,
        None => std::future::pending().await,
    }
}
