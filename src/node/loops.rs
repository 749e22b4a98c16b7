//! The background loops of a node under one supervisor: a loop that ends or panics is started again,
//! counted and logged.

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::{Label as _, LoopKind};
use crate::telemetry::{Metrics, failpoint};

/// Before a loop is started again: one that dies at once must not take a core.
const PAUSE: Duration = Duration::from_secs(1);

type Run = Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The loops of one kind. The kind counts as active while every one of them runs.
pub(super) struct Loops {
    kind: LoopKind,
    parts: Vec<(&'static str, Run)>,
    metrics: Metrics,
    stop: CancellationToken,
}

impl Loops {
    /// None yet; they end by themselves when `stop` is cancelled.
    pub(super) fn of(kind: LoopKind, metrics: &Metrics, stop: &CancellationToken) -> Self {
        Self { kind, parts: Vec::new(), metrics: metrics.clone(), stop: stop.clone() }
    }

    /// One loop more; `run` starts it, and is called again after it has died.
    pub(super) fn with<F, R>(mut self, name: &'static str, run: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.parts.push((name, Box::new(move || Box::pin(run()))));
        self
    }

    /// Runs them until `stop`, and then until the last has ended in order.
    pub(super) async fn keep(self) {
        let gauge = self.metrics.loops_active.with(self.kind);
        let mut running = JoinSet::new();
        let mut places = HashMap::new();
        for part in 0..self.parts.len() {
            places.insert(self.start(part, &mut running, true), part);
        }
        let mut active = Some(gauge.hold());
        while let Some(ended) = running.join_next_with_id().await {
            if self.stop.is_cancelled() {
                continue;
            }
            drop(active.take());
            let (id, panicked) = match &ended {
                Ok((id, ())) => (*id, false),
                Err(error) => (error.id(), true),
            };
            let part = places.remove(&id).expect("every loop has its place");
            self.metrics.loop_restarts.with(self.kind).inc();
            // What it said, if it panicked, went through the panic hook.
            tracing::warn!(
                target: "codeq::node", category = "system", event = "loop.restarted",
                kind = self.kind.name(), part = self.parts[part].0, panicked,
                "a background loop has ended and is started again"
            );
            if self.stop.run_until_cancelled(tokio::time::sleep(PAUSE)).await.is_some() {
                places.insert(self.start(part, &mut running, false), part);
                active = Some(gauge.hold());
            }
        }
    }

    fn start(&self, part: usize, running: &mut JoinSet<()>, is_first: bool) -> Id {
        let (name, run) = &self.parts[part];
        let run = run();
        if is_first && failpoint::is_set("loop", name) {
            let stop = self.stop.clone();
            return running
                .spawn(async move {
                    // It does its work first, and dies in the midst of it.
                    let _ = stop.run_until_cancelled(tokio::time::timeout(PAUSE, run)).await;
                    assert!(stop.is_cancelled(), "a failpoint ends this loop");
                })
                .id();
        }
        running.spawn(run).id()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    async fn until(what: impl Fn() -> bool) {
        while !what() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn m29_a_loop_that_ends_or_panics_is_started_again_and_counted() {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let starts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let (ends, panics, halt) = (starts.clone(), starts.clone(), stop.clone());
        let loops = Loops::of(LoopKind::Outbox, &metrics, &stop)
            .with("ends", move || {
                ends[0].fetch_add(1, Ordering::Relaxed);
                std::future::ready(())
            })
            .with("panics", move || {
                let first = panics[1].fetch_add(1, Ordering::Relaxed) == 0;
                let halt = halt.clone();
                async move {
                    assert!(!first, "on purpose");
                    halt.cancelled().await;
                }
            });
        let kept = tokio::spawn(loops.keep());
        until(|| starts[0].load(Ordering::Relaxed) > 2 && starts[1].load(Ordering::Relaxed) == 2)
            .await;
        assert!(metrics.loop_restarts.with(LoopKind::Outbox).get() >= 3);
        stop.cancel();
        kept.await.unwrap();
        assert_eq!(metrics.loops_active.with(LoopKind::Outbox).get(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn m29_loops_that_run_read_one_together() {
        let (metrics, stop) = (Metrics::new(), CancellationToken::new());
        let (one, two) = (stop.clone(), stop.clone());
        let loops = Loops::of(LoopKind::Sweeper, &metrics, &stop)
            .with("one", move || one.clone().cancelled_owned())
            .with("two", move || two.clone().cancelled_owned());
        let kept = tokio::spawn(loops.keep());
        until(|| metrics.loops_active.with(LoopKind::Sweeper).get() == 1).await;
        stop.cancel();
        kept.await.unwrap();
        assert_eq!(metrics.loops_active.with(LoopKind::Sweeper).get(), 0);
        assert_eq!(metrics.loop_restarts.with(LoopKind::Sweeper).get(), 0);
    }
}
