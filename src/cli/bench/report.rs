//! The figures of a run: as a table for people, as JSON for everything else.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::client::Seen;
use super::meters::Cost;

/// A whole run.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// `codeq` version of the generator.
    pub version: &'static str,
    /// `redis_version`, when Redis was read.
    pub redis_version: Option<String>,
    /// The options that shape the load, as given.
    pub settings: BTreeMap<&'static str, u64>,
    /// In the order they ran.
    pub phases: Vec<Phase>,
    /// Cost at the largest length of the queue over the cost at the smallest; after `growth`.
    pub growth: Option<Growth>,
    /// Deliveries against bare POSTs; after `webhooks`.
    pub delivered: Option<Delivered>,
}

/// What a delivery costs beside a bare POST of the same body by the same HTTP client.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Delivered {
    /// Deliveries a second.
    pub deliveries_per_second: f64,
    /// POSTs a second.
    pub posts_per_second: f64,
    /// The one over the other.
    pub of_the_ceiling: f64,
    /// Node CPU a delivery.
    pub node_micros: f64,
    /// CPU of the client a POST.
    pub post_micros: f64,
    /// Connections that the nodes opened to the receiver.
    pub connections: usize,
}

/// How the cost of create + claim grows with the queue.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Growth {
    /// Ratio of Redis CPU a task.
    pub redis: Option<f64>,
    /// Ratio of node CPU a task.
    pub node: Option<f64>,
    /// Ratio of time a task.
    pub wall: f64,
}

/// One measured phase. Everything "per task" is in microseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Phase {
    /// `create`, `claim`, …, or `pair at 1000`.
    pub name: String,
    /// Tasks that went through.
    pub tasks: u64,
    /// False when the time was over first.
    pub complete: bool,
    /// Tasks a second.
    pub tasks_per_second: f64,
    /// Elapsed time a task.
    pub wall_micros: f64,
    /// Redis CPU a task.
    pub redis_micros: Option<f64>,
    /// Time in scripts a task, without the commands they call: what the Lua itself costs.
    pub lua_micros: Option<f64>,
    /// Node CPU a task.
    pub node_micros: Option<f64>,
    /// CPU of the generator a task.
    pub generator_micros: f64,
    /// Redis commands a task, those inside scripts included.
    pub redis_commands: Option<f64>,
    /// Change of Redis' memory a task, where tasks stay queued.
    pub bytes_per_queued_task: Option<f64>,
    /// Latency by call.
    pub calls: Vec<Latency>,
    /// "Not now" answers by status, and broken connections as `io`.
    pub troubles: BTreeMap<String, u64>,
    /// The sums behind the figures.
    pub cost: Cost,
}

/// Latency of one kind of call in microseconds, closed loop: capacity, not what a user waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// `create`, `claim`, `submit`.
    pub call: &'static str,
    /// Calls answered.
    pub count: usize,
    /// Median.
    pub p50: u32,
    /// 99th percentile.
    pub p99: u32,
    /// The slowest.
    pub max: u32,
}

impl Phase {
    /// Puts together what the clients saw and what the meters read.
    pub fn new(name: String, wanted: u64, seen: Seen, cost: Cost) -> Self {
        let tasks = seen.tasks;
        let per_task = |seconds: f64| seconds * 1e6 / tasks.max(1) as f64;
        let calls = ["create", "claim", "submit"].into_iter().zip(seen.micros);
        let stays_queued = name == "create" || name.starts_with("fill");
        Self {
            tasks,
            complete: tasks >= wanted,
            tasks_per_second: tasks as f64 / cost.wall_seconds.max(1e-9),
            wall_micros: per_task(cost.wall_seconds),
            redis_micros: cost.redis_cpu_seconds.map(per_task),
            lua_micros: lua_seconds(&cost).map(per_task),
            node_micros: cost.node_cpu_seconds.map(per_task),
            generator_micros: per_task(cost.generator_cpu_seconds),
            redis_commands: cost
                .redis_cpu_seconds
                .map(|_| cost.redis_calls.values().sum::<f64>() / tasks.max(1) as f64),
            bytes_per_queued_task: cost
                .redis_memory_bytes
                .filter(|_| stays_queued && tasks > 0)
                .map(|bytes| bytes / tasks as f64),
            calls: calls.filter_map(|(call, micros)| Latency::new(call, micros)).collect(),
            troubles: seen.troubles,
            name,
            cost,
        }
    }
}

