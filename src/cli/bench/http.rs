//! One keep-alive HTTP/1.1 connection, kept by hand.
//!
//! The generator shares its cores with the node it measures, so a call costs one write, one read
//! and a scan of the header. It understands what a codeq node answers (a `Content-Length` or no
//! body) and refuses the rest; it is no client for anything else.

use std::time::Duration;

use anyhow::{Context as _, bail};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use url::Url;

/// A call is given up after this long; the longest wait a call of ours asks for is far below.
const CALL_LIMIT: Duration = Duration::from_secs(30);
/// No answer is near this; a node that sends more is not one we know.
const ANSWER_LIMIT: usize = 64 << 20;

/// Where a connection leads.
#[derive(Clone, Debug)]
pub struct Target {
    address: String,
    prefix: String,
}

impl Target {
    /// Takes the host, port and path prefix of an `http://` URL.
    pub fn new(url: &Url) -> anyhow::Result<Self> {
        if url.scheme() != "http" {
            bail!("{url}: the generator speaks plain http only");
        }
        let host = url.host_str().with_context(|| format!("{url} names no host"))?;
        let port = url.port_or_known_default().unwrap_or(80);
        let prefix = url.path().trim_end_matches('/').to_owned();
        Ok(Self { address: format!("{host}:{port}"), prefix })
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer<'a> {
    /// The status code.
    pub status: u16,
    /// The body, empty when there is none.
    pub body: &'a [u8],
}

/// A connection that opens when first used and again after each failure.
pub struct Connection {
    target: Target,
    stream: Option<TcpStream>,
    request: Vec<u8>,
    answer: Vec<u8>,
}

impl Connection {
    /// Opens nothing yet.
    pub fn new(target: Target) -> Self {
        Self { target, stream: None, request: Vec::new(), answer: Vec::new() }
    }

    /// Sends one request and reads its answer.
    ///
    /// An error means that it is not known whether the node has done it; the connection is closed
    /// then, and the next call opens another.
    pub async fn call(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &[u8],
    ) -> anyhow::Result<Answer<'_>> {
        let done = tokio::time::timeout(CALL_LIMIT, self.exchange(method, path, token, body)).await;
        let head = match done.unwrap_or_else(|_| bail!("no answer within {CALL_LIMIT:?}")) {
            Ok(head) => head,
            Err(error) => {
                self.stream = None;
                return Err(error.context(format!("{method} {path} at {}", self.target.address)));
            }
        };
        if head.closes {
            self.stream = None;
        }
        Ok(Answer { status: head.status, body: &self.answer[head.length..][..head.body] })
    }

    async fn exchange(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        body: &[u8],
    ) -> anyhow::Result<Head> {
        use std::io::Write as _;
        let Self { target, stream, request, answer } = self;
        request.clear();
        write!(
            request,
            "{method} {}{path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {token}\r\n\
             Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n",
            target.prefix,
            target.address,
            body.len()
        )?;
        request.extend_from_slice(body);
        let stream = match stream {
            Some(stream) => stream,
            None => {
                let opened = TcpStream::connect(&target.address).await?;
                opened.set_nodelay(true)?;
                stream.insert(opened)
            }
        };
        stream.write_all(request).await?;
        answer.clear();
        let mut head = None;
        loop {
            if head.is_none() {
                head = Head::parse(answer)?;
            }
            match head {
                Some(head) if answer.len() >= head.length + head.body => return Ok(head),
                _ if answer.len() > ANSWER_LIMIT => bail!("an answer above {ANSWER_LIMIT} bytes"),
                _ => {}
            }
            if stream.read_buf(answer).await? == 0 {
                bail!("the connection closed before the answer was complete");
            }
        }
    }
}

/// What the generator needs of a response header.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Head {
    status: u16,
    /// Bytes of the header, its blank line included.
    length: usize,
    /// Bytes of the body.
    body: usize,
    closes: bool,
}

impl Head {
    /// `None` while the header is not complete.
    fn parse(bytes: &[u8]) -> anyhow::Result<Option<Self>> {
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = std::str::from_utf8(&bytes[..end]).context("a header that is not text")?;
        let mut lines = text.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = match first.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)) {
            Some(digits) => digits.parse().with_context(|| format!("not a status: {first:?}"))?,
            None => bail!("not an HTTP/1.1 answer: {first:?}"),
        };
        let mut head = Self { status, length: end + 4, body: 0, closes: false };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if name.eq_ignore_ascii_case("content-length") {
                head.body = value.parse().with_context(|| format!("Content-Length {value:?}"))?;
            } else if name.eq_ignore_ascii_case("connection") {
                head.closes = value.eq_ignore_ascii_case("close");
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                bail!("an answer in chunks: the generator reads Content-Length only");
            }
        }
        Ok(Some(head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::TcpListener;

    #[test]
    fn a_header_is_read_only_when_it_is_complete() {
        assert_eq!(Head::parse(b"HTTP/1.1 200 OK\r\ncontent-le").unwrap(), None);
        let head = Head::parse(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel").unwrap();
        assert_eq!(head, Some(Head { status: 200, length: 38, body: 5, closes: false }));
    }

    #[test]
    fn an_answer_in_chunks_is_refused_rather_than_misread() {
        let chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert!(Head::parse(chunked).is_err());
    }

    #[tokio::test]
    async fn a_connection_is_used_again_until_the_server_closes_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = Url::parse(&format!("http://{}", listener.local_addr().unwrap())).unwrap();
        let server = tokio::spawn(async move {
            let mut accepted = 0;
            for answers in [2, 1] {
                let (mut stream, _) = listener.accept().await.unwrap();
                accepted += 1;
                for left in (0..answers).rev() {
                    let mut seen = Vec::new();
                    while !seen.ends_with(b"body") {
                        stream.read_buf(&mut seen).await.unwrap();
                    }
                    let close = if left == 0 { "Connection: close\r\n" } else { "" };
                    let text = format!("HTTP/1.1 200 OK\r\n{close}Content-Length: 2\r\n\r\nok");
                    stream.write_all(text.as_bytes()).await.unwrap();
                }
            }
            accepted
        });
        let mut connection = Connection::new(Target::new(&url).unwrap());
        for _ in 0..3 {
            let answer = connection.call("POST", "/x", "t", b"body").await.unwrap();
            assert_eq!((answer.status, answer.body), (200, &b"ok"[..]));
        }
        assert_eq!(server.await.unwrap(), 2);
    }
}
