//! When an attempt that failed is repeated.

use std::time::Duration;

use crate::config::Webhook;

/// How far a wait is spread to both sides, so that what failed together does not come back together.
const JITTER: f64 = 0.2;
/// The least wait after a 429 that does not say how long.
pub const AFTER_429: Duration = Duration::from_secs(60);

/// The wait after that many attempts of a series, at least one; `None` when none is left.
///
/// First `resultWebhookMaxAttempts` attempts with waits that double from the base up to the most,
/// then one attempt more after each wait of the tail. `chance` is random in [0, 1).
pub fn wait(settings: &Webhook, attempts: u16, chance: f64) -> Option<Duration> {
    let plain = plain(settings, attempts)?;
    Some(plain.mul_f64(1.0 - JITTER + 2.0 * JITTER * chance))
}

fn plain(settings: &Webhook, attempts: u16) -> Option<Duration> {
    let (tried, doubling) = (attempts.max(1), settings.max_attempts);
    if tried < doubling {
        let doubled = 2f64.powi(i32::from(tried) - 1) * f64::from(settings.base_backoff_seconds);
        return Some(Duration::from_secs_f64(doubled.min(settings.max_backoff_seconds.into())));
    }
    settings.retry_tail.get(usize::from(tried - doubling)).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn settings(attempts: u16, base: u32, most: u32, tail: &[u64]) -> Webhook {
        Webhook {
            max_attempts: attempts,
            base_backoff_seconds: base,
            max_backoff_seconds: most,
            retry_tail: tail.iter().map(|&s| Duration::from_secs(s)).collect(),
            ..crate::config::Settings::defaults().webhook
        }
    }

    #[test]
    fn the_defaults_double_to_a_minute_and_go_on_for_most_of_a_day() {
        let settings = settings(5, 2, 60, &[300, 1800, 7200, 18_000, 36_000]);
        let waits = (1..=10).map(|n| plain(&settings, n).map(|wait| wait.as_secs()));
        let expected = [2, 4, 8, 16, 300, 1800, 7200, 18_000, 36_000].map(Some);
        assert_eq!(waits.collect::<Vec<_>>(), [&expected[..], &[None]].concat());
    }

    #[test]
    fn without_a_tail_the_attempts_are_those_configured() {
        let settings = settings(3, 2, 3, &[]);
        let waits: Vec<_> = (1..=3).map(|n| plain(&settings, n)).collect();
        assert_eq!(waits, [Some(Duration::from_secs(2)), Some(Duration::from_secs(3)), None]);
    }

    proptest! {
        #[test]
        fn a_wait_is_within_a_fifth_of_its_plain_length(
            attempts in 1u16..=1000, base in 1u32..=86_400, chance in 0.0..1.0f64, tried in 0u16..=1100,
        ) {
            let settings = settings(attempts, base, 86_400, &[10]);
            let (plain, spread) = (plain(&settings, tried), wait(&settings, tried, chance));
            prop_assert_eq!(plain.is_some(), tried <= attempts);
            if let (Some(plain), Some(spread)) = (plain, spread) {
                let ratio = spread.as_secs_f64() / plain.as_secs_f64();
                prop_assert!((0.799..=1.201).contains(&ratio));
                prop_assert!(plain <= Duration::from_secs(86_400));
            }
        }
    }
}
