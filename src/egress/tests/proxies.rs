//! An egress proxy of the operator.

use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use url::Url;

use crate::config::{SecretUrl, Webhook};
use crate::egress::testing::{Names, Receiver, send, settings};
use crate::egress::{Egress, Outcome};

/// Names a public address, which no test connects to.
const PUBLIC: &[&[&str]] = &[&["203.0.112.1"]];

/// Through a proxy on loopback, which the rules refuse as a receiver.
fn through(scheme: &str, proxy: &Receiver, names: &Arc<Names>) -> Egress {
    let url = Url::parse(&format!("{scheme}://{}", proxy.address)).unwrap();
    let settings = Webhook { proxy_url: Some(SecretUrl::new(&url)), ..settings() };
    Egress::with_lookup(&settings, names.clone()).unwrap()
}

#[tokio::test]
async fn a_delivery_goes_through_the_proxy_once_its_target_was_checked() {
    let proxy = Receiver::answering("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").await;
    let names = Names::of(&[("a.test", PUBLIC), ("private.test", &[&["10.0.0.1"]])]);
    let egress = through("http", &proxy, &names);

    let attempt = send(&egress, "http://a.test/hook").await;
    assert_eq!(attempt.outcome, Outcome::Success);
    assert_eq!(
        attempt.excerpt.as_deref(),
        Some(b"hello".as_slice()),
        "it came from a public place"
    );
    let [request] = proxy.requests().try_into().unwrap();
    assert!(request.starts_with("post http://a.test/hook http/1.1\r\n"), "{request}");
    assert_eq!(names.look_ups(), 1);

    let blocked = Outcome::Blocked { literal: false };
    assert_eq!(send(&egress, "http://private.test/").await.outcome, blocked);
    assert_eq!(send(&egress, "http://unknown.test/").await.outcome, Outcome::Dns);
    let literally = Outcome::Blocked { literal: true };
    assert_eq!(send(&egress, "http://10.0.0.1/").await.outcome, literally);
    // The proxy itself is no receiver, even though it may be connected to.
    let itself = format!("http://{}/", proxy.address);
    assert_eq!(send(&egress, &itself).await.outcome, literally);
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn an_excerpt_has_256_bytes_at_most() {
    let body = "x".repeat(5000);
    let answer = format!("HTTP/1.1 500 No\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let proxy = Receiver::answering(answer).await;
    let egress = through("http", &proxy, &Names::of(&[("a.test", PUBLIC)]));
    assert_eq!(send(&egress, "http://a.test/").await.excerpt.unwrap(), body.as_bytes()[..256]);
    // One whose end is not waited for has the same beginning.
    let head = "HTTP/1.1 500 No\r\ncontent-length: 99999999\r\n\r\n";
    let proxy = Receiver::answering(format!("{head}{body}")).await;
    let egress = through("http", &proxy, &Names::of(&[("a.test", PUBLIC)]));
    assert_eq!(send(&egress, "http://a.test/").await.excerpt.unwrap(), body.as_bytes()[..256]);
}

#[tokio::test]
async fn the_proxys_name_is_not_subject_to_the_rules_but_still_no_receiver() {
    let proxy = Receiver::glad().await;
    let names = Names::of(&[("proxy.test", &[&["127.0.0.1"]]), ("a.test", PUBLIC)]);
    let url = Url::parse(&format!("http://proxy.test:{}", proxy.address.port())).unwrap();
    let settings = Webhook { proxy_url: Some(SecretUrl::new(&url)), ..settings() };
    let egress = Egress::with_lookup(&settings, names).unwrap();
    assert_eq!(send(&egress, "http://a.test/").await.outcome, Outcome::Success);
    let attempt = send(&egress, &proxy.url("proxy.test")).await;
    assert_eq!(attempt.outcome, Outcome::Blocked { literal: false });
    assert_eq!(proxy.requests().len(), 1);
}

#[tokio::test]
async fn the_proxys_own_faults_are_a_class_of_their_own() {
    let names = Names::of(&[("a.test", PUBLIC)]);
    let wants_login = "HTTP/1.1 407 Proxy Authentication Required\r\ncontent-length: 0\r\n\r\n";
    let proxy = Receiver::answering(wants_login).await;
    for target in ["http://a.test/", "https://a.test/"] {
        let egress = through("http", &proxy, &names);
        assert_eq!(send(&egress, target).await.outcome, Outcome::Proxy, "{target}");
    }
    // It closes, or speaks something else.
    let closes = Receiver::serving(|_, _| async { None }).await;
    for (scheme, target) in
        [("http", "https://a.test/"), ("socks5", "http://a.test/"), ("https", "http://a.test/")]
    {
        let egress = through(scheme, &closes, &names);
        assert_eq!(send(&egress, target).await.outcome, Outcome::Proxy, "{scheme} {target}");
    }
    // It has no such name.
    for scheme in ["http", "socks5"] {
        let url = Url::parse(&format!("{scheme}://gone.test:9")).unwrap();
        let settings = Webhook { proxy_url: Some(SecretUrl::new(&url)), ..settings() };
        let egress = Egress::with_lookup(&settings, names.clone()).unwrap();
        for target in ["http://a.test/", "https://a.test/"] {
            let attempt = send(&egress, target).await;
            assert_eq!(attempt.outcome, Outcome::Proxy, "{scheme} {target}");
        }
    }
}

#[tokio::test]
async fn a_proxy_that_nobody_listens_behind_is_its_own_fault() {
    let gone = Receiver::glad().await;
    let names = Names::of(&[("a.test", PUBLIC)]);
    let egresses = ["http", "socks5"].map(|scheme| through(scheme, &gone, &names));
    drop(gone);
    for egress in &egresses {
        for target in ["http://a.test/", "https://a.test/"] {
            // Until the listener is closed.
            let mut outcome = Outcome::Success;
            for _ in 0..1000 {
                outcome = send(egress, target).await.outcome;
                if outcome == Outcome::Proxy {
                    break;
                }
            }
            assert_eq!(outcome, Outcome::Proxy, "{target}");
        }
    }
}

#[tokio::test]
async fn a_target_that_the_proxy_cannot_reach_is_the_targets_fault() {
    let proxy = Receiver::answering("HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\n\r\n").await;
    let egress = through("http", &proxy, &Names::of(&[("a.test", PUBLIC)]));
    assert_eq!(send(&egress, "https://a.test/").await.outcome, Outcome::Connect);
    let [request] = proxy.requests().try_into().unwrap();
    assert!(request.starts_with("connect a.test:443 http/1.1\r\n"), "{request}");
}

/// A SOCKS5 proxy that answers each wish for a connection with `reply`, and then speaks HTTP.
async fn socks(reply: u8) -> Receiver {
    Receiver::serving(move |mut stream, seen| async move {
        let mut greeting = [0; 2];
        stream.read_exact(&mut greeting).await.ok()?;
        let mut methods = vec![0; usize::from(greeting[1])];
        stream.read_exact(&mut methods).await.ok()?;
        stream.write_all(&[5, 0]).await.ok()?;
        let mut wish = [0; 10];
        stream.read_exact(&mut wish).await.ok()?;
        // Version, connect, an IPv4 address that was resolved and checked before, port 80.
        assert_eq!(wish, [5, 1, 0, 1, 203, 0, 112, 1, 0, 80]);
        stream.write_all(&[5, reply, 0, 1, 0, 0, 0, 0, 0, 0]).await.ok()?;
        seen.request(&mut stream).await?;
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.ok()
    })
    .await
}

#[tokio::test]
async fn a_socks_proxy_is_given_the_address_that_was_checked() {
    let proxy = socks(0).await;
    let names = Names::of(&[("a.test", PUBLIC), ("rebind.test", &[PUBLIC[0], &["10.0.0.1"]])]);
    let egress = through("socks5", &proxy, &names);
    assert_eq!(send(&egress, "http://a.test/").await.outcome, Outcome::Success);
    assert_eq!(send(&egress, "http://203.0.112.1/").await.outcome, Outcome::Success);
    let blocked = Outcome::Blocked { literal: false };
    assert_eq!(send(&egress, "http://rebind.test/").await.outcome, blocked);
    assert_eq!(proxy.requests().len(), 2);
}

#[tokio::test]
async fn what_a_socks_proxy_refuses_is_told_apart() {
    let names = Names::of(&[("a.test", PUBLIC)]);
    for (reply, class) in [
        (1, Outcome::Proxy),
        (2, Outcome::Connect),
        (3, Outcome::Connect),
        (4, Outcome::Connect),
        (5, Outcome::Connect),
        (6, Outcome::Connect),
        (7, Outcome::Proxy),
    ] {
        let proxy = socks(reply).await;
        let egress = through("socks5", &proxy, &names);
        assert_eq!(send(&egress, "http://a.test/").await.outcome, class, "reply {reply}");
    }
}
