//! `codeq healthcheck`: for containers without a shell.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

use crate::config::{self, Settings, Sources};

/// Which question, and how long to wait.
#[derive(clap::Args, Debug)]
#[command(after_help = "Examples:
  codeq healthcheck              # /readyz: may it get traffic?
  codeq healthcheck --live       # /healthz: must it be restarted?
  HEALTHCHECK CMD [\"codeq\", \"healthcheck\", \"--live\"]

Exits 0 when the node says yes, 1 otherwise. The port is that of the settings (PORT).")]
pub struct Args {
    /// Ask whether it lives, whatever Redis does
    #[arg(long)]
    live: bool,
    /// Time to wait for the answer
    #[arg(long, value_name = "MS", default_value_t = 2000)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=60_000))]
    timeout_ms: u64,
}

/// Asks the node on this machine.
///
/// # Errors
/// When there is no answer in time, or any other than 200.
pub async fn run(args: Args, file: Option<PathBuf>) -> anyhow::Result<()> {
    let settings = config::load(&Sources::of_process(file))?;
    ask(address(&settings)?, &args).await
}

async fn ask(node: SocketAddr, args: &Args) -> anyhow::Result<()> {
    let path = if args.live { "/healthz" } else { "/readyz" };
    // A proxy of the environment could not reach this machine's loopback.
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(Duration::from_millis(args.timeout_ms))
        .build()?;
    let url = format!("http://{node}{path}");
    let answer = client.get(&url).send().await.with_context(|| format!("no answer from {url}"))?;
    if answer.status() != 200 {
        bail!("{url} says {}", answer.status());
    }
    Ok(())
}

/// Where the node can be reached from here.
fn address(settings: &Settings) -> anyhow::Result<SocketAddr> {
    ensure!(settings.port != 0, "port is 0, so the node's port is not known");
    let ip = match settings.bind_addr {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    Ok((ip, settings.port).into())
}

#[cfg(test)]
mod tests {
    use axum::{Router, http::StatusCode, routing::get};

    use super::*;

    async fn node(ready: StatusCode) -> SocketAddr {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let routes = Router::new()
            .route("/readyz", get(move || async move { ready }))
            .route("/healthz", get(|| async {}));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        address
    }

    fn args(live: bool) -> Args {
        Args { live, timeout_ms: 2000 }
    }

    #[tokio::test]
    async fn the_node_is_asked_whether_it_is_ready_or_whether_it_lives() {
        let ready = node(StatusCode::OK).await;
        ask(ready, &args(false)).await.unwrap();
        let waiting = node(StatusCode::SERVICE_UNAVAILABLE).await;
        let said = ask(waiting, &args(false)).await.unwrap_err().to_string();
        assert!(said.contains("503"), "{said}");
        ask(waiting, &args(true)).await.unwrap();
    }

    #[tokio::test]
    async fn nobody_there_or_no_answer_in_time_is_a_failure() {
        let free = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let silent = free.local_addr().unwrap();
        let impatient = Args { live: true, timeout_ms: 50 };
        assert!(ask(silent, &impatient).await.is_err());
        drop(free);
        assert!(ask(silent, &args(true)).await.is_err());
    }

    #[test]
    fn a_node_on_every_interface_is_asked_on_loopback() {
        let mut settings = Settings::defaults();
        let at = |settings: &Settings| address(settings).unwrap().to_string();
        assert_eq!(at(&settings), "127.0.0.1:8080");
        settings.bind_addr = "::".parse().unwrap();
        assert_eq!(at(&settings), "[::1]:8080");
        settings.bind_addr = "10.0.0.1".parse().unwrap();
        assert_eq!(at(&settings), "10.0.0.1:8080");
        settings.port = 0;
        assert!(address(&settings).is_err());
    }
}
