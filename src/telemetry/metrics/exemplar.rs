//! Histograms that remember, per bucket, the trace of the last sampled observation: the way from a
//! slow bucket to the trace of a task that is in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering, fence};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::core::{Metric, MetricVec, MetricVecBuilder};
use prometheus::proto::{self, LabelPair, MetricType};
use prometheus::{Histogram, HistogramOpts, HistogramVec};

use super::family::Declared;
use super::recording::is_recording;

/// A trace that is sampled, so that somebody can open it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sampled(u128);

impl Sampled {
    /// The trace of a `traceparent`, if its flags say that it is sampled. Costs a comparison for one
    /// that is not.
    pub fn of(traceparent: Option<&str>) -> Option<Self> {
        let text = traceparent.filter(|text| text.len() == 55)?;
        let flags = u8::from_str_radix(text.get(53..)?, 16).ok()?;
        if flags & 1 == 0 {
            return None;
        }
        u128::from_str_radix(text.get(3..35)?, 16).ok().filter(|id| *id != 0).map(Self)
    }

    /// The trace of these 16 bytes, most significant first. The caller knows that it is sampled.
    pub fn from_bytes(id: [u8; 16]) -> Self {
        Self(u128::from_be_bytes(id))
    }
}

/// 32 digits, as in `traceparent`.
impl std::fmt::Display for Sampled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A histogram with exemplars. Declared in the catalog like any other.
#[derive(Clone, Debug)]
pub struct TracedHistogram {
    histogram: Histogram,
    exemplars: Arc<Exemplars>,
}

impl TracedHistogram {
    /// Counts a value; when the trace it belongs to is sampled, that trace becomes the exemplar of
    /// its bucket. Without one this is a plain observation.
    pub fn observe(&self, value: f64, trace: Option<Sampled>) {
        if !is_recording() {
            return;
        }
        self.histogram.observe(value);
        if let Some(trace) = trace {
            self.exemplars.keep(value, trace);
        }
    }
}

impl Metric for TracedHistogram {
    fn metric(&self) -> proto::Metric {
        self.histogram.metric()
    }
}

/// One observation of a bucket.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Exemplar {
    /// Where it can be looked at.
    pub trace: Sampled,
    /// What was observed.
    pub value: f64,
    /// When, in Unix milliseconds.
    pub at_ms: u64,
}

/// The last sampled observation of each bucket of one series.
#[derive(Debug)]
pub(super) struct Exemplars {
    /// Without `+Inf`.
    bounds: &'static [f64],
    /// One for each bound, and one for `+Inf`.
    buckets: Box<[Slot]>,
}

impl Exemplars {
    fn new(bounds: &'static [f64]) -> Arc<Self> {
        let buckets = (0..=bounds.len()).map(|_| Slot::default()).collect();
        Arc::new(Self { bounds, buckets })
    }

    fn keep(&self, value: f64, trace: Sampled) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let at_ms = u64::try_from(since.as_millis()).unwrap_or(u64::MAX);
        self.buckets[bucket].write(Exemplar { trace, value, at_ms });
    }

    /// That of a bucket, by its place among the bounds.
    pub fn of(&self, bucket: usize) -> Option<Exemplar> {
        self.buckets.get(bucket)?.read()
    }
}

/// A value of several words behind a sequence number, which is odd while somebody writes: nobody
/// waits, neither a writer (a second one at the same moment gives way) nor a reader.
#[derive(Default, Debug)]
struct Slot {
    sequence: AtomicU64,
    high: AtomicU64,
    low: AtomicU64,
    value: AtomicU64,
    at_ms: AtomicU64,
}

impl Slot {
    #[expect(clippy::cast_possible_truncation, reason = "both halves of the id are kept")]
    fn write(&self, exemplar: Exemplar) {
        let before = self.sequence.load(Ordering::Relaxed);
        let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
        if !before.is_multiple_of(2)
            || self.sequence.compare_exchange(before, before + 1, acquire, relaxed).is_err()
        {
            return;
        }
        fence(Ordering::Release); // a reader that sees a word below sees the odd number too
        self.high.store((exemplar.trace.0 >> 64) as u64, Ordering::Relaxed);
        self.low.store(exemplar.trace.0 as u64, Ordering::Relaxed);
        self.value.store(exemplar.value.to_bits(), Ordering::Relaxed);
        self.at_ms.store(exemplar.at_ms, Ordering::Relaxed);
        self.sequence.store(before + 2, Ordering::Release);
    }

    /// `None` when nothing was written yet, or a writer is at it just now.
    fn read(&self) -> Option<Exemplar> {
        let before = self.sequence.load(Ordering::Acquire);
        let high = self.high.load(Ordering::Relaxed);
        let low = self.low.load(Ordering::Relaxed);
        let value = f64::from_bits(self.value.load(Ordering::Relaxed));
        let at_ms = self.at_ms.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let after = self.sequence.load(Ordering::Relaxed);
        let trace = Sampled(u128::from(high) << 64 | u128::from(low));
        (before == after && before.is_multiple_of(2) && before > 0).then_some(Exemplar {
            trace,
            value,
            at_ms,
        })
    }
}

