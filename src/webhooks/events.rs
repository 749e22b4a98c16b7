//! What each step of a delivery leaves behind: span, metric and log line of a step by one function.

use crate::app::App;
use crate::egress::{Target, blocked};
use crate::model::Command;
use crate::model::delivery::{Class, Entry, Kind, Reason};
use crate::model::record::Unreadable;
use crate::store;
use crate::telemetry::metrics::{Delivery, Held, Sampled, WebhookAttempt, WebhookKind};
use crate::telemetry::trace::CallSpan;

use super::deliver::Made;
use super::errand::Errand;
use super::settle::Verdict;

/// As metrics and lines name what a delivery is about.
fn kind(errand: &Errand) -> WebhookKind {
    match errand.record.kind {
        Kind::End(_) => WebhookKind::TaskResult,
        Kind::Event => WebhookKind::OperatorEvent,
    }
}

fn kind_name(errand: &Errand) -> &'static str {
    match errand.record.kind {
        Kind::End(_) => "task_result",
        Kind::Event => "operator_event",
    }
}

/// The command of the task, spelled as in metrics and in the lines of the task.
fn spelled(app: &App, errand: &Errand) -> Option<Command> {
    let body = &errand.task.as_ref()?.body;
    Some(app.labels.spelled(body.label, &body.command))
}

/// Writes a line about a delivery: fields that every such line has, then its own.
macro_rules! line {
    ($level:ident, $event:literal, $app:expr, $errand:expr, $made:expr, { $($field:tt)* }, $message:literal) => {{
        let (errand, made): (&Errand, &Made) = ($errand, $made);
        let body = errand.task.as_ref().map(|task| &task.body);
        tracing::$level!(
            target: "codeq::webhook",
            category = "webhook",
            event = $event,
            task_id = body.map(|_| tracing::field::display(errand.id.task)),
            command = spelled($app, errand).as_ref().map(Command::as_str),
            tenant_id = body.map(|body| body.tenant.as_str()),
            webhook.kind = kind_name(errand),
            webhook.host = made.host.as_str(),
            webhook.attempt = errand.attempt(),
            traceparent = made.traceparent.as_deref(),
            $($field)*
            $message
        )
    }};
}

/// An attempt begins.
pub(super) fn begun(
    app: &App,
    errand: &Errand,
    target: &Target,
    traceparent: Option<&str>,
) -> Held {
    let body = errand.task.as_ref().map(|task| &task.body);
    tracing::debug!(
        target: "codeq::webhook", category = "webhook", event = "webhook.sent",
        task_id = body.map(|_| tracing::field::display(errand.id.task)),
        command = spelled(app, errand).as_ref().map(Command::as_str),
        webhook.kind = kind_name(errand), webhook.host = target.host(),
        webhook.attempt = errand.attempt(), traceparent, "result callback is sent"
    );
    app.metrics.webhook_in_flight.with(kind(errand)).hold()
}

/// An attempt has ended.
pub(super) fn attempted(
    app: &App,
    errand: &Errand,
    span: &mut CallSpan,
    target: &Target,
    entry: &Entry,
) {
    let kind = kind(errand);
    app.metrics.webhook_attempts.with(WebhookAttempt(kind, entry.class)).inc();
    let seconds = f64::from(entry.duration_ms) / 1000.0;
    app.metrics.webhook_duration.with(kind).observe(seconds, Sampled::of(span.traceparent()));
    if let Some(command) = spelled(app, errand) {
        span.set("codeq.command", command.as_str().to_owned());
    }
    let attempt = i64::from(errand.attempt());
    span.set("codeq.webhook.kind", kind_name(errand))
        .set("codeq.webhook.host", target.host().to_owned())
        .set("codeq.webhook.attempt", attempt)
        .set("http.request.method", "POST")
        .set("http.request.resend_count", attempt - 1)
        .set("server.address", target.host().to_owned())
        .set("server.port", i64::from(target.port()));
    if let Some(status) = entry.status {
        span.set("http.response.status_code", i64::from(status));
    }
    if entry.class != Class::Success {
        span.failed(entry.class.as_str());
    }
    if entry.class == Class::Blocked {
        let tenant = errand.task.as_ref().map(|task| task.body.tenant.as_str());
        blocked(kind_name(errand), Some(target.host()), tenant);
    }
}

