//! A bad network between nodes and Redis.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixStream};
use tokio::task::{JoinHandle, JoinSet};

use super::redis::Redis;

/// Takes TCP connections and passes them on to a Redis, replies not always.
pub struct Proxy {
    address: String,
    faults: Arc<Faults>,
    server: JoinHandle<()>,
}

/// What happens to pieces that Redis answers.
#[derive(Default)]
struct Faults {
    /// Mean distance of two faults, in pieces; 0: none.
    one_in: AtomicU32,
    happened: AtomicU32,
}

/// What happens to one piece.
enum Fault {
    /// The connection is cut before it: Redis has done the work, the node does not learn of it.
    Cut,
    /// From it on nothing comes any more, while the connection stays.
    Silence,
}

impl Faults {
    fn draw(&self) -> Option<Fault> {
        let one_in = self.one_in.load(Ordering::Relaxed);
        if one_in == 0 || rand::random_range(0..one_in) != 0 {
            return None;
        }
        let nth = self.happened.fetch_add(1, Ordering::Relaxed);
        Some(if nth % 4 == 3 { Fault::Silence } else { Fault::Cut })
    }
}

impl Proxy {
    /// Passes everything on, until it is told otherwise.
    pub async fn before(redis: &Redis) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let faults = Arc::<Faults>::default();
        let server = tokio::spawn(serve(listener, redis.socket(), faults.clone()));
        Self { address, faults, server }
    }

    /// As a node is told.
    pub fn url(&self) -> String {
        format!("redis://{}", self.address)
    }

    /// From now on one of so many pieces that Redis answers is lost, by a cut connection or by
    /// silence; 0: none.
    pub fn lose_one_in(&self, pieces: u32) {
        self.faults.one_in.store(pieces, Ordering::Relaxed);
    }

    /// How often something happened.
    pub fn happened(&self) -> u32 {
        self.faults.happened.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, redis: PathBuf, faults: Arc<Faults>) {
    let mut connections = JoinSet::new();
    while let Ok((node, _)) = listener.accept().await {
        let (redis, faults) = (redis.clone(), faults.clone());
        connections.spawn(async move {
            let Ok(redis) = UnixStream::connect(redis).await else { return };
            let (from_node, to_node) = node.into_split();
            let (from_redis, to_redis) = redis.into_split();
            // Either end closes both.
            tokio::select! {
                () = pass_on(from_node, to_redis) => {}
                () = answer(from_redis, to_node, &faults) => {}
            }
        });
    }
}

async fn pass_on(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

async fn answer(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    faults: &Faults,
) {
    let mut buffer = vec![0; 64 * 1024];
    let mut silent = false;
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if silent {
            continue;
        }
        match faults.draw() {
            Some(Fault::Cut) => return,
            Some(Fault::Silence) => silent = true,
            None if to.write_all(&buffer[..read]).await.is_err() => return,
            None => {}
        }
    }
}
