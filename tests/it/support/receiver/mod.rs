//! A receiver of webhooks: takes every request down, answers as it is told, and can be away.
//!
//! It reads HTTP/1.1 off the socket itself, because half of what a receiver does wrong (answer
//! byte by byte, reset, never end) is what a server library keeps one from doing.

mod reply;
mod request;
#[cfg(test)]
mod tests;

pub use reply::{After, Reply, mix};
pub use request::{Keys, Request};

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Longer than anything a test waits for that does not have to wait.
const PATIENCE: Duration = Duration::from_secs(30);
/// Above it a request is none of ours.
const LARGEST: usize = 8 << 20;

/// Listens on a loopback address of its own. Away when dropped.
pub struct Receiver {
    address: SocketAddr,
    shared: Arc<Shared>,
    server: Option<JoinHandle<()>>,
}

/// Every request that came, in the order of arrival, and how each next one is answered.
struct Shared {
    requests: Mutex<Vec<Request>>,
    behaviour: Mutex<Behaviour>,
    connections: AtomicUsize,
    /// Counts the changes of `requests`.
    changed: watch::Sender<usize>,
}

type Behaviour = Box<dyn FnMut(&Request) -> Reply + Send>;

impl Receiver {
    /// Listens on 127.0.0.1 and answers 200.
    pub async fn start() -> Self {
        Self::on("127.0.0.1").await
    }

    /// Listens on this loopback address, as `127.9.0.1`: another one is another host.
    pub async fn on(host: &str) -> Self {
        let listener = listen_on(host).await;
        let shared = Arc::new(Shared {
            requests: Mutex::default(),
            behaviour: Mutex::new(Box::new(|_| Reply::OK)),
            connections: AtomicUsize::new(0),
            changed: watch::Sender::new(0),
        });
        let address = listener.local_addr().unwrap();
        let server = Some(tokio::spawn(serve(listener, shared.clone())));
        Self { address, shared, server }
    }

    /// `http://127.0.0.1:1234`
    pub fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Where tasks send their webhooks.
    pub fn url(&self) -> String {
        format!("{}/hook", self.origin())
    }

    /// From now on every request is answered so.
    pub fn answers(&self, reply: Reply) {
        self.answers_by(move |_| reply.clone());
    }

    /// From now on each request is answered as this says.
    pub fn answers_by(&self, behaviour: impl FnMut(&Request) -> Reply + Send + 'static) {
        *self.shared.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// Goes away: connections are reset, new ones refused. What came stays known.
    pub async fn leave(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
            let _ = server.await;
        }
    }

    /// Listens again at the same address.
    pub async fn come_back(&mut self) {
        assert!(self.server.is_none(), "it is there");
        let listener = super::eventually("the address is free", || async {
            TcpListener::bind(self.address).await.ok()
        })
        .await;
        self.server = Some(tokio::spawn(serve(listener, self.shared.clone())));
    }

