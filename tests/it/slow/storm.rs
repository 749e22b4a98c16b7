//! A minute of what `make test` does for seconds.

use std::time::Duration;

use crate::promises::{Storm, nothing_accepted_is_lost};

#[tokio::test]
async fn a_minute_of_killed_nodes_and_redis_loses_nothing_that_was_accepted() {
    nothing_accepted_is_lost(Storm {
        lasts: Duration::from_secs(60),
        pause: Duration::from_millis(300),
        redis_every: 5,
        producers: 8,
    })
    .await;
}
