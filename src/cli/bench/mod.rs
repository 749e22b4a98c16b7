//! `codeq bench`: what a task costs on a running node.
//!
//! A closed loop over HTTP: `--concurrency` clients, each with one call in flight. That measures
//! capacity and cost; its latencies are those of a saturated node. Read the ratios: node, Redis
//! and generator share the machine, and the table says who was busy.

mod client;
mod http;
mod load;
mod meters;
mod report;
#[cfg(test)]
mod stub;
mod webhooks;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::ValueEnum;
use url::Url;

use client::Plan;
use http::{Connection, Target};
use load::{Load, Step};
use meters::Meters;
use report::{Delivered, Growth, Phase, Report};

/// A phase of the load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Suite {
    /// Creates only: the tasks stay queued.
    Create,
    /// Claims only: the tasks stay in progress.
    Claim,
    /// Submits only.
    Submit,
    /// Create, claim, submit: what one task costs from end to end.
    Cycle,
    /// Create + claim while few and while very many tasks are queued.
    Growth,
    /// Deliveries, against the same number of bare POSTs to the same receiver. Needs an admin's
    /// producer token.
    Webhooks,
}

/// Measure what a task costs on a running node.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  codeq bench                                        # against `codeq dev`
  codeq bench cycle --concurrency 512 --tasks 200000
  codeq bench --redis unix:///path/to/redis.sock     # with Redis' share of the cost
  codeq bench growth --redis redis://127.0.0.1:6379 --json > growth.json

The queues are named codeq-bench-0, codeq-bench-1, …; what an earlier run left in them is worked
off first. Finished tasks stay in Redis for their retention (24 h by default).

What metrics cost: run it against a node, and against one that was started with
CODEQ_METRICS_RECORDING=off, which counts and observes nothing.")]
pub struct Args {
    /// What to measure
    #[arg(value_enum, default_values = ["create", "claim", "submit", "cycle"])]
    suites: Vec<Suite>,
    /// A node; repeat it for several, the clients are shared out among them
    #[arg(long = "url", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    urls: Vec<Url>,
    /// Producer token
    #[arg(long, env = "CODEQ_PRODUCER_TOKEN", hide_env_values = true)]
    #[arg(default_value = "dev-producer-token", hide_default_value = true)]
    producer_token: String,
    /// Worker token, with every scope and `*` as its event types
    #[arg(long, env = "CODEQ_WORKER_TOKEN", hide_env_values = true)]
    #[arg(default_value = "dev-worker-token", hide_default_value = true)]
    worker_token: String,
    /// Redis of the nodes, to read its CPU, memory and command counts
    #[arg(long, value_name = "URL")]
    redis: Option<String>,
    /// Process of a node on this machine, for its CPU to 10 ms; repeat it for several.
    /// Without it `process_cpu_seconds_total` of /metrics counts
    #[arg(long = "node-pid", value_name = "PID")]
    node_pids: Vec<u32>,
    /// Clients with one connection and one call in flight each
    #[arg(long, default_value_t = 128, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    concurrency: u64,
    /// Tasks of each phase
    #[arg(long, default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    tasks: u64,
    /// Tasks taken through a full cycle before the first phase, not counted
    #[arg(long, default_value_t = 5_000)]
    warm_up: u64,
    /// Bytes of a task's payload
    #[arg(long, default_value_t = 256, value_parser = clap::value_parser!(u64).range(2..=900_000))]
    payload_bytes: u64,
    /// Queues the tasks are spread over
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=1000))]
    commands: u64,
    /// Tasks a create or submit call carries, and a claim call up to 10 of them; 1 uses the
    /// single endpoints
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=100))]
    batch: u64,
    /// Time a phase may take
    #[arg(long, value_name = "SECONDS", default_value_t = 120)]
    max_seconds: u64,
    /// Time that the receiver of `webhooks` takes for an answer; 0 shows what the CPU can do, more
    /// what connections can do
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000))]
    receiver_ms: u64,
    /// Queued tasks at which `growth` measures
    #[arg(long, value_name = "TASKS", value_delimiter = ',', default_values_t = [1_000, 1_000_000])]
    queued: Vec<u64>,
    /// Leave queued tasks in the queues at the end
    #[arg(long)]
    keep: bool,
    /// Print JSON instead of tables
    #[arg(long)]
    json: bool,
}

