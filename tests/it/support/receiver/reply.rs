//! What a receiver does with a request.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep;

use super::Request;

/// Between two bytes of an answer that drips.
const DRIP: Duration = Duration::from_millis(200);

/// One answer, or what comes in place of it.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A status without headers and body.
    Status(u16),
    /// A status, headers of its own, a body.
    Full { status: u16, headers: Vec<(&'static str, String)>, body: Bytes },
    /// 200 after so long.
    Slow(Duration),
    /// Nothing, and the connection stays.
    Hang,
    /// The connection is reset.
    Close,
    /// 200, a byte every 200 ms from the first: the status line alone takes seconds.
    Drip,
    /// 200 at once, then a byte of its body every 200 ms, without end.
    DripBody,
    /// 200 at once, then a body without end as fast as it is read.
    Endless,
    /// These bytes.
    Bytes(Bytes, After),
}

/// What becomes of a connection after `Reply::Bytes`.
#[derive(Clone, Copy, Debug)]
pub enum After {
    /// The next request may come.
    Keep,
    /// An orderly end.
    Close,
    /// A reset.
    Reset,
}

impl Reply {
    /// 200.
    pub const OK: Self = Self::Status(200);

    /// 429 that asks for a pause.
    pub fn too_many(retry_after: &str) -> Self {
        Self::with(429, "Retry-After", retry_after)
    }

    /// A redirect, as 301, 302, 303, 307, 308.
    pub fn redirect(status: u16, location: &str) -> Self {
        Self::with(status, "Location", location)
    }

    /// A refusal that asks never to be sent this again.
    pub fn abort() -> Self {
        Self::with(400, "webhook-delivery", "abort-message")
    }

    /// A status with one header.
    pub fn with(status: u16, name: &'static str, value: &str) -> Self {
        Self::Full { status, headers: vec![(name, value.to_owned())], body: Bytes::new() }
    }

    /// Sends it, and says the status once it is on its way. Whether the connection can take the
    /// next request.
    pub(super) async fn send(self, stream: &mut TcpStream, said: impl FnOnce(u16)) -> bool {
        self.try_send(stream, said).await.unwrap_or(false)
    }

    async fn try_send(self, stream: &mut TcpStream, said: impl FnOnce(u16)) -> io::Result<bool> {
        match self {
            Self::Status(status) => whole(stream, status, &[], b"", said).await?,
            Self::Full { status, headers, body } => {
                whole(stream, status, &headers, &body, said).await?;
            }
            Self::Slow(time) => {
                sleep(time).await;
                whole(stream, 200, &[], b"", said).await?;
            }
            Self::Hang => {
                // Until the other side gives up; a reset from here would be another failure.
                while stream.read(&mut [0; 1024]).await? > 0 {}
                return Ok(false);
            }
            Self::Close => return Ok(false),
            Self::Drip => {
                drip(stream, &head(200, &[], Some(0))).await?;
                said(200);
            }
            Self::DripBody => {
                stream.write_all(&head(200, &[], None)).await?;
                said(200);
                loop {
                    drip(stream, b".").await?;
                }
            }
            Self::Endless => {
                stream.write_all(&head(200, &[], None)).await?;
                said(200);
                loop {
                    stream.write_all(&[b'.'; 16 * 1024]).await?;
                }
            }
            Self::Bytes(bytes, after) => return send_bytes(stream, &bytes, after, said).await,
        }
        Ok(true)
    }
}

/// Replies at random, each as often as its weight says; the same ones for the same seed.
pub fn mix(seed: u64, replies: Vec<(u32, Reply)>) -> impl FnMut(&Request) -> Reply + Send {
    let mut chance = StdRng::seed_from_u64(seed);
    let all: u32 = replies.iter().map(|(weight, _)| weight).sum();
    move |_| {
        let mut left = chance.random_range(0..all);
        let drawn = replies.iter().find(|(weight, _)| match left.checked_sub(*weight) {
            Some(less) => {
                left = less;
                false
            }
            None => true,
        });
        drawn.expect("the weights add up to `all`").1.clone()
    }
}

async fn whole(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &[u8],
    said: impl FnOnce(u16),
) -> io::Result<()> {
    let mut bytes = head(status, headers, Some(body.len()));
    bytes.extend(body);
    stream.write_all(&bytes).await?;
    said(status);
    Ok(())
}

async fn drip(stream: &mut TcpStream, bytes: &[u8]) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[*byte]).await?;
        sleep(DRIP).await;
    }
    Ok(())
}

async fn send_bytes(
    stream: &mut TcpStream,
    bytes: &[u8],
    after: After,
    said: impl FnOnce(u16),
) -> io::Result<bool> {
    stream.write_all(bytes).await?;
    let status = bytes.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    if let Some(status) = status {
        said(status);
    }
    match after {
        After::Keep => return Ok(true),
        After::Close => {
            stream.shutdown().await?;
            // The other side closes too, or the linger time of zero would make it a reset.
            while stream.read(&mut [0; 1024]).await? > 0 {}
        }
        // A reset must not overtake the bytes.
        After::Reset => sleep(Duration::from_millis(50)).await,
    }
    Ok(false)
}

/// A head; without a length the body ends with the connection.
fn head(status: u16, headers: &[(&'static str, String)], length: Option<usize>) -> Vec<u8> {
    let reason = http::StatusCode::from_u16(status).ok().and_then(|code| code.canonical_reason());
    let mut head = format!("HTTP/1.1 {status} {}\r\n", reason.unwrap_or("Odd"));
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    match length {
        Some(length) => head += &format!("Content-Length: {length}\r\n"),
        None => head += "Connection: close\r\n",
    }
    head += "\r\n";
    head.into_bytes()
}
