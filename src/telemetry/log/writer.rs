//! The way of a line to standard output: never in the way of the broker.
//!
//! A line is copied into a bounded buffer; one thread empties it. When nobody reads fast enough the
//! buffer is full, and further lines are dropped and counted.

use std::io::Write;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use prometheus::IntCounter;

use crate::telemetry::Waits;
use crate::telemetry::waits::Point;

/// Bytes that may wait for the reader.
const MOST_WAITING: usize = 4 * 1024 * 1024;

/// Lines that come together cost one wake-up and one write, which cost more than the lines do.
const GATHER: Duration = Duration::from_millis(2);

/// Takes lines without ever waiting for the reader. Cheap to clone.
#[derive(Clone)]
pub struct Sink(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    dropped: IntCounter,
    waits: Waits,
}

#[derive(Default)]
struct Waiting {
    bytes: Vec<u8>,
    /// The thread sleeps, so that a line has to wake it.
    idle: bool,
    closed: bool,
}

impl Sink {
    /// Starts the thread that writes to `out` until [`Sink::close`].
    pub fn start(mut out: impl Write + Send + 'static, dropped: IntCounter, waits: &Waits) -> Self {
        let (waiting, changed, waits) = (Mutex::default(), Condvar::new(), waits.clone());
        let sink = Self(Arc::new(Shared { waiting, changed, dropped, waits }));
        let shared = sink.clone();
        let thread = std::thread::Builder::new().name("codeq-log".into());
        let started = thread.spawn(move || {
            let mut batch = Vec::new();
            while shared.next(&mut batch) {
                // A closed pipe has no reader whom one could tell.
                let _ = out.write_all(&batch).and_then(|()| out.flush());
                batch.clear();
            }
        });
        if started.is_err() {
            sink.lock().closed = true;
        }
        sink
    }

    /// Hands over one line, its line end included.
    pub fn line(&self, line: &[u8]) {
        let mut waiting = self.0.waits.lock(Point::LogWriter, &self.0.waiting);
        if waiting.closed || waiting.bytes.len() + line.len() > MOST_WAITING {
            drop(waiting);
            self.0.dropped.inc();
            return;
        }
        waiting.bytes.extend_from_slice(line);
        if std::mem::take(&mut waiting.idle) {
            self.0.changed.notify_all();
        }
    }

    /// Waits until everything handed over was written, but no longer than `at_most`. Blocks.
    pub fn flush(&self, at_most: Duration) {
        let end = Instant::now() + at_most;
        let mut waiting = self.lock();
        // Idle with lines waiting: the thread was woken and has not run yet.
        while !waiting.closed && (!waiting.idle || !waiting.bytes.is_empty()) {
            let Some(left) = end.checked_duration_since(Instant::now()) else { return };
            waiting = match self.0.changed.wait_timeout(waiting, left) {
                Ok((waiting, _)) => waiting,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }

    /// Ends the thread once everything handed over is written; later lines are dropped.
    pub fn close(&self) {
        self.lock().closed = true;
        self.0.changed.notify_all();
    }

    /// Swaps what waits into `batch`; `false` when there will be no more.
    fn next(&self, batch: &mut Vec<u8>) -> bool {
        let mut waiting = self.lock();
        while waiting.bytes.is_empty() {
            if waiting.closed {
                return false;
            }
            waiting.idle = true;
            self.0.changed.notify_all();
            waiting = self.0.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            if !waiting.bytes.is_empty() && !waiting.closed {
                drop(waiting);
                std::thread::sleep(GATHER);
                waiting = self.lock();
            }
        }
        waiting.idle = false;
        std::mem::swap(&mut waiting.bytes, batch);
        true
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::telemetry::Metrics;

    /// A reader that takes nothing until it is told to.
    struct Stuck(mpsc::Receiver<()>, Arc<Mutex<Vec<u8>>>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            let _ = self.0.recv();
            self.1.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_is_stuck_costs_lines_and_not_time() {
        let (go, stuck) = mpsc::channel();
        let written = Arc::new(Mutex::new(Vec::new()));
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sink =
            Sink::start(Stuck(stuck, written.clone()), dropped.clone(), Metrics::new().waits());
        let line = [b'x'; 1024];
        let lines = 3 * MOST_WAITING / line.len();
        for _ in 0..lines {
            sink.line(&line);
        }
        assert!(dropped.get() > 0);
        drop(go);
        sink.flush(Duration::from_secs(10));
        let kept = written.lock().unwrap().len() / line.len();
        assert_eq!(kept as u64 + dropped.get(), lines as u64);
    }

    #[test]
    fn lines_keep_their_order_and_flush_waits_for_them() {
        let (go, free) = mpsc::channel();
        drop(go);
        let written = Arc::new(Mutex::new(Vec::new()));
        let dropped = IntCounter::new("dropped", "dropped").unwrap();
        let sink =
            Sink::start(Stuck(free, written.clone()), dropped.clone(), Metrics::new().waits());
        let expected: String = (0..2000).map(|at| format!("{at}\n")).collect();
        for line in expected.split_inclusive('\n') {
            sink.line(line.as_bytes());
        }
        sink.flush(Duration::from_secs(10));
        assert_eq!(String::from_utf8(written.lock().unwrap().clone()).unwrap(), expected);
        sink.close();
        sink.line(b"too late");
        assert_eq!(dropped.get(), 1);
    }
}
