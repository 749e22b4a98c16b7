//! Twenty thousand ends under fire.

use std::time::Duration;

use crate::promises::{Siege, every_end_is_told};

#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_ends_are_told_while_nodes_are_killed_every_second() {
    every_end_is_told(Siege {
        nodes: 3,
        receivers: 12,
        tasks: 20_000,
        seed: 38,
        node_dies: Duration::from_secs(1),
        away: Duration::from_secs(20),
        failures: 10,
        producers: 4,
        pace: Duration::from_millis(200),
        workers: 8,
        within: Duration::from_secs(1200),
    })
    .await;
}
