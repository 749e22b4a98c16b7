use std::time::Instant;

use super::proxy::Proxy;
use super::*;
use crate::store::Error;
use crate::store::testing::{open, options};

#[tokio::test(flavor = "multi_thread")]
async fn a_script_cache_that_is_emptied_all_the_time_costs_no_answer() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let mut outside = redis.connection().await;
    let flushing = tokio::spawn(async move {
        loop {
            redis::cmd("SCRIPT").arg("FLUSH").exec_async(&mut outside).await.unwrap();
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    for _ in 0..10 {
        let answers = together(200, |index| {
            let store = store.clone();
            async move {
                if index % 2 == 0 {
                    store.run(first(), add(N, 1)).await.map(|_| ())
                } else {
                    store.run(first(), AddOnce { name: N, by: 1 }).await.map(|_| ())
                }
            }
        })
        .await;
        assert_eq!(answers.into_iter().find(Result::is_err), None);
    }
    flushing.abort();
    assert_eq!(sum(&redis).await, 2000);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_script_cache_is_filled_once_for_many_calls() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    together(500, |_| {
        let store = store.clone();
        async move { store.run(first(), add(N, 1)).await.unwrap() }
    })
    .await;
    assert_eq!(redis.calls("script|load").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_crashes_and_comes_back_empty_is_found_again() {
    let mut redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), add(N, 1)).await.unwrap();

    redis.kill();
    eventually("down", async || !store.is_up() && store.ping().await.is_err()).await;
    eventually("refused", async || store.run(first(), add(N, 1)).await == Err(Error::Unavailable))
        .await;
    // Not each call finds out by itself.
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(store.run(first(), add(N, 1)).await.unwrap_err(), Error::Unavailable);
    }
    assert!(start.elapsed() < Duration::from_secs(1), "refused at once");

    redis.begin().await;
    store.up().await;
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap().sum, 1);
}

#[tokio::test]
async fn a_store_that_is_away_at_the_start_is_found_later() {
    let mut redis = TestRedis::start().await;
    redis.kill();
    let store = open(redis.options());
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap_err(), Error::Unavailable);
    redis.begin().await;
    store.up().await;
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap().sum, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_is_replaced_without_a_refusal() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), add(N, 1)).await.unwrap();
    // The links count as settled only after a second, and an unsettled one is not dialled at once.
    tokio::time::sleep(Duration::from_millis(1100)).await;
    let _: i64 = redis.command("CLIENT KILL TYPE normal SKIPME yes").await;
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap().sum, 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_store_is_unknown_in_time_then_away_then_back() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), add(N, 1)).await.unwrap();

    redis.signal(libc::SIGSTOP);
    let start = Instant::now();
    let answers = together(100, |index| {
        let store = store.clone();
        async move {
            if index % 2 == 0 {
                store.run(first(), add(N, 1)).await.unwrap_err()
            } else {
                store.run(first(), AddOnce { name: N, by: 1 }).await.unwrap_err()
            }
        }
    })
    .await;
    assert!(start.elapsed() < Duration::from_millis(1500), "{:?}", start.elapsed());
    for error in answers {
        let nothing_was_sent = matches!(error, Error::Full { .. } | Error::Unavailable);
        assert!(nothing_was_sent || error == Error::OutcomeUnknown, "{error}");
    }
    eventually("refused at once", async || {
        let start = Instant::now();
        let refused = store.run(first(), add(N, 1)).await == Err(Error::Unavailable);
        refused && start.elapsed() < Duration::from_millis(50)
    })
    .await;

    redis.signal(libc::SIGCONT);
    store.up().await;
    store.run(first(), add(N, 1)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_short_pause_of_redis_fails_nobody() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    redis.command::<String>("CLIENT PAUSE 250 ALL").await;
    assert_eq!(store.run(first(), AddOnce { name: N, by: 1 }).await.unwrap().sum, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_once_only_item_runs_at_most_once_through_a_stall() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), AddOnce { name: ":other", by: 1 }).await.unwrap();
    redis.signal(libc::SIGSTOP);
    let error = store.run(first(), AddOnce { name: N, by: 1 }).await.unwrap_err();
    assert_eq!(error, Error::OutcomeUnknown);
    redis.signal(libc::SIGCONT);
    store.up().await;
    eventually("it ran after all", async || sum(&redis).await == 1).await;
}

