//! What the tests of this room share: settings, receivers on loopback, names of their own.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::{Attempt, Egress, Lookup, LookupFuture, Target};
use crate::config::{Settings, Webhook};

/// The defaults of production: no private networks. Short times.
pub fn settings() -> Webhook {
    Webhook {
        allow_private_networks: false,
        timeout: Duration::from_secs(5),
        connect_timeout: Duration::from_secs(5),
        ..Settings::defaults().webhook
    }
}

/// With 127.0.0.1, where the receivers are, playing a part of the open network.
pub fn settings_with_receivers() -> Webhook {
    Webhook { allow_cidrs: vec!["127.0.0.1/32".parse().unwrap()], ..settings() }
}

/// Names that a test knows. Each look-up of a name takes the next of its answers; the last one
/// stays.
#[derive(Default)]
pub struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    looked_up: AtomicUsize,
}

impl Names {
    pub fn of(names: &[(&str, &[&[&str]])]) -> Arc<Self> {
        let parsed = |answer: &&[&str]| answer.iter().map(|ip| ip.parse().unwrap()).collect();
        let answers = names
            .iter()
            .map(|(name, answers)| ((*name).to_owned(), answers.iter().map(parsed).collect()))
            .collect();
        Arc::new(Self { answers: Mutex::new(answers), looked_up: AtomicUsize::new(0) })
    }

    pub fn look_ups(&self) -> usize {
        self.looked_up.load(Ordering::SeqCst)
    }
}

impl Lookup for Names {
    fn lookup(&self, name: &str) -> LookupFuture {
        self.looked_up.fetch_add(1, Ordering::SeqCst);
        let mut known = self.answers.lock().unwrap();
        let answer = known.get_mut(name).map(|answers| match answers.len() {
            1 => answers[0].clone(),
            _ => answers.remove(0),
        });
        Box::pin(async { answer.ok_or_else(|| io::Error::other("no such name")) })
    }
}

/// Something that listens on 127.0.0.1 and counts.
pub struct Receiver {
    pub address: SocketAddr,
    seen: Arc<Seen>,
    accepting: tokio::task::JoinHandle<()>,
}

/// What arrived.
#[derive(Default)]
pub struct Seen {
    connections: AtomicUsize,
    requests: Mutex<Vec<String>>,
}

impl Seen {
    /// Reads the next request whole and keeps it; its first line and headers. `None` at the end.
    pub async fn request(&self, stream: &mut (impl AsyncRead + Unpin)) -> Option<String> {
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            text.push(stream.read_u8().await.ok()?);
        }
        let head = String::from_utf8(text).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        stream.read_exact(&mut body).await.ok()?;
        self.requests.lock().unwrap().push(head.clone());
        Some(head)
    }
}

impl Receiver {
    /// Serves each connection with `serve`.
    pub async fn serving<F, R>(serve: F) -> Self
    where
        F: Fn(TcpStream, Arc<Seen>) -> R + Send + 'static,
        R: Future<Output = Option<()>> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Seen::default());
        let counted = seen.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counted.connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream, counted.clone()));
            }
        });
        Self { address, seen, accepting }
    }

    /// Answers every request with these bytes, and goes on.
    pub async fn answering(answer: impl Into<Vec<u8>>) -> Self {
        let answer = Arc::new(answer.into());
        Self::serving(move |mut stream, seen| {
            let answer = answer.clone();
            async move {
                loop {
                    seen.request(&mut stream).await?;
                    stream.write_all(&answer).await.ok()?;
                }
            }
        })
        .await
    }

    /// Answers 200, shortly.
    pub async fn glad() -> Self {
        Self::answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await
    }

    /// A URL of it under some host.
    pub fn url(&self, host: &str) -> String {
        format!("http://{host}:{}/hook?token=secret", self.address.port())
    }

    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    pub fn requests(&self) -> Vec<String> {
        self.seen.requests.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// Sends a small body to a URL that was accepted some time ago.
pub async fn send(egress: &Egress, url: &str) -> Attempt {
    let target = Target::parse_stored(url).unwrap();
    egress.post(&target, HeaderMap::new(), Bytes::from_static(b"{}")).await
}
