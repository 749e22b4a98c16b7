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

#[cfg(test)]
mod tests {
    use tokio::time::{advance, timeout};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace() -> Pace {
        Pace::new(ServerLimits::default())
    }

    /// What the watch finds, and after how many seconds.
    async fn found(pace: &Pace) -> (Late, u64) {
        let began = Instant::now();
        (pace.watch().await, began.elapsed().as_secs())
    }

    async fn nothing_within(pace: &Pace, seconds: u32) {
        assert!(timeout(SECOND * seconds, pace.watch()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_has_ten_seconds_from_its_first_byte() {
        let silent = pace();
        assert_eq!(found(&silent).await, (Late::Header, 10));
        let slow = pace();
        advance(SECOND * 9).await;
        slow.received(b"G");
        advance(SECOND * 9).await;
        slow.received(b"E");
        assert_eq!(found(&slow).await, (Late::Header, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_has_thirty_seconds_from_its_first_byte() {
        let pace = pace();
        pace.received(b"P");
        let first_byte = Instant::now();
        advance(SECOND * 9).await;
        assert_eq!(pace.begun(), first_byte + SECOND * 30);
        pace.ended();
        advance(SECOND).await;
        assert_eq!(pace.begun(), Instant::now() + SECOND * 30, "it came with the one before");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_is_not_idle_and_idle_is_not_a_header() {
        let pace = pace();
        pace.received(b"GET / HTTP/1.1\r\n\r\n");
        pace.begun();
        nothing_within(&pace, 60).await;
        pace.sent();
        pace.ended();
        assert_eq!(found(&pace).await, (Late::Idle, 120));
        assert_eq!(found(&pace).await, (Late::Closing, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn a_header_that_begins_while_the_watch_sleeps_is_found_in_time() {
        let pace = pace();
        pace.received(b"x");
        pace.begun();
        pace.ended();
        let began = async {
            tokio::time::sleep(SECOND * 13).await;
            pace.received(b"G");
        };
        let (found, ()) = tokio::join!(found(&pace), began);
        assert_eq!(found, (Late::Header, 23));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_nobody_reads_is_given_up() {
        let pace = pace();
        pace.received(b"x");
        pace.begun();
        assert_eq!(found(&pace).await, (Late::Closing, 120));
    }

    #[tokio::test(start_paused = true)]
    async fn http2_is_known_by_its_preface_however_it_is_cut() {
        for size in [1, 3, 24] {
            let pace = pace();
            for piece in HTTP2_PREFACE.chunks(size) {
                pace.received(piece);
            }
            pace.received(b"\0\0\0");
            assert_eq!(found(&pace).await, (Late::Idle, 120), "{size}");
        }
        let other = pace();
        other.received(b"PRI * HTTP/1.0");
        assert_eq!(found(&other).await, (Late::Header, 10));
    }

    #[tokio::test(start_paused = true)]
    async fn an_http2_connection_with_one_stream_left_is_not_idle() {
        let pace = pace();
        pace.received(HTTP2_PREFACE);
        pace.begun();
        pace.begun();
        pace.ended();
        nothing_within(&pace, 60).await;
        pace.ended();
        assert_eq!(found(&pace).await, (Late::Idle, 120));
        pace.begun();
        nothing_within(&pace, 60).await;
    }
}
