//! What the run cost: readings of Redis, the nodes and the generator, and their differences.

use std::collections::BTreeMap;
use std::time::Instant;

use anyhow::Context as _;
use redis::aio::MultiplexedConnection;
use serde::Serialize;

use super::http::{Connection, Target};

/// Ticks of `/proc/<pid>/stat` in a second: part of Linux' interface, the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

/// The scripts that the load calls; the others are the node's own background work.
const LOAD: [&str; 3] = ["enqueue", "claim", "submit"];

/// Everything that can be read; what was not asked for stays empty.
pub struct Meters {
    redis: Option<MultiplexedConnection>,
    nodes: Vec<Connection>,
    pids: Vec<u32>,
}

/// One moment.
pub struct Reading {
    at: Instant,
    redis: Option<RedisReading>,
    node_cpu_seconds: Option<f64>,
    batches: Batches,
    generator_cpu_seconds: f64,
}

/// Script batches so far: operation → (tasks, batches).
type Batches = BTreeMap<String, (f64, f64)>;

struct RedisReading {
    cpu_seconds: f64,
    used_memory: f64,
    /// Command → (calls, microseconds inside the command).
    commands: BTreeMap<String, (f64, f64)>,
}

/// What happened between two readings.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cost {
    /// Time from the first reading to the second.
    pub wall_seconds: f64,
    /// CPU of the Redis process, all threads; `None` without `--redis`.
    pub redis_cpu_seconds: Option<f64>,
    /// Change of `used_memory`.
    pub redis_memory_bytes: Option<f64>,
    /// Calls per command, also those made inside scripts.
    pub redis_calls: BTreeMap<String, f64>,
    /// Microseconds inside each command; a script counts itself and what it calls.
    pub redis_call_micros: BTreeMap<String, f64>,
    /// CPU of all measured nodes.
    pub node_cpu_seconds: Option<f64>,
    /// CPU of this process.
    pub generator_cpu_seconds: f64,
    /// Mean items per script call, by operation, and over those of the load as `all`.
    pub mean_batch: BTreeMap<String, f64>,
}

impl Meters {
    /// Connects to Redis when an address is given; pids take the place of `/metrics` for CPU.
    pub async fn open(
        redis: Option<&str>,
        targets: &[Target],
        pids: &[u32],
    ) -> anyhow::Result<Self> {
        let redis = match redis {
            Some(address) => {
                let client = redis::Client::open(address).context("--redis")?;
                let link = client.get_multiplexed_async_connection().await;
                Some(link.context("--redis: cannot connect")?)
            }
            None => None,
        };
        let nodes = targets.iter().cloned().map(Connection::new).collect();
        Ok(Self { redis, nodes, pids: pids.to_owned() })
    }

    /// The version of Redis and its operating mode, for the head of the report.
    pub async fn redis_version(&mut self) -> anyhow::Result<Option<String>> {
        let Some(link) = &mut self.redis else { return Ok(None) };
        Ok(info(link, "server").await?.remove("redis_version"))
    }

    /// Reads everything now.
    pub async fn read(&mut self) -> anyhow::Result<Reading> {
        let redis = match &mut self.redis {
            Some(link) => Some(RedisReading::take(link).await?),
            None => None,
        };
        let mut scraped_cpu = None;
        let mut batches = Batches::new();
        for node in &mut self.nodes {
            let answer = node.call("GET", "/metrics", "", b"").await?;
            let text = std::str::from_utf8(answer.body).context("/metrics is not text")?;
            if let Some(cpu) = read_metrics(text, &mut batches) {
                *scraped_cpu.get_or_insert(0.0) += cpu;
            }
        }
        let node_cpu_seconds = match self.pids.as_slice() {
            [] => scraped_cpu,
            pids => {
                Some(pids.iter().map(|pid| process_cpu(&pid.to_string())).sum::<Result<_, _>>()?)
            }
        };
        let generator_cpu_seconds = process_cpu("self")?;
        Ok(Reading { at: Instant::now(), redis, node_cpu_seconds, batches, generator_cpu_seconds })
    }
}

impl Reading {
    /// The cost from `self` to a later reading.
    pub fn until(&self, later: &Self) -> Cost {
        let mut cost = Cost {
            wall_seconds: later.at.duration_since(self.at).as_secs_f64(),
            generator_cpu_seconds: later.generator_cpu_seconds - self.generator_cpu_seconds,
            node_cpu_seconds: later.node_cpu_seconds.zip(self.node_cpu_seconds).map(|(b, a)| b - a),
            ..Cost::default()
        };
        if let (Some(before), Some(after)) = (&self.redis, &later.redis) {
            cost.redis_cpu_seconds = Some(after.cpu_seconds - before.cpu_seconds);
            cost.redis_memory_bytes = Some(after.used_memory - before.used_memory);
            for (name, (calls, micros)) in &after.commands {
                let (old_calls, old_micros) =
                    before.commands.get(name).copied().unwrap_or_default();
                if *calls > old_calls {
                    cost.redis_calls.insert(name.clone(), calls - old_calls);
                    cost.redis_call_micros.insert(name.clone(), micros - old_micros);
                }
            }
        }
        let (mut items, mut batches) = (0.0, 0.0);
        for (operation, (sum, count)) in &later.batches {
            let (old_sum, old_count) = self.batches.get(operation).copied().unwrap_or_default();
            if *count > old_count {
                let (sum, count) = (sum - old_sum, count - old_count);
                cost.mean_batch.insert(operation.clone(), sum / count);
                if LOAD.contains(&operation.as_str()) {
                    items += sum;
                    batches += count;
                }
            }
        }
        if batches > 0.0 {
            cost.mean_batch.insert("all".to_owned(), items / batches);
        }
        cost
    }
}

