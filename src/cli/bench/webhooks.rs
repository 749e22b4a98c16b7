//! What a delivery costs: the deliveries of a node against the same number of bare POSTs by the
//! same HTTP client, to the same receiver, in the same run.
//!
//! The destination is paused while the tasks run, so that what is measured is the delivery and
//! nothing else; then it is resumed, and the clock runs until the last one has arrived.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep};

use super::http::Connection;
use super::meters::process_cpu;

/// POSTs under way at once: what a node allows for one host by default.
const AT_ONCE: usize = 16;
/// Longer than a node believes what it saw of a destination.
const ALL_HAVE_SEEN: Duration = Duration::from_millis(1100);

/// Takes deliveries and answers 200: on a thread of its own, so that its CPU time can be told.
pub struct Receiver {
    /// Where it is.
    pub origin: String,
    seen: Arc<Seen>,
    thread: String,
}

#[derive(Default)]
struct Seen {
    requests: AtomicU64,
    connections: AtomicUsize,
    last_body: Mutex<Bytes>,
}

impl Receiver {
    /// Listens on a free port of this machine, and takes so long for each answer.
    pub fn start(work: Duration) -> anyhow::Result<Self> {
        let seen = Arc::new(Seen::default());
        let (started, begun) = std::sync::mpsc::channel();
        let of = seen.clone();
        std::thread::Builder::new().name("receiver".into()).spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async move {
                let listener = TcpListener::bind("127.0.0.1:0").await?;
                let thread = std::fs::read_link("/proc/thread-self")?;
                let _ = started.send((listener.local_addr()?, thread));
                loop {
                    let (stream, _) = listener.accept().await?;
                    of.connections.fetch_add(1, Ordering::Relaxed);
                    let of = of.clone();
                    tokio::spawn(async move {
                        let _ = serve(stream, &of, work).await;
                    });
                }
                #[expect(unreachable_code, reason = "it names the type of the errors above")]
                anyhow::Ok(())
            })
        })?;
        let (address, thread) = begun.recv().context("the receiver did not start")?;
        let thread = thread.to_string_lossy().into_owned();
        Ok(Self { origin: format!("http://{address}"), seen, thread })
    }

    /// Requests so far.
    pub fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::Relaxed)
    }

    /// CPU seconds of its thread so far.
    pub fn cpu_seconds(&self) -> anyhow::Result<f64> {
        process_cpu(&self.thread)
    }

    fn last_body(&self) -> Bytes {
        self.seen.last_body.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until so many requests have come, or the time is over.
    pub async fn until(&self, requests: u64, limit: Duration) -> anyhow::Result<()> {
        let end = Instant::now() + limit;
        while self.requests() < requests {
            ensure!(
                Instant::now() < end,
                "only {} of {requests} deliveries came in {limit:?}",
                self.requests()
            );
            sleep(Duration::from_millis(1)).await;
        }
        Ok(())
    }
}

async fn serve(mut stream: TcpStream, seen: &Seen, work: Duration) -> std::io::Result<()> {
    const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n";
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(8192);
    loop {
        let (head, length) = loop {
            if let Some(head) = head_of(&buffer) {
                break head;
            }
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        };
        while buffer.len() < head + length {
            if stream.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
        }
        let body = Bytes::copy_from_slice(&buffer[head..head + length]);
        *seen.last_body.lock().unwrap_or_else(PoisonError::into_inner) = body;
        buffer.drain(..head + length);
        if !work.is_zero() {
            sleep(work).await;
        }
        stream.write_all(ANSWER).await?;
        seen.requests.fetch_add(1, Ordering::Relaxed);
    }
}

/// Where the body begins and how long it is, once the head is there.
fn head_of(buffer: &[u8]) -> Option<(usize, usize)> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = std::str::from_utf8(&buffer[..end]).ok()?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    });
    Some((end, length.unwrap_or(0)))
}

/// What bare POSTs cost.
pub struct Bare {
    /// Time for all.
    pub wall_seconds: f64,
    /// CPU time of the client's side, without the receiver.
    pub cpu_seconds: f64,
}

