//! Counters and histograms, and the switch that turns them off for one purpose: to measure what
//! they cost.

use std::sync::atomic::{AtomicBool, Ordering};

use prometheus::local::LocalHistogram;

static RECORDING: AtomicBool = AtomicBool::new(true);

/// Whether anything is counted. Only a benchmark turns it off, with `CODEQ_METRICS_RECORDING=off`.
pub fn is_recording() -> bool {
    RECORDING.load(Ordering::Relaxed)
}

/// Reads the switch, once, before anything is counted.
pub(super) fn read_switch() {
    if std::env::var("CODEQ_METRICS_RECORDING").is_ok_and(|asked| asked == "off") {
        RECORDING.store(false, Ordering::Relaxed);
    }
}

/// Counts events.
#[derive(Clone, Debug)]
pub struct IntCounter(pub(super) prometheus::IntCounter);

impl IntCounter {
    /// One more.
    pub fn inc(&self) {
        self.inc_by(1);
    }

    /// So many more.
    pub fn inc_by(&self, more: u64) {
        if is_recording() {
            self.0.inc_by(more);
        }
    }

    /// How many so far.
    pub fn get(&self) -> u64 {
        self.0.get()
    }
}

/// Adds up what comes in parts, as seconds.
#[derive(Clone, Debug)]
pub struct Counter(pub(super) prometheus::Counter);

impl Counter {
    /// So much more; what is negative or no number counts as nothing.
    pub fn inc_by(&self, more: f64) {
        if is_recording() && more > 0.0 {
            self.0.inc_by(more);
        }
    }

    /// How much so far.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// Counts values in buckets.
#[derive(Clone, Debug)]
pub struct Histogram(pub(super) prometheus::Histogram);

impl Histogram {
    /// One value more.
    pub fn observe(&self, value: f64) {
        if is_recording() {
            self.0.observe(value);
        }
    }

    /// A part of it for one owner, who tells of several values at a time.
    pub fn local(&self) -> LocalHistogram {
        self.0.local()
    }

    /// How many values so far.
    pub fn get_sample_count(&self) -> u64 {
        self.0.get_sample_count()
    }
}
