//! Where a delivery may connect.

use std::process::Command;
use std::sync::Arc;

use crate::config::Webhook;
use crate::egress::testing::{Names, Receiver, send, settings, settings_with_receivers};
use crate::egress::{Egress, Outcome, Target};

const BLOCKED: Outcome = Outcome::Blocked { literal: false };
const BLOCKED_LITERALLY: Outcome = Outcome::Blocked { literal: true };

#[tokio::test]
async fn hole_1_a_bracketed_address_is_refused_at_delivery() {
    let egress = Egress::new(&settings()).unwrap();
    for host in ["[::1]", "[fd00::1]", "[fe80::1]"] {
        let attempt = send(&egress, &format!("http://{host}:9/")).await;
        assert_eq!(attempt.outcome, BLOCKED_LITERALLY, "{host}");
    }
}

#[tokio::test]
async fn hole_2_a_literal_address_is_refused_although_no_resolver_sees_it() {
    let receiver = Receiver::glad().await;
    let url = receiver.url("127.0.0.1");
    // Accepted while private networks were open …
    let open = Webhook { allow_private_networks: true, ..settings() };
    let egress = Egress::new(&open).unwrap();
    assert!(Target::parse(&url, egress.rules()).is_ok());
    assert_eq!(send(&egress, &url).await.outcome, Outcome::Success);
    // … and delivered to when they no longer are.
    let names = Names::of(&[]);
    let egress = Egress::with_lookup(&settings(), names.clone()).unwrap();
    let attempt = send(&egress, &url).await;
    assert_eq!(attempt.outcome, BLOCKED_LITERALLY);
    assert_eq!((receiver.connections(), names.look_ups()), (1, 0));
}

