//! A Redis of a test's own.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::Process;

/// A `redis-server` on a Unix socket in a folder of its own.
pub struct Redis {
    folder: tempfile::TempDir,
    server: Option<Process>,
    options: Vec<String>,
}

impl Redis {
    /// Starts one that keeps nothing on disk.
    pub async fn start() -> Self {
        Self::with(&["--appendonly", "no"]).await
    }

    /// Starts one that keeps every write.
    pub async fn durable() -> Self {
        Self::with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    /// Starts one with these options.
    pub async fn with(options: &[&str]) -> Self {
        let mut redis = Self::away(options);
        redis.begin().await;
        redis
    }

    /// One that does not run yet: `begin` starts it.
    pub fn away(options: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let options = options.iter().map(|&option| option.to_owned()).collect();
        Self { folder, server: None, options }
    }

    /// Starts the server and waits until it answers; what it kept on disk is there again.
    pub async fn begin(&mut self) {
        let mut command = Command::new("redis-server");
        command
            .args(["--port", "0", "--save", "", "--loglevel", "warning", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.options)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        self.server = Some(Process::start(&mut command));
        // A killed server leaves its socket behind, so only an answer counts.
        for _ in 0..2000 {
            if let Ok(mut connection) = self.client().get_multiplexed_async_connection().await {
                match ::redis::cmd("PING").exec_async(&mut connection).await {
                    Ok(()) => return,
                    Err(error) if error.code() == Some("NOAUTH") => return,
                    Err(_) => {}
                }
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("redis-server does not answer");
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        self.server = None;
    }

    /// Kills the server and starts it again at the same place.
    pub async fn restart(&mut self) {
        self.kill();
        self.begin().await;
    }

    /// The server hangs: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.running().signal(libc::SIGSTOP);
    }

    /// The end of `freeze`.
    pub fn thaw(&self) {
        self.running().signal(libc::SIGCONT);
    }

    fn running(&self) -> &Process {
        self.server.as_ref().expect("the server was started")
    }

    /// Where it listens.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// As a node is told.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn client(&self) -> ::redis::Client {
        ::redis::Client::open(self.url()).unwrap()
    }

    /// A connection for looking at it from outside.
    pub async fn connection(&self) -> ::redis::aio::MultiplexedConnection {
        self.client().get_multiplexed_async_connection().await.unwrap()
    }

    /// Runs a command from outside, words separated by spaces.
    pub async fn command<T: ::redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut command = ::redis::cmd(words.next().unwrap());
        command.arg(words.collect::<Vec<_>>());
        command.query_async(&mut self.connection().await).await.unwrap()
    }

    /// How often a command was called since the start, by `commandstats`.
    pub async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.command("INFO commandstats").await;
        let prefix = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// Every key there is, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.command("KEYS *").await;
        keys.sort();
        keys
    }
}