impl Latency {
    fn new(call: &'static str, mut micros: Vec<u32>) -> Option<Self> {
        micros.sort_unstable();
        let last = micros.len().checked_sub(1)?;
        let at = |share: f64| micros[(last as f64 * share).round() as usize];
        Some(Self { call, count: micros.len(), p50: at(0.5), p99: at(0.99), max: micros[last] })
    }
}

impl Growth {
    /// From the phase at the smallest length and the one at the largest.
    pub fn new(smallest: &Phase, largest: &Phase) -> Self {
        let ratio = |pick: fn(&Phase) -> Option<f64>| {
            pick(largest).zip(pick(smallest)).filter(|(_, b)| *b > 0.0).map(|(a, b)| a / b)
        };
        Self {
            redis: ratio(|phase| phase.redis_micros),
            node: ratio(|phase| phase.node_micros),
            wall: largest.wall_micros / smallest.wall_micros,
        }
    }
}

impl Report {
    /// The tables: cost a task, then latency a call, then whatever went wrong.
    pub fn table(&self) -> String {
        let mut text = String::new();
        let settings: Vec<String> = self.settings.iter().map(|(k, v)| format!("{k} {v}")).collect();
        let redis = self.redis_version.as_deref().unwrap_or("not read");
        writes(
            &mut text,
            &format!("codeq {} · Redis {redis} · {}\n", self.version, settings.join(" · ")),
        );
        writes(&mut text, &costs(&self.phases));
        writes(&mut text, &latencies(&self.phases));
        for phase in &self.phases {
            for (trouble, count) in &phase.troubles {
                writes(&mut text, &format!("{}: {count} × {trouble}", phase.name));
            }
            if !phase.complete {
                writes(&mut text, &format!("{}: the time was over first", phase.name));
            }
        }
        if let Some(growth) = &self.growth {
            let ratio = |value: Option<f64>| value.map_or("–".to_owned(), |v| format!("{v:.2}×"));
            writes(
                &mut text,
                &format!(
                    "growth from the shortest queue to the longest: Redis CPU {}, node CPU {}, time {}",
                    ratio(growth.redis),
                    ratio(growth.node),
                    ratio(Some(growth.wall))
                ),
            );
        }
        if let Some(told) = &self.delivered {
            writes(
                &mut text,
                &format!(
                    "deliveries {:.0}/s, bare POSTs {:.0}/s: {:.0} %; node {:.1} µs a delivery, \
                     client {:.1} µs a POST; {} connections",
                    told.deliveries_per_second,
                    told.posts_per_second,
                    told.of_the_ceiling * 100.0,
                    told.node_micros,
                    told.post_micros,
                    told.connections
                ),
            );
        }
        text
    }
}

/// Redis counts a command inside a script twice: by itself, and in the time of `EVALSHA`.
fn lua_seconds(cost: &Cost) -> Option<f64> {
    let scripts = cost.redis_call_micros.get("evalsha")?;
    let all: f64 = cost.redis_call_micros.values().sum();
    Some((2.0 * scripts - all).max(0.0) / 1e6)
}

