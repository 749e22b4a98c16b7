//! How far a connection's requests have come, and when that took too long.
//!
//! hyper has a header time-out of its own, but it also ends connections that are merely idle, says
//! nothing to the client, and does not cover a body.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::ServerLimits;

/// What an HTTP/2 client sends first.
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// One connection's progress.
#[derive(Debug)]
pub(super) struct Pace {
    limits: ServerLimits,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    phase: Phase,
    /// When bytes last went in or out, or a request began.
    moved: Instant,
    /// Requests being read or answered; HTTP/2 may have several.
    exchanges: usize,
    /// How much of the HTTP/2 preface was seen; `None` once it was something else.
    preface: Option<usize>,
    /// A request's body was not read to its end.
    unread: bool,
    /// A header took too long: the client is told, and nothing more is read.
    late: bool,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// Nothing of a request has arrived since then.
    Idle { since: Instant, is_first: bool },
    /// Part of a header has arrived.
    Header { since: Instant },
    /// At least one request is being read or answered.
    Exchange,
    /// Asked to close when it can.
    Closing { since: Instant },
}

/// What the watch found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Late {
    /// No complete header in time: answer `408` and close.
    Header,
    /// No request for long: close.
    Idle,
    /// An answer that nobody reads, or a client that does not let itself be closed: give up.
    Closing,
}

impl Pace {
    pub(super) fn new(limits: ServerLimits) -> Self {
        let moved = Instant::now();
        let phase = Phase::Idle { since: moved, is_first: true };
        let now = Now { phase, moved, exchanges: 0, preface: Some(0), unread: false, late: false };
        Self { limits, now: Mutex::new(now) }
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes came in.
    pub(super) fn received(&self, bytes: &[u8]) {
        let mut now = self.now();
        let is_http2 = now.sees_http2(bytes);
        now.moved = Instant::now();
        now.phase = match now.phase {
            // Between requests HTTP/2 sends frames that begin none.
            Phase::Idle { .. } | Phase::Header { .. } if is_http2 => {
                Phase::Idle { since: now.moved, is_first: false }
            }
            Phase::Idle { .. } if !bytes.is_empty() => Phase::Header { since: now.moved },
            phase => phase,
        };
    }

    /// Bytes went out.
    pub(super) fn sent(&self) {
        self.now().moved = Instant::now();
    }

    /// A header is complete. Returns until when the rest of the request must be there.
    pub(super) fn begun(&self) -> Instant {
        let mut now = self.now();
        let began = match now.phase {
            Phase::Header { since } => since,
            _ => Instant::now(),
        };
        now.moved = Instant::now();
        now.exchanges += 1;
        if !matches!(now.phase, Phase::Closing { .. }) {
            now.phase = Phase::Exchange;
        }
        began + self.limits.request
    }

    /// A request is answered, or its client is gone.
    pub(super) fn ended(&self) {
        let mut now = self.now();
        now.exchanges -= 1;
        if now.exchanges == 0 {
            let since = Instant::now();
            now.phase = match now.phase {
                Phase::Closing { .. } => Phase::Closing { since },
                _ => Phase::Idle { since, is_first: false },
            };
        }
    }

    /// A body was dropped before its end.
    pub(super) fn left_unread(&self) {
        self.now().unread = true;
    }

    pub(super) fn has_unread(&self) -> bool {
        self.now().unread
    }

    pub(super) fn give_up_reading(&self) {
        self.now().late = true;
    }

    pub(super) fn has_given_up(&self) -> bool {
        self.now().late
    }

    pub(super) fn linger(&self) -> Duration {
        self.limits.linger
    }

    /// Resolves when something took too long.
    pub(super) async fn watch(&self) -> Late {
        loop {
            let (at, late) = self.deadline();
            if at <= Instant::now() {
                self.now().phase = Phase::Closing { since: Instant::now() };
                return late;
            }
            // A deadline that comes up meanwhile lies behind this one, so that a request never has
            // to wake the watch.
            sleep_until(at.min(Instant::now() + self.limits.header)).await;
        }
    }

    fn deadline(&self) -> (Instant, Late) {
        let ServerLimits { header, idle, .. } = self.limits;
        let now = self.now();
        match now.phase {
            Phase::Idle { since, is_first: true } => (since + header, Late::Header),
            Phase::Idle { since, is_first: false } => (since + idle, Late::Idle),
            Phase::Header { since } => (since + header, Late::Header),
            // The longest wait is shorter, so here an answer is ready that nobody reads.
            Phase::Exchange => (now.moved + idle, Late::Closing),
            Phase::Closing { since } if now.exchanges == 0 => (since + header, Late::Closing),
            Phase::Closing { .. } => (now.moved + idle, Late::Closing),
        }
    }
}

impl Now {
    /// Whether this connection speaks HTTP/2, as far as its first bytes tell.
    fn sees_http2(&mut self, bytes: &[u8]) -> bool {
        let Some(seen) = self.preface else { return false };
        let rest = &HTTP2_PREFACE[seen..];
        let compared = rest.len().min(bytes.len());
        self.preface = (rest[..compared] == bytes[..compared]).then_some(seen + compared);
        self.preface == Some(HTTP2_PREFACE.len())
    }
}
