//! HTTP as bytes, since no client library would send these.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Duration;

/// Where to send to.
pub struct Wire(String);

/// What came back.
pub struct Got {
    pub status: u16,
    head: String,
    pub body: Vec<u8>,
}

/// A whole request on a connection of its own. `headers` are lines that end in CR LF.
pub fn request(method: &str, target: &[u8], headers: &[u8], body: &[u8]) -> Vec<u8> {
    let end = format!("content-length: {}\r\nconnection: close\r\n\r\n", body.len());
    let start = [method.as_bytes(), b" ", target, b" HTTP/1.1\r\nhost: x\r\n"].concat();
    [start.as_slice(), headers, end.as_bytes(), body].concat()
}

impl Wire {
    pub fn to(origin: &str) -> Self {
        Self(origin.strip_prefix("http://").unwrap().to_owned())
    }

    /// Opens a connection and sends the beginning of something.
    pub fn begin(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(&self.0).expect("the node listens");
        // A node may answer and close before it has read all: what it said is what counts.
        let _ = stream.write_all(bytes);
        stream
    }

    /// Sends a request and reads the answer, if there is one within `patience`.
    pub fn exchange(&self, bytes: &[u8], patience: Duration) -> Option<Got> {
        let mut stream = self.begin(bytes);
        stream.set_read_timeout(Some(patience)).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n")?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8(answer).expect("headers are ASCII").to_lowercase();
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Got { status, head, body })
    }
}

impl Got {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub fn text(&self) -> String {
        format!("{}{}", self.head, String::from_utf8_lossy(&self.body))
    }
}