/// Every series that keeps exemplars, for the encoder: the library's families have no room for them.
#[derive(Clone, Default, Debug)]
pub(super) struct Book(Arc<Mutex<HashMap<&'static str, Pages>>>);

/// The series of one family, by their labels.
type Pages = HashMap<Vec<(String, String)>, Arc<Exemplars>>;

impl Book {
    fn enter(&self, family: &'static str, labels: &[LabelPair], exemplars: &Arc<Exemplars>) {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.entry(family).or_default().insert(named(labels), exemplars.clone());
    }

    /// The exemplars of one series; `None` when it keeps none.
    pub fn of(&self, family: &str, labels: &[LabelPair]) -> Option<Arc<Exemplars>> {
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.get(family)?.get(&named(labels)).cloned()
    }
}

fn named(labels: &[LabelPair]) -> Vec<(String, String)> {
    labels.iter().map(|label| (label.name().to_owned(), label.value().to_owned())).collect()
}

/// Makes the series of a family with exemplars.
#[derive(Clone)]
pub struct TracedBuilder {
    declared: Declared,
    histograms: HistogramVec,
    book: Book,
}

impl TracedBuilder {
    pub(super) fn family(
        declared: &Declared,
        opts: HistogramOpts,
        book: &Book,
    ) -> prometheus::Result<MetricVec<Self>> {
        let histograms = HistogramVec::new(opts.clone(), declared.labels)?;
        let builder = Self { declared: *declared, histograms, book: book.clone() };
        MetricVec::create(MetricType::HISTOGRAM, builder, opts)
    }
}

impl MetricVecBuilder for TracedBuilder {
    type M = TracedHistogram;
    type P = HistogramOpts;

    fn build<V: AsRef<str>>(
        &self,
        _: &HistogramOpts,
        values: &[V],
    ) -> prometheus::Result<TracedHistogram> {
        let values: Vec<&str> = values.iter().map(AsRef::as_ref).collect();
        let histogram = self.histograms.get_metric_with_label_values(&values)?;
        let exemplars = Exemplars::new(self.declared.buckets);
        self.book.enter(self.declared.name, histogram.metric().get_label(), &exemplars);
        Ok(TracedHistogram { histogram, exemplars })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

    fn sampled(flags: &str) -> Option<Sampled> {
        Sampled::of(Some(&format!("00-{TRACE}-b7ad6b7169203331-{flags}")))
    }

    #[test]
    fn only_a_sampled_trace_is_one() {
        assert_eq!(sampled("01").unwrap().to_string(), TRACE);
        assert_eq!(sampled("03").unwrap().to_string(), TRACE);
        assert_eq!(sampled("00"), None);
        assert_eq!(Sampled::of(None), None);
        for malformed in ["", "00", &"é".repeat(28)[..55 - 1], &"x".repeat(55), &"ä".repeat(27)] {
            assert_eq!(Sampled::of(Some(malformed)), None, "{malformed}");
        }
        assert_eq!(Sampled::from_bytes([1; 16]).to_string(), "01".repeat(16));
    }

    #[test]
    fn each_bucket_keeps_its_last() {
        let exemplars = Exemplars::new(&[0.1, 1.0]);
        assert_eq!(exemplars.of(0), None);
        for (n, value) in [0.1, 0.11, 1.0, 7.0].into_iter().enumerate() {
            exemplars.keep(value, Sampled(n as u128 + 1));
        }
        let kept = [0, 1, 2].map(|bucket| exemplars.of(bucket).map(|e| (e.trace.0, e.value)));
        assert_eq!(kept, [Some((1, 0.1)), Some((3, 1.0)), Some((4, 7.0))], "bounds are inclusive");
        assert_eq!(exemplars.of(3), None);
    }

    /// Two writers and a reader at once: what is read was written by one of them as a whole.
    #[test]
    fn an_exemplar_is_never_torn() {
        let slot = Slot::default();
        let whole = |n: u64| Exemplar {
            trace: Sampled(u128::from(n) << 64 | u128::from(n)),
            value: f64::from_bits(n),
            at_ms: n,
        };
        std::thread::scope(|scope| {
            for first in [1, 2] {
                let slot = &slot;
                scope.spawn(move || {
                    (first..200_000).step_by(2).for_each(|n| slot.write(whole(n)));
                });
            }
            for _ in 0..200_000 {
                let Some(read) = slot.read() else { continue };
                assert_eq!(read, whole(read.at_ms));
            }
        });
        assert!(slot.read().is_some());
    }
}
