//! One nudge on its way: tried once, within bounds that nobody else's deliveries share.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use http::HeaderMap;
use serde::Serialize;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::app::App;
use crate::egress::{Outcome, Target, blocked};
use crate::model::delivery::Class;
use crate::model::record::destination_digest;
use crate::model::{TenantId, Time};
use crate::telemetry::metrics::{Delivery, Sampled, WebhookAttempt, WebhookKind};
use crate::telemetry::trace::{Call, CallSpan};
use crate::webhooks::destinations::{Destinations, Verdict};

use super::super::upsert::Mode;
use super::{News, Told};

/// How long nudges that are under way hold up the node's stop.
pub(super) const LAST_MOMENT: Duration = Duration::from_secs(1);
/// Most nudges that are under way or wait for a slot. What comes beyond is dropped and counted.
const MOST: usize = 4096;
/// Most of them of one tenant, so that one whose receivers hang leaves room to the others.
const MOST_OF_TENANT: usize = 1024;

const KIND: WebhookKind = WebhookKind::QueueReady;

/// What is sent to one subscription.
pub(super) struct Letter {
    pub told: Told,
    pub mode: Mode,
    pub news: Arc<News>,
}

/// What the receiver reads.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    event_type: &'a str,
    available: bool,
    queue_depth: u64,
    claim_url: &'static str,
    sent_at: Time,
    notification_id: &'a str,
}

/// The slots of nudges. None of them is one of the results': these never wait for those.
pub(super) struct Post {
    app: App,
    slots: Arc<Semaphore>,
    of_host: Slots,
    of_tenant: Slots,
}

impl Post {
    pub fn new(app: &App) -> Self {
        let webhook = &app.settings.webhook;
        Self {
            app: app.clone(),
            slots: Arc::new(Semaphore::new(webhook.max_concurrency)),
            of_host: Slots::new(webhook.max_concurrency_per_host),
            of_tenant: Slots::new(MOST_OF_TENANT),
        }
    }

    /// Sends it when there is a slot, unless too many wait already.
    pub fn send(self: &Arc<Self>, letter: Letter, under_way: &mut JoinSet<()>) {
        while under_way.try_join_next().is_some() {}
        let room = self.of_tenant.slots(&letter.told.tenant).try_acquire_owned();
        let (Ok(room), true) = (room, under_way.len() < MOST) else {
            letter.failed();
            letter.warn("", "no_slot");
            return;
        };
        let post = self.clone();
        under_way.spawn(async move {
            post.deliver(&letter).await;
            drop(room);
        });
    }

    async fn deliver(&self, letter: &Letter) {
        let Ok(target) = Target::parse_stored(&letter.told.url) else { return letter.failed() };
        let origin = target.origin();
        let tenant = TenantId::trusted(&letter.told.tenant);
        let of_host = self.of_host.slots(&format!("{tenant} {origin}"));
        // First the host's slot: who waits for a host that hangs must not hold one of all.
        let _of_host = of_host.acquire_owned().await.ok();
        let _slot = self.slots.acquire().await.ok();
        let destination = destination_digest(&tenant, &origin);
        let destinations = Destinations::of(&self.app);
        let granted = match destinations.verdict(&destination, Some(&tenant), &origin).await {
            Ok(Verdict::Send { .. }) => None,
            Ok(Verdict::Probe { granted_ms }) => Some(granted_ms),
            // A destination that is left alone gets none.
            Ok(Verdict::Wait { .. }) | Err(_) => return letter.failed(),
        };
        if self.app.take_for_webhook(crate::app::Scope::QueueReady, &tenant).await.is_err() {
            if let Some(granted_ms) = granted {
                destinations.unprobed(&destination, granted_ms).await;
            }
            return letter.failed();
        }
        let (class, asked) = self.attempt(letter, &target).await;
        let probe = granted.is_some();
        match class {
            Class::Success => destinations.succeeded(&destination, probe).await,
            class => destinations.failed(&destination, class, probe, asked).await,
        }
    }

