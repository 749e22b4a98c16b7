//! An outage of a day.

use std::time::Duration;

use crate::promises::{Outage, recovers};

#[tokio::test]
async fn dead_deliveries_by_the_thousands_are_recovered_once_each_though_a_node_dies() {
    recovers(Outage { dead: 25_000, rate: 500, within: Duration::from_secs(180) }).await;
}
