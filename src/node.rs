//! The composition root: settings become a node that listens, sweeps and stops in order.

mod delay;
mod loops;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{App, Machinery};
use crate::auth::Auth;
use crate::config::{self, Settings};
use crate::diagnostics::{
    CommandDepth, Health, KeySets, OutboxDepth, Probes, Profiler, Readiness, Reading, RedisFacts,
    Scraper,
};
use crate::egress::Egress;
use crate::http::{self, ServerLimits};
use crate::model::Partitions;
use crate::objects::Objects;
use crate::store::{self, Store};
use crate::telemetry::metrics::LoopKind;
use crate::telemetry::{self, Metrics, Telemetry};
use crate::{diagnostics, routes, subscriptions, sweeper, webhooks};
use loops::Loops;

/// Runs a node until SIGTERM or SIGINT, and stops it in order. A second signal ends it at once.
///
/// # Errors
/// When a port cannot be opened, telemetry cannot start as configured, or the store is one that
/// this node must not use.
pub async fn run(settings: Settings) -> anyhow::Result<()> {
    let metrics = Metrics::new();
    let telemetry = telemetry::start(telemetry_options(&settings), &metrics)?;
    for warning in &settings.warnings {
        tracing::warn!(
            target: "codeq::node", category = "system", event = "config.warning",
            finding = warning, "a setting is doubtful"
        );
    }
    let outcome = Box::pin(run_within(settings, metrics, &telemetry)).await;
    if let Err(error) = &outcome {
        tracing::error!(
            target: "codeq::node", category = "system", event = "node.failed",
            error.message = format!("{error:#}"), "the node cannot go on"
        );
    }
    telemetry.shutdown().await;
    outcome.map_err(|error| error.context(Told))
}

/// Why a node ended stands on a line of its log, so that standard error has nothing to add.
#[derive(Debug, thiserror::Error)]
#[error("the node cannot go on")]
pub struct Told;

async fn run_within(
    settings: Settings,
    metrics: Metrics,
    telemetry: &Telemetry,
) -> anyhow::Result<()> {
    let address = SocketAddr::new(settings.bind_addr, settings.port);
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} (PORT, BIND_ADDR)"))?;
    let address = listener.local_addr()?;
    let shutdown = settings.shutdown;

    let node = Node::assemble(settings, metrics, telemetry)?;
    node.open_profiles().await?;
    let app = node.app.clone();
    tracing::info!(
        target: "codeq::node", category = "system", event = "node.started",
        address = %address, partitions = app.partitions.count(), "node started"
    );
    let router = routes::router(app.clone(), node.probes.clone());
    let close = CancellationToken::new();
    let mut serving =
        tokio::spawn(http::serve(listener, router, ServerLimits::default(), close.clone()));
    let mut background = node.start();
    let alive = Arc::new(());
    delay::probe(app.metrics.clone(), Arc::downgrade(&alive))?;

    let failed = tokio::select! {
        signal = stop_signal() => {
            signal?;
            None
        }
        failure = &mut background => Some(failure),
    };
    tokio::spawn(exit_on_second_signal());
    tracing::info!(
        target: "codeq::node", category = "system", event = "node.draining", "node is draining"
    );
    // Readiness turns at once and waits answer; the port stays open so that balancers notice.
    app.draining.cancel();
    let orderly = async {
        if failed.is_none() {
            tokio::time::sleep(shutdown.delay).await;
        }
        close.cancel();
        let _ = (&mut serving).await;
        // What connections left behind, tasks given back above all, still needs the store.
        app.background.close();
        app.background.wait().await;
        node.stop.cancel();
        node.loops.close();
        node.loops.wait().await;
    };
    if tokio::time::timeout(shutdown.drain, orderly).await.is_err() {
        serving.abort();
        tracing::warn!(
            target: "codeq::node", category = "system", event = "node.cut_off",
            "requests that did not end in time were cut off"
        );
    }
    tracing::info!(
        target: "codeq::node", category = "system", event = "node.stopped", "node stopped"
    );
    failed.map_or(Ok(()), |failure| Err(failure.unwrap_or_else(|lost| anyhow::anyhow!(lost))))
}

/// A node that does not run yet.
struct Node {
    app: App,
    probes: Probes,
    loops: TaskTracker,
    stop: CancellationToken,
}

