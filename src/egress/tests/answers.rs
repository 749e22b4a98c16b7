//! What a receiver can do with a request, and how much of it we bear.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::time::Instant;

use crate::config::Webhook;
use crate::egress::testing::{Receiver, send, settings_with_receivers};
use crate::egress::{Attempt, Egress, Outcome};

/// Sends once, with a second for the status line.
async fn sent_to(receiver: &Receiver) -> (Attempt, Duration) {
    let short = Duration::from_secs(1);
    let settings = Webhook { timeout: short, connect_timeout: short, ..settings_with_receivers() };
    let egress = Egress::new(&settings).unwrap();
    let started = Instant::now();
    let attempt = send(&egress, &receiver.url("127.0.0.1")).await;
    (attempt, started.elapsed())
}

/// Longer than any attempt may last with [`sent_to`]: a second each for status line and body, and
/// room for a busy machine.
const LONG: Duration = Duration::from_secs(10);

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn hole_12_a_body_without_end_costs_neither_time_nor_memory() {
    let written = Arc::new(AtomicUsize::new(0));
    let counted = written.clone();
    let receiver = Receiver::serving(move |mut stream, seen| {
        let counted = counted.clone();
        async move {
            seen.request(&mut stream).await?;
            stream.write_all(CHUNKED).await.ok()?;
            let chunk = [b"1000\r\n".as_slice(), &[b'x'; 4096], b"\r\n"].concat();
            loop {
                stream.write_all(&chunk).await.ok()?;
                counted.fetch_add(4096, Ordering::SeqCst);
            }
        }
    })
    .await;
    let (attempt, took) = sent_to(&receiver).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Success, Some(200)));
    assert!(took < LONG, "{took:?}");
    let written = written.load(Ordering::SeqCst);
    assert!(written < 32 << 20, "{written} bytes were taken, more than sockets hold");
}

#[tokio::test]
async fn hole_12_a_dripping_body_holds_its_slot_for_a_second_at_most() {
    let receiver = Receiver::serving(|mut stream, seen| async move {
        seen.request(&mut stream).await?;
        stream.write_all(CHUNKED).await.ok()?;
        loop {
            stream.write_all(b"1\r\nx\r\n").await.ok()?;
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    })
    .await;
    let (attempt, took) = sent_to(&receiver).await;
    assert_eq!(attempt.outcome, Outcome::Success);
    assert!(attempt.duration < Duration::from_secs(1), "the body does not count");
    assert!(took < LONG, "{took:?}");
}

#[tokio::test]
async fn hole_12_a_dripping_head_ends_with_the_budget() {
    let receiver = Receiver::serving(|mut stream, seen| async move {
        seen.request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\n").await.ok()?;
        loop {
            stream.write_all(b"x-more: 1\r\n").await.ok()?;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
    let (attempt, took) = sent_to(&receiver).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Timeout, None));
    assert!(took < LONG, "{took:?}");
}

#[tokio::test]
async fn hole_13_nothing_compressed_is_asked_for_or_unpacked() {
    // The head of a gzip stream: a client that unpacks reads on, or fails.
    let body = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    let head = "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: 10\r\n\r\n";
    let receiver = Receiver::answering([head.as_bytes(), &body].concat()).await;
    let (attempt, _) = sent_to(&receiver).await;
    assert_eq!(attempt.outcome, Outcome::Success);
    let [request] = receiver.requests().try_into().unwrap();
    assert!(!request.contains("accept-encoding"), "{request}");
}

#[tokio::test]
async fn hole_14_a_large_answer_is_taken_once() {
    let body = vec![b'x'; 10 << 20];
    let head = format!("HTTP/1.1 404 Not Found\r\ncontent-length: {}\r\n\r\n", body.len());
    let receiver = Receiver::answering([head.as_bytes(), &body].concat()).await;
    let (attempt, took) = sent_to(&receiver).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Http4xx, Some(404)));
    assert!(took < Duration::from_secs(1), "what is too long is not waited for: {took:?}");
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn hole_15_a_reset_behind_the_status_line_is_a_delivery() {
    let receiver = Receiver::serving(|mut stream, seen| async move {
        seen.request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await.ok()?;
        // Closing without lingering sends a reset.
        stream.set_zero_linger().ok()
    })
    .await;
    let (attempt, _) = sent_to(&receiver).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Success, Some(200)));
}

#[tokio::test]
async fn a_receiver_that_hangs_is_given_up() {
    let receiver = Receiver::serving(|mut stream, seen| async move {
        seen.request(&mut stream).await?;
        std::future::pending().await
    })
    .await;
    let (attempt, took) = sent_to(&receiver).await;
    assert_eq!((attempt.outcome, attempt.status), (Outcome::Timeout, None));
    assert!(took >= Duration::from_secs(1) && took < LONG, "{took:?}");
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_a_reset() {
    let closes =
        Receiver::serving(
            |mut stream, seen| async move { seen.request(&mut stream).await.map(drop) },
        )
        .await;
    assert_eq!(sent_to(&closes).await.0.outcome, Outcome::Reset);
    let resets = Receiver::serving(|mut stream, seen| async move {
        seen.request(&mut stream).await?;
        stream.set_zero_linger().ok()
    })
    .await;
    assert_eq!(sent_to(&resets).await.0.outcome, Outcome::Reset);
    let babbles = Receiver::answering("220 mail.test ESMTP\r\n\r\n").await;
    assert_eq!(sent_to(&babbles).await.0.outcome, Outcome::Reset);
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_is_no_connection() {
    let gone = Receiver::glad().await;
    let url = gone.url("127.0.0.1");
    drop(gone);
    let egress = Egress::new(&settings_with_receivers()).unwrap();
    // Until the listener is closed.
    for _ in 0..1000 {
        match send(&egress, &url).await.outcome {
            Outcome::Connect => return,
            _ => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    }
    panic!("a closed port answered");
}

#[tokio::test]
async fn deliveries_one_after_another_use_one_connection() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".to_owned(),
        "HTTP/1.1 204 No Content\r\n\r\n".to_owned(),
        "HTTP/1.1 500 No\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n".to_owned(),
        format!("HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n{}", "x".repeat(60_000)),
    ] {
        let receiver = Receiver::answering(answer.clone()).await;
        let egress = Egress::new(&settings_with_receivers()).unwrap();
        for _ in 0..50 {
            assert!(send(&egress, &receiver.url("127.0.0.1")).await.status.is_some());
        }
        assert_eq!(receiver.connections(), 1, "{}", &answer[..20]);
        assert_eq!(receiver.requests().len(), 50);
    }
}

#[tokio::test]
async fn the_headers_of_an_answer_are_read() {
    let head = "HTTP/1.1 503 Busy\r\nretry-after: 17\r\nwebhook-delivery: abort-message\r\n";
    let receiver = Receiver::answering(format!("{head}content-length: 0\r\n\r\n")).await;
    let (attempt, _) = sent_to(&receiver).await;
    assert_eq!(attempt.retry_after, Some(Duration::from_secs(17)));
    assert!(attempt.abort);
}
