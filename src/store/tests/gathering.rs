use super::*;
use crate::model::Refusal;
use crate::store::Error;

#[tokio::test]
async fn a_lone_call_travels_alone() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    assert_eq!(store.run(first(), add("n", 2)).await.unwrap().sum, 2);
    assert_eq!(store.run(first(), add("n", 3)).await.unwrap().sum, 5);
    // One of them met an empty script cache.
    assert_eq!(redis.calls("evalsha").await, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_at_the_same_time_share_a_call() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let sums = together(2000, |_| {
        let store = store.clone();
        async move { store.run(first(), add("n", 1)).await.unwrap().sum }
    })
    .await;
    let mut sorted = sums.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, (1..=2000).collect::<Vec<_>>(), "each answer went to one caller");
    let calls = redis.calls("evalsha").await;
    assert!(calls < 500, "2000 items took {calls} calls");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_items_with_the_same_shared_arguments_share_a_call() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let texts = together(300, |index| {
        let store = store.clone();
        async move {
            let prefix = ["a", "b", "ab"][index % 3];
            let partition = Partition::new(u16::try_from(index % 5).unwrap());
            store.run(partition, Shout { prefix, text: index.to_string() }).await.unwrap().text
        }
    })
    .await;
    for (index, text) in texts.into_iter().enumerate() {
        assert_eq!(text, format!("{}{index}", ["a", "b", "ab"][index % 3]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_item_does_not_fail_its_neighbours_and_keeps_its_error_to_itself() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let answers = together(200, |index| {
        let store = store.clone();
        async move {
            let name = if index % 50 == 7 { "poison" } else { "n" };
            store.run(first(), add(name, i64::try_from(index).unwrap())).await
        }
    })
    .await;
    for (index, answer) in answers.into_iter().enumerate() {
        match answer {
            Ok(_) => assert_ne!(index % 50, 7),
            Err(Error::Script(text)) => {
                assert_eq!(index % 50, 7, "{text}");
                assert!(text.contains(&format!("this is poison for {index}")), "{text}");
                assert!(text.contains("lua/add.lua:15"), "{text}");
            }
            Err(other) => panic!("{index}: {other}"),
        }
    }
    // Each bad item at most twice: in company, and once alone.
    assert!(redis.command::<i64>("GET {test:0}:tries").await <= 8);
}

#[tokio::test]
async fn a_refusal_is_told_to_its_caller_only() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let (refused, added) =
        tokio::join!(store.run(first(), add("missing", 1)), store.run(first(), add("n", 1)));
    assert_eq!(refused.unwrap_err(), Error::Refused(Refusal::NotFound));
    assert_eq!(added.unwrap().sum, 1);
}

#[tokio::test]
async fn large_values_travel_beside_the_scripts() {
    let redis = TestRedis::start().await;
    let store = redis.store().await;
    let body = bytes::Bytes::from(vec![7; 1_000_000]);
    let key = |name: &str| format!("{}:{name}", store.partitions().root(first()));
    store.put(first(), key("a"), body.clone(), Duration::from_secs(60)).await.unwrap();
    let read = store.get(first(), vec![key("b"), key("a")]).await.unwrap();
    assert_eq!(read, [None, Some(body)]);
    let left: i64 = redis.command("PTTL {test:0}:a").await;
    assert!((1..=60_000).contains(&left));
    assert_eq!(store.get(first(), vec![]).await.unwrap(), []);
}
