use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Lets a repeated warning through once per period, so that a fault does not bury the log.
///
/// ```
/// # use std::time::Duration;
/// static LIMIT: codeq::telemetry::log::Every = codeq::telemetry::log::Every::new(Duration::from_secs(30));
/// if let Some(suppressed) = LIMIT.pass() {
///     tracing::warn!(category = "system", suppressed, "exporting spans failed");
/// }
/// ```
pub struct Every {
    period: Duration,
    /// Milliseconds after [`Every::start`] from which the next one passes.
    open_at: AtomicU64,
    suppressed: AtomicU64,
}

impl Every {
    /// One line per period.
    pub const fn new(period: Duration) -> Self {
        Self { period, open_at: AtomicU64::new(0), suppressed: AtomicU64::new(0) }
    }

    /// `Some` with the number of lines held back since the last, or `None`: not now.
    pub fn pass(&self) -> Option<u64> {
        self.pass_at(Self::start().elapsed())
    }

    fn pass_at(&self, since_start: Duration) -> Option<u64> {
        let now = millis(since_start);
        let open_at = self.open_at.load(Ordering::Relaxed);
        let next = now + millis(self.period);
        let order = Ordering::Relaxed;
        if now < open_at || self.open_at.compare_exchange(open_at, next, order, order).is_err() {
            self.suppressed.fetch_add(1, order);
            return None;
        }
        Some(self.suppressed.swap(0, order))
    }

    fn start() -> Instant {
        static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
        *START.get_or_init(Instant::now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_one_line_a_period_and_the_next_says_how_many_were_held_back() {
        let limit = Every::new(Duration::from_secs(10));
        assert_eq!(limit.pass_at(Duration::ZERO), Some(0));
        for second in 1..10 {
            assert_eq!(limit.pass_at(Duration::from_secs(second)), None);
        }
        assert_eq!(limit.pass_at(Duration::from_secs(10)), Some(9));
        assert_eq!(limit.pass_at(Duration::from_secs(11)), None);
    }
}
