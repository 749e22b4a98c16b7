//! A Redis of a test's own.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use redis::IntoConnectionInfo;

use super::{Library, Options, Store};
use crate::model::Partitions;
use crate::telemetry::Metrics;

/// A `redis-server` on a Unix socket in a folder of its own. It ends with the value.
pub(crate) struct TestRedis {
    folder: tempfile::TempDir,
    server: Option<Child>,
    arguments: Vec<String>,
}

impl TestRedis {
    /// Starts one without persistence and waits until it answers.
    pub async fn start() -> Self {
        Self::with(&["--appendonly", "no"]).await
    }

    /// Starts one with more settings.
    pub async fn with(arguments: &[&str]) -> Self {
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let folder = tempfile::tempdir().unwrap();
        let mut redis = Self { folder, server: None, arguments };
        redis.begin().await;
        redis
    }

    /// Its socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("redis.sock")
    }

    /// Starts the server, if it does not run.
    pub async fn begin(&mut self) {
        let server = Command::new("redis-server")
            .args(["--port", "0", "--save", "", "--loglevel", "warning", "--unixsocket"])
            .arg(self.socket())
            .arg("--dir")
            .arg(self.folder.path())
            .args(&self.arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        self.server = Some(server);
        // The socket's file is left behind by a killed server, so only an answer counts.
        for _ in 0..500 {
            if let Ok(mut connection) = self.client().get_multiplexed_async_connection().await
                && redis::cmd("PING").exec_async(&mut connection).await.is_ok()
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("redis-server does not answer");
    }

    /// Kills the server as a crash would.
    pub fn kill(&mut self) {
        if let Some(mut server) = self.server.take() {
            server.kill().unwrap();
            server.wait().unwrap();
        }
    }

    /// Stops or continues the server's process: `libc::SIGSTOP`, `libc::SIGCONT`.
    pub fn signal(&self, signal: i32) {
        let pid = i32::try_from(self.server.as_ref().unwrap().id()).unwrap();
        // SAFETY: `kill` takes no pointers, and the process is our child and not yet waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("redis+unix://{}", self.socket().display())
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).unwrap()
    }

    /// A connection for looking at it from outside.
    pub async fn connection(&self) -> redis::aio::MultiplexedConnection {
        let config = redis::AsyncConnectionConfig::new().set_response_timeout(None);
        self.client().get_multiplexed_async_connection_with_config(&config).await.unwrap()
    }

    /// Runs a command from outside, words separated by spaces.
    pub async fn command<T: redis::FromRedisValue>(&self, words: &str) -> T {
        let mut words = words.split(' ');
        let mut cmd = redis::cmd(words.next().unwrap());
        cmd.arg(words.collect::<Vec<_>>());
        cmd.query_async(&mut self.connection().await).await.unwrap()
    }

    /// How often a command was called, by its `commandstats`.
    pub async fn calls(&self, command: &str) -> u64 {
        let stats: String = self.command("INFO commandstats").await;
        let line = stats.lines().find_map(|l| l.strip_prefix(&format!("cmdstat_{command}:calls=")));
        line.map_or(0, |l| l.split(',').next().unwrap().parse().unwrap())
    }

    /// Options of a store on it, with short times.
    pub fn options(&self) -> Options {
        options(&self.url())
    }

    /// A store with 16 partitions on it, connected.
    pub async fn store(&self) -> Store {
        self.store_with(Library::default()).await
    }

    /// The same with other modules.
    pub async fn store_with(&self, library: Library) -> Store {
        let store = open(Options { library, ..self.options() });
        store.up().await;
        store
    }
}

impl Drop for TestRedis {
    fn drop(&mut self) {
        if let Some(mut server) = self.server.take() {
            // It may be stopped; a killed process ends all the same.
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

/// Options for a URL, with short times.
pub(crate) fn options(url: &str) -> Options {
    Options {
        address: url.into_connection_info().unwrap(),
        pool_size: 2,
        connect_timeout: Duration::from_millis(300),
        command_timeout: Duration::from_millis(400),
        soft_memory_ratio: 0.9,
        library: Library::default(),
    }
}

/// A store with 16 partitions, not yet connected.
pub(crate) fn open(options: Options) -> Store {
    Store::new(options, Partitions::new("test", 16), Metrics::new())
}
