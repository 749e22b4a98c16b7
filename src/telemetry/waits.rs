//! Named wait points: where this node makes its own work wait, always counted.
//!
//! Each point is a frame of `/debug/pprof/block` and belongs to a kind of `codeq_wait_seconds`. A
//! wait that has not ended is in the profile already, or a slot that is held for half a minute
//! would show nothing for so long; the histogram learns of it when it ends. Long polls wait because
//! a client asked them to: they are no wait points.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::{Duration, Instant};

use prometheus::local::LocalHistogram;

use super::metrics::{By, Histogram, WaitKind, is_recording};

/// Declares the points: variant, kind, frame, what waits there for what.
macro_rules! points {
    ($($(#[doc = $what:literal])+ $point:ident: $kind:ident $frame:literal;)+) => {
        /// A place where work waits.
        #[derive(Clone, Copy, PartialEq, Eq, Debug)]
        pub enum Point { $( $(#[doc = $what])+ $point, )+ }

        impl Point {
            /// Every point.
            pub const ALL: &'static [Self] = &[$(Self::$point,)+];

            /// The function that stands for it in a profile.
            pub const fn frame(self) -> &'static str {
                match self { $(Self::$point => concat!("codeq::wait::", $frame),)+ }
            }

            const fn kind(self) -> WaitKind {
                match self { $(Self::$point => WaitKind::$kind,)+ }
            }
        }
    };
}

points! {
    /// An item of a script that writes, from the call until it is sent.
    GatherWrite: Gather "gather::write";
    /// An item of a script that reads, from the call until it is sent.
    GatherRead: Gather "gather::read";
    /// A large value, from the call until it is sent.
    GatherBulk: Gather "gather::bulk";
    /// A message to other nodes, from the call until it is sent.
    GatherPublish: Gather "gather::publish";
    /// Writes that were there, for one of the batches under way to come back. Part of the time
    /// that their items gather, counted once for the batch.
    LinkWrite: Link "link::write";
    /// The same of reads.
    LinkRead: Link "link::read";
    /// The same of large values.
    LinkBulk: Link "link::bulk";
    /// The same of messages.
    LinkPublish: Link "link::publish";
    /// Rare work, for a connection of the pool.
    Pool: Pool "pool";
    /// Deliveries that are due, for room on this node (`webhook.maxConcurrency`).
    WebhookSlot: WebhookSlot "webhook_slot";
    /// Deliveries that are due, for room towards their destination (`webhook.maxConcurrencyPerHost`).
    WebhookHostSlot: WebhookHostSlot "webhook_host_slot";
    /// Deliveries that are due, for the claims under way to come back.
    OutboxClaim: OutboxClaim "outbox_claim";
    /// A claim that waits or wakes another, for the lines of waiting claims.
    LockWaiters: Lock "lock::waiters";
    /// A read that waits or is woken, for the table of waiting reads.
    LockResults: Lock "lock::results";
    /// A log line, for the buffer of the log.
    LogWriter: LogWriter "log_writer";
}

/// The counts of every point. Cheap to clone.
#[derive(Clone)]
pub struct Waits(Arc<[Place]>);

struct Place {
    seconds: Histogram,
    counts: Mutex<Counts>,
}

#[derive(Default)]
struct Counts {
    /// Waits that began.
    contentions: u64,
    /// Time of those that ended.
    ended: Duration,
    /// When those began that have not ended. There are few: one per bound, or per destination.
    running: Vec<Instant>,
}

/// What was waited at one point so far.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waited {
    /// Where.
    pub point: Point,
    /// How often.
    pub contentions: u64,
    /// How long, waits that go on included.
    pub delay: Duration,
}

impl Waits {
    /// Nothing has waited yet.
    pub fn new(seconds: &By<WaitKind, Histogram>) -> Self {
        let place = |point: &Point| Place {
            seconds: seconds.with(point.kind()).clone(),
            counts: Mutex::default(),
        };
        Self(Point::ALL.iter().map(place).collect())
    }

    /// A wait begins; it ends when the guard is dropped.
    #[must_use = "the wait ends when the guard is dropped"]
    pub fn begin(&self, point: Point) -> Waiting {
        let since = Instant::now();
        let mut counts = self.place(point).counts();
        counts.contentions += 1;
        counts.running.push(since);
        drop(counts);
        Waiting { waits: self.clone(), point, since }
    }

    /// Begins or ends a wait that its owner finds to go on or not.
    pub fn keep(&self, waiting: &mut Option<Waiting>, point: Point, goes_on: bool) {
        if !goes_on {
            *waiting = None;
        } else if waiting.is_none() {
            *waiting = Some(self.begin(point));
        }
    }

    /// Takes a lock. Only one that is held by another costs the time that it takes to count.
    pub fn lock<'a, T>(&self, point: Point, lock: &'a Mutex<T>) -> MutexGuard<'a, T> {
        match lock.try_lock() {
            Ok(guard) => return guard,
            Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => {}
        }
        let _waiting = self.begin(point);
        lock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A counter for one that has many waits to tell of at a time.
    pub fn tally(&self, point: Point) -> Tally {
        let seconds = self.place(point).seconds.local();
        Tally { waits: self.clone(), point, seconds, contentions: 0, delay: Duration::ZERO }
    }

    /// What was waited at each point so far.
    pub fn so_far(&self) -> Vec<Waited> {
        let now = Instant::now();
        let waited = |point: &Point| {
            let counts = self.place(*point).counts();
            let running = counts.running.iter().map(|since| now.saturating_duration_since(*since));
            let delay = counts.ended + running.sum::<Duration>();
            Waited { point: *point, contentions: counts.contentions, delay }
        };
        Point::ALL.iter().map(waited).collect()
    }

    fn place(&self, point: Point) -> &Place {
        &self.0[point as usize]
    }
}

impl Place {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A wait that goes on.
pub struct Waiting {
    waits: Waits,
    point: Point,
    since: Instant,
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let waited = self.since.elapsed();
        let place = self.waits.place(self.point);
        place.seconds.observe(waited.as_secs_f64());
        let mut counts = place.counts();
        counts.ended += waited;
        if let Some(at) = counts.running.iter().position(|since| *since == self.since) {
            counts.running.swap_remove(at);
        }
    }
}

/// Waits of one point, told together.
pub struct Tally {
    waits: Waits,
    point: Point,
    seconds: LocalHistogram,
    contentions: u64,
    delay: Duration,
}

impl Tally {
    /// One wait that ended.
    pub fn add(&mut self, waited: Duration) {
        if !is_recording() {
            return;
        }
        self.seconds.observe(waited.as_secs_f64());
        self.contentions += 1;
        self.delay += waited;
    }

    /// Tells of what was added.
    pub fn tell(&mut self) {
        if self.contentions == 0 {
            return;
        }
        self.seconds.flush();
        let mut counts = self.waits.place(self.point).counts();
        counts.contentions += std::mem::take(&mut self.contentions);
        counts.ended += std::mem::take(&mut self.delay);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    fn of(waits: &Waits, point: Point) -> Waited {
        waits.so_far()[point as usize]
    }

    fn count(metrics: &Metrics, kind: WaitKind) -> u64 {
        metrics.wait_time.with(kind).get_sample_count()
    }

    #[test]
    fn a_wait_that_goes_on_is_in_the_profile_and_in_the_histogram_when_it_ends() {
        let metrics = Metrics::new();
        let waits = metrics.waits();
        let waiting = waits.begin(Point::WebhookSlot);
        let first = of(waits, Point::WebhookSlot);
        assert_eq!((first.contentions, count(&metrics, WaitKind::WebhookSlot)), (1, 0));
        while of(waits, Point::WebhookSlot).delay <= first.delay {
            std::thread::yield_now();
        }
        drop(waiting);
        let ended = of(waits, Point::WebhookSlot);
        assert_eq!((ended.contentions, count(&metrics, WaitKind::WebhookSlot)), (1, 1));
        assert_eq!(of(waits, Point::WebhookSlot), ended, "it has ended");
        assert_eq!(of(waits, Point::WebhookHostSlot).contentions, 0);
    }

    #[test]
    fn only_a_lock_that_another_holds_is_a_wait() {
        let metrics = Metrics::new();
        let (waits, lock) = (metrics.waits(), Mutex::new(0));
        *waits.lock(Point::LockWaiters, &lock) += 1;
        assert_eq!(of(waits, Point::LockWaiters).contentions, 0);
        let held = lock.lock().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| *waits.lock(Point::LockWaiters, &lock) += 1);
            while of(waits, Point::LockWaiters).contentions == 0 {
                std::thread::yield_now();
            }
            drop(held);
        });
        assert_eq!(*lock.lock().unwrap(), 2);
        assert_eq!(count(&metrics, WaitKind::Lock), 1);
    }

    #[test]
    fn what_is_tallied_counts_when_it_is_told() {
        let metrics = Metrics::new();
        let mut tally = metrics.waits().tally(Point::GatherWrite);
        tally.add(Duration::from_millis(2));
        tally.add(Duration::from_millis(3));
        assert_eq!(of(metrics.waits(), Point::GatherWrite).contentions, 0);
        tally.tell();
        tally.tell();
        let told = of(metrics.waits(), Point::GatherWrite);
        assert_eq!((told.contentions, told.delay), (2, Duration::from_millis(5)));
        assert_eq!(count(&metrics, WaitKind::Gather), 2);
    }

    #[test]
    fn every_kind_has_a_point_and_every_point_a_frame_of_its_own() {
        use crate::telemetry::metrics::Label;
        for kind in WaitKind::ALL {
            assert!(Point::ALL.iter().any(|point| point.kind() == *kind), "{kind:?}");
        }
        let frames: std::collections::HashSet<_> =
            Point::ALL.iter().map(|point| point.frame()).collect();
        assert_eq!(frames.len(), Point::ALL.len());
    }
}
