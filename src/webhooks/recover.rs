//! `POST /admin/webhooks/recover`, `GET`, `DELETE /admin/webhooks/recoveries/{id}`: dead deliveries
//! are sent again, at a rate.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Admin, Body, Error, Missing, TaskPath, params, responses};
use crate::model::delivery::Reason;
use crate::model::{Partition, TaskId, TenantId};
use crate::script;

use super::list::Wanted;
use super::search::{Filter, Position, Search};

/// Which of the dead, and how fast.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecoverRequest)]
pub struct Request {
    /// Those that died then or later.
    #[schema(format = "date-time")]
    since: String,
    /// Those that died before; now when absent.
    #[serde(default)]
    #[schema(format = "date-time")]
    until: Option<String>,
    /// Id of a destination.
    #[serde(default)]
    #[schema(pattern = "^[-_0-9A-Za-z]{16}$")]
    destination: Option<String>,
    /// A command, in any case.
    #[serde(default)]
    #[schema(
        max_length = 256,
        pattern = "^[^\\x00-\\x1f\\x7f-\\x9f]*[^\\s\\x00-\\x1f\\x7f-\\x9f][^\\x00-\\x1f\\x7f-\\x9f]*$"
    )]
    command: Option<String>,
    /// `gone`, `exhausted`, `expired`, `blocked`, `poison` or `aborted`.
    #[serde(default)]
    #[schema(pattern = "^(gone|exhausted|expired|blocked|poison|aborted)$")]
    reason: Option<String>,
    /// The oldest so many.
    #[serde(default)]
    #[schema(minimum = 1)]
    limit: Option<i64>,
    /// 50 when absent.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 10000)]
    rate_per_second: Option<i64>,
    /// Only count.
    #[serde(default)]
    dry_run: Option<bool>,
}

/// What a recovery would send.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecoverPreview)]
pub struct Preview {
    matched: u64,
    by_reason: BTreeMap<&'static str, u64>,
    /// There are more than could be counted within a few seconds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// A recovery that began.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = RecoverResponse)]
pub struct Begun {
    recovery_id: String,
    matched: u64,
    /// There are more than could be counted within a few seconds; all are sent.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    partial: bool,
}

/// How far a recovery is.
#[derive(Serialize, ToSchema, PartialEq, Debug)]
#[schema(as = Recovery)]
pub struct Progress {
    /// `running`, `stopped` or `done`.
    state: String,
    /// How many there were when it began.
    matched: u64,
    /// How many were sent again.
    done: u64,
    /// How many were no longer dead when their turn came.
    failed: u64,
}

/// What the node that carries a recovery on has to know.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(crate) struct Ask {
    pub(super) filter: Filter,
    pub(super) from: Position,
    /// `traceparent` of the request, empty without.
    pub(super) asked: String,
}

script! {
    /// A recovery is written down.
    pub struct Begin<'a> = "recover_begin", write, once_only {
        once {}
        each {
            recovery: &'a TaskId, tenant: &'a TenantId, ask: &'a str, rate: u64, limit: u64,
            matched: u64,
        }
    } -> Written { began: bool }
}

script! {
    /// How far a recovery is.
    pub struct ReadRecovery<'a> = "recover_read", read, repeatable {
        once {}
        each { recovery: &'a TaskId }
    } -> Known { tenant: String, state: String, matched: u64, done: u64, failed: u64 }
}

script! {
    /// A recovery ends where it is.
    pub struct Stop<'a> = "recover_stop", write, repeatable {
        once {}
        each { recovery: &'a TaskId, tenant: &'a TenantId }
    } -> Stopped { stopped: bool }
}

const DEFAULT_RATE: i64 = 50;
const MAX_RATE: i64 = 10_000;
/// How long a request may count.
const COUNTS_FOR: Duration = Duration::from_secs(3);
/// Taken from a search at once while counting.
const COUNTED_AT_ONCE: usize = 4096;

/// Sends dead deliveries again, oldest first.
#[utoipa::path(post, path = "/admin/webhooks/recover", operation_id = "recover_webhooks", tag = "admin",
    params(params::OfTenant), request_body = Request,
    responses((status = 200, description = "With `dryRun`.", body = Preview),
        (status = 202, body = Begun), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn recover(
    State(app): State<App>,
    admin: Admin,
    Body(ask): Body<Request>,
) -> http::Result<Response> {
    let tenant = admin.tenant()?;
    let wanted = Wanted {
        destination: ask.destination.as_deref(),
        command: ask.command.as_deref(),
        reason: ask.reason.as_deref(),
        since: Some(&ask.since),
        until: ask.until.as_deref(),
    };
    let (filter, from) = wanted.filter(true, tenant.tag())?;
    let rate = ask.rate_per_second.unwrap_or(DEFAULT_RATE);
    if !(1..=MAX_RATE).contains(&rate) {
        return Err(Error::InvalidBody("ratePerSecond: must be between 1 and 10000".into()));
    }
    if ask.limit.is_some_and(|limit| limit < 1) {
        return Err(Error::InvalidBody("limit: at least 1".into()));
    }
    let limit = ask.limit.map_or(0, i64::unsigned_abs);
    let counted = count(&app, &filter, &from, limit).await?;
    let matched: u64 = counted.by_reason.values().sum();
    if ask.dry_run == Some(true) {
        let Counted { by_reason, partial, .. } = counted;
        return Ok(Json(Preview { matched, by_reason, partial }).into_response());
    }
    // What dies again is not sent again by the same recovery.
    let filter = Filter { until_ms: filter.until_ms.min(counted.now_ms), ..filter };
    let asked = crate::telemetry::trace::current_traceparent().unwrap_or_default();
    let what = Ask { filter, from, asked };
    let id = begin(&app, tenant, &what, rate.unsigned_abs(), limit, matched).await?;
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.webhooks_recovered",
        by = admin.subject.as_str(), tenant_id = tenant.as_str(), recovery_id = %id, matched,
        rate_per_second = rate,
        "dead webhook deliveries are sent again for an administrator"
    );
    let begun = Begun { recovery_id: id.to_string(), matched, partial: counted.partial };
    Ok((StatusCode::ACCEPTED, Json(begun)).into_response())
}

