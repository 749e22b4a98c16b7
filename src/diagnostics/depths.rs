//! What a scrape reads from the store, and the gauges over it.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGaugeVec, Opts};

use crate::telemetry::metrics::{Declared, depth};

/// How many tasks a command has, over all tenants and partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
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
    IntGaugeVec::new(Opts::new(declared.name, declared.help), declared.labels)
        .expect("the catalog declares valid names")
}

impl Collector for Depths {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let snapshot = self.snapshot.read().unwrap_or_else(PoisonError::into_inner);
        let mut families = of_commands(&snapshot.commands);
        if let Some(outbox) = &snapshot.outbox {
            families.extend(of_outbox(outbox));
        }
        families
    }
}

fn of_commands(commands: &[CommandDepth]) -> Vec<MetricFamily> {
    // Commands beyond the cap share a label, and a series may come only once.
    let mut by_label: BTreeMap<&str, [u64; 5]> = BTreeMap::new();
    for CommandDepth { label, ready, delayed, in_progress, dlq, subscriptions } in commands {
        let sums = by_label.entry(label).or_default();
        for (sum, more) in sums.iter_mut().zip([ready, delayed, in_progress, dlq, subscriptions]) {
            *sum += more;
        }
    }
    let (queues, dead) = (gauge(&depth::QUEUE), gauge(&depth::DLQ));
    let subscribed = gauge(&depth::SUBSCRIPTIONS);
    for (label, [ready, delayed, in_progress, dlq, subscriptions]) in by_label {
        let states =
            [("ready", ready), ("delayed", delayed), ("in_progress", in_progress), ("dlq", dlq)];
        for (state, count) in states {
            queues.with_label_values(&[label, state]).set(shown(count));
        }
        dead.with_label_values(&[label]).set(shown(dlq));
        subscribed.with_label_values(&[label]).set(shown(subscriptions));
    }
    [queues, dead, subscribed].iter().flat_map(Collector::collect).collect()
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
    let age = Gauge::with_opts(Opts::new(depth::OUTBOX_AGE.name, depth::OUTBOX_AGE.help))
        .expect("the catalog declares valid names");
    age.set(outbox.oldest_age_seconds);
    let families = [deliveries.collect(), destinations.collect(), age.collect()];
    families.into_iter().flatten().collect()
}

fn shown(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