impl RedisReading {
    async fn take(link: &mut MultiplexedConnection) -> anyhow::Result<Self> {
        let cpu = info(link, "cpu").await?;
        let used_memory = number(&info(link, "memory").await?, "used_memory")?;
        let mut commands = BTreeMap::new();
        for (name, stats) in info(link, "commandstats").await? {
            let Some(name) = name.strip_prefix("cmdstat_") else { continue };
            let field = |wanted: &str| {
                let value = stats.split(',').find_map(|part| part.strip_prefix(wanted));
                value.and_then(|text| text.parse().ok()).unwrap_or(0.0)
            };
            commands.insert(name.to_owned(), (field("calls="), field("usec=")));
        }
        let cpu_seconds = number(&cpu, "used_cpu_user")? + number(&cpu, "used_cpu_sys")?;
        Ok(Self { cpu_seconds, used_memory, commands })
    }
}

/// One section of `INFO`, each line a field.
async fn info(
    link: &mut MultiplexedConnection,
    section: &str,
) -> anyhow::Result<BTreeMap<String, String>> {
    let text: String = redis::cmd("INFO").arg(section).query_async(link).await?;
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}

fn number(fields: &BTreeMap<String, String>, name: &str) -> anyhow::Result<f64> {
    let text = fields.get(name).with_context(|| format!("INFO has no {name}"))?;
    text.parse().with_context(|| format!("INFO {name}: {text:?}"))
}

/// Adds the batch sizes of one node to `batches`; gives its `process_cpu_seconds_total`.
fn read_metrics(text: &str, batches: &mut Batches) -> Option<f64> {
    let mut cpu = None;
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else { continue };
        let Ok(value) = value.parse::<f64>() else { continue };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let operation = || {
            let label = labels.split("operation=\"").nth(1).and_then(|rest| rest.split('"').next());
            label.unwrap_or("unlabelled").to_owned()
        };
        match name {
            "process_cpu_seconds_total" => cpu = Some(value),
            "codeq_store_batch_size_sum" => batches.entry(operation()).or_default().0 += value,
            "codeq_store_batch_size_count" => batches.entry(operation()).or_default().1 += value,
            _ => {}
        }
    }
    cpu
}

/// CPU seconds of a process so far, all threads, user and system; of one thread for `<pid>/task/<tid>`.
pub fn process_cpu(pid: &str) -> anyhow::Result<f64> {
    let path = format!("/proc/{pid}/stat");
    let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    // The second field is the program's name in parentheses and may hold anything.
    let fields = text.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace());
    let ticks = fields.into_iter().flatten().skip(11).take(2).map(str::parse::<f64>);
    Ok(ticks.sum::<Result<f64, _>>().context(path)? / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batch_sizes_of_several_nodes_add_up_by_operation() {
        let text = "# HELP codeq_store_batch_size x\n\
                    codeq_store_batch_size_sum{operation=\"claim\"} 30\n\
                    codeq_store_batch_size_count{operation=\"claim\"} 10\n\
                    codeq_store_batch_size_bucket{operation=\"claim\",le=\"1\"} 4\n\
                    process_cpu_seconds_total 1.25\n";
        let mut batches = Batches::new();
        assert_eq!(read_metrics(text, &mut batches), Some(1.25));
        assert_eq!(read_metrics(text, &mut batches), Some(1.25));
        assert_eq!(batches["claim"], (60.0, 20.0));
    }

    #[test]
    fn a_cost_counts_only_what_happened_between_two_readings() {
        let reading = |items: f64, batches: f64| Reading {
            at: Instant::now(),
            redis: None,
            node_cpu_seconds: Some(items / 10.0),
            batches: Batches::from([("claim".to_owned(), (items, batches))]),
            generator_cpu_seconds: 0.0,
        };
        let cost = reading(100.0, 100.0).until(&reading(180.0, 110.0));
        assert_eq!(cost.mean_batch["claim"], 8.0);
        assert_eq!(cost.mean_batch["all"], 8.0);
        assert_eq!(cost.node_cpu_seconds, Some(8.0));
        assert_eq!(cost.redis_cpu_seconds, None);
    }

    #[test]
    fn the_cpu_time_of_this_process_grows_as_it_works() {
        let before = process_cpu("self").unwrap();
        while process_cpu("self").unwrap() <= before {}
    }
}
