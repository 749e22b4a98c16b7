//! The real binary as a process, with an environment that holds only what a test gives it.

use std::collections::BTreeMap;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::callers::{producers, workers};
use super::client::Client;
use super::metrics::Scrape;
use super::process::{Lines, Process};
use super::{Redis, eventually, schema};

/// A node. Killed when dropped.
pub struct Node {
    process: Process,
    lines: Lines,
    client: Client,
    /// Lines are for people, and have no schema.
    is_text: bool,
}

/// The environment of a node.
#[derive(Clone)]
pub struct Settings(BTreeMap<String, String>);

impl Settings {
    /// A node on this Redis: any port, the callers of this module, no pause before it drains.
    pub fn on(redis: &Redis) -> Self {
        Self::at(&redis.url())
    }

    /// As `on`, with the address of a store.
    pub fn at(redis_url: &str) -> Self {
        let settings = Self(BTreeMap::new());
        settings
            .set("PORT", "0")
            .set("BIND_ADDR", "127.0.0.1")
            .set("REDIS_URL", redis_url)
            .set("PRODUCER_AUTH_PROVIDER", "static")
            .set("PRODUCER_AUTH_CONFIG", &producers().to_string())
            .set("WORKER_AUTH_PROVIDER", "static")
            .set("WORKER_AUTH_CONFIG", &workers().to_string())
            .set("SHUTDOWN_DELAY_SECONDS", "0")
            .set("SHUTDOWN_DRAIN_SECONDS", "10")
    }

    /// Sets a variable.
    pub fn set(mut self, name: &str, value: &str) -> Self {
        self.0.insert(name.to_owned(), value.to_owned());
        self
    }

    /// A settings file beside the environment.
    pub fn file(self, redis: &Redis, yaml: &str) -> Self {
        let path = redis.socket().with_file_name("codeq.yaml");
        std::fs::write(&path, yaml).unwrap();
        self.set("CODEQ_CONFIG", path.to_str().unwrap())
    }

    /// Takes every variable away whose name begins so.
    pub fn without(mut self, prefix: &str) -> Self {
        self.0.retain(|name, _| !name.starts_with(prefix));
        self
    }

    /// Starts a node and waits until it is ready.
    pub async fn start(self) -> Node {
        let node = self.launch().await;
        node.until_ready().await;
        node
    }

    /// Starts a node and waits until it listens.
    pub async fn launch(self) -> Node {
        let is_text = self.0.get("LOG_FORMAT").is_some_and(|format| format == "text");
        let (process, lines) = self.spawn();
        let mut process = process;
        let started = eventually("the node listens", || {
            let ended = process.ended();
            let line = lines.find(|line| line["event"] == "node.started");
            let said = lines.all();
            async move {
                assert!(ended.is_none() || line.is_some(), "the node ended: {said:#?}");
                line
            }
        })
        .await;
        let address = started["context"]["address"].as_str().unwrap();
        let client = Client::anonymous(&format!("http://{address}"));
        Node { process, lines, client, is_text }
    }

    /// What is set, for a test that starts the process itself.
    pub fn variables(&self) -> &BTreeMap<String, String> {
        &self.0
    }

    /// Runs a node that is expected to end by itself; its exit code and what it said.
    pub async fn fails(self) -> (Option<i32>, Vec<String>) {
        let (mut process, lines) = self.spawn();
        let status = process.exit(Duration::from_secs(10)).await;
        eventually("the pipes are read to their end", || {
            let ended = lines.are_all();
            async move { ended.then_some(()) }
        })
        .await;
        (status.code(), lines.all())
    }

    fn spawn(self) -> (Process, Lines) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_codeq"));
        command
            .arg("serve")
            .env_clear()
            .envs(&self.0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = Process::start(&mut command);
        let lines = Lines::of(&mut process);
        (process, lines)
    }
}

impl Node {
    /// A node with the usual settings, ready.
    pub async fn on(redis: &Redis) -> Self {
        Settings::on(redis).start().await
    }

    /// A node with some settings more, ready.
    pub async fn with(redis: &Redis, variables: &[(&str, &str)]) -> Self {
        let set = |settings: Settings, (name, value): &(&str, &str)| settings.set(name, value);
        variables.iter().fold(Settings::on(redis), set).start().await
    }

    /// Waits until the node takes requests.
    pub async fn until_ready(&self) {
        eventually("the node is ready", || async {
            let answer = self.anyone().get("//readyz").sent().await;
            answer.is_ok_and(|answer| answer.status == 200).then_some(())
        })
        .await;
    }

    /// Calls without a token.
    pub fn anyone(&self) -> Client {
        self.client.clone()
    }

    /// Calls with this token.
    pub fn token(&self, token: &str) -> Client {
        self.client.with_token(token)
    }

    /// A producer of `acme`.
    pub fn producer(&self) -> Client {
        self.token("producer")
    }

    /// An administrator of `acme`, by scope; also a producer.
    pub fn admin(&self) -> Client {
        self.token("admin")
    }

    /// An administrator of `acme` with the scope `codeq:operator`.
    pub fn operator(&self) -> Client {
        self.token("operator")
    }

    /// A worker of `acme` with every scope, for every command.
    pub fn worker(&self) -> Client {
        self.token("worker")
    }

    /// Another worker of `acme`, with another subject.
    pub fn other_worker(&self) -> Client {
        self.token("worker-2")
    }

    /// The scrape of this node.
    pub async fn scrape(&self) -> Scrape {
        Scrape::of(self.anyone().get("//metrics").await.text())
    }

    /// What the process wrote so far, stdout and stderr.
    pub fn lines(&self) -> Vec<String> {
        self.lines.all()
    }

    /// The first JSON line that is such, as soon as it is there.
    pub async fn line(&self, such: impl Fn(&Value) -> bool) -> Value {
        eventually("a line", || {
            let line = self.lines.find(&such);
            async move { line }
        })
        .await
    }

    /// Sends a signal, as `libc::SIGTERM`.
    pub fn signal(&self, signal: i32) {
        self.process.signal(signal);
    }

    /// Asks the node to stop.
    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// Kills it as a crash would.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Waits for the node's end. Panics after `within`.
    pub async fn exit(&mut self, within: Duration) -> ExitStatus {
        self.process.exit(within).await
    }

    /// Stops it in order; it must end with code 0.
    pub async fn stop(mut self) -> Vec<String> {
        self.terminate();
        let status = self.exit(Duration::from_secs(15)).await;
        assert_eq!(status.code(), Some(0), "{:#?}", self.lines());
        self.lines()
    }
}

impl Drop for Node {
    /// Every line of every node of every test follows the schema, and nothing is on stderr. The last
    /// line of a node that is killed may be half a one.
    fn drop(&mut self) {
        if self.is_text || std::thread::panicking() {
            return;
        }
        for line in self.lines.all() {
            let is_whole = line.ends_with('}') || !line.starts_with('{');
            if let Some(flaw) = is_whole.then(|| schema::flaw(&line)).flatten() {
                panic!("{flaw}, in: {line}");
            }
        }
    }
}
