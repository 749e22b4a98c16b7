use super::*;
use crate::store::{Heard, Listening};

async fn listening(store: &Store, partition: Partition) -> Listening {
    let listening = store.listen(partition);
    listening.ready().await;
    listening
}

fn message(partition: Partition, text: &str) -> Heard {
    Heard::Message { partition, text: text.into() }
}

#[tokio::test]
async fn what_one_node_publishes_every_listening_node_hears() {
    let redis = TestRedis::start().await;
    let (one, two) = (redis.store().await, redis.store().await);
    let (mut at_one, mut at_two) = (one.messages(), two.messages());
    let third = Partition::new(3);
    let _guards = (listening(&one, third).await, listening(&two, third).await);
    one.publish(Partition::new(4), "nobody listens here".into());
    one.publish(third, "hello".into());
    assert_eq!(at_one.recv().await.unwrap(), message(third, "hello"));
    assert_eq!(at_two.recv().await.unwrap(), message(third, "hello"));
}

#[tokio::test]
async fn a_node_without_listeners_is_subscribed_to_nothing() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let channels = async || redis.command::<Vec<String>>("PUBSUB CHANNELS *").await;
    assert!(channels().await.is_empty());

    let guard = listening(&store, first()).await;
    assert_eq!(channels().await, ["{test:0}:wake"]);
    drop(guard);
    eventually("unsubscribed", async || channels().await.is_empty()).await;

    let mut messages = store.messages();
    let _guard = listening(&store, first()).await;
    store.publish(first(), "again".into());
    assert_eq!(messages.recv().await.unwrap(), message(first(), "again"));
}

#[tokio::test]
async fn a_repetition_is_sent_once_and_the_last_one_is_never_lost() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let mut messages = store.messages();
    let _guard = listening(&store, first()).await;
    for _ in 0..100 {
        store.publish(first(), "same".into());
    }
    store.publish(first(), "other".into());
    let mut heard = Vec::new();
    for _ in 0..3 {
        heard.push(messages.recv().await.unwrap());
    }
    heard.sort_by_key(|heard| format!("{heard:?}"));
    let expected = ["other", "same", "same"].map(|text| message(first(), text));
    assert_eq!(heard, expected, "at once, and once more at the end");
    store.publish(first(), "end".into());
    assert_eq!(messages.recv().await.unwrap(), message(first(), "end"));
}

#[tokio::test]
async fn an_interrupted_subscription_says_so_and_is_restored() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let mut messages = store.messages();
    let guard = listening(&store, first()).await;
    let killed: i64 = redis.command("CLIENT KILL TYPE pubsub").await;
    assert_eq!(killed, 1);
    assert_eq!(messages.recv().await.unwrap(), Heard::MayHaveMissed);
    guard.ready().await;
    store.publish(first(), "after".into());
    assert_eq!(messages.recv().await.unwrap(), message(first(), "after"));
}

#[tokio::test]
async fn listening_waits_for_a_redis_that_is_away() {
    let mut redis = TestRedis::start().await;
    let store = redis.store().await;
    redis.kill();
    let guard = store.listen(first());
    let ready = tokio::time::timeout(Duration::from_millis(200), guard.ready()).await;
    assert!(ready.is_err());
    redis.begin().await;
    guard.ready().await;
}
