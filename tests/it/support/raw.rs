//! HTTP as bytes on a connection, for what no client library would send.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// One connection.
pub struct Raw(TcpStream);

impl Raw {
    /// Connects to an origin as `http://127.0.0.1:1234`.
    pub async fn to(origin: &str) -> Self {
        let address = origin.strip_prefix("http://").unwrap();
        Self(TcpStream::connect(address).await.unwrap())
    }

    pub async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    /// Everything until the other side closes. Panics after a minute: a body may take half of it.
    pub async fn rest(&mut self) -> String {
        let mut bytes = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(60), self.0.read_to_end(&mut bytes));
        let _ = read.await.expect("the connection closes");
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// The head of an answer, up to its empty line.
    pub async fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let byte = tokio::time::timeout(Duration::from_secs(30), self.0.read_u8());
            bytes.push(byte.await.expect("an answer comes").expect("the connection stays"));
        }
        String::from_utf8(bytes).unwrap()
    }
}
