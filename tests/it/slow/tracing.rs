//! Collectors that cannot be used, for longer.

use crate::observability::tracing::fails_open;

#[tokio::test]
async fn t22_ten_thousand_requests_do_not_feel_a_collector_that_cannot_be_used() {
    fails_open::serves_on(10_000).await;
}

#[tokio::test]
async fn t22_memory_stays_flat_over_tens_of_thousands_of_lost_spans() {
    fails_open::memory_stays_flat(20_000).await;
}
