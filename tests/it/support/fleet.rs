//! Several nodes on one Redis that come back at the same address, and callers that go on at
//! another node when one does not answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::client::{Answer, Call, Client};
use super::node::{Node, Settings};

/// Nodes with the same settings, each at a port of its own.
pub struct Fleet {
    settings: Settings,
    ports: Vec<u16>,
    nodes: Vec<Node>,
}

impl Fleet {
    /// Starts so many nodes.
    pub async fn start(settings: Settings, size: usize) -> Self {
        let mut fleet = Self { settings, ports: Vec::new(), nodes: Vec::new() };
        for _ in 0..size {
            let port = free_port();
            fleet.ports.push(port);
            let node = fleet.at(port).start().await;
            fleet.nodes.push(node);
        }
        fleet
    }

    fn at(&self, port: u16) -> Settings {
        self.settings.clone().set("PORT", &port.to_string())
    }

    pub fn node(&self, index: usize) -> &Node {
        &self.nodes[index]
    }

    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub fn node_mut(&mut self, index: usize) -> &mut Node {
        &mut self.nodes[index]
    }

    /// `http://127.0.0.1:1234` of each.
    pub fn origins(&self) -> Vec<String> {
        self.nodes.iter().map(|node| node.anyone().origin).collect()
    }

    /// Kills a node as a crash would, and starts it again at the same port. It listens when this
    /// returns; whether it is ready depends on Redis.
    pub async fn crash(&mut self, index: usize) {
        self.nodes[index].kill();
        self.nodes[index] = self.at(self.ports[index]).launch().await;
    }

    /// Callers with this token.
    pub fn callers(&self, token: &str) -> Callers {
        let clients = self.nodes.iter().map(|node| node.token(token)).collect();
        Callers { clients, next: Arc::default() }
    }

    /// Waits until every node takes requests.
    pub async fn until_ready(&self) {
        for node in &self.nodes {
            node.until_ready().await;
        }
    }
}

/// A port that nobody has, outside of the range from which outgoing connections take theirs.
fn free_port() -> u16 {
    loop {
        let port = rand::random_range(20_000..32_000);
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// One caller who knows several nodes.
#[derive(Clone)]
pub struct Callers {
    clients: Vec<Client>,
    next: Arc<AtomicUsize>,
}

/// Longer than any call that does not wait.
const CALL: Duration = Duration::from_secs(8);
/// After it a fleet that answers nothing is broken.
const PATIENCE: Duration = Duration::from_secs(25);

impl Callers {
    /// Each node in turn.
    pub fn any(&self) -> &Client {
        let next = self.next.fetch_add(1, Ordering::Relaxed);
        &self.clients[next % self.clients.len()]
    }

    /// Calls the next node once; `None` when it gave no answer or said "not now".
    pub async fn attempt(&self, call: impl Fn(&Client) -> Call) -> Option<Answer> {
        let answer = timeout(CALL, call(self.any()).sent()).await.ok()?.ok()?;
        (!matches!(answer.status, 408 | 429 | 503)).then_some(answer)
    }

    /// Repeats a call, at the next node each time, until one answers.
    pub async fn insist(&self, call: impl Fn(&Client) -> Call) -> Answer {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = self.attempt(&call).await {
                return answer;
            }
            assert!(Instant::now() < end, "no node answers");
            sleep(Duration::from_millis(20)).await;
        }
    }
}