/// What came of an attempt is written down.
pub(super) fn settled(app: &App, errand: &Errand, made: &Made, verdict: Verdict) {
    let duration_ms = made.entry.duration_ms;
    match verdict {
        Verdict::Delivered => {
            count_success(app, errand, made);
            line!(info, "webhook.delivered", app, errand, made, {
                duration_ms, http.status = made.entry.status,
            }, "result callback delivered");
        }
        Verdict::Later { wait, .. } => {
            let delay_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            line!(warn, "webhook.retry", app, errand, made, {
                duration_ms, http.status = made.entry.status, reason = made.entry.class.as_str(),
                max_attempts = app.settings.webhook.max_attempts, delay_ms, will_retry = true,
                error.r#type = made.entry.class.as_str(),
            }, "result callback failed");
        }
        Verdict::Dead(_) => {}
    }
}

fn count_success(app: &App, errand: &Errand, made: &Made) {
    let tried = errand.attempt().saturating_sub(errand.record.base);
    app.metrics.webhook_attempts_to_success.observe(tried.into());
    let Some(task) = &errand.task else { return };
    let took_ms = u32::try_from((errand.now_ms() - errand.completed().ms()).max(0));
    let seconds = f64::from(took_ms.unwrap_or(u32::MAX)) / 1000.0;
    // One that is sent again on demand was perhaps accepted long ago.
    let is_first = !errand.record.replay || errand.record.reason.is_some();
    let trace = Sampled::of(made.traceparent.as_deref());
    app.with_label(task.body.label, move |metrics| {
        metrics.webhook_deliveries.with(Delivery::TaskResultSuccess).inc();
        if is_first {
            metrics.webhook_end_to_end.observe(seconds, trace);
        }
    });
}

/// A delivery was given up.
pub(super) fn given_up(app: &App, errand: &Errand, reason: Reason, made: Option<&Made>) {
    app.metrics.webhook_dead.with(reason).inc();
    if let Some(task) = &errand.task {
        app.with_label(task.body.label, |metrics| {
            metrics.webhook_deliveries.with(Delivery::TaskResultFailure).inc();
        });
    }
    let class = made.map_or(reason.as_str(), |made| made.entry.class.as_str());
    let body = errand.task.as_ref().map(|task| &task.body);
    tracing::error!(
        target: "codeq::webhook",
        category = "webhook",
        event = "webhook.failed",
        task_id = body.map(|_| tracing::field::display(errand.id.task)),
        command = spelled(app, errand).as_ref().map(Command::as_str),
        tenant_id = body.map(|body| body.tenant.as_str()),
        webhook.kind = kind_name(errand),
        webhook.host = made.map(|made| made.host.as_str()),
        webhook.attempt = errand.record.attempts + u16::from(made.is_some()),
        traceparent = made.and_then(|made| made.traceparent.as_deref()),
        max_attempts = app.settings.webhook.max_attempts,
        duration_ms = made.map(|made| made.entry.duration_ms),
        http.status = made.and_then(|made| made.entry.status),
        reason = reason.as_str(),
        will_retry = false,
        error.r#type = class,
        "result callback failed"
    );
    // An attempt that was made has said so itself.
    if reason == Reason::Blocked && made.is_none() {
        let tenant = body.map(|body| body.tenant.as_str());
        blocked(kind_name(errand), None, tenant);
    }
}

/// The outcome of an attempt could not be written down while the lease lasted.
pub(super) fn unsettled(errand: &Errand, error: &store::Error) {
    tracing::warn!(
        target: "codeq::webhook", category = "webhook", event = "webhook.unsettled",
        task_id = %errand.id.task, error.message = %error, is_event = errand.record.kind == Kind::Event,
        "the outcome of a delivery could not be stored; it is sent again"
    );
}

/// A record that this version cannot read.
pub(super) fn unreadable(delivery: &str, why: Unreadable) {
    tracing::warn!(
        target: "codeq::webhook", category = "webhook", event = "webhook.unreadable",
        delivery, error.message = %why, "a delivery could not be read"
    );
}