#[tokio::test]
async fn hole_3_a_loopback_address_in_any_spelling_is_refused_at_delivery() {
    let receiver = Receiver::glad().await;
    let egress = Egress::new(&settings()).unwrap();
    for host in [
        "0x7f.1",
        "2130706433",
        "0177.0.0.1",
        "①②⑦.⓪.⓪.①",
        "127.0.0.1.",
        "127.1",
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
    ] {
        let attempt = send(&egress, &receiver.url(host)).await;
        assert_eq!(attempt.outcome, BLOCKED_LITERALLY, "{host}");
    }
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn hole_4_a_name_in_a_special_block_of_ipv6_is_refused() {
    let special = ["::127.0.0.1", "2001::1", "fec0::1", "2002:7f00:1::", "64:ff9b::7f00:1"];
    for address in special {
        let names = Names::of(&[("a.test", &[&[address]])]);
        let egress = Egress::with_lookup(&settings(), names).unwrap();
        assert_eq!(send(&egress, "http://a.test:9/").await.outcome, BLOCKED, "{address}");
    }
}

#[tokio::test]
async fn hole_5_a_name_that_resolves_to_loopback_is_refused() {
    let receiver = Receiver::glad().await;
    let names = Names::of(&[("127.0.0.1.nip.test", &[&["127.0.0.1"]])]);
    let egress = Egress::with_lookup(&settings(), names).unwrap();
    let url = receiver.url("127.0.0.1.nip.test");
    assert!(Target::parse(&url, egress.rules()).is_ok(), "a name is nothing to refuse by its text");
    assert_eq!(send(&egress, &url).await.outcome, BLOCKED);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn localhost_is_a_name_that_the_machine_itself_resolves() {
    let receiver = Receiver::glad().await;
    let egress = Egress::new(&settings()).unwrap();
    assert_eq!(send(&egress, &receiver.url("localhost")).await.outcome, BLOCKED);
    let open = Webhook { allow_private_networks: true, ..settings() };
    let egress = Egress::new(&open).unwrap();
    assert_eq!(send(&egress, &receiver.url("localhost")).await.outcome, Outcome::Success);
}

#[tokio::test]
async fn hole_6_a_name_is_looked_up_once_and_what_was_checked_is_connected_to() {
    let receiver = Receiver::glad().await;
    let names = Names::of(&[
        ("rebind.test", &[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1"], &["127.0.0.2"]]),
        ("other.test", &[&["127.0.0.2"], &["127.0.0.1"]]),
    ]);
    let egress = Egress::with_lookup(&settings_with_receivers(), names.clone()).unwrap();

    assert_eq!(send(&egress, &receiver.url("rebind.test")).await.outcome, Outcome::Success);
    assert_eq!((names.look_ups(), receiver.connections()), (1, 1));
    // The other way round: what is refused first is not looked up until it pleases.
    assert_eq!(send(&egress, &receiver.url("other.test")).await.outcome, BLOCKED);
    assert_eq!((names.look_ups(), receiver.connections()), (2, 1));
}

#[tokio::test]
async fn hole_7_of_several_addresses_only_allowed_ones_are_offered() {
    let receiver = Receiver::glad().await;
    for addresses in [["127.0.0.1", "::1"], ["::1", "127.0.0.1"], ["127.0.0.2", "127.0.0.1"]] {
        let names = Names::of(&[("a.test", &[&addresses])]);
        let egress = Egress::with_lookup(&settings_with_receivers(), names).unwrap();
        let attempt = send(&egress, &receiver.url("a.test")).await;
        assert_eq!(attempt.outcome, Outcome::Success, "{addresses:?}");
    }
    let names = Names::of(&[("a.test", &[&["::1", "127.0.0.2", "10.0.0.1"]])]);
    let egress = Egress::with_lookup(&settings_with_receivers(), names).unwrap();
    assert_eq!(send(&egress, &receiver.url("a.test")).await.outcome, BLOCKED);
}

#[tokio::test]
async fn hole_8_a_redirect_is_a_failure_and_not_followed() {
    let elsewhere = Receiver::glad().await;
    let names = Names::of(&[("a.test", &[&["127.0.0.1"]])]);
    let egress = Egress::with_lookup(&settings_with_receivers(), names).unwrap();
    for status in [301, 302, 303, 307, 308] {
        let answer = format!(
            "HTTP/1.1 {status} Elsewhere\r\nlocation: {}\r\ncontent-length: 0\r\n\r\n",
            elsewhere.url("a.test")
        );
        let receiver = Receiver::answering(answer).await;
        let attempt = send(&egress, &receiver.url("a.test")).await;
        assert_eq!((attempt.outcome, attempt.status), (Outcome::Http3xx, Some(status)));
        assert_eq!(receiver.requests().len(), 1);
    }
    assert_eq!(elsewhere.connections(), 0);
}

/// Tells the test below that it runs in the process it started.
const CHILD: &str = "CODEQ_TEST_WITH_PROXIES_AROUND";

#[tokio::test]
async fn hole_9_proxies_of_the_environment_are_ignored() {
    const NAME: &str = "egress::tests::guard::hole_9_proxies_of_the_environment_are_ignored";
    let receiver = Receiver::glad().await;
    if std::env::var_os(CHILD).is_some() {
        let names = Names::of(&[("a.test", &[&["127.0.0.1"]])]);
        let egress = Egress::with_lookup(&settings_with_receivers(), names.clone()).unwrap();
        assert_eq!(send(&egress, &receiver.url("a.test")).await.outcome, Outcome::Success);
        assert_eq!((names.look_ups(), receiver.connections()), (1, 1));
        let egress = Egress::with_lookup(&settings(), names).unwrap();
        assert_eq!(send(&egress, &receiver.url("a.test")).await.outcome, BLOCKED);
        return;
    }
    // The environment is read once in a process, so another one is needed.
    let proxy = receiver.url("127.0.0.1");
    let mut child = Command::new(std::env::current_exe().unwrap());
    child.args(["--exact", NAME]).env(CHILD, "1");
    for name in ["HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"] {
        child.env(name, &proxy).env(name.to_lowercase(), &proxy);
    }
    let output = tokio::task::spawn_blocking(move || child.output().unwrap()).await.unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
    assert_eq!(receiver.connections(), 0, "the proxy was used");
}

#[tokio::test]
async fn hole_10_nothing_of_an_internal_answer_is_kept() {
    let receiver =
        Receiver::answering("HTTP/1.1 500 No\r\ncontent-length: 8\r\n\r\npassword").await;
    let names = Names::of(&[("a.test", &[&["127.0.0.1"]])]);
    let egress = Egress::with_lookup(&settings_with_receivers(), names).unwrap();
    for host in ["a.test", "127.0.0.1"] {
        let attempt = send(&egress, &receiver.url(host)).await;
        assert_eq!((attempt.outcome, attempt.excerpt), (Outcome::Http5xx, None), "{host}");
    }
}

#[tokio::test]
async fn hole_11_private_networks_open_no_metadata_service() {
    let open = Webhook { allow_private_networks: true, ..settings() };
    for address in [
        "169.254.169.254",
        "169.254.0.1",
        "fe80::1",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
    ] {
        let names = Names::of(&[("metadata.test", &[&[address]])]);
        let egress = Egress::with_lookup(&open, names).unwrap();
        assert_eq!(send(&egress, "http://metadata.test/").await.outcome, BLOCKED, "{address}");
        let host = if address.contains(':') { format!("[{address}]") } else { address.to_owned() };
        let attempt = send(&egress, &format!("http://{host}/latest/meta-data/")).await;
        assert_eq!(attempt.outcome, BLOCKED_LITERALLY, "{address}");
    }
}

#[tokio::test]
async fn hole_19_the_stored_host_is_the_one_connected_to() {
    let receiver = Receiver::glad().await;
    let names = Names::of(&[("a.test", &[&["127.0.0.1"]])]);
    let egress = Egress::with_lookup(&settings_with_receivers(), names.clone()).unwrap();
    let port = receiver.address.port();
    for url in [
        format!("http://a.test:{port}#@evil.test"),
        format!("http://a.test:{port}?@evil.test"),
        format!("http://a.test:{port}/@evil.test/"),
        format!("HTTP://A.TEST:{port}/"),
    ] {
        let target = Target::parse(&url, egress.rules()).unwrap();
        assert_eq!(target.host(), "a.test", "{url}");
        assert_eq!(send(&egress, &url).await.outcome, Outcome::Success, "{url}");
    }
    let heads = receiver.requests();
    assert!(
        heads.iter().all(|head| head.contains(&format!("host: a.test:{port}\r\n"))),
        "{heads:?}"
    );
    assert_eq!(heads.len(), 4);
}

#[tokio::test]
async fn hole_20_a_port_that_is_no_longer_allowed_is_not_connected_to() {
    let receiver = Receiver::glad().await;
    let names = Names::of(&[("a.test", &[&["127.0.0.1"]])]);
    let only = Webhook { allowed_ports: vec![443], ..settings_with_receivers() };
    let egress = Egress::with_lookup(&only, names).unwrap();
    assert_eq!(send(&egress, &receiver.url("a.test")).await.outcome, BLOCKED_LITERALLY);
    assert_eq!(receiver.connections(), 0);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_is_a_class_of_its_own() {
    for names in [Names::of(&[]), Names::of(&[("gone.test", &[&[]])])] {
        let egress = Egress::with_lookup(&settings(), Arc::clone(&names) as _).unwrap();
        assert_eq!(send(&egress, "http://gone.test/").await.outcome, Outcome::Dns);
    }
}
