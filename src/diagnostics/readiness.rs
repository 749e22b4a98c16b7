//! Whether this node should get requests.
//!
//! A node starts unready. It becomes ready when Redis answers, and unready again after three failed
//! checks a second apart: a blip must not empty the Service everywhere at once. Draining makes it
//! unready at once.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::LoopKind;

/// Between two checks of a node that is ready, and the longest that one check may take.
const PERIOD: Duration = Duration::from_secs(1);
/// Between two checks of a node that is not ready yet.
const IMPATIENT: Duration = Duration::from_millis(50);
/// Failed checks in a row after which a node leaves.
const FAILURES: u32 = 3;

/// The answer, kept up to date by a [`Watch`]. Cheap to clone.
#[derive(Clone)]
pub struct Readiness {
    store_answers: Arc<AtomicBool>,
    draining: CancellationToken,
    metrics: Metrics,
}

impl Readiness {
    /// Unready, until a [`Watch`] finds the store. `draining` is cancelled when the node stops.
    pub fn new(draining: CancellationToken, metrics: &Metrics) -> Self {
        Self { store_answers: Arc::default(), draining, metrics: metrics.clone() }
    }

    /// Whether requests should come here.
    pub fn is_ready(&self) -> bool {
        self.store_answers.load(Ordering::Relaxed) && !self.is_draining()
    }

    /// Whether the node finishes its work and takes no more.
    pub fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// What keeps the answer up to date by asking `ping`.
    pub fn watch<P>(&self, ping: P) -> Watch<P> {
        Watch { readiness: self.clone(), ping }
    }
}

/// Asks the store whether it answers, once a second.
pub struct Watch<P> {
    readiness: Readiness,
    ping: P,
}

impl<P, F, T, E> Watch<P>
where
    P: Fn() -> F,
    F: Future<Output = Result<T, E>>,
    E: std::fmt::Display,
{
    /// Checks until `stop`, also while the node drains.
    pub async fn run(self, stop: CancellationToken) {
        let draining = async {
            self.readiness.draining.cancelled().await;
            self.readiness.metrics.draining.set(1.0);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = draining => {}
            () = stop.cancelled() => {}
            () = self.check_for_ever() => {}
        }
    }

    async fn check_for_ever(&self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ready = &self.readiness.store_answers;
            let checked = self.check().await;
            let metrics = &self.readiness.metrics;
            metrics.store_up.set(if checked.is_ok() { 1.0 } else { 0.0 });
            match checked {
                Ok(()) => {
                    failures = 0;
                    if !ready.swap(true, Ordering::Relaxed) {
                        tracing::info!(category = "system", event = "node.ready", "node is ready");
                    }
                }
                Err(error) => {
                    failures += 1;
                    if failures >= FAILURES && ready.swap(false, Ordering::Relaxed) {
                        metrics.loop_errors.with(LoopKind::Health).inc();
                        tracing::error!(
                            category = "system",
                            event = "node.unready",
                            error.r#type = "store_unavailable",
                            error.message = error,
                            "node is not ready: the store does not answer"
                        );
                    }
                }
            }
            let period = if ready.load(Ordering::Relaxed) { PERIOD } else { IMPATIENT };
            tokio::time::sleep_until(began + period).await;
        }
    }

    async fn check(&self) -> Result<(), String> {
        match timeout(PERIOD, (self.ping)()).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer within a second".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// A store that does as it is told, and a node that watches it.
    struct Node {
        readiness: Readiness,
        store: Arc<Mutex<Result<(), &'static str>>>,
        draining: CancellationToken,
    }

    impl Node {
        fn start() -> Self {
            let draining = CancellationToken::new();
            let readiness = Readiness::new(draining.clone(), &Metrics::new());
            let store = Arc::new(Mutex::new(Err("away")));
            let asked = store.clone();
            let watch = readiness.watch(move || {
                let answer = *asked.lock().unwrap();
                async move { answer }
            });
            tokio::spawn(watch.run(draining.clone()));
            Self { readiness, store, draining }
        }

        async fn after(&self, store: Result<(), &'static str>, wait: Duration) -> bool {
            *self.store.lock().unwrap() = store;
            tokio::time::sleep(wait).await;
            self.readiness.is_ready()
        }
    }

    const MOMENT: Duration = Duration::from_millis(10);

    #[tokio::test(start_paused = true)]
    async fn a_node_starts_unready_and_becomes_ready_when_the_store_answers() {
        let node = Node::start();
        assert!(!node.readiness.is_ready());
        assert!(!node.after(Err("away"), 60 * PERIOD).await);
        assert!(node.after(Ok(()), IMPATIENT + MOMENT).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_blip_of_two_seconds_does_not_take_a_node_out() {
        let node = Node::start();
        assert!(node.after(Ok(()), PERIOD + MOMENT).await);
        assert!(node.after(Err("blip"), 2 * PERIOD).await);
        assert!(node.after(Ok(()), PERIOD).await);
        assert!(node.after(Err("blip"), 2 * PERIOD).await, "successes start the count anew");
    }

    #[tokio::test(start_paused = true)]
    async fn the_third_failed_check_takes_a_node_out() {
        let node = Node::start();
        assert!(node.after(Ok(()), PERIOD + MOMENT).await);
        assert!(!node.after(Err("away"), 3 * PERIOD).await);
        assert!(node.after(Ok(()), PERIOD).await, "and one good check brings it back");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_counts_as_one_that_fails() {
        let draining = CancellationToken::new();
        let readiness = Readiness::new(draining.clone(), &Metrics::new());
        let hangs = Arc::new(AtomicBool::new(false));
        let asked = hangs.clone();
        let watch = readiness.watch(move || {
            let hang = asked.load(Ordering::Relaxed);
            async move {
                if hang {
                    std::future::pending::<()>().await;
                }
                Ok::<(), &str>(())
            }
        });
        tokio::spawn(watch.run(draining));
        tokio::time::sleep(MOMENT).await;
        assert!(readiness.is_ready());
        hangs.store(true, Ordering::Relaxed);
        tokio::time::sleep(4 * PERIOD).await;
        assert!(!readiness.is_ready());
    }

    #[tokio::test(start_paused = true)]
    async fn draining_takes_a_node_out_at_once() {
        let node = Node::start();
        assert!(node.after(Ok(()), PERIOD).await);
        node.draining.cancel();
        assert!(!node.readiness.is_ready());
    }
}
