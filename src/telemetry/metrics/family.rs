//! Families of series whose handles are resolved once and kept.

use std::marker::PhantomData;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    CounterVec, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry,
};

use super::exemplar::{Book, TracedBuilder, TracedHistogram};
use super::labels::Label;
use super::recording::{Counter, Histogram, IntCounter};

/// What a family is called, what it means and how it is split: its only declaration.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    /// The name in a scrape.
    pub name: &'static str,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// One or two sentences for the person who reads the scrape; behind ` When: `, for the page
    /// only, what makes it count.
    pub help: &'static str,
    /// Label names; an open one (`command`, `route`, `operation`) comes first.
    pub labels: &'static [&'static str],
    /// Upper bounds of a histogram's buckets, without `+Inf`.
    pub buckets: &'static [f64],
}

/// Between the help and what is for the page only.
const WHEN: &str = " When: ";

impl Declared {
    pub(super) fn opts(&self) -> Opts {
        let labels = self.labels.iter().map(|label| (*label).to_owned()).collect();
        Opts::new(self.name, self.help()).variable_labels(labels)
    }

    /// What a scrape says of it.
    pub fn help(&self) -> &'static str {
        self.help.split_once(WHEN).map_or(self.help, |(help, _)| help).trim()
    }

    /// What makes it count, for the page.
    pub fn when(&self) -> Option<&'static str> {
        self.help.split_once(WHEN).map(|(_, when)| when.trim())
    }
}

/// A kind of series: how one is made from a declaration.
pub trait Series: Clone + Send + Sync + 'static {
    /// The library's series inside.
    type Raw: MetricVecBuilder;
    /// Its name in `# TYPE`.
    const KIND: &'static str;
    /// Whether its buckets carry exemplars.
    const EXEMPLARS: bool = false;

    /// An empty family.
    fn family(declared: &Declared, home: &Home) -> prometheus::Result<MetricVec<Self::Raw>>;

    /// Wraps one series of the family.
    fn wrap(raw: <Self::Raw as MetricVecBuilder>::M) -> Self;
}

macro_rules! series {
    ($($name:ty, $vec:ty, $kind:literal, $opts:expr, $wrap:expr;)+) => { $(
        impl Series for $name {
            type Raw = <$vec as VecOf>::Builder;
            const KIND: &'static str = $kind;

            fn family(declared: &Declared, _: &Home) -> prometheus::Result<MetricVec<Self::Raw>> {
                <$vec>::new($opts(declared), declared.labels)
            }

            fn wrap(raw: <Self::Raw as MetricVecBuilder>::M) -> Self {
                $wrap(raw)
            }
        }
    )+ };
}

/// Names a vector's builder, which the library does not export by itself.
pub trait VecOf {
    /// The builder.
    type Builder: MetricVecBuilder;
}

impl<B: MetricVecBuilder> VecOf for MetricVec<B> {
    type Builder = B;
}

series! {
    IntCounter, IntCounterVec, "counter", Declared::opts, IntCounter;
    prometheus::IntCounter, IntCounterVec, "counter", Declared::opts, std::convert::identity;
    Counter, CounterVec, "counter", Declared::opts, Counter;
    Histogram, HistogramVec, "histogram", histogram_opts, Histogram;
    prometheus::Histogram, HistogramVec, "histogram", histogram_opts, std::convert::identity;
    SetGauge, GaugeVec, "gauge", Declared::opts, SetGauge;
    HeldGauge, IntGaugeVec, "gauge", Declared::opts, HeldGauge;
}

impl Series for TracedHistogram {
    type Raw = TracedBuilder;
    const KIND: &'static str = "histogram";
    const EXEMPLARS: bool = true;

    fn family(declared: &Declared, home: &Home) -> prometheus::Result<MetricVec<TracedBuilder>> {
        TracedBuilder::family(declared, histogram_opts(declared), &home.book)
    }

    fn wrap(raw: Self) -> Self {
        raw
    }
}

fn histogram_opts(declared: &Declared) -> HistogramOpts {
    HistogramOpts::from(declared.opts()).buckets(declared.buckets.to_vec())
}

/// A gauge that is told its value. One that goes up and down is a [`HeldGauge`].
#[derive(Clone, Debug)]
pub struct SetGauge(Gauge);

impl SetGauge {
    /// The new value.
    pub fn set(&self, value: f64) {
        self.0.set(value);
    }

    /// The current value.
    pub fn get(&self) -> f64 {
        self.0.get()
    }
}

/// A gauge that counts live guards, so that it always returns to exactly 0.
#[derive(Clone, Debug)]
pub struct HeldGauge(IntGauge);

impl HeldGauge {
    /// Counts one up until the guard is dropped.
    #[must_use = "the gauge goes down when the guard is dropped"]
    pub fn hold(&self) -> Held {
        self.0.inc();
        Held(self.0.clone())
    }

    /// How many guards live.
    pub fn get(&self) -> i64 {
        self.0.get()
    }
}

/// One unit of a [`HeldGauge`]; dropping it counts down.
#[derive(Debug)]
pub struct Held(IntGauge);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A family over a closed set of label values, every series resolved and at 0 from the start.
#[derive(Clone, Debug)]
pub struct By<L, S> {
    series: Box<[S]>,
    labels: PhantomData<fn(L)>,
}