    /// What came so far.
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests().clone()
    }

    /// How many requests came so far.
    pub fn count(&self) -> usize {
        self.shared.requests().len()
    }

    /// How many different connections brought them.
    pub fn connections(&self) -> usize {
        let requests = self.shared.requests();
        requests.iter().map(|request| request.connection).collect::<BTreeSet<_>>().len()
    }

    /// Looks at what was accepted from the `start`-th request on; where to go on: after the last
    /// one before which all are answered or over.
    pub fn accepted_since(&self, start: usize, mut look: impl FnMut(&Request)) -> usize {
        let requests = self.shared.requests();
        let (mut next, mut settled) = (start, true);
        for request in &requests[start..] {
            if request.is_accepted() {
                look(request);
            }
            settled &= request.answered.is_some() || request.is_over;
            next += usize::from(settled);
        }
        next
    }

    /// What came so far by `webhook-id`, each in the order of arrival.
    pub fn deliveries(&self) -> BTreeMap<String, Vec<Request>> {
        let mut deliveries = BTreeMap::<_, Vec<_>>::new();
        for request in self.requests() {
            deliveries.entry(request.webhook_id().to_owned()).or_default().push(request);
        }
        deliveries
    }

    /// Waits until so many requests have come; these.
    pub async fn until_count(&self, count: usize) -> Vec<Request> {
        self.until(&format!("{count} requests"), |requests| requests.len() >= count).await;
        self.requests()
    }

    /// Waits until what came is such. Panics with `what` after half a minute.
    pub async fn until(&self, what: &str, such: impl FnMut(&[Request]) -> bool) {
        self.until_within(PATIENCE, what, such).await;
    }

    /// As `until`, with another patience.
    pub async fn until_within(
        &self,
        patience: Duration,
        what: &str,
        mut such: impl FnMut(&[Request]) -> bool,
    ) {
        let mut changed = self.shared.changed.subscribe();
        let found = tokio::time::timeout(patience, async {
            while !such(&self.shared.requests()) {
                changed.changed().await.expect("the sender is ours");
                // One look for all that comes at once, or thousands are looked at thousands of times.
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        if found.await.is_err() {
            panic!("not within {patience:?}: {what}; {} requests came", self.count());
        }
    }

    /// Waits until somebody holds so many connections open here; `0`: all are gone.
    pub async fn until_connected(&self, count: usize) {
        super::eventually(&format!("{count} connections are open"), || async {
            (self.shared.connections.load(Ordering::Relaxed) == count).then_some(())
        })
        .await;
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

impl Shared {
    fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }

    /// Takes a request down; its place in the list, and what it gets.
    fn arrived(&self, request: Request) -> (usize, Reply) {
        let reply = (self.behaviour.lock().unwrap())(&request);
        let mut requests = self.requests();
        requests.push(request);
        let place = requests.len() - 1;
        drop(requests);
        self.changed.send_modify(|changes| *changes += 1);
        (place, reply)
    }

    fn answered(&self, place: usize, status: u16) {
        self.requests()[place].answered = Some(status);
        self.changed.send_modify(|changes| *changes += 1);
    }
}

/// A port outside of the range from which outgoing connections take theirs: none of them may sit
/// on it while the receiver is away.
async fn listen_on(host: &str) -> TcpListener {
    for _ in 0..1000 {
        let port: u16 = rand::random_range(10_000..20_000);
        if let Ok(listener) = TcpListener::bind((host, port)).await {
            return listener;
        }
    }
    panic!("no free port on {host}");
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    // Ends with this task: whoever is connected is reset when the receiver leaves.
    let mut connections = JoinSet::new();
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            // A peer that was killed, or no descriptor left for a moment.
            Err(_) => {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            }
        };
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let shared = shared.clone();
        connections.spawn(async move {
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let _open = Open(&shared.connections);
            attend(stream, number, &shared).await;
        });
        while connections.try_join_next().is_some() {}
    }
}

/// One connection, counted while it is open.
struct Open<'a>(&'a AtomicUsize);

impl Drop for Open<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A request in hand: over when it is answered, also when the receiver leaves meanwhile.
struct Taken<'a>(&'a Shared, usize);

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        self.0.requests()[self.1].is_over = true;
    }
}

/// Reads and answers request after request, until either side has had enough.
async fn attend(mut stream: TcpStream, number: usize, shared: &Shared) {
    // Told before the first answer: a receiver that leaves resets, whatever is on its way.
    let _ = stream.set_zero_linger();
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(8 * 1024);
    while let Some((head, body)) = read(&mut stream, &mut buffer).await {
        let (place, reply) = shared.arrived(Request::now(head, body, number));
        let _taken = Taken(shared, place);
        if !reply.send(&mut stream, |status| shared.answered(place, status)).await {
            return;
        }
    }
}

/// The next request of a connection: head with its empty line, and body.
async fn read(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<(Bytes, Bytes)> {
    let head = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
        more(stream, buffer).await?;
    };
    let head = buffer.split_to(head).freeze();
    let length = request::header_of(&head, "content-length");
    let length: usize = length.map_or(0, |length| length.parse().expect("a length"));
    assert!(request::header_of(&head, "transfer-encoding").is_none(), "deliveries have a length");
    while buffer.len() < length {
        more(stream, buffer).await?;
    }
    let body = buffer.copy_to_bytes(length);
    Some((head, body))
}

async fn more(stream: &mut TcpStream, buffer: &mut BytesMut) -> Option<()> {
    assert!(buffer.len() <= LARGEST, "a request without end");
    buffer.reserve(4 * 1024);
    (stream.read_buf(buffer).await.ok()? > 0).then_some(())
}
