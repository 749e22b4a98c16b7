//! A destination that is tried out by a delivery which then has to wait.

use super::{completed, end_the_pause, hooked};
use crate::support::{Receiver, Redis, Reply, eventually};

#[tokio::test]
async fn a_probe_that_has_to_wait_for_the_tenants_limit_leaves_its_turn_to_the_next() {
    let redis = Redis::start().await;
    let receiver = Receiver::start().await;
    let node = hooked(&redis)
        .set("RATE_LIMIT_WEBHOOK_REQUESTS_PER_MINUTE", "1")
        .set("RATE_LIMIT_WEBHOOK_BURST_SIZE", "5")
        // A probe is granted for longer than this test waits.
        .set("WEBHOOK_TIMEOUT_MS", "60000")
        .start()
        .await;
    receiver.answers(Reply::Status(500));
    for _ in 0..5 {
        completed(&node, "m", &receiver).await;
    }
    let admin = node.admin();
    let id = eventually("it is open", || async {
        let open = admin.destinations("state=open").await.json_of(200);
        Some(open["items"].get(0)?["id"].as_str()?.to_owned())
    })
    .await;

    // The five have used the tenant's limit up, and the probe is a sixth.
    receiver.answers(Reply::OK);
    let hits = "codeq_rate_limit_hits_total{operation=\"task_result\",scope=\"webhook\"}";
    eventually("the probe has to wait", || async {
        end_the_pause(&redis, &id).await;
        (node.scrape().await.value(hits) >= 1.0).then_some(())
    })
    .await;
    eventually("the next one is sent as soon as it may be", || async {
        let keys = redis.keys().await;
        for bucket in keys.iter().filter(|key| key.contains(":k:")) {
            redis.command::<u64>(&format!("DEL {bucket}")).await;
        }
        end_the_pause(&redis, &id).await;
        (receiver.count() > 5).then_some(())
    })
    .await;
}