/// Sends `count` POSTs of what was last delivered, as a program would that does nothing else.
pub fn bare_posts(receiver: &Receiver, count: u64) -> anyhow::Result<Bare> {
    let (body, url) = (receiver.last_body(), format!("{}/bare", receiver.origin));
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().tls_certs_only([]).build()?;
        // The connections are there before the clock runs.
        post_all(&client, &url, &body, 10 * AT_ONCE as u64).await?;
        let cpu = || anyhow::Ok(process_cpu("self")? - receiver.cpu_seconds()?);
        let (cpu_before, began) = (cpu()?, Instant::now());
        post_all(&client, &url, &body, count).await?;
        let wall_seconds = began.elapsed().as_secs_f64();
        Ok(Bare { wall_seconds, cpu_seconds: cpu()? - cpu_before })
    })
}

async fn post_all(
    client: &reqwest::Client,
    url: &str,
    body: &Bytes,
    count: u64,
) -> anyhow::Result<()> {
    let left = Arc::new(AtomicU64::new(count));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, url, body, left) =
            (client.clone(), url.to_owned(), body.clone(), left.clone());
        tasks.spawn(async move {
            let take = |n: u64| n.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let post = client.post(&url).header("content-type", "application/json");
                post.body(body.clone()).send().await?.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(done) = tasks.join_next().await {
        done??;
    }
    Ok(())
}

/// The node's view of the receiver, to hold deliveries back and let them go.
pub struct Destination {
    id: String,
    token: String,
}

#[derive(Deserialize)]
struct Page {
    items: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    id: String,
    origin: String,
}

impl Destination {
    /// Finds the receiver among the tenant's destinations. The token must be an administrator's.
    ///
    /// # Errors
    /// When the node does not list it.
    pub async fn find(node: &mut Connection, token: &str, origin: &str) -> anyhow::Result<Self> {
        let path = "/v1/codeq/admin/webhook-destinations?limit=1000";
        let answer = node.call("GET", path, token, b"").await?;
        ensure!(answer.status == 200, "{path} answers {}", answer.status);
        let page: Page = serde_json::from_slice(answer.body)?;
        let row = page.items.into_iter().find(|row| row.origin == origin);
        let row = row.context("the node does not list the receiver among its destinations")?;
        Ok(Self { id: row.id, token: token.to_owned() })
    }

    /// Holds deliveries back, until every node knows.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn pause(&self, node: &mut Connection) -> anyhow::Result<()> {
        self.steer(node, "pause").await?;
        sleep(ALL_HAVE_SEEN).await;
        Ok(())
    }

    /// Lets them go.
    ///
    /// # Errors
    /// When the node refuses.
    pub async fn resume(&self, node: &mut Connection) -> anyhow::Result<()> {
        self.steer(node, "resume").await
    }

    async fn steer(&self, node: &mut Connection, what: &str) -> anyhow::Result<()> {
        let path = format!("/v1/codeq/admin/webhook-destinations/{}/{what}", self.id);
        let answer = node.call("POST", &path, &self.token, b"").await?;
        ensure!(answer.status == 200, "{path} answers {}", answer.status);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_posts_reuse_their_connections_and_cost_time() {
        let receiver = Receiver::start(Duration::ZERO).unwrap();
        let bare = bare_posts(&receiver, 200).unwrap();
        assert_eq!(receiver.requests(), 200 + 10 * AT_ONCE as u64);
        // One that is just being given back is not found by the next.
        assert!(receiver.connections() <= 2 * AT_ONCE, "{}", receiver.connections());
        assert!(bare.wall_seconds > 0.0);
    }

    #[test]
    fn a_head_is_read_once_it_is_whole() {
        assert_eq!(head_of(b"POST / HTTP/1.1\r\nContent-Length: 3\r\n"), None);
        let text = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert_eq!(head_of(text), Some((text.len() - 3, 3)));
        assert_eq!(head_of(b"GET / HTTP/1.1\r\n\r\n"), Some((18, 0)));
    }
}
