//! What becomes of a delivery after each way in which an attempt ends.

use std::time::Duration;

use codeq::model::delivery::{Class, Delivery, Reason, State};
use futures_util::future::join_all;

use super::{Place, completed, due_ms, hooked, until_delivery, until_outbox_is_empty, until_state};
use crate::support::{Node, Receiver, Redis, Reply};

/// A delivery after its first attempt at a receiver that does this, and how long after the attempt
/// it is due again.
async fn after(redis: &Redis, node: &Node, name: &str, reply: Reply) -> (Delivery, Option<i64>) {
    let receiver = Receiver::start().await;
    receiver.answers(reply);
    let id = completed(node, name, &receiver).await;
    let of = until_delivery(redis, &id, 1, |of| of.attempts > 0).await;
    let ended = of.log[0].at.ms() + i64::from(of.log[0].duration_ms);
    let due = due_ms(redis, &id, 1).await;
    (of, due.map(|due| due - ended))
}

#[tokio::test]
async fn a_failure_is_tried_again_by_the_schedule() {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "20").start().await;
    let elsewhere = Receiver::start().await;
    let mut cases = vec![
        ("s500", Reply::Status(500), Class::Http5xx),
        ("s503", Reply::Status(503), Class::Http5xx),
        ("s400", Reply::Status(400), Class::Http4xx),
        ("s404", Reply::Status(404), Class::Http4xx),
        ("hangs", Reply::Hang, Class::Timeout),
        ("drips", Reply::Drip, Class::Timeout),
        ("slow", Reply::Slow(Duration::from_secs(20)), Class::Timeout),
        ("resets", Reply::Close, Class::Reset),
    ];
    for status in [301, 302, 303, 307, 308] {
        let name = ["r301", "r302", "r303", "r307", "r308"][usize::from(status % 10) % 5];
        cases.push((name, Reply::redirect(status, &elsewhere.url()), Class::Http3xx));
    }
    let (redis, node) = (&redis, &node);
    join_all(cases.into_iter().enumerate().map(|(n, (name, reply, class))| async move {
        let (of, wait) = after(redis, node, &format!("{name}-{n}"), reply).await;
        assert_eq!((of.state, of.attempts, of.log[0].class), (State::Pending, 1, class), "{name}");
        assert_eq!(of.claims, 0);
        // A fifth of jitter to both sides, and what it took to write it down.
        let wait = wait.unwrap();
        assert!((15_990..=27_000).contains(&wait), "{name} is due after {wait} ms");
    }))
    .await;
    assert_eq!(elsewhere.count(), 0, "a redirect was followed");

    let mut away = Receiver::start().await;
    away.leave().await;
    let id = completed(node, "away", &away).await;
    let of = until_delivery(redis, &id, 1, |of| of.attempts > 0).await;
    assert_eq!((of.log[0].class, of.log[0].status), (Class::Connect, None));
}

#[tokio::test]
async fn a_receiver_that_asks_for_time_gets_it() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let later = jiff::Timestamp::now() + Duration::from_secs(100);
    let date = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&later);
    let cases = [
        ("seconds", Reply::too_many("20"), 20_000),
        ("unavailable", Reply::with(503, "Retry-After", "30"), 30_000),
        ("date", Reply::with(503, "Retry-After", &date.unwrap()), 90_000),
        ("unsaid", Reply::Status(429), 60_000),
        ("nonsense", Reply::too_many("soon"), 60_000),
        ("too-long", Reply::too_many("100000"), 3_600_000),
        // Only with these two statuses.
        ("no-matter", Reply::with(500, "Retry-After", "30"), 800),
    ];
    for (name, reply, least) in cases {
        let (of, wait) = after(&redis, &node, name, reply).await;
        let wait = wait.unwrap();
        assert_eq!((of.state, of.attempts), (State::Pending, 1), "{name}");
        assert!((least..least + 15_000).contains(&wait), "{name} is due after {wait} ms");
    }
}

#[tokio::test]
async fn a_receiver_that_never_wants_it_again_is_left_alone() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let of_success = Reply::with(200, "webhook-delivery", "abort-message");
    for (name, reply, state, reason) in [
        ("gone", Reply::Status(410), State::Dead, Some(Reason::Gone)),
        ("aborted", Reply::abort(), State::Dead, Some(Reason::Aborted)),
        ("accepted", of_success, State::Delivered, None),
    ] {
        let (of, wait) = after(&redis, &node, name, reply).await;
        assert_eq!((of.state, of.reason, wait), (state, reason, None), "{name}");
        assert_eq!((of.attempts, of.log.len()), (1, 1));
        // What is dead can be looked at and sent again: its body is there.
        assert_eq!(of.body.is_empty(), state == State::Delivered);
    }
    until_outbox_is_empty(&redis).await;
    let scrape = node.scrape().await;
    let dead = |reason: &str| scrape.sum("codeq_webhook_dead_total", &format!("\"{reason}\""));
    assert_eq!((dead("gone"), dead("aborted")), (1.0, 1.0));
}