impl<L: Label, S: Series> By<L, S> {
    fn resolve(vec: &MetricVec<S::Raw>, open: &[&str]) -> Self {
        let series = L::ALL
            .iter()
            .map(|label| {
                let mut closed = Vec::new();
                label.values(&mut closed);
                let values: Vec<&str> = open.iter().copied().chain(closed).collect();
                S::wrap(vec.with_label_values(&values))
            })
            .collect();
        Self { series, labels: PhantomData }
    }

    /// The series of one member: an index into an array.
    pub fn with(&self, label: L) -> &S {
        &self.series[label.index()]
    }
}

/// A family whose first labels are open text (a command, a route, a script's name); the rest, `L`,
/// is a closed set. A series exists from the first time that its open labels are asked for.
pub struct Open<L, S: Series> {
    vec: MetricVec<S::Raw>,
    labels: PhantomData<fn(L)>,
}

impl<L, S: Series> Clone for Open<L, S> {
    fn clone(&self) -> Self {
        Self { vec: self.vec.clone(), labels: PhantomData }
    }
}

impl<L: Label, S: Series> Open<L, S> {
    /// Every series below these open labels. Looks them up: keep what it returns.
    pub fn of(&self, open: &[&str]) -> By<L, S> {
        By::resolve(&self.vec, open)
    }
}

impl<S: Series> Open<(), S> {
    /// The series of one open label. Looks it up: keep what it returns where it is hot.
    pub fn with(&self, label: &str) -> S {
        S::wrap(self.vec.with_label_values(&[label]))
    }

    /// The series of several open labels.
    pub fn with_all(&self, labels: &[&str]) -> S {
        S::wrap(self.vec.with_label_values(labels))
    }
}

/// A gauge over a closed set of which each member has a value only at times: without one its
/// series is absent, as it must be where 0 would be a statement.
#[derive(Clone)]
pub struct Sparse<L> {
    vec: GaugeVec,
    labels: PhantomData<fn(L)>,
}

impl<L: Label> Sparse<L> {
    /// The new value of a member, or that it has none.
    pub fn set(&self, label: L, value: Option<f64>) {
        let mut values = Vec::new();
        label.values(&mut values);
        match value {
            Some(value) => self.vec.with_label_values(&values).set(value),
            // There was none before, most of the time.
            None => drop(self.vec.remove_label_values(&values)),
        }
    }
}

fn members<L: Label>() -> Vec<Vec<&'static str>> {
    let values = |label: &L| {
        let mut values = Vec::new();
        label.values(&mut values);
        values
    };
    L::ALL.iter().map(values).collect()
}

/// Anything the catalog can declare.
pub trait Family: Sized {
    /// Its name in `# TYPE`.
    const KIND: &'static str;
    /// Whether its buckets carry exemplars.
    const EXEMPLARS: bool = false;

    /// The values of its closed labels, which are its last ones, member by member.
    fn members() -> Vec<Vec<&'static str>>;

    /// Makes the family and registers it.
    fn register(declared: &Declared, home: &Home) -> prometheus::Result<Self>;
}

/// Where families live: the library's registry, and beside it what the registry cannot hold.
#[derive(Default)]
pub struct Home {
    /// What a scrape gathers.
    pub registry: Registry,
    pub(super) book: Book,
}

fn registered<S: Series>(declared: &Declared, home: &Home) -> prometheus::Result<MetricVec<S::Raw>>
where
    MetricVec<S::Raw>: Collector,
{
    let vec = S::family(declared, home)?;
    home.registry.register(Box::new(vec.clone()))?;
    Ok(vec)
}

impl<L: Label, S: Series> Family for By<L, S> {
    const KIND: &'static str = S::KIND;
    const EXEMPLARS: bool = S::EXEMPLARS;

    fn members() -> Vec<Vec<&'static str>> {
        members::<L>()
    }

    fn register(declared: &Declared, home: &Home) -> prometheus::Result<Self> {
        Ok(Self::resolve(&registered::<S>(declared, home)?, &[]))
    }
}

impl<L: Label> Family for Sparse<L> {
    const KIND: &'static str = <SetGauge as Series>::KIND;

    fn members() -> Vec<Vec<&'static str>> {
        members::<L>()
    }

    fn register(declared: &Declared, home: &Home) -> prometheus::Result<Self> {
        Ok(Self { vec: registered::<SetGauge>(declared, home)?, labels: PhantomData })
    }
}

impl<L: Label, S: Series> Family for Open<L, S> {
    const KIND: &'static str = S::KIND;
    const EXEMPLARS: bool = S::EXEMPLARS;

    fn members() -> Vec<Vec<&'static str>> {
        members::<L>()
    }

    fn register(declared: &Declared, home: &Home) -> prometheus::Result<Self> {
        Ok(Self { vec: registered::<S>(declared, home)?, labels: PhantomData })
    }
}

/// A single series without labels.
impl<S: Series> Family for S {
    const KIND: &'static str = <S as Series>::KIND;
    const EXEMPLARS: bool = <S as Series>::EXEMPLARS;

    fn members() -> Vec<Vec<&'static str>> {
        Vec::new()
    }

    fn register(declared: &Declared, home: &Home) -> prometheus::Result<Self> {
        let vec = registered::<S>(declared, home)?;
        Ok(S::wrap(vec.with_label_values::<&str>(&[])))
    }
}
