//! What a scrape reads from the store, and the gauges over it.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec, IntGaugeVec, Opts};

use crate::telemetry::metrics::{Declared, depth};

/// How many tasks a command has, over all tenants and partitions.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct CommandDepth {
    /// The label of the metric; several queues may share one.
    pub label: String,
    /// Waiting for a worker.
    pub ready: u64,
    /// Waiting for their time.
    pub delayed: u64,
    /// With a worker.
    pub in_progress: u64,
    /// Dead letters.
    pub dlq: u64,
    /// Unexpired subscriptions.
    pub subscriptions: u64,
    /// Whether a queue is paused.
    pub paused: bool,
    /// How long the oldest ready task has been ready.
    pub oldest_ready_seconds: f64,
    /// Workers that called lately.
    pub workers: u64,
    /// Ready tasks of each priority, 0 first, if somebody asked for them.
    pub by_priority: Option<[u64; 10]>,
}

/// How much is in the outbox of webhooks, over all partitions.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct OutboxDepth {
    /// Deliveries that are pending and not parked.
    pub pending: u64,
    /// Deliveries whose destination is left alone.
    pub parked: u64,
    /// Deliveries that were given up.
    pub dead: u64,
    /// How long the one that waits longest has been due.
    pub oldest_age_seconds: f64,
    /// Destinations that are active, open, paused, disabled.
    pub destinations: [u64; 4],
}

/// What was read at once.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Reading {
    /// Of each command.
    pub commands: Vec<CommandDepth>,
    /// Ready, delayed, in progress and dead tasks of tenants, if somebody asked for them.
    pub tenants: Vec<(String, [u64; 4])>,
    /// How late the most overdue delayed task is; `None` when the store could not be asked.
    pub overdue_seconds: Option<f64>,
    /// Leases that have ended and that no sweep has noticed yet.
    pub overdue_leases: u64,
    /// `None` when it could not be read.
    pub outbox: Option<OutboxDepth>,
}

/// The last reading.
pub(super) type Snapshot = Arc<RwLock<Reading>>;

/// The gauges over the snapshot.
pub(super) struct Depths {
    snapshot: Snapshot,
    descriptions: Vec<Desc>,
}

impl Depths {
    pub fn new(snapshot: Snapshot) -> Self {
        let descriptions = depth::ALL
            .iter()
            .flat_map(|declared| gauge(declared).desc().into_iter().cloned().collect::<Vec<_>>())
            .collect();
        Self { snapshot, descriptions }
    }
}

fn gauge(declared: &Declared) -> IntGaugeVec {
    IntGaugeVec::new(opts(declared), declared.labels).expect("the catalog declares valid names")
}

fn opts(declared: &Declared) -> Opts {
    Opts::new(declared.name, declared.help())
}

impl Collector for Depths {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let mut families = of_commands(&snapshot.commands);
        families.extend(of_tenants(&snapshot.tenants));
        if let Some(seconds) = snapshot.overdue_seconds {
            families.extend(single(&depth::OVERDUE, seconds));
        }
        if let Some(outbox) = &snapshot.outbox {
            families.extend(of_outbox(outbox));
        }
        families
    }
}

impl CommandDepth {
    fn tasks(&self) -> [u64; 4] {
        [self.ready, self.delayed, self.in_progress, self.dlq]
    }

    /// Commands beyond the cap share a label, and a series may come only once.
    fn merge(&mut self, other: &Self) {
        self.ready += other.ready;
        self.delayed += other.delayed;
        self.in_progress += other.in_progress;
        self.dlq += other.dlq;
        self.subscriptions += other.subscriptions;
        self.paused |= other.paused;
        self.oldest_ready_seconds = self.oldest_ready_seconds.max(other.oldest_ready_seconds);
        self.workers += other.workers;
    }
}

const STATES: [&str; 4] = ["ready", "delayed", "in_progress", "dlq"];
const PRIORITIES: [&str; 10] = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];

fn of_commands(commands: &[CommandDepth]) -> Vec<MetricFamily> {
    let mut by_label: BTreeMap<&str, CommandDepth> = BTreeMap::new();
    for command in commands {
        match by_label.entry(&command.label) {
            Entry::Vacant(place) => drop(place.insert(command.clone())),
            Entry::Occupied(mut known) => known.get_mut().merge(command),
        }
    }
    let (queues, dead) = (gauge(&depth::QUEUE), gauge(&depth::DLQ));
    let (subscribed, workers) = (gauge(&depth::SUBSCRIPTIONS), gauge(&depth::WORKERS));
    let (paused, by_priority) = (gauge(&depth::PAUSED), gauge(&depth::BY_PRIORITY));
    let oldest = GaugeVec::new(opts(&depth::OLDEST_READY), depth::OLDEST_READY.labels)
        .expect("the catalog declares valid names");
    for (label, of) in &by_label {
        for (state, count) in STATES.iter().zip(of.tasks()) {
            queues.with_label_values(&[*label, *state]).set(shown(count));
        }
        dead.with_label_values(&[label]).set(shown(of.dlq));
        subscribed.with_label_values(&[label]).set(shown(of.subscriptions));
        workers.with_label_values(&[label]).set(shown(of.workers));
        paused.with_label_values(&[label]).set(of.paused.into());
        oldest.with_label_values(&[label]).set(of.oldest_ready_seconds);
        for (priority, ready) in PRIORITIES.iter().zip(of.by_priority.into_iter().flatten()) {
            by_priority.with_label_values(&[*label, *priority]).set(shown(ready));
        }
    }
    let numbers = [queues, dead, subscribed, workers, paused, by_priority];
    numbers.iter().flat_map(Collector::collect).chain(oldest.collect()).collect()
}

fn of_tenants(tenants: &[(String, [u64; 4])]) -> Vec<MetricFamily> {
    let queues = gauge(&depth::OF_TENANT);
    for (tenant, tasks) in tenants {
        for (state, count) in STATES.iter().zip(tasks) {
            queues.with_label_values(&[tenant.as_str(), *state]).set(shown(*count));
        }
    }
    queues.collect()
}

fn single(declared: &Declared, value: f64) -> Vec<MetricFamily> {
    let gauge = Gauge::with_opts(opts(declared)).expect("the catalog declares valid names");
    gauge.set(value);
    gauge.collect()
}

fn of_outbox(outbox: &OutboxDepth) -> Vec<MetricFamily> {
    let (deliveries, destinations) = (gauge(&depth::OUTBOX), gauge(&depth::DESTINATIONS));
    let OutboxDepth { pending, parked, dead, .. } = *outbox;
    for (state, count) in [("pending", pending), ("parked", parked), ("dead", dead)] {
        deliveries.with_label_values(&[state]).set(shown(count));
    }
    for (state, count) in ["active", "open", "paused", "disabled"].iter().zip(outbox.destinations) {
        destinations.with_label_values(&[state]).set(shown(count));
    }
    let age = single(&depth::OUTBOX_AGE, outbox.oldest_age_seconds);
    let families = [deliveries.collect(), destinations.collect(), age];
    families.into_iter().flatten().collect()
}

fn shown(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