/// How far a recovery is; for a week after its end.
#[utoipa::path(get, path = "/admin/webhooks/recoveries/{id}", operation_id = "recovery", tag = "admin",
    params(params::RecoveryId, params::OfTenant),
    responses((status = 200, body = Progress), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn get(
    State(app): State<App>,
    admin: Admin,
    path: TaskPath,
) -> http::Result<Json<Progress>> {
    let tenant = admin.tenant()?;
    let id = path.id(Missing::Anything)?;
    let of = read(&app, &id).await?;
    if of.tenant != tenant.tag() {
        return Err(Error::NotFound(Missing::Anything));
    }
    let Known { state, matched, done, failed, .. } = of;
    // More than could be counted at first.
    let matched = matched.max(done + failed);
    Ok(Json(Progress { state, matched, done, failed }))
}

/// Stops a recovery; what was sent again stays so.
#[utoipa::path(delete, path = "/admin/webhooks/recoveries/{id}", operation_id = "stop_recovery", tag = "admin",
    params(params::RecoveryId, params::OfTenant),
    responses((status = 204, description = "It does not run; also when there is none such."), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn stop(
    State(app): State<App>,
    admin: Admin,
    path: TaskPath,
) -> http::Result<StatusCode> {
    let tenant = admin.tenant()?;
    let id = path.id(Missing::Anything)?;
    if app.partitions.knows(id.partition())
        && app.store.run(id.partition(), Stop { recovery: &id, tenant }).await?.stopped
    {
        tracing::info!(
            target: "codeq::audit", category = "audit", event = "admin.webhook_recovery_stopped",
            by = admin.subject.as_str(), tenant_id = tenant.as_str(), recovery_id = %id,
            "a recovery of webhook deliveries was stopped by an administrator"
        );
    }
    Ok(StatusCode::NO_CONTENT)
}

/// What all partitions know of a recovery.
pub(super) async fn read(app: &App, id: &TaskId) -> Result<Known, crate::store::Error> {
    let reads = app.partitions.all().map(|at| app.store.run(at, ReadRecovery { recovery: id }));
    let known = futures_util::future::try_join_all(reads).await?;
    let none = || String::new();
    let mut sum = Known { tenant: none(), state: none(), matched: 0, done: 0, failed: 0 };
    for one in known {
        sum.done += one.done;
        sum.failed += one.failed;
        if !one.state.is_empty() {
            (sum.tenant, sum.state, sum.matched) = (one.tenant, one.state, one.matched);
        }
    }
    Ok(sum)
}

struct Counted {
    by_reason: BTreeMap<&'static str, u64>,
    partial: bool,
    now_ms: i64,
}

/// Counts what matches, at most `limit` (0: all), and no longer than a request may take.
async fn count(app: &App, filter: &Filter, from: &Position, limit: u64) -> http::Result<Counted> {
    let mut search = Search::new(app, filter.clone(), from);
    let (begun, mut matched) = (Instant::now(), 0);
    let mut by_reason = BTreeMap::new();
    loop {
        let left = if limit == 0 { u64::MAX } else { limit - matched };
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(COUNTED_AT_ONCE);
        let hits = search.next(app, most, 1).await?;
        matched += hits.len() as u64;
        for (_, hit) in &hits {
            *by_reason.entry(hit.reason().map_or("", Reason::as_str)).or_default() += 1;
        }
        let complete = search.is_over() || (limit > 0 && matched >= limit);
        if complete || begun.elapsed() > COUNTS_FOR {
            return Ok(Counted { by_reason, partial: !complete, now_ms: search.now_ms });
        }
    }
}

/// Writes a recovery down, in a partition that is drawn.
async fn begin(
    app: &App,
    tenant: &TenantId,
    what: &Ask,
    rate: u64,
    limit: u64,
    matched: u64,
) -> http::Result<TaskId> {
    let home = Partition::new(rand::random_range(0..app.partitions.count()));
    let unix_ms = jiff::Timestamp::now().as_millisecond().unsigned_abs();
    let id = TaskId::new(home, unix_ms);
    let ask = serde_json::to_string(what).expect("plain values are JSON");
    let begin = Begin { recovery: &id, tenant, ask: &ask, rate, limit, matched };
    app.store.run(home, begin).await?;
    app.recoveries.nudge(id);
    Ok(id)
}
