//! A real S3-compatible server of a test's own, and a door before it that can be shut.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::client::plain;
use super::node::Settings;
use super::process::Process;

/// The bucket that there is.
const BUCKET: &str = "artifacts";
/// Objects are not for everybody; the server looks at the form of a signature only.
const SOMEBODY: &str = "AWS4-HMAC-SHA256 Credential=the-key-id/20260101/us-east-1/s3/aws4_request, \
                        SignedHeaders=host, Signature=0";

/// A `moto_server` with one empty bucket.
pub struct S3 {
    _server: Process,
    address: SocketAddr,
    http: reqwest::Client,
}

impl S3 {
    /// Starts one on a free port.
    pub async fn start() -> Self {
        let mut command = Command::new("moto_server");
        command
            .args(["-H", "127.0.0.1", "-p", "0"])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let found = std::env::var_os("PATH").is_some_and(|path| {
            std::env::split_paths(&path).any(|d| d.join("moto_server").exists())
        });
        assert!(found, "moto_server is not on the PATH: `make tools` installs it into .tools/bin");
        let mut server = Process::start(&mut command);
        let said = server.child().stderr.take().unwrap();
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut tell = Some(tell);
            // Read to the end, or the server would block on a full pipe.
            for line in BufReader::new(said).lines().map_while(Result::ok) {
                let address = line.split_once("http://").and_then(|(_, at)| at.trim().parse().ok());
                if let (Some(address), Some(tell)) = (address, tell.take_if(|_| address.is_some()))
                {
                    let _ = tell.send(address);
                }
            }
        });
        let address = tokio::time::timeout(Duration::from_secs(60), told).await;
        let address = address.expect("moto_server starts within a minute").unwrap();
        let s3 = Self { _server: server, address, http: plain().build().unwrap() };
        let made = s3.http.put(s3.url("")).send().await.unwrap();
        assert!(made.status().is_success(), "{made:?}");
        s3
    }

    fn url(&self, rest: &str) -> String {
        format!("http://{}/{BUCKET}{rest}", self.address)
    }

    /// As a node is told: it stores below `s3://artifacts/kept`.
    pub fn settings(&self, settings: Settings) -> Settings {
        at(settings, self.address)
    }

    /// The keys of all objects, sorted.
    pub async fn keys(&self) -> Vec<String> {
        let listed = self.http.get(self.url("?list-type=2")).send().await.unwrap();
        let listed = listed.text().await.unwrap();
        let mut keys: Vec<_> = listed
            .split("<Key>")
            .skip(1)
            .map(|rest| rest.split("</Key>").next().unwrap().to_owned())
            .collect();
        keys.sort();
        keys
    }

    /// Type and bytes of the object that a URL `s3://artifacts/…` names.
    pub async fn object(&self, url: &str) -> (String, Vec<u8>) {
        let key = url.strip_prefix(&format!("s3://{BUCKET}/")).unwrap_or_else(|| panic!("{url}"));
        let call = self.http.get(self.url(&format!("/{key}")));
        let found = call.header("Authorization", SOMEBODY).send().await.unwrap();
        assert!(found.status().is_success(), "{url}: {found:?}");
        let kind = found.headers()["content-type"].to_str().unwrap().to_owned();
        (kind, found.bytes().await.unwrap().to_vec())
    }
}

fn at(settings: Settings, address: SocketAddr) -> Settings {
    settings
        .set("ARTIFACT_STORE", &format!("s3://{BUCKET}/kept"))
        .set("AWS_ENDPOINT", &format!("http://{address}"))
        .set("AWS_ALLOW_HTTP", "true")
        .set("AWS_REGION", "us-east-1")
        .set("AWS_ACCESS_KEY_ID", "the-key-id")
        .set("AWS_SECRET_ACCESS_KEY", "the-secret-key")
}

/// What a door does with those who come.
#[derive(Clone, Copy)]
#[repr(u8)]
pub enum Door {
    /// They go through.
    Open = 0,
    /// They are sent away.
    Shut = 1,
    /// They go in, and no answer comes out before it is open.
    Silent = 2,
}

/// A way to an [`S3`] that can fail.
pub struct Doorway {
    address: SocketAddr,
    state: Arc<AtomicU8>,
    server: JoinHandle<()>,
}

impl Doorway {
    /// Open at first.
    pub async fn before(s3: &S3) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::<AtomicU8>::default();
        let server = tokio::spawn(serve(listener, s3.address, state.clone()));
        Self { address, state, server }
    }

    /// From now on, for connections that there are too.
    pub fn is(&self, door: Door) {
        self.state.store(door as u8, Ordering::SeqCst);
    }

    /// As a node is told.
    pub fn settings(&self, settings: Settings) -> Settings {
        at(settings, self.address)
    }
}

impl Drop for Doorway {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, s3: SocketAddr, state: Arc<AtomicU8>) {
    let mut connections = JoinSet::new();
    while let Ok((node, _)) = listener.accept().await {
        let state = state.clone();
        connections.spawn(async move {
            let Ok(s3) = TcpStream::connect(s3).await else { return };
            let (from_node, to_node) = node.into_split();
            let (from_s3, to_s3) = s3.into_split();
            tokio::select! {
                () = pass(from_node, to_s3, &state, |door| door != Door::Shut as u8) => {}
                () = pass(from_s3, to_node, &state, |door| door == Door::Open as u8) => {}
            }
        });
    }
}

/// Passes pieces on when the door lets them; ends when it is shut.
async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    state: &AtomicU8,
    lets: impl Fn(u8) -> bool,
) {
    let mut piece = vec![0; 64 * 1024];
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        loop {
            match state.load(Ordering::SeqCst) {
                door if door == Door::Shut as u8 => return,
                door if lets(door) => break,
                _ => tokio::time::sleep(Duration::from_millis(5)).await,
            }
        }
        if to.write_all(&piece[..read]).await.is_err() {
            return;
        }
    }
}
