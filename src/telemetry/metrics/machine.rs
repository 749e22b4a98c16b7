//! What is read from the machine at a scrape: the process as Linux sees it, the allocator, the
//! runtime.

use std::fs;

use prometheus::core::{Collector, Desc, Describer as _};
use prometheus::proto::{Counter, Gauge, LabelPair, Metric, MetricFamily, MetricType};
use tokio::runtime::{Handle, RuntimeMetrics};

use super::family::Declared;

const fn declared(
    name: &'static str,
    kind: &'static str,
    labels: &'static [&'static str],
    help: &'static str,
) -> Declared {
    Declared { name, kind, help, labels, buckets: &[] }
}

const CPU: Declared = declared(
    "process_cpu_seconds_total",
    "counter",
    &[],
    "User and system time of the process, to a hundredth of a second.",
);
const RESIDENT: Declared =
    declared("process_resident_memory_bytes", "gauge", &[], "Memory of the process in RAM.");
const VIRTUAL: Declared =
    declared("process_virtual_memory_bytes", "gauge", &[], "Address space of the process.");
const OPEN_FDS: Declared = declared("process_open_fds", "gauge", &[], "Open file descriptors.");
const MAX_FDS: Declared = declared(
    "process_max_fds",
    "gauge",
    &[],
    "File descriptors that the process may open; absent without a limit.",
);
const STARTED: Declared = declared(
    "process_start_time_seconds",
    "gauge",
    &[],
    "When the process began, in Unix seconds.",
);
const THREADS: Declared =
    declared("process_threads", "gauge", &[], "Threads of the operating system.");
const MEMORY: Declared = declared(
    "codeq_memory_bytes",
    "gauge",
    &["state"],
    "Memory by the allocator's account: allocated, active, resident, retained; and limit, that of the control group, absent without one.",
);
const WORKERS: Declared =
    declared("codeq_runtime_workers", "gauge", &[], "Threads that run the node's tasks.");
const ALIVE: Declared = declared(
    "codeq_runtime_alive_tasks",
    "gauge",
    &[],
    "Tasks of the runtime that have not ended.",
);
const QUEUED: Declared = declared(
    "codeq_runtime_global_queue_depth",
    "gauge",
    &[],
    "Tasks that wait for any worker thread of the runtime.",
);
const BUSY: Declared = declared(
    "codeq_runtime_worker_busy_seconds_total",
    "counter",
    &[],
    "Time that worker threads were busy, summed over them.",
);

/// Every family that is read here.
pub const ALL: &[Declared] = &[
    CPU, RESIDENT, VIRTUAL, OPEN_FDS, MAX_FDS, STARTED, THREADS, MEMORY, WORKERS, ALIVE, QUEUED,
    BUSY,
];

/// Reads them; what this machine does not say is absent.
pub(super) struct Machine {
    descriptions: Vec<Desc>,
    /// That of the thread that made this; none outside of one.
    runtime: Option<RuntimeMetrics>,
}

impl Machine {
    pub fn new() -> Self {
        let describe = |declared: &Declared| declared.opts().describe();
        let descriptions = ALL.iter().map(describe).collect::<Result<_, _>>();
        Self {
            descriptions: descriptions.expect("the catalog declares valid names"),
            runtime: Handle::try_current().ok().map(|handle| handle.metrics()),
        }
    }
}

