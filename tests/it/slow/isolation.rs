//! Hosts that hang and hosts that are gone, by the thousands.

use crate::promises::a_rate_holds;
use crate::promises::{Crowd, Pace, Rounds, a_dead_host_is_passed, a_hanging_host_is_not_felt};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_hangs_is_not_felt_by_fifty_others_of_a_fleet() {
    let measured = Rounds { nodes: 3, rounds: 8, deliveries: 1_000, waiting: 2_000 };
    a_hanging_host_is_not_felt(measured).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_thousand_deliveries_of_a_dead_host_do_not_delay_those_behind_them() {
    a_dead_host_is_passed(Crowd { dead: 200_000, healthy: 2_000 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_minute_of_three_nodes_keeps_to_the_rate_of_a_destination() {
    a_rate_holds(Pace { per_second: 200, deliveries: 6_000 }).await;
}