    /// Sends it; how that ended, and how long the receiver wants to be left alone.
    async fn attempt(&self, letter: &Letter, target: &Target) -> (Class, Option<Duration>) {
        let Letter { told, mode, news } = letter;
        let (stored, state) = (&news.cause.trace_parent, &news.cause.trace_state);
        let mut span = CallSpan::open(Call::QueueReady, stored.as_deref(), state.as_deref(), None);
        span.set("codeq.command", news.spelled.as_str().to_owned())
            .set("codeq.webhook.kind", "queue_ready")
            .set("codeq.webhook.host", target.host().to_owned())
            .set("codeq.subscription.id", told.id.clone())
            .set("codeq.subscription.mode", mode.name());

        let (id, sent_at, body) = letter.body();
        let mut headers = HeaderMap::with_capacity(12);
        let signer = self.app.egress.signer();
        let seconds = sent_at.ms().div_euclid(1000);
        signer.headers(Some(&told.tenant), &id, seconds, 1, &body, &mut headers);
        let baggage = news.cause.baggage.as_deref();
        span.inject(baggage, &mut headers);

        let metrics = &self.app.metrics;
        let in_flight = metrics.webhook_in_flight.with(KIND).hold();
        let attempt = self.app.egress.post(target, headers, body).await;
        drop(in_flight);

        let class = attempt.outcome.class();
        metrics.webhook_attempts.with(WebhookAttempt(KIND, class)).inc();
        let trace = Sampled::of(span.traceparent());
        metrics.webhook_duration.with(KIND).observe(attempt.duration.as_secs_f64(), trace);
        if let Some(status) = attempt.status {
            span.set("http.response.status_code", i64::from(status));
        }
        if attempt.outcome == Outcome::Success {
            news.metrics.webhook_deliveries.with(Delivery::QueueReadySuccess).inc();
        } else {
            span.failed(class.as_str());
            letter.failed();
            letter.warn(target.host(), class.as_str());
            if class == Class::Blocked {
                blocked("queue_ready", Some(target.host()), Some(letter.told.tenant.as_str()));
            }
        }
        (class, attempt.retry_after)
    }
}

impl Letter {
    /// Its id, when it is sent, and what is sent.
    fn body(&self) -> (String, Time, Bytes) {
        let sent_at = Time::from_ms(jiff::Timestamp::now().as_millisecond());
        let ms = u64::try_from(sent_at.ms()).unwrap_or(0);
        let id = uuid::Builder::from_unix_timestamp_millis(ms, &rand::random()).into_uuid();
        let id = id.hyphenated().to_string();
        let body = Body {
            event_type: self.news.command.as_str(),
            available: true,
            queue_depth: self.news.ready,
            claim_url: "/v1/codeq/tasks/claim",
            sent_at,
            notification_id: &id,
        };
        let body = serde_json::to_vec(&body).expect("strings and numbers are JSON");
        (id, sent_at, body.into())
    }

    fn failed(&self) {
        self.news.metrics.webhook_deliveries.with(Delivery::QueueReadyFailure).inc();
    }

    fn warn(&self, host: &str, reason: &str) {
        tracing::warn!(
            target: "codeq::webhook", category = "webhook", event = "webhook.failed",
            webhook.kind = "queue_ready", webhook.host = host, reason, will_retry = false,
            error.r#type = reason,
            tenant_id = self.told.tenant.as_str(), command = self.news.spelled.as_str(),
            subscription_id = self.told.id.as_str(), traceparent = self.news.cause.trace_parent,
            "a subscriber could not be told"
        );
    }
}

/// Slots by name, as many for each; a name that nobody uses is forgotten.
struct Slots {
    each: usize,
    by_name: Mutex<HashMap<String, Weak<Semaphore>>>,
}

impl Slots {
    fn new(each: usize) -> Self {
        Self { each, by_name: Mutex::default() }
    }

    fn slots(&self, name: &str) -> Arc<Semaphore> {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(slots) = by_name.get(name).and_then(Weak::upgrade) {
            return slots;
        }
        if by_name.len() >= 2 * MOST {
            by_name.retain(|_, slots| slots.strong_count() > 0);
        }
        let slots = Arc::new(Semaphore::new(self.each));
        by_name.insert(name.to_owned(), Arc::downgrade(&slots));
        slots
    }
}
