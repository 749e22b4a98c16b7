//! The receiver does what tests believe it does.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::{After, Keys, Receiver, Reply, Request, mix};
use crate::support::client::plain;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

/// Posts a body, as a delivery does; the status, or `None` when there was no answer.
async fn post(client: &reqwest::Client, url: &str) -> Option<u16> {
    let call = client.post(url).header("webhook-id", "a_1").body(r#"{"taskId":"a"}"#);
    Some(call.send().await.ok()?.status().as_u16())
}

fn client() -> reqwest::Client {
    plain().timeout(Duration::from_millis(300)).build().unwrap()
}

#[tokio::test]
async fn requests_are_taken_down_in_order_with_their_connection() {
    let receiver = Receiver::on("127.7.0.1").await;
    let one = client();
    for path in ["/a", "/b?x=1"] {
        let url = format!("{}{path}", receiver.origin());
        assert_eq!(post(&one, &url).await, Some(200));
    }
    assert_eq!(post(&client(), &receiver.url()).await, Some(200));
    let requests = receiver.until_count(3).await;
    assert_eq!(requests.iter().map(Request::path).collect::<Vec<_>>(), ["/a", "/b?x=1", "/hook"]);
    assert!(requests.windows(2).all(|pair| pair[0].at <= pair[1].at));
    assert_eq!(requests[0].connection, requests[1].connection);
    assert_eq!(receiver.connections(), 2);
    assert_eq!(requests[0].body, r#"{"taskId":"a"}"#);
    assert_eq!((requests[0].webhook_id(), requests[0].task_id().as_str()), ("a_1", "a"));
    assert!(receiver.url().starts_with("http://127.7.0.1:"));
    assert_eq!(receiver.deliveries()["a_1"].len(), 3);
    receiver.until("each is answered", |all| all.iter().all(Request::is_accepted)).await;
}

#[tokio::test]
async fn each_reply_does_what_its_name_says() {
    let receiver = Receiver::start().await;
    let client = client();
    let rows = [
        (Reply::Status(410), Some(410)),
        (Reply::Slow(Duration::from_millis(50)), Some(200)),
        (Reply::too_many("7"), Some(429)),
        (Reply::abort(), Some(400)),
        (Reply::DripBody, Some(200)),
        (Reply::Endless, Some(200)),
        (Reply::Bytes(Bytes::from("HTTP/1.1 202 Ok\r\n\r\nx"), After::Reset), Some(202)),
        (Reply::Bytes(Bytes::from("HTTP/1.1 202 Ok\r\n\r\nx"), After::Close), Some(202)),
        (Reply::Hang, None),
        (Reply::Close, None),
        (Reply::Drip, None),
    ];
    for (n, (reply, status)) in rows.into_iter().enumerate() {
        receiver.answers(reply.clone());
        assert_eq!(post(&client, &receiver.url()).await, status, "{reply:?}");
        // What is on its way is taken down a moment after it arrived.
        let such = |all: &[Request]| all.len() == n + 1 && all[n].answered == status;
        receiver.until(&format!("{reply:?}"), such).await;
    }
    let unfollowed = plain().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    receiver.answers(Reply::redirect(307, "/elsewhere"));
    let answer = unfollowed.post(receiver.url()).send().await.unwrap();
    assert_eq!(answer.status().as_u16(), 307);
    assert_eq!(answer.headers()["location"], "/elsewhere");
    drop(client);
    receiver.answers(Reply::too_many("7"));
    let answer = unfollowed.post(receiver.url()).send().await.unwrap();
    assert_eq!(answer.headers()["retry-after"], "7");
    // Nobody is left who drips or hangs for a caller that has gone.
    drop(unfollowed);
    receiver.until_connected(0).await;
}

#[tokio::test]
async fn a_receiver_that_was_away_comes_back_at_its_address() {
    let mut receiver = Receiver::on("127.7.0.2").await;
    let client = client();
    assert_eq!(post(&client, &receiver.url()).await, Some(200));
    receiver.leave().await;
    assert_eq!(post(&client, &receiver.url()).await, None);
    receiver.come_back().await;
    assert_eq!(post(&client, &receiver.url()).await, Some(200));
    assert_eq!(receiver.until_count(2).await.len(), 2);
}

#[test]
fn a_mix_is_drawn_by_weight_and_seed() {
    let request = Request::now(Bytes::from("POST / HTTP/1.1\r\n\r\n"), Bytes::new(), 0);
    let drawn = |seed| -> Vec<bool> {
        let mut replies = mix(seed, vec![(3, Reply::OK), (1, Reply::Hang)]);
        (0..4000).map(|_| matches!(replies(&request), Reply::Hang)).collect()
    };
    assert_eq!(drawn(1), drawn(1));
    assert_ne!(drawn(1), drawn(2));
    let hangs = drawn(3).iter().filter(|&&hangs| hangs).count();
    assert!((850..1150).contains(&hangs), "{hangs}");
}

/// A request with these keys' signatures.
fn signed(body: &str, keys: &Keys) -> Request {
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    Request::by_hand(&keys.sign("a_1", now, body), body)
}

#[test]
fn both_signatures_are_verified_with_the_key_that_belongs_to_each() {
    let whsec = format!("whsec_{}", STANDARD.encode(SECRET));
    let plain = signed("{}", &Keys::of(SECRET));
    assert_eq!(plain.verify(&Keys::of(SECRET)), Ok(()));
    assert_eq!(plain.verify(&Keys::of_tenant(&whsec)), Ok(()));
    let shown = signed("{}", &Keys::of(&whsec));
    assert_eq!(shown.verify(&Keys::of(&whsec)), Ok(()));
    // Either one wrong is a refusal.
    assert!(shown.verify(&Keys::of(SECRET)).unwrap_err().contains("X-CodeQ-Signature"));
    let half = signed("{}", &Keys { standard: b"another".to_vec(), ..Keys::of(SECRET) });
    assert!(half.verify(&Keys::of(SECRET)).unwrap_err().contains("webhook-signature"));
    let changed = Request { body: "{ }".into(), ..plain };
    assert!(changed.verify(&Keys::of(SECRET)).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_is_taken_down_whole() {
    let receiver = Receiver::start().await;
    let begun = Instant::now();
    let client = plain().build().unwrap();
    let url = receiver.url();
    let calls = (0..32).map(|_| async {
        for _ in 0..100 {
            assert_eq!(post(&client, &url).await, Some(200));
        }
    });
    futures_util::future::join_all(calls).await;
    receiver.until("all are there", |all| all.len() == 3200).await;
    println!("{:.0} a second", 3200.0 / begun.elapsed().as_secs_f64());
    // A client that waits for a connection may get one that just became free, and keep the other.
    assert!(receiver.connections() <= 64, "{}", receiver.connections());
}
