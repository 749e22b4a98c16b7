//! What is counted of the life of tasks, and the gauges over the queues: exact, over a fleet, however
//! the calls came about.

mod budget;
mod contract;
mod gauges;
mod labels;
mod life;
mod storm;

use crate::support::{Node, Redis, Scrape, Settings, eventually};

/// Nodes on one Redis.
struct Nodes(Vec<Node>);

impl Nodes {
    async fn on(redis: &Redis, size: usize) -> Self {
        Self::with(quick(redis), size).await
    }

    async fn with(settings: Settings, size: usize) -> Self {
        let starts = (0..size).map(|_| settings.clone().start());
        Self(futures_util::future::join_all(starts).await)
    }

    /// The sum of a series over all nodes.
    async fn sum(&self, series: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.0 {
            sum += node.scrape().await.value(series);
        }
        sum
    }

    /// The sums of counters `codeq_<name>` of command `m`, with one label more when there is one.
    async fn counted<const N: usize>(&self, names: [&str; N]) -> [f64; N] {
        let mut sums = [0.0; N];
        for node in &self.0 {
            let scrape = node.scrape().await;
            for (sum, name) in sums.iter_mut().zip(names) {
                *sum += scrape.value(&of_m(name));
            }
        }
        sums
    }
}

/// `x_total{reason="nack"}` → `codeq_x_total{command="m",reason="nack"}`
fn of_m(name: &str) -> String {
    let (name, label) = name.split_once('{').unwrap_or((name, "}"));
    let comma = if label == "}" { "" } else { "," };
    // Labels stand in the order of their names.
    match label < "command" && label != "}" {
        true => format!("codeq_{name}{{{},command=\"m\"}}", label.trim_end_matches('}')),
        false => format!("codeq_{name}{{command=\"m\"{comma}{label}"),
    }
}

/// Retries come after a second.
fn quick(redis: &Redis) -> Settings {
    Settings::on(redis).set("BACKOFF_POLICY", "fixed").set("BACKOFF_BASE_SECONDS", "1")
}

/// Waits until a gauge of a node has a value; a reading serves every scraper for a second.
async fn until_gauge(node: &Node, series: &str, such: impl Fn(f64) -> bool) {
    eventually(series, async || {
        let scrape = node.scrape().await;
        (scrape.has(series) && such(scrape.value(series))).then_some(())
    })
    .await;
}

/// The bounds of a histogram of command `m`, and how many values are at most each.
fn buckets(scrape: &Scrape, name: &str) -> Vec<(String, f64)> {
    scrape.buckets(&of_m(name).replacen('{', "_bucket{", 1))
}

/// How many values are at most `bound`.
fn at_most(scrape: &Scrape, name: &str, bound: &str) -> f64 {
    let buckets = buckets(scrape, name);
    buckets.iter().find(|(le, _)| le == bound).unwrap_or_else(|| panic!("{name} has no {bound}")).1
}