/// Runs the phases and prints the figures.
///
/// # Errors
/// When a node or Redis cannot be reached, or a node refuses the load for good.
pub async fn run(args: Args) -> anyhow::Result<()> {
    // A thread of its own: all clients on one core, with nothing to hand between threads.
    let report = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let json = args.json;
        let report = runtime.block_on(Bench::measure(args))?;
        anyhow::Ok(if json { serde_json::to_string_pretty(&report)? } else { report.table() })
    });
    println!("{}", report.await.context("the load generator stopped")??);
    Ok(())
}

struct Bench {
    args: Args,
    load: Load,
    meters: Meters,
    phases: Vec<Phase>,
}

impl Bench {
    async fn measure(args: Args) -> anyhow::Result<Report> {
        let targets = args.urls.iter().map(Target::new).collect::<anyhow::Result<Vec<_>>>()?;
        for target in &targets {
            let mut connection = Connection::new(target.clone());
            let answer = connection.call("GET", "/readyz", "", b"").await?;
            ensure!(answer.status == 200, "the node is not ready: /readyz says {}", answer.status);
        }
        let mut meters = Meters::open(args.redis.as_deref(), &targets, &args.node_pids).await?;
        let redis_version = meters.redis_version().await?;
        let settings = [
            ("concurrency", args.concurrency),
            ("payloadBytes", args.payload_bytes),
            ("commands", args.commands),
            ("batch", args.batch),
            ("nodes", targets.len() as u64),
        ];
        let load = Load::new(plan(&args, targets));
        let mut bench = Self { args, load, meters, phases: Vec::new() };
        let growth = bench.run_all().await?;
        let delivered = match bench.args.suites.contains(&Suite::Webhooks) {
            true => Some(bench.webhooks().await?),
            false => None,
        };
        Ok(Report {
            version: env!("CARGO_PKG_VERSION"),
            redis_version,
            settings: settings.into(),
            phases: bench.phases,
            growth,
            delivered,
        })
    }

    async fn run_all(&mut self) -> anyhow::Result<Option<Growth>> {
        let (limit, tasks) = (self.limit(), self.args.tasks);
        self.load.drain(limit).await?;
        self.load.run(Step::Cycle, self.args.warm_up, limit).await?;
        let asked = self.args.suites.clone();
        let last = [Suite::Submit, Suite::Claim, Suite::Create]
            .into_iter()
            .position(|suite| asked.contains(&suite))
            .map_or(0, |from_the_end| 3 - from_the_end);
        // Each phase needs the one before it, so that one runs too, and is shown only if asked for.
        let steps = [
            (Suite::Create, Step::Create, "create"),
            (Suite::Claim, Step::Claim, "claim"),
            (Suite::Submit, Step::Submit, "submit"),
        ];
        for (suite, step, name) in steps.into_iter().take(last) {
            let phase = self.phase(name.to_owned(), step, tasks).await?;
            if asked.contains(&suite) {
                self.phases.push(phase);
            }
        }
        self.clear().await?;
        if asked.contains(&Suite::Cycle) {
            let phase = self.phase("cycle".to_owned(), Step::Cycle, tasks).await?;
            self.phases.push(phase);
        }
        if asked.contains(&Suite::Growth) { self.growth().await.map(Some) } else { Ok(None) }
    }

