//! `codeq dev`: a broker with nothing to set up. It starts a `redis-server` of its own, with its
//! data in `./.codeq`, serves on `PORT` with tokens that never change, and takes the server down
//! with it, however it ends.

mod banner;
pub mod guard;
mod home;
mod redis;

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde_json::json;

use crate::config::{self, Settings, Sources};

/// The producer's token; it is an admin and an operator too.
pub const PRODUCER_TOKEN: &str = "dev-producer-token";
/// The worker's token: every scope, every command.
pub const WORKER_TOKEN: &str = "dev-worker-token";
/// Whose tasks they create and claim.
pub const TENANT: &str = "dev";

/// Runs until it is told to stop. `Err` is a sentence for the person at the terminal.
pub async fn run(file: Option<PathBuf>) -> anyhow::Result<()> {
    let home = home::Home::open(Path::new(".codeq"))?;
    let mut settings = settings(file, &home)?;
    settings.port = free_port(settings.bind_addr, settings.port)?;

    let redis = redis::Server::find().await?;
    say(&format!("codeq dev: starting {redis}, data in {}", home.data().display()));
    let mut redis = redis.start(&home).await?;

    let local = banner::reachable(settings.bind_addr, settings.port);
    let outcome = tokio::select! {
        // Pinned to the heap: the whole node's state is in this future.
        outcome = Box::pin(crate::node::run(settings)) => outcome,
        why = redis.ended() => Err(why),
        never = banner::print_when_ready(&local, &home) => match never {},
    };
    // The node has drained by now: the server was out of reach of the terminal's Ctrl-C.
    redis.stop().await;
    if outcome.is_ok() {
        say(&format!("codeq dev: stopped; the data stays in {}", home.data().display()));
    }
    outcome
}

/// A line for whoever looks; nobody has to.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// What the environment and its file say, but for the store and the tokens.
fn settings(file: Option<PathBuf>, home: &home::Home) -> anyhow::Result<Settings> {
    let mut sources = Sources::of_process(file);
    for name in NOT_OURS {
        sources.env.remove(*name);
    }
    for (name, value) in defaults() {
        sources.env.entry(name.into()).or_insert_with(|| value.into());
    }
    sources.env.extend(overrides(&home.url()).map(|(name, value)| (name.into(), value)));
    Ok(config::load(&sources)?)
}

/// Further ways to name a store or tokens: those of a server, set in the shell of whoever tries this.
const NOT_OURS: &[&str] = &[
    "REDIS_ADDR",
    "REDIS_PASSWORD",
    "REDIS_PASSWORD_FILE",
    "REDIS_URL_FILE",
    "PRODUCER_AUTH_CONFIG_FILE",
    "WORKER_AUTH_CONFIG_FILE",
];

/// A laptop's defaults where they differ from a server's. The tokens are known to everybody, so
/// only this machine may use them unless `BIND_ADDR` says otherwise.
fn defaults() -> [(&'static str, &'static str); 2] {
    [("BIND_ADDR", "127.0.0.1"), ("LOG_FORMAT", "text")]
}

/// What `codeq dev` decides itself, whatever the environment says.
fn overrides(redis_url: &str) -> [(&'static str, String); 6] {
    let producer = json!([{
        "token": PRODUCER_TOKEN, "subject": "dev-producer",
        "scopes": ["codeq:admin", "codeq:operator"], "eventTypes": ["*"], "raw": {"tenantId": TENANT},
    }]);
    let worker = json!([{
        "token": WORKER_TOKEN, "subject": "dev-worker",
        "scopes": ["codeq:claim", "codeq:heartbeat", "codeq:abandon", "codeq:nack", "codeq:result",
                   "codeq:subscribe"],
        "eventTypes": ["*"], "raw": {"tenantId": TENANT},
    }]);
    [
        ("ENV", "dev".into()),
        ("REDIS_URL", redis_url.into()),
        ("PRODUCER_AUTH_PROVIDER", "static".into()),
        ("PRODUCER_AUTH_CONFIG", producer.to_string()),
        ("WORKER_AUTH_PROVIDER", "static".into()),
        ("WORKER_AUTH_CONFIG", worker.to_string()),
    ]
}

/// The port that will be served: told apart here, before a server is started, since a taken port is
/// the commonest surprise. 0 becomes a free one, so that the printed addresses are true.
fn free_port(address: IpAddr, port: u16) -> anyhow::Result<u16> {
    let listener = TcpListener::bind(SocketAddr::new(address, port)).with_context(|| {
        format!("port {port} cannot be opened on {address}; choose another: PORT=8090 codeq dev")
    })?;
    Ok(listener.local_addr()?.port())
}