crate::script! {
    @from "\
-- note: counts ids, each once; for tests.
--
-- KEYS  root  the partition
-- EACH  id    what to count
-- GIVES ids   how many there are
local call = require(\"lib.call\")
local function note(id)
  redis.call(\"SADD\", ROOT .. \":ids\", id)
  redis.call(\"INCR\", ROOT .. \":runs\")
  return { redis.call(\"SCARD\", ROOT .. \":ids\") }
end
return call.each(note)
",
    /// Counts ids, each once.
    struct Note<'a> = "note", write, repeatable { once {} each { id: &'a str } } -> Noted { ids: u64 }
}

async fn behind_proxy(redis: &TestRedis) -> (Proxy, Store) {
    let proxy = Proxy::before(redis.socket()).await;
    let store = open(options(&format!("redis://{}/", proxy.address)));
    store.up().await;
    store.run(first(), Note { id: "0" }).await.unwrap();
    store.run(first(), AddOnce { name: ":other", by: 1 }).await.unwrap();
    (proxy, store)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_repeatable_item_is_asked_for_again() {
    let redis = TestRedis::start().await;
    let (proxy, store) = behind_proxy(&redis).await;
    proxy.lose_answers(1);
    assert_eq!(store.run(first(), Note { id: "1" }).await.unwrap().ids, 2);
    assert_eq!(redis.command::<u64>("GET {test:0}:runs").await, 3, "sent twice, done once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_once_only_item_is_never_asked_for_again() {
    let redis = TestRedis::start().await;
    let (proxy, store) = behind_proxy(&redis).await;
    proxy.lose_answers(1);
    let error = store.run(first(), AddOnce { name: N, by: 1 }).await.unwrap_err();
    assert_eq!(error, Error::OutcomeUnknown);
    eventually("back", async || store.run(first(), Note { id: "1" }).await.is_ok()).await;
    assert_eq!(sum(&redis).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeatable_item_whose_answers_are_always_lost_ends_as_unknown() {
    let redis = TestRedis::start().await;
    let (proxy, store) = behind_proxy(&redis).await;
    proxy.lose_answers(usize::MAX);
    let start = Instant::now();
    assert_eq!(store.run(first(), Note { id: "1" }).await.unwrap_err(), Error::OutcomeUnknown);
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn a_full_store_refuses_growth_and_says_so() {
    let redis = TestRedis::with(&["--maxmemory", "1mb", "--maxmemory-policy", "noeviction"]).await;
    let store = redis.store().await;
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap_err(), Error::OutOfMemory);
    eventually("nearly full", async || store.nearly_full()).await;
}

#[tokio::test]
async fn a_replica_takes_no_writes() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    store.run(first(), add(N, 1)).await.unwrap();
    redis.command::<String>("REPLICAOF 127.0.0.1 1").await;
    assert_eq!(store.run(first(), add(N, 1)).await.unwrap_err(), Error::Unavailable);
    redis.command::<String>("REPLICAOF NO ONE").await;
    eventually("back", async || store.run(first(), add(N, 1)).await.is_ok()).await;
    assert_eq!(sum(&redis).await, 2);
}

#[tokio::test]
async fn user_password_and_database_are_used() {
    let redis = TestRedis::start().await;
    let _: String = redis.command("ACL SETUSER broker on >open ~* &* +@all").await;
    let proxy = Proxy::before(redis.socket()).await;
    let store = open(options(&format!("redis://broker:open@{}/3", proxy.address)));
    store.up().await;
    store.run(first(), add(N, 5)).await.unwrap();
    let keys: String = redis.command("INFO keyspace").await;
    assert!(keys.contains("db3:keys=1"), "{keys}");
    let clients: String = redis.command("CLIENT LIST").await;
    assert_eq!(clients.matches("user=broker").count(), 3, "{clients}");

    let wrong = open(options(&format!("redis://broker:shut@{}/3", proxy.address)));
    eventually("refused", async || wrong.run(first(), add(N, 5)).await == Err(Error::Unavailable))
        .await;
}
