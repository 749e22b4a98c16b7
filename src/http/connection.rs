//! One connection: its bytes and its requests, as seen by its [`Pace`].

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Task, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Sleep, sleep};

use super::pace::Pace;
use super::{Error, RequestId, X_REQUEST_ID};

/// A socket that reports what arrives, and closes without cutting off its last answer.
pub(super) struct Socket {
    stream: TcpStream,
    pace: Arc<Pace>,
    lingering: Option<Pin<Box<Sleep>>>,
    said_late: bool,
}

impl Socket {
    pub(super) fn new(stream: TcpStream, pace: Arc<Pace>) -> Self {
        Self { stream, pace, lingering: None, said_late: false }
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.pace.has_given_up() {
            // hyper takes the end of the bytes for the client's, and closes without a word of its own.
            if !std::mem::replace(&mut self.said_late, true) {
                let _ = self.stream.try_write(&header_timeout());
            }
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(task, into))?;
        self.pace.received(&into.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write(task, bytes))?;
        self.pace.sent();
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = ready!(Pin::new(&mut self.stream).poll_write_vectored(task, bytes))?;
        self.pace.sent();
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Task<'_>) -> Poll<io::Result<()>> {
        ready!(Pin::new(&mut self.stream).poll_shutdown(task))?;
        if !self.pace.has_unread() {
            return Poll::Ready(Ok(()));
        }
        // Closing a socket with bytes unread resets it, and the client, still sending its large
        // body, would lose the answer that says so.
        let Self { stream, pace, lingering, .. } = &mut *self;
        let enough = lingering.get_or_insert_with(|| Box::pin(sleep(pace.linger())));
        let mut discarded = [0; 8192];
        while enough.as_mut().poll(task).is_pending() {
            let mut into = ReadBuf::new(&mut discarded);
            match ready!(Pin::new(&mut *stream).poll_read(task, &mut into)) {
                Ok(()) if !into.filled().is_empty() => {}
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// The `408` of a header that did not arrive; no request exists that could be answered otherwise.
fn header_timeout() -> Vec<u8> {
    let id = RequestId::generate();
    let json = serde_json::to_string(&Error::RequestTimeout.body(Some(id.as_str())))
        .expect("texts are JSON");
    let length = json.len();
    format!(
        "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-type: application/json\r\n\
         {X_REQUEST_ID}: {}\r\ncontent-length: {length}\r\n\r\n{json}",
        id.as_str()
    )
    .into_bytes()
}

/// A request that has begun, until it is dropped.
pub(super) struct Begun(pub Arc<Pace>);

impl Drop for Begun {
    fn drop(&mut self) {
        self.0.ended();
    }
}

/// An answer's body; while it lives, its request is not over.
pub(super) struct AnswerBody {
    pub body: axum::body::Body,
    pub _begun: Begun,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(task)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A request's body; dropped before its end, it says so.
pub(super) struct AskBody {
    pub body: hyper::body::Incoming,
    pub pace: Arc<Pace>,
    pub ended: bool,
}

impl Body for AskBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        task: &mut Task<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(task));
        self.ended |= frame.is_none();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for AskBody {
    fn drop(&mut self) {
        if !self.ended && !self.body.is_end_stream() {
            self.pace.left_unread();
        }
    }
}
