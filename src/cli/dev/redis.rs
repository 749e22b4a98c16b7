//! The private `redis-server`: found, started under a guard, waited for, stopped.

use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep, timeout};

use super::home::Home;

/// What the scripts need: `HRANDFIELD` came with it.
const AT_LEAST: (u32, u32) = (6, 2);

const HINT: &str = "install it: `apt install redis-server`, `brew install redis`, or `make dev`";

/// A server that has not answered by then, nor says that it loads data, is not coming.
const ANSWERS_WITHIN: Duration = Duration::from_secs(30);

/// Between two questions whether it answers.
const PAUSE: Duration = Duration::from_millis(10);

/// How much of the end of its log tells why it ended.
const LAST_WORDS: u64 = 2_000;

/// A `redis-server` that can be started.
pub struct Server {
    path: PathBuf,
    version: String,
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.path.display(), self.version)
    }
}

impl Server {
    /// The first of `redis-server` and `valkey-server` on `PATH`.
    pub async fn find() -> anyhow::Result<Self> {
        let path = ["redis-server", "valkey-server"]
            .iter()
            .find_map(|name| on_path(name))
            .with_context(|| format!("no redis-server on PATH; {HINT}"))?;
        let output = Command::new(&path)
            .arg("--version")
            .output()
            .await
            .with_context(|| format!("{} cannot be started", path.display()))?;
        let output = String::from_utf8_lossy(&output.stdout);
        let version = version_in(&output)
            .with_context(|| format!("{} does not tell its version; {HINT}", path.display()))?;
        if !new_enough(version) {
            let (major, minor) = AT_LEAST;
            bail!("{} is {version}, codeq needs {major}.{minor} or newer; {HINT}", path.display());
        }
        Ok(Self { version: version.to_owned(), path })
    }

    /// Starts it and waits until it answers, also through the loading of much data.
    pub async fn start(self, home: &Home) -> anyhow::Result<Running> {
        let mut guard = Command::new(std::env::current_exe().context("this program's own path")?)
            .args(["__guard", "--"])
            .arg(&self.path)
            .args(options(home))
            .current_dir(home.data())
            .stdin(Stdio::piped())
            // Not for words, but to hand on the lock: the server writes to its log.
            .stdout(home.share_lock()?)
            // Out of reach of the terminal's Ctrl-C: the node drains first.
            .process_group(0)
            .spawn()
            .context("the guard of redis-server cannot be started")?;
        let lifeline = guard.stdin.take();
        let mut running = Running { guard, lifeline, log: home.log() };
        running.answers(home.socket()).await?;
        Ok(running)
    }
}

/// The server, while its lifeline is held: it ends when this is dropped, or this process ends.
pub struct Running {
    guard: Child,
    lifeline: Option<ChildStdin>,
    log: PathBuf,
}

impl Running {
    /// Returns when the server has ended by itself, with what it said last.
    pub async fn ended(&mut self) -> anyhow::Error {
        match self.guard.wait().await {
            Ok(status) => self.why(status),
            Err(error) => anyhow!(error).context("redis-server cannot be waited for"),
        }
    }

    /// Ends the server and waits until its data is written.
    pub async fn stop(mut self) {
        drop(self.lifeline.take());
        // The guard has a limit of its own, after which it uses force.
        let _ = self.guard.wait().await;
    }

    async fn answers(&mut self, socket: &Path) -> anyhow::Result<()> {
        let patience = Instant::now() + ANSWERS_WITHIN;
        let mut told = false;
        loop {
            if let Some(status) = self.guard.try_wait()? {
                return Err(self.why(status));
            }
            match timeout(Duration::from_secs(1), ask(socket)).await {
                Ok(Ok(answer)) if answer.starts_with("+PONG") => return Ok(()),
                Ok(Ok(answer)) if answer.starts_with("-LOADING") => {
                    if !told {
                        super::say("codeq dev: redis-server is loading its data");
                        told = true;
                    }
                    // However much it is: it is alive and says so.
                    sleep(10 * PAUSE).await;
                    continue;
                }
                Ok(Ok(answer)) => bail!("redis-server answered {answer:?} instead of PONG"),
                Ok(Err(_)) | Err(_) => {}
            }
            if !told && Instant::now() > patience {
                bail!(
                    "redis-server does not answer; its log is {}{}",
                    self.log.display(),
                    last_words(&self.log)
                );
            }
            sleep(PAUSE).await;
        }
    }

    fn why(&self, status: ExitStatus) -> anyhow::Error {
        anyhow!(
            "redis-server ended ({status}); its log is {}{}",
            self.log.display(),
            last_words(&self.log)
        )
    }
}

/// The options of the server. Relative names: it runs in its data directory, so a long path or an
/// odd one does not matter.
fn options(home: &Home) -> Vec<std::ffi::OsString> {
    let beside = home.socket().parent() == Some(home.data());
    let socket = if beside { Path::new("redis.sock") } else { home.socket() };
    let mut options: Vec<std::ffi::OsString> = [
        ("--port", "0"), // no TCP: nobody else on this machine or network can reach it
        ("--unixsocketperm", "700"),
        ("--appendonly", "yes"),
        ("--save", ""),                       // the append-only file has everything
        ("--maxmemory-policy", "noeviction"), // a broker's data is no cache
        ("--logfile", "redis.log"),
        ("--pidfile", "redis.pid"),
        ("--daemonize", "no"),
    ]
    .iter()
    .flat_map(|(name, value)| [(*name).into(), (*value).into()])
    .collect();
    options.extend(["--unixsocket".into(), socket.into()]);
    options
}

async fn ask(socket: &Path) -> std::io::Result<String> {
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(b"PING\r\n").await?;
    let mut answer = [0; 64];
    let read = stream.read(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer[..read]).trim_end().to_owned())
}

fn on_path(name: &str) -> Option<PathBuf> {
    use std::os::unix::fs::PermissionsExt as _;
    let executable = |path: &PathBuf| {
        path.metadata().is_ok_and(|of| of.is_file() && of.permissions().mode() & 0o111 != 0)
    };
    std::env::split_paths(&std::env::var_os("PATH")?).map(|dir| dir.join(name)).find(executable)
}

/// `7.0.15` of `Redis server v=7.0.15 sha=…`.
fn version_in(output: &str) -> Option<&str> {
    output.split_whitespace().find_map(|word| word.strip_prefix("v="))
}

fn new_enough(version: &str) -> bool {
    let mut numbers = version.split('.').map_while(|part| part.parse::<u32>().ok());
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= AT_LEAST
}

/// The end of the log, each line indented.
fn last_words(log: &Path) -> String {
    let read = || {
        let mut file = std::fs::File::open(log)?;
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(LAST_WORDS)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        std::io::Result::Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    if text.is_empty() {
        return ", and it is empty: is the disk full?".to_owned();
    }
    let lines: Vec<_> = text.lines().rev().take(8).collect();
    lines.into_iter().rev().map(|line| format!("\n    {line}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        for (version, enough) in [
            ("6.2.0", true),
            ("7.0.15", true),
            ("10.0", true),
            ("6.0.20", false),
            ("5.9", false),
            ("", false),
        ] {
            assert_eq!(new_enough(version), enough, "{version}");
        }
        assert_eq!(version_in("Redis server v=7.0.15 sha=00000000:0 bits=64"), Some("7.0.15"));
        assert_eq!(version_in("Valkey server v=8.0.1 sha=0"), Some("8.0.1"));
    }
}
