//! What `codeq dev` prints once it serves: tokens, addresses, three lines to try.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::Duration;

use super::home::Home;
use super::{PRODUCER_TOKEN, TENANT, WORKER_TOKEN};

/// Between two questions whether the node is ready.
const PAUSE: Duration = Duration::from_millis(20);

/// The base address as typed on this machine.
pub fn reachable(bind_addr: IpAddr, port: u16) -> String {
    match bind_addr {
        any if any.is_unspecified() => format!("http://localhost:{port}"),
        IpAddr::V4(address) => format!("http://{address}:{port}"),
        IpAddr::V6(address) => format!("http://[{address}]:{port}"),
    }
}

/// Waits until the node is ready, prints, and never returns: the node's end ends this too.
pub async fn print_when_ready(base: &str, home: &Home) -> Infallible {
    // A proxy of the environment is for the world outside.
    let client = reqwest::Client::builder().no_proxy().build().expect("the TLS set-up is built in");
    let ready = format!("{base}/readyz");
    while !client.get(&ready).send().await.is_ok_and(|answer| answer.status().is_success()) {
        tokio::time::sleep(PAUSE).await;
    }
    super::say(&text(base, home));
    std::future::pending().await
}

fn text(base: &str, home: &Home) -> String {
    let api = format!("{base}/v1/codeq");
    let mut out = format!(
        "
codeq is ready. Data in {data}; it is there again after a restart.

  API        {api}
  OpenAPI    {base}/openapi.json
  metrics    {base}/metrics
  producer   {PRODUCER_TOKEN}  (tenant {TENANT}, admin and operator)
  worker     {WORKER_TOKEN}    (tenant {TENANT}, every scope and command)

Try it: create a task, claim it as a worker, submit its result.

",
        data = home.data().display(),
    );
    for line in try_it(&api) {
        let _ = writeln!(out, "  {line}\n");
    }
    out.push_str("Stop with Ctrl-C.\n");
    out
}

/// Three lines for a POSIX shell. The second keeps the task's id in `$ID` for the third.
fn try_it(api: &str) -> [String; 3] {
    let call = |path: &str, token: &str, body: &str| {
        format!("curl -sS {api}{path} -H 'Authorization: Bearer {token}' -d '{body}'")
    };
    let create = r#"{"command":"greet","payload":{"name":"Ada"}}"#;
    let claim = call("/tasks/claim", WORKER_TOKEN, r#"{"commands":["greet"],"waitSeconds":5}"#);
    let result = r#"{"status":"COMPLETED","result":{"text":"Hello, Ada"}}"#;
    [
        format!("{}; echo", call("/tasks", PRODUCER_TOKEN, create)),
        format!(
            r#"ID=$({claim} | tee -a /dev/stderr | sed -n 's/.*"id":"\([^"]*\)".*/\1/p'); echo"#
        ),
        format!("{}; echo", call("/tasks/$ID/result", WORKER_TOKEN, result)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_means_all_is_printed_as_one_that_can_be_typed() {
        assert_eq!(reachable("0.0.0.0".parse().unwrap(), 80), "http://localhost:80");
        assert_eq!(reachable("::".parse().unwrap(), 80), "http://localhost:80");
        assert_eq!(reachable("::1".parse().unwrap(), 80), "http://[::1]:80");
    }
}
