//! The time that a request waits because its caller asked it to: a long poll is not slow.

use std::cell::Cell;
use std::time::{Duration, Instant};

tokio::task_local! {
    static WAITED: Cell<Duration>;
}

/// Answers a request within its own account of waiting.
pub(super) async fn counted<F: Future>(answering: F) -> F::Output {
    WAITED.scope(Cell::default(), answering).await
}

/// How long the request that is being answered has waited so far; zero outside of one.
pub(super) fn so_far() -> Duration {
    WAITED.try_with(Cell::get).unwrap_or_default()
}

/// Waits on the caller's behalf: the time is not counted as work. Also when the caller goes away
/// in the middle of it.
pub async fn deliberately<F: Future>(wait: F) -> F::Output {
    let _waiting = Waiting(Instant::now());
    wait.await
}

struct Waiting(Instant);

impl Drop for Waiting {
    fn drop(&mut self) {
        // Outside of a request nobody keeps an account.
        let _ = WAITED.try_with(|waited| waited.set(waited.get() + self.0.elapsed()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_deliberate_waiting_is_taken_off() {
        let pause = Duration::from_millis(20);
        counted(async {
            tokio::time::sleep(pause).await;
            assert_eq!(so_far(), Duration::ZERO);
            deliberately(tokio::time::sleep(pause)).await;
            deliberately(tokio::time::sleep(pause)).await;
            assert!(so_far() >= 2 * pause);
        })
        .await;
        assert_eq!(so_far(), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_caller_that_goes_away_has_waited_too() {
        struct AtTheEnd;
        impl Drop for AtTheEnd {
            fn drop(&mut self) {
                assert!(so_far() >= Duration::from_millis(20));
            }
        }
        let answering = counted(async {
            let _exchange = AtTheEnd;
            deliberately(std::future::pending::<()>()).await;
        });
        let gone = tokio::time::timeout(Duration::from_millis(30), answering).await;
        assert!(gone.is_err());
    }
}