/// Each share is of one core: a figure is void without knowing who was busy.
fn costs(phases: &[Phase]) -> String {
    let mut rows = vec![
        ["", "tasks", "tasks/s", "µs/task", "redis µs", "of it Lua", "node µs", "gen µs"]
            .into_iter()
            .chain(["redis %", "node %", "gen %", "batch", "cmds/task", "B/queued"])
            .map(str::to_owned)
            .collect::<Vec<_>>(),
    ];
    for phase in phases {
        let wall = phase.cost.wall_seconds;
        let share = |cpu: Option<f64>| figure(cpu.map(|cpu| cpu / wall * 100.0), 0);
        rows.push(vec![
            phase.name.clone(),
            phase.tasks.to_string(),
            figure(Some(phase.tasks_per_second), 0),
            figure(Some(phase.wall_micros), 1),
            figure(phase.redis_micros, 2),
            figure(phase.lua_micros, 2),
            figure(phase.node_micros, 1),
            figure(Some(phase.generator_micros), 1),
            share(phase.cost.redis_cpu_seconds),
            share(phase.cost.node_cpu_seconds),
            share(Some(phase.cost.generator_cpu_seconds)),
            figure(phase.cost.mean_batch.get("all").copied(), 1),
            figure(phase.redis_commands, 2),
            figure(phase.bytes_per_queued_task, 0),
        ]);
    }
    aligned(&rows)
}

fn latencies(phases: &[Phase]) -> String {
    let header = ["", "call", "calls", "p50 µs", "p99 µs", "max µs", "batch"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for phase in phases {
        for latency in &phase.calls {
            rows.push(vec![
                phase.name.clone(),
                latency.call.to_owned(),
                latency.count.to_string(),
                latency.p50.to_string(),
                latency.p99.to_string(),
                latency.max.to_string(),
                figure(phase.cost.mean_batch.get(script(latency.call)).copied(), 1),
            ]);
        }
    }
    aligned(&rows)
}

/// A call's script, as `codeq_store_batch_size` labels it.
fn script(call: &str) -> &str {
    if call == "create" { "enqueue" } else { call }
}

fn figure(value: Option<f64>, digits: usize) -> String {
    value.map_or("–".to_owned(), |value| format!("{value:.digits$}"))
}

/// First column to the left, numbers to the right.
fn aligned(rows: &[Vec<String>]) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for row in rows {
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            if column == 0 {
                let _ = write!(text, "{cell:<width$}");
            } else {
                let _ = write!(text, "  {cell:>width$}");
            }
        }
        text.push('\n');
    }
    text
}

fn writes(text: &mut String, line: &str) {
    text.push_str(line);
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn phase(name: &str, redis: f64) -> Phase {
        let seen = Seen { tasks: 1000, micros: [vec![3, 1, 2], vec![], vec![]], ..Seen::default() };
        let cost = Cost {
            wall_seconds: 0.5,
            redis_cpu_seconds: Some(redis),
            redis_memory_bytes: Some(600_000.0),
            ..Cost::default()
        };
        Phase::new(name.to_owned(), 1000, seen, cost)
    }

    #[test]
    fn figures_are_per_task_and_latencies_per_call() {
        let phase = phase("create", 0.004);
        assert_eq!(phase.redis_micros, Some(4.0));
        assert_eq!(phase.tasks_per_second, 2000.0);
        assert_eq!(phase.bytes_per_queued_task, Some(600.0));
        assert_eq!((phase.calls.len(), phase.calls[0].p50, phase.calls[0].max), (1, 2, 3));
    }

    #[test]
    fn the_share_of_lua_is_what_scripts_take_beyond_their_commands() {
        let micros = [("evalsha", 900.0), ("hset", 200.0), ("zadd", 100.0)];
        let redis_call_micros = micros.map(|(name, micros)| (name.to_owned(), micros)).into();
        let seconds = lua_seconds(&Cost { redis_call_micros, ..Cost::default() });
        assert!((seconds.unwrap() - 600e-6).abs() < 1e-12);
    }

    #[test]
    fn memory_is_counted_only_where_tasks_stay_queued() {
        assert_eq!(phase("cycle", 0.004).bytes_per_queued_task, None);
    }

    #[test]
    fn growth_is_the_longest_queue_over_the_shortest() {
        let growth = Growth::new(&phase("pair at 1000", 0.004), &phase("pair at 1000000", 0.005));
        assert_eq!(growth.redis, Some(1.25));
        assert_eq!(growth.node, None);
    }

    #[test]
    fn every_row_of_the_table_is_as_wide_as_the_first() {
        let text = costs(&[phase("create", 0.004), phase("cycle", 0.1)]);
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 3);
        assert!(widths.iter().all(|width| *width == widths[0]), "{text}");
    }
}