#[tokio::test]
async fn a_delivery_is_given_up_after_the_attempts_that_are_configured() {
    let redis = Redis::start().await;
    let settings = hooked(&redis).set("RESULT_WEBHOOK_MAX_ATTEMPTS", "3");
    let node = settings.set("RESULT_WEBHOOK_MAX_BACKOFF_SECONDS", "1").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(500));
    let id = completed(&node, "m", &receiver).await;
    let dead = until_state(&redis, &id, 1, State::Dead).await;
    assert_eq!((dead.reason, dead.attempts, dead.log.len()), (Some(Reason::Exhausted), 3, 3));
    assert_eq!(receiver.count(), 3);
    assert_eq!(dead.body, receiver.requests()[0].body);
    until_outbox_is_empty(&redis).await;
}

#[tokio::test]
async fn a_delivery_that_waits_for_too_long_is_given_up_unsent_also_when_its_receiver_asked_for_time()
 {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("WEBHOOK_MAX_AGE_SECONDS", "60").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::too_many("3600"));
    let id = completed(&node, "m", &receiver).await;
    let of = until_delivery(&redis, &id, 1, |of| of.attempts > 0).await;
    // It is looked at when its age is reached, not when the receiver would like.
    let due = due_ms(&redis, &id, 1).await.unwrap();
    assert!(due <= of.born.ms() + 60_000 + 2_000, "{due} for one that began at {:?}", of.born);
    // A minute goes by.
    let (place, then) = (Place::of(&id, 1), of.born.ms() - 61_000);
    let born = then.to_be_bytes();
    let mut connection = redis.connection().await;
    let mut write = redis::pipe();
    write.cmd("SETRANGE").arg(&place.record).arg(20).arg(&born[..]);
    let member = format!("{}{}", of.tenant_tag, place.short);
    write.cmd("ZADD").arg(place.pending(&of)).arg("XX").arg(then).arg(&place.short);
    write.cmd("ZADD").arg(format!("{}:oa", place.root)).arg("XX").arg(then).arg(member);
    write.exec_async(&mut connection).await.unwrap();
    let dead = until_state(&redis, &id, 1, State::Dead).await;
    assert_eq!((dead.reason, dead.attempts), (Some(Reason::Expired), 1));
    assert_eq!(receiver.count(), 1);
    assert_eq!(dead.body, receiver.requests()[0].body);
    until_outbox_is_empty(&redis).await;
}

#[tokio::test]
async fn a_delivery_that_ten_nodes_did_not_come_back_from_takes_no_eleventh_with_it() {
    let redis = Redis::start().await;
    let node = hooked(&redis).set("RESULT_WEBHOOK_BASE_BACKOFF_SECONDS", "60").start().await;
    let receiver = Receiver::start().await;
    receiver.answers(Reply::Status(500));
    let id = completed(&node, "m", &receiver).await;
    let of = until_delivery(&redis, &id, 1, |of| of.attempts > 0).await;
    let place = Place::of(&id, 1);
    let mut write = redis::pipe();
    write.cmd("SETRANGE").arg(&place.record).arg(6).arg(&[10u8][..]);
    write.cmd("ZADD").arg(place.pending(&of)).arg("XX").arg(1).arg(&place.short);
    write.cmd("ZADD").arg(format!("{}:o", place.root)).arg("XX").arg(1).arg(&of.destination);
    write.exec_async(&mut redis.connection().await).await.unwrap();
    let dead = until_state(&redis, &id, 1, State::Dead).await;
    assert_eq!((dead.reason, dead.attempts), (Some(Reason::Poison), 1));
    assert_eq!(receiver.count(), 1, "it was sent once more");
    until_outbox_is_empty(&redis).await;
    assert_eq!(node.scrape().await.sum("codeq_webhook_dead_total", "\"poison\""), 1.0);
}

/// Hole 2: no resolver ever sees a literal address.
#[tokio::test]
async fn an_address_that_is_refused_by_now_is_not_called() {
    let redis = Redis::start().await;
    let node = hooked(&redis).start().await;
    let mut receiver = Receiver::start().await;
    receiver.leave().await;
    let mapped =
        format!("http://[::ffff:127.0.0.1]:{}/", receiver.url().rsplit(':').next().unwrap());
    let mapped = mapped.replace("/hook", "");
    let id = completed(&node, "m", &receiver).await;
    let other = node.producer().created_with_webhook("m", &mapped).await;
    node.worker().claimed("m").await;
    node.worker().complete(&other).await.json_of(200);
    for id in [&id, &other] {
        until_delivery(&redis, id, 1, |of| of.attempts > 0).await;
    }
    node.stop().await;
    let strict = hooked(&redis).set("WEBHOOK_ALLOW_PRIVATE_NETWORKS", "false").start().await;
    receiver.come_back().await;
    for id in [&id, &other] {
        let dead = until_state(&redis, id, 1, State::Dead).await;
        assert_eq!(dead.reason, Some(Reason::Blocked));
        assert_eq!(dead.log.last().unwrap().class, Class::Blocked);
    }
    assert_eq!(receiver.count(), 0);
    let blocked = strict.scrape().await.sum("codeq_webhook_attempts_total", "\"blocked\"");
    assert_eq!(blocked, 2.0);
    // A name may change: it is tried again.
    let name = receiver.url().replace("127.0.0.1", "localhost");
    let named = strict.producer().created_with_webhook("m", &name).await;
    strict.worker().claimed("m").await;
    strict.worker().complete(&named).await.json_of(200);
    let of = until_delivery(&redis, &named, 1, |of| of.attempts > 0).await;
    assert_eq!((of.state, of.log[0].class), (State::Pending, Class::Blocked));
    assert_eq!(receiver.count(), 0);
}
