use super::*;
use crate::model::Partitions;
use crate::store::{Error, Finding, Findings};
use crate::telemetry::Metrics;

fn with_partitions(redis: &TestRedis, count: u16) -> Store {
    Store::new(redis.options(), Partitions::new("test", count), Metrics::new())
}

#[tokio::test]
async fn a_store_is_claimed_once_and_another_layout_is_refused_with_both_numbers() {
    let redis = TestRedis::start().await;
    for _ in 0..2 {
        with_partitions(&redis, 16).check().await.unwrap();
    }
    let error = with_partitions(&redis, 8).check().await.unwrap_err();
    assert!(matches!(error, Error::WrongLayout { .. }));
    assert_eq!(
        error.to_string(),
        "the store holds 16 partitions in layout 1, \
         this node is configured for 8 partitions in layout 1"
    );
    with_partitions(&redis, 16).check().await.unwrap();
}

#[tokio::test]
async fn what_would_lose_tasks_is_found() {
    let redis = TestRedis::with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let findings = redis.store().await.check().await.unwrap();
    let evicts = Finding::Evicts { policy: "allkeys-lru".into() };
    assert_eq!(findings, Findings(vec![evicts, Finding::NoAppendOnlyFile]));
    assert!(findings.are_dangerous());

    let well_kept = TestRedis::with(&["--appendonly", "yes"]).await;
    let findings = well_kept.store().await.check().await.unwrap();
    assert_eq!(findings, Findings::default());
}

#[tokio::test]
async fn what_redis_hides_is_a_finding_and_no_failure() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let _: String = redis.command("ACL SETUSER default -info").await;
    let findings = store.check().await.unwrap();
    assert_eq!(findings.0.len(), 2);
    assert!(findings.0[0].to_string().starts_with("INFO memory cannot be read: "));
}

#[tokio::test]
async fn a_store_that_is_away_cannot_be_checked() {
    let mut redis = TestRedis::start().await;
    let store = redis.store().await;
    redis.kill();
    assert_eq!(store.check().await.unwrap_err(), Error::Unavailable);
}