    /// The queue is filled to each length in turn; pairs of create and claim then keep it there.
    async fn growth(&mut self) -> anyhow::Result<Growth> {
        let (limit, tasks) = (self.limit(), self.args.tasks);
        let mut lengths = self.args.queued.clone();
        lengths.sort_unstable();
        let (mut queued, first) = (0, self.phases.len());
        for length in lengths {
            let (meters, load) = (&mut self.meters, &mut self.load);
            let before = meters.read().await?;
            let missing = length.saturating_sub(queued);
            let filled = load.run_quickly(Step::Create, missing, limit).await?;
            let cost = before.until(&meters.read().await?);
            queued += filled.tasks;
            ensure!(queued >= length, "only {queued} of {length} tasks were queued in {limit:?}");
            self.phases.push(Phase::new(format!("fill to {length}"), missing, filled, cost));
            let pairs = self.phase(format!("pair at {length}"), Step::Pair, tasks).await?;
            self.phases.push(pairs);
            self.load.run_quickly(Step::Submit, tasks, limit).await?;
        }
        let mut pairs = self.phases[first..].iter().filter(|phase| phase.name.starts_with("pair"));
        let (smallest, largest) = (pairs.clone().next(), pairs.next_back());
        let growth = smallest.zip(largest).map(|(a, b)| Growth::new(a, b));
        self.clear().await?;
        growth.context("--queued names no length")
    }

    /// Tasks end while their receiver is held back; then it is let go.
    async fn webhooks(&mut self) -> anyhow::Result<Delivered> {
        let receiver = webhooks::Receiver::start(Duration::from_millis(self.args.receiver_ms))?;
        let target = Target::new(self.args.urls.first().context("--url names no node")?)?;
        let (mut node, token) = (Connection::new(target), self.args.producer_token.clone());
        let (tasks, limit) = (self.args.tasks, self.limit());
        self.load.tell(&format!("{}/hook", receiver.origin));
        let warm_up = self.args.warm_up.max(1);
        self.load.run(Step::Cycle, warm_up, limit).await?;
        receiver.until(warm_up, limit).await?;

        let destination = webhooks::Destination::find(&mut node, &token, &receiver.origin).await?;
        destination.pause(&mut node).await?;
        self.load.run(Step::Cycle, tasks, limit).await?;
        let before = self.meters.read().await?;
        let cpu = receiver.cpu_seconds()?;
        destination.resume(&mut node).await?;
        receiver.until(warm_up + tasks, limit).await?;
        let mut cost = before.until(&self.meters.read().await?);
        cost.generator_cpu_seconds = receiver.cpu_seconds()? - cpu;
        let connections = receiver.connections();

        let bare = tokio::task::spawn_blocking(move || webhooks::bare_posts(&receiver, tasks));
        let bare = bare.await.context("the bare client stopped")??;
        let node_cpu = cost.node_cpu_seconds.context("no CPU time of the node was read")?;
        let delivered = Delivered {
            deliveries_per_second: tasks as f64 / cost.wall_seconds,
            posts_per_second: tasks as f64 / bare.wall_seconds,
            of_the_ceiling: bare.wall_seconds / cost.wall_seconds,
            node_micros: node_cpu * 1e6 / tasks as f64,
            post_micros: bare.cpu_seconds * 1e6 / tasks as f64,
            connections,
        };
        let seen = client::Seen { tasks, ..client::Seen::default() };
        self.phases.push(Phase::new("deliver".to_owned(), tasks, seen, cost));
        Ok(delivered)
    }

    async fn phase(&mut self, name: String, step: Step, tasks: u64) -> anyhow::Result<Phase> {
        let before = self.meters.read().await?;
        let seen = self.load.run(step, tasks, self.limit()).await?;
        let cost = before.until(&self.meters.read().await?);
        Ok(Phase::new(name, tasks, seen, cost))
    }

    /// Ends what the phases so far left behind.
    async fn clear(&mut self) -> anyhow::Result<()> {
        if !self.args.keep {
            self.load.run_quickly(Step::Submit, u64::MAX, self.limit()).await?;
            self.load.drain(self.limit()).await?;
        }
        Ok(())
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.args.max_seconds)
    }
}