impl Node {
    fn assemble(
        settings: Settings,
        metrics: Metrics,
        telemetry: &Telemetry,
    ) -> anyhow::Result<Self> {
        let partitions = Partitions::new(&settings.redis.key_prefix, settings.partitions);
        let options = store::Options::new(&settings.redis).map_err(anyhow::Error::msg)?;
        let store = Store::new(options, partitions.clone(), metrics.clone());
        let machinery = Machinery {
            store,
            auth: Auth::new(&settings, metrics.clone())?,
            egress: Egress::new(&settings.webhook)?,
            objects: Objects::new(&settings.artifact_store, metrics.clone())?,
            metrics: metrics.clone(),
            log: telemetry.log.clone(),
        };
        let draining = CancellationToken::new();
        let app = App::new(Arc::new(settings), machinery, partitions, draining.clone());
        let readiness = Readiness::new(draining, &metrics);
        let (asked, counted, objects) = (app.clone(), app.clone(), app.objects.clone());
        let pooled = app.store.clone();
        let scraper = Scraper::new(metrics.clone(), move || depths(counted.clone()))
            .with_look(move || pooled.show_pool());
        let (in_store, auth) = (scraper.clone(), app.auth.clone());
        let health =
            Health::new(readiness.clone(), metrics, telemetry.exporting.clone(), move || {
                redis_facts(asked.store.clone())
            })
            .with_artifacts(move || {
                let objects = objects.clone();
                async move { objects.look().await.map_err(|failed| failed.to_string()) }
            })
            .with_reading(move || {
                let scraper = in_store.clone();
                async move { scraper.reading().await.ok_or("the store does not say".to_owned()) }
            })
            .with_key_sets(move || auth.has_key_sets().then(|| KeySets { age: auth.jwks_age() }));
        Ok(Self {
            app,
            probes: Probes { readiness, health, scraper },
            loops: TaskTracker::new(),
            stop: CancellationToken::new(),
        })
    }

    /// Starts what runs beside requests. The returned task ends only when the node must not go on.
    fn start(&self) -> tokio::task::JoinHandle<anyhow::Error> {
        let Self { app, probes, loops, stop } = self;
        let (pinged, readiness, halt) = (app.clone(), probes.readiness.clone(), stop.clone());
        let health = self.loops_of(LoopKind::Health).with("health", move || {
            let app = pinged.clone();
            let ping = move || {
                let app = app.clone();
                async move {
                    if app.is_open() {
                        app.store.ping().await
                    } else {
                        Err(store::Error::Unavailable)
                    }
                }
            };
            readiness.watch(ping).run(halt.clone())
        });
        loops.spawn(health.keep());
        let keys = self.loops_of(LoopKind::Jwks);
        loops.spawn(
            keys.with("jwks", runs(app, stop, |app, stop| app.auth.clone().run(stop))).keep(),
        );
        let sweeper = self
            .loops_of(LoopKind::Sweeper)
            .with("sweeper", runs(app, stop, sweeper::run))
            .with("subscriptions", runs(app, stop, subscriptions::expire::run));
        let outbox = self
            .loops_of(LoopKind::Outbox)
            .with("outbox", runs(app, stop, webhooks::outbox::run))
            .with("nudges", runs(app, stop, subscriptions::notify::run))
            .with("recoveries", runs(app, stop, webhooks::recovery::run));
        let wake = self.loops_of(LoopKind::Wake).with("wake", runs(app, stop, App::run_wakes));
        let (opened, tracker) = (app.clone(), loops.clone());
        tokio::spawn(async move {
            if let Err(refused) = open_store(&opened).await {
                return refused;
            }
            for loops in [sweeper, outbox, wake] {
                tracker.spawn(loops.keep());
            }
            watch_store(&opened).await
        })
    }

    fn loops_of(&self, kind: LoopKind) -> Loops {
        Loops::of(kind, &self.app.metrics, &self.stop)
    }

    async fn open_profiles(&self) -> anyhow::Result<()> {
        let Some(address) = self.app.settings.pprof else { return Ok(()) };
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("cannot listen on {address} (CODEQ_PPROF_ADDR)"))?;
        let profiler = Profiler::new(&instance(), self.app.metrics.waits().clone());
        self.loops.spawn(diagnostics::serve_profiles(listener, profiler, self.stop.clone()));
        Ok(())
    }
}

/// Waits for the store, then looks at what it is. Until then calls answer `503`: a node that counts
/// partitions differently would put tasks where no other finds them.
async fn open_store(app: &App) -> Result<(), anyhow::Error> {
    loop {
        app.store.up().await;
        match app.store.check().await {
            Ok(findings) => {
                for finding in &findings.0 {
                    tracing::warn!(
                        target: "codeq::store", category = "system", event = "config.warning",
                        finding = %finding, "the store could be safer"
                    );
                }
                if findings.are_dangerous() && app.settings.env.is_production() {
                    anyhow::bail!("the store is not fit for production: {}", findings.0[0]);
                }
                app.open();
                return Ok(());
            }
            Err(error @ store::Error::WrongLayout { .. }) => return Err(error.into()),
            Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
        }
    }
}