impl Collector for Machine {
    fn desc(&self) -> Vec<&Desc> {
        self.descriptions.iter().collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let mut families = Vec::with_capacity(ALL.len());
        let mut put = |declared: &Declared, value: Option<f64>| {
            families.extend(value.map(|value| family(declared, &[("", value)])));
        };
        let process = Process::now();
        put(&CPU, process.cpu_seconds);
        put(&RESIDENT, process.resident_bytes);
        put(&VIRTUAL, process.virtual_bytes);
        put(&OPEN_FDS, process.open_fds);
        put(&MAX_FDS, process.max_fds);
        put(&STARTED, process.started_seconds);
        put(&THREADS, process.threads);
        if let Some(runtime) = &self.runtime {
            let workers = runtime.num_workers();
            let busy = (0..workers).map(|worker| runtime.worker_total_busy_duration(worker));
            put(&WORKERS, Some(count(workers)));
            put(&ALIVE, Some(count(runtime.num_alive_tasks())));
            put(&QUEUED, Some(count(runtime.global_queue_depth())));
            put(&BUSY, Some(busy.sum::<std::time::Duration>().as_secs_f64()));
        }
        let memory = memory();
        if !memory.is_empty() {
            families.push(family(&MEMORY, &memory));
        }
        families
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
fn count(number: usize) -> f64 {
    number as f64
}

/// One family; each value with that of its only label, "" when there is none.
fn family(declared: &Declared, values: &[(&str, f64)]) -> MetricFamily {
    let is_counter = declared.kind == "counter";
    let metrics = values.iter().map(|(state, value)| {
        let labels = declared.labels.iter().map(|name| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value((*state).to_owned());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        if is_counter {
            let mut counter = Counter::default();
            counter.set_value(*value);
            metric.set_counter(counter);
        } else {
            let mut gauge = Gauge::default();
            gauge.set_value(*value);
            metric.set_gauge(gauge);
        }
        metric
    });
    let mut family = MetricFamily::default();
    family.set_name(declared.name.to_owned());
    family.set_help(declared.help().to_owned());
    family.set_field_type(if is_counter { MetricType::COUNTER } else { MetricType::GAUGE });
    family.set_metric(metrics.collect());
    family
}

/// What `/proc` says about this process.
#[derive(Clone, Copy, Default, Debug)]
struct Process {
    cpu_seconds: Option<f64>,
    resident_bytes: Option<f64>,
    virtual_bytes: Option<f64>,
    open_fds: Option<f64>,
    max_fds: Option<f64>,
    started_seconds: Option<f64>,
    threads: Option<f64>,
}

/// `USER_HZ`, which is part of the kernel's interface and the same on every machine.
const TICKS_PER_SECOND: f64 = 100.0;

impl Process {
    fn now() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let (stat, status) = (read("/proc/self/stat"), read("/proc/self/status"));
        // The name of the program may hold anything; what follows its last bracket is numbers.
        let numbers = stat.rsplit_once(')').map_or("", |(_, numbers)| numbers);
        let number = |field: usize| -> Option<f64> {
            numbers.split_whitespace().nth(field - 3)?.parse().ok()
        };
        let boot = || named(&read("/proc/stat"), "btime", 1.0);
        Self {
            cpu_seconds: number(14).zip(number(15)).map(|(u, s)| (u + s) / TICKS_PER_SECOND),
            started_seconds: number(22).zip(boot()).map(|(at, boot)| boot + at / TICKS_PER_SECOND),
            resident_bytes: named(&status, "VmRSS:", 1024.0),
            virtual_bytes: named(&status, "VmSize:", 1024.0),
            threads: named(&status, "Threads:", 1.0),
            open_fds: fs::read_dir("/proc/self/fd").ok().map(|open| count(open.count())),
            max_fds: named(&read("/proc/self/limits"), "Max open files", 1.0),
        }
    }
}

/// The first number of the line that begins so.
fn named(table: &str, name: &str, unit: f64) -> Option<f64> {
    let line = table.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok().map(|number: f64| number * unit)
}

/// The allocator's account, and the limit of the control group.
fn memory() -> Vec<(&'static str, f64)> {
    let mut memory = allocator();
    let limit = fs::read_to_string("/sys/fs/cgroup/memory.max").unwrap_or_default();
    memory.extend(limit.trim().parse().ok().map(|limit: f64| ("limit", limit)));
    memory
}

#[cfg(feature = "jemalloc")]
fn allocator() -> Vec<(&'static str, f64)> {
    use tikv_jemalloc_ctl::{epoch, stats};
    // Its figures are those of the last epoch.
    if epoch::advance().is_err() {
        return Vec::new();
    }
    let figures = [
        ("allocated", stats::allocated::read()),
        ("active", stats::active::read()),
        ("resident", stats::resident::read()),
        ("retained", stats::retained::read()),
    ];
    figures.into_iter().filter_map(|(state, bytes)| Some((state, count(bytes.ok()?)))).collect()
}

#[cfg(not(feature = "jemalloc"))]
fn allocator() -> Vec<(&'static str, f64)> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_the_kernel_are_read() {
        assert_eq!(
            named("Name:\tcodeq\nVmRSS:\t   20480 kB\n", "VmRSS:", 1024.0),
            Some(20_971_520.0)
        );
        assert_eq!(
            named("Max open files   1024   524288   files\n", "Max open files", 1.0),
            Some(1024.0)
        );
        assert_eq!(named("Max open files   unlimited\n", "Max open files", 1.0), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_time_of_the_process_has_fractions() {
        let before = Process::now();
        let began = std::time::Instant::now();
        while Process::now().cpu_seconds == before.cpu_seconds {
            assert!(began.elapsed().as_secs() < 20, "a hundredth is never counted");
        }
        let now = Process::now();
        assert!(now.cpu_seconds.unwrap() - before.cpu_seconds.unwrap() < 1.0);
        let age = jiff::Timestamp::now().as_second() as f64 - now.started_seconds.unwrap();
        assert!((-2.0..7200.0).contains(&age), "{age}");
        assert!(now.threads >= Some(1.0) && now.open_fds > Some(2.0), "{now:?}");
        assert!(now.virtual_bytes > now.resident_bytes, "{now:?}");
    }
}