fn plan(args: &Args, targets: Vec<Target>) -> Plan {
    Plan {
        targets,
        producer_token: args.producer_token.clone(),
        worker_token: args.worker_token.clone(),
        commands: (0..args.commands).map(|number| format!("codeq-bench-{number}")).collect(),
        concurrency: args.concurrency as usize,
        batch: args.batch,
        payload_bytes: args.payload_bytes as usize,
        webhook: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;
    use stub::Stub;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    async fn measure(stub: &Stub, line: &str) -> Report {
        let url = format!("--url={}", stub.url);
        let words = ["bench", &url, "--max-seconds=60"].into_iter().chain(line.split(' '));
        Bench::measure(Line::parse_from(words).args).await.unwrap()
    }

    #[tokio::test]
    async fn every_task_goes_through_every_phase_and_none_is_left() {
        let stub = Stub::start().await;
        let line = "--tasks 200 --concurrency 16 --warm-up 30 --commands 3";
        let report = measure(&stub, line).await;
        let phases: Vec<_> = report.phases.iter().map(|p| (p.name.as_str(), p.tasks)).collect();
        assert_eq!(phases, [("create", 200), ("claim", 200), ("submit", 200), ("cycle", 200)]);
        assert_eq!((stub.created(), stub.finished(), stub.left()), (430, 430, 0));
    }

    #[tokio::test]
    async fn a_phase_is_shown_only_when_asked_for_though_it_needs_the_one_before() {
        let stub = Stub::start().await;
        let report = measure(&stub, "claim --tasks 50 --warm-up 0").await;
        assert_eq!(report.phases.len(), 1);
        assert_eq!(report.phases[0].name, "claim");
        assert_eq!((stub.finished(), stub.left()), (50, 0));
    }

    #[tokio::test]
    async fn batches_use_the_batch_endpoints() {
        let stub = Stub::start().await;
        let report = measure(&stub, "cycle --tasks 200 --batch 20 --concurrency 2").await;
        let calls: Vec<_> = report.phases[0].calls.iter().map(|c| (c.call, c.count)).collect();
        assert_eq!(calls, [("create", 10), ("claim", 20), ("submit", 10)]);
    }

    #[tokio::test]
    async fn calls_that_are_told_to_come_back_are_repeated_and_counted() {
        let stub = Stub::start().await;
        stub.refuse_every(10);
        let report = measure(&stub, "cycle --tasks 40 --concurrency 8 --warm-up 0").await;
        assert!(report.phases[0].complete);
        assert!(report.phases[0].troubles["503"] > 0);
        assert_eq!((stub.finished(), stub.left()), (40, 0));
    }

    #[tokio::test]
    async fn items_of_a_batch_that_are_told_to_come_back_are_sent_again() {
        let stub = Stub::start().await;
        stub.refuse_every(7);
        let report = measure(&stub, "cycle --tasks 200 --batch 20 --concurrency 4").await;
        assert!(report.phases[0].complete);
        assert!(report.phases[0].troubles["item store_unavailable"] > 0);
        assert_eq!(stub.left(), 0);
    }

    #[tokio::test]
    async fn growth_fills_the_queue_to_each_length_and_keeps_it_there() {
        let stub = Stub::start().await;
        let line = "growth --queued 1500,300 --tasks 100 --concurrency 4 --warm-up 0";
        let report = measure(&stub, line).await;
        let names: Vec<_> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
        assert_eq!(names, ["fill to 300", "pair at 300", "fill to 1500", "pair at 1500"]);
        assert!(report.growth.is_some());
        assert!(stub.longest() >= 1500 && stub.longest() < 1700, "{}", stub.longest());
        assert_eq!((stub.created(), stub.left()), (1700, 0));
    }

    #[tokio::test]
    async fn what_an_earlier_run_left_is_worked_off_first() {
        let stub = Stub::start().await;
        measure(&stub, "create --tasks 130 --keep --warm-up 0").await;
        assert_eq!(stub.left(), 130);
        measure(&stub, "cycle --tasks 10 --warm-up 0").await;
        assert_eq!((stub.finished(), stub.left()), (140, 0));
    }

    #[tokio::test]
    async fn a_wrong_token_ends_the_run_with_the_nodes_own_words() {
        let stub = Stub::start().await;
        let line = ["bench", "--url", stub.url.as_str(), "--worker-token", "wrong"];
        let ended = Bench::measure(Line::parse_from(line).args).await;
        let error = ended.err().expect("the stub knows one worker token").to_string();
        assert!(error.contains("401") && error.contains("invalid token"), "{error}");
    }
}