/// Looks at the store again behind each new connection: a Redis that came back empty needs its
/// layout written down, and knows nothing of what was read before. Returns when the layout is
/// another one now.
async fn watch_store(app: &App) -> anyhow::Error {
    let mut connection = app.store.another_connection(0).await;
    loop {
        connection = app.store.another_connection(connection).await;
        app.labels.forget();
        loop {
            match app.store.check().await {
                Ok(_) => break,
                Err(error @ store::Error::WrongLayout { .. }) => return error.into(),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
    }
}

/// How a loop of this node is started, as often as need be.
fn runs<F, R>(app: &App, stop: &CancellationToken, run: F) -> impl Fn() -> R + use<F, R>
where
    F: Fn(App, CancellationToken) -> R,
{
    let (app, stop) = (app.clone(), stop.clone());
    move || run(app.clone(), stop.clone())
}

async fn redis_facts(store: Store) -> Result<RedisFacts, String> {
    let latency = store.ping().await.map_err(|error| error.to_string())?;
    let mut facts = RedisFacts {
        latency,
        connections: Some(store.borrowed()),
        nearly_full: store.nearly_full(),
        ..RedisFacts::default()
    };
    if let Ok(mut connection) = store.rare().await {
        let info = redis::cmd("INFO").query_async(&mut connection).await;
        facts.info = info.unwrap_or_default();
    }
    Ok(facts)
}

async fn depths(app: App) -> Result<Reading, store::Error> {
    let (counted, outbox) = tokio::try_join!(app.count(), webhooks::destinations::depth(&app))?;
    let seconds = |ms| Duration::from_millis(ms).as_secs_f64();
    let mut total = [0; 4];
    let commands = counted
        .labels
        .into_iter()
        .map(|of| {
            total = std::array::from_fn(|state| total[state] + of.tasks[state]);
            let [ready, delayed, in_progress, dlq] = of.tasks;
            CommandDepth {
                label: of.label,
                ready,
                delayed,
                in_progress,
                dlq,
                subscriptions: of.subscriptions,
                paused: of.paused,
                oldest_ready_seconds: seconds(of.oldest_ready_ms),
                workers: of.workers,
                by_priority: of.by_priority,
            }
        })
        .collect();
    let mut tenants = counted.tenants;
    if !tenants.is_empty() {
        let named = |state: usize| tenants.iter().map(|(_, tasks)| tasks[state]).sum::<u64>();
        // Counted at another moment, so what moves meanwhile may be counted twice.
        let others = std::array::from_fn(|state| total[state].saturating_sub(named(state)));
        tenants.push(("_other".to_owned(), others));
    }
    let mut destinations = [0; 4];
    for (sum, count) in destinations.iter_mut().zip(outbox.states) {
        *sum = count;
    }
    let outbox = OutboxDepth {
        pending: outbox.pending,
        parked: outbox.parked,
        dead: outbox.dead,
        oldest_age_seconds: seconds(outbox.oldest_ms),
        destinations,
    };
    let overdue_seconds = Some(seconds(counted.overdue_ms));
    let overdue_leases = counted.overdue_leases;
    Ok(Reading { commands, tenants, overdue_seconds, overdue_leases, outbox: Some(outbox) })
}

async fn stop_signal() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut interrupt) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    tokio::select! {
        _ = term.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

async fn exit_on_second_signal() {
    if stop_signal().await.is_ok() {
        std::process::exit(1);
    }
}

/// Who this node is, in lines and spans: the host's name, in a pod the pod's.
fn instance() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok())
        .map(|name| name.trim().to_owned())
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "codeq".to_owned())
}

fn telemetry_options(settings: &Settings) -> telemetry::Options {
    use telemetry::log::{Format, Identity, LogLevels};
    use telemetry::trace::{self, Exporter, Protocol, Sampling};
    let log = &settings.log;
    let tracing = &settings.tracing;
    let level = log.level.as_str().to_lowercase();
    telemetry::Options {
        identity: Identity { env: settings.env.as_str().to_owned(), instance: instance() },
        format: match log.format {
            config::LogFormat::Json => Format::Json,
            config::LogFormat::Text => Format::Text,
        },
        levels: LogLevels::new(&level, log.filters.as_deref().unwrap_or_default())
            .or_else(|_| LogLevels::new(&level, ""))
            .expect("a level by its own name"),
        task_sample_ratio: log.task_sample_ratio,
        tracing: trace::Options {
            enabled: tracing.enabled,
            service_name: tracing.service_name.clone(),
            exporter: match tracing.exporter {
                config::TraceExporter::Otlp => Exporter::Otlp {
                    url: tracing.endpoint.url.clone(),
                    protocol: match tracing.protocol {
                        config::OtlpProtocol::Grpc => Protocol::Grpc,
                        config::OtlpProtocol::HttpProtobuf => Protocol::HttpProtobuf,
                    },
                },
                config::TraceExporter::Console => Exporter::Console,
                config::TraceExporter::None => Exporter::None,
            },
            sampling: Sampling {
                parent_based: tracing.sampler.parent_based,
                ratio: tracing.sampler.ratio,
            },
            propagate_trace_context: tracing.propagate_trace_context,
            propagate_baggage: tracing.propagate_baggage,
            store_spans: tracing.store_spans,
            timeout: tracing.timeout,
            gzip: tracing.compression.is_some(),
            queue: tracing.queue,
        },
    }
}
