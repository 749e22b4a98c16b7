//! `GET /metrics`: what this node has counted, and how full the queues are.
//!
//! The depths come from the store and are read only when somebody scrapes: at most for two seconds,
//! and once a second however many scrapers come. While the store is away those series are absent,
//! and everything else is served.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::depths::{Depths, Reading, Snapshot};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::Exposition;

/// The longest that a scrape waits for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long one reading serves every scraper.
const FRESH: Duration = Duration::from_secs(1);

type Read = Pin<Box<dyn Future<Output = Result<Reading, String>> + Send>>;

/// Answers scrapes. Cheap to clone.
#[derive(Clone)]
pub struct Scraper {
    metrics: Metrics,
    read: Arc<dyn Fn() -> Read + Send + Sync>,
    snapshot: Snapshot,
    /// Sets the gauges of this node that nobody sets in between.
    look: Arc<dyn Fn() + Send + Sync>,
    /// When the snapshot was last refreshed, with or without success; also lets one read at a time.
    refreshed: Arc<Mutex<Option<Instant>>>,
}

impl Scraper {
    /// `read` asks the store for the depths. One scraper per [`Metrics`].
    ///
    /// # Panics
    /// When these metrics have a scraper already.
    pub fn new<F, R, E>(metrics: Metrics, read: F) -> Self
    where
        F: Fn() -> R + Send + Sync + 'static,
        R: Future<Output = Result<Reading, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        let snapshot = Snapshot::default();
        metrics
            .registry()
            .register(Box::new(Depths::new(snapshot.clone())))
            .expect("the depths are collected by one scraper");
        let read = move || {
            let read = read();
            Box::pin(async move { read.await.map_err(|error| error.to_string()) }) as Read
        };
        Self {
            metrics,
            read: Arc::new(read),
            snapshot,
            look: Arc::new(|| {}),
            refreshed: Arc::default(),
        }
    }

    /// With what `look` sets at each scrape. It must not wait.
    #[must_use]
    pub fn with_look(self, look: impl Fn() + Send + Sync + 'static) -> Self {
        Self { look: Arc::new(look), ..self }
    }

    /// The whole answer to `GET /metrics`.
    pub async fn answer(&self, exposition: Exposition) -> Response {
        self.refresh().await;
        (self.look)();
        let metrics = self.metrics.clone();
        // Thousands of series take milliseconds to write: not on a thread that serves requests.
        match tokio::task::spawn_blocking(move || metrics.page(exposition)).await {
            Ok(Ok(page)) => {
                ([(header::CONTENT_TYPE, exposition.content_type())], page).into_response()
            }
            failed => {
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    Err(error) => error.to_string(),
                    Ok(Ok(_)) => String::new(),
                };
                tracing::error!(
                    category = "system",
                    event = "scrape.failed",
                    error.message = error,
                    "metrics could not be written"
                );
                StatusCode::INTERNAL_SERVER_ERROR.into_response()
            }
        }
    }

    /// What the queues and the outbox hold; `None` while the store is away.
    pub async fn reading(&self) -> Option<Reading> {
        self.refresh().await;
        let reading = self.snapshot.read().unwrap_or_else(PoisonError::into_inner).clone();
        reading.outbox.is_some().then_some(reading)
    }

    /// Reads the depths unless somebody just did.
    async fn refresh(&self) {
        let mut refreshed = self.refreshed.lock().await;
        if refreshed.is_some_and(|at| at.elapsed() < FRESH) {
            return;
        }
        let began = Instant::now();
        let read = match timeout(PATIENCE, (self.read)()).await {
            Ok(read) => read,
            Err(_) => Err("no answer within two seconds".to_owned()),
        };
        let success = read.is_ok();
        let depths = read.unwrap_or_else(|error| {
            tracing::debug!(
                category = "debug",
                event = "scrape.store_away",
                error.message = error,
                "the queues could not be read for a scrape"
            );
            Reading::default()
        });
        *self.snapshot.write().unwrap_or_else(PoisonError::into_inner) = depths;
        self.metrics.scrape_collector_success.set(if success { 1.0 } else { 0.0 });
        self.metrics.scrape_collector_duration.set(began.elapsed().as_secs_f64());
        *refreshed = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use http_body_util::BodyExt;

    use super::super::depths::{CommandDepth, OutboxDepth};
    use super::*;

    async fn text(scraper: &Scraper) -> String {
        let answer = scraper.answer(Exposition::Text).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()[header::CONTENT_TYPE], "text/plain; version=0.0.4");
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    fn render() -> CommandDepth {
        CommandDepth {
            label: "render".into(),
            ready: 3,
            delayed: 2,
            in_progress: 1,
            dlq: 4,
            subscriptions: 5,
            paused: true,
            oldest_ready_seconds: 2.5,
            workers: 6,
            by_priority: Some([0, 0, 0, 1, 0, 0, 0, 0, 0, 2]),
        }
    }

    #[tokio::test]
    async fn depths_of_every_state_are_in_the_scrape() {
        let scraper = Scraper::new(Metrics::new(), || async { Ok::<_, String>(reading()) });
        let text = text(&scraper).await;
        for line in [
            "codeq_queue_depth{command=\"render\",queue=\"ready\"} 3",
            "codeq_queue_depth{command=\"render\",queue=\"delayed\"} 2",
            "codeq_queue_depth{command=\"render\",queue=\"in_progress\"} 1",
            "codeq_queue_depth{command=\"render\",queue=\"dlq\"} 4",
            "codeq_dlq_depth{command=\"render\"} 4",
            "codeq_subscriptions_active{command=\"render\"} 5",
            "codeq_queue_paused{command=\"render\"} 1",
            "codeq_queue_oldest_ready_age_seconds{command=\"render\"} 2.5",
            "codeq_workers_active{command=\"render\"} 6",
            "codeq_queue_ready_by_priority{command=\"render\",priority=\"9\"} 2",
            "codeq_tenant_queue_depth{queue=\"dlq\",tenant=\"acme\"} 4",
            "codeq_delayed_overdue_seconds 0.5",
            "codeq_webhook_outbox_depth{state=\"pending\"} 7",
            "codeq_webhook_outbox_depth{state=\"parked\"} 200000",
            "codeq_webhook_outbox_depth{state=\"dead\"} 2",
            "codeq_webhook_outbox_oldest_age_seconds 1.5",
            "codeq_webhook_destinations{state=\"active\"} 9",
            "codeq_webhook_destinations{state=\"open\"} 1",
            "codeq_webhook_destinations{state=\"paused\"} 2",
            "codeq_webhook_destinations{state=\"disabled\"} 3",
            "codeq_scrape_collector_success 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert!(text.contains("# HELP codeq_queue_depth Tasks"));
    }

    fn reading() -> Reading {
        let outbox = OutboxDepth {
            pending: 7,
            parked: 200_000,
            dead: 2,
            oldest_age_seconds: 1.5,
            destinations: [9, 1, 2, 3],
        };
        Reading {
            commands: vec![render()],
            tenants: vec![("acme".into(), [1, 2, 3, 4])],
            overdue_seconds: Some(0.5),
            overdue_leases: 1,
            outbox: Some(outbox),
        }
    }

    #[tokio::test]
    async fn queues_that_share_a_label_are_one_series() {
        let other = || CommandDepth { label: "_other".into(), ready: 2, ..Default::default() };
        let scraper = Scraper::new(Metrics::new(), move || async move {
            Ok::<_, String>(Reading { commands: vec![other(), other()], ..Reading::default() })
        });
        let text = text(&scraper).await;
        assert!(text.contains("codeq_queue_depth{command=\"_other\",queue=\"ready\"} 4"), "{text}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_costs_two_seconds_and_its_own_series_only() {
        let calls = Arc::new(AtomicUsize::new(0));
        let asked = calls.clone();
        let scraper = Scraper::new(Metrics::new(), move || {
            let first = asked.fetch_add(1, Ordering::Relaxed) == 0;
            async move {
                if !first {
                    std::future::pending::<()>().await;
                }
                Ok::<_, String>(reading())
            }
        });
        assert!(text(&scraper).await.contains("codeq_queue_depth{"));
        tokio::time::sleep(FRESH).await;
        let began = Instant::now();
        let text = text(&scraper).await;
        assert!(began.elapsed() < Duration::from_millis(2500));
        assert!(!text.contains("codeq_queue_depth"), "{text}");
        assert!(!text.contains("codeq_webhook_outbox"), "{text}");
        assert!(text.contains("codeq_scrape_collector_success 0"));
        assert!(text.contains("codeq_rate_limit_hits_total{"), "everything else is served");
        #[cfg(target_os = "linux")]
        assert!(text.contains("process_resident_memory_bytes"));
    }

    #[tokio::test(start_paused = true)]
    async fn scrapers_that_come_together_share_one_reading() {
        let calls = Arc::new(AtomicUsize::new(0));
        let asked = calls.clone();
        let scraper = Scraper::new(Metrics::new(), move || {
            asked.fetch_add(1, Ordering::Relaxed);
            async {
                tokio::time::sleep(Duration::from_millis(100)).await;
                Ok::<_, String>(reading())
            }
        });
        futures_util::future::join_all((0..20).map(|_| scraper.answer(Exposition::Text))).await;
        assert_eq!(calls.load(Ordering::Relaxed), 1);
        tokio::time::sleep(FRESH).await;
        scraper.answer(Exposition::Text).await;
        assert_eq!(calls.load(Ordering::Relaxed), 2, "a second later the depths are read again");
    }

    #[tokio::test]
    async fn no_scrape_reads_nothing() {
        let calls = Arc::new(AtomicUsize::new(0));
        let asked = calls.clone();
        let _scraper = Scraper::new(Metrics::new(), move || {
            asked.fetch_add(1, Ordering::Relaxed);
            async { Err::<Reading, _>("away") }
        });
        tokio::task::yield_now().await;
        assert_eq!(calls.load(Ordering::Relaxed), 0);
    }
}
