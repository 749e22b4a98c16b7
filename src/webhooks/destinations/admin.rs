//! `GET /admin/webhook-destinations`, `PUT …/{id}`, `POST …/{id}/pause`, `…/resume`: receivers, and
//! how much they are sent.

use axum::Json;
use axum::extract::State;
use futures_util::future::try_join_all;
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::{App, Destination};
use crate::http::{
    self, Admin, Body, Cursor, DestinationPath, Error, Limit, Missing, Page, Query, Tenants,
    params, responses,
};
use crate::model::delivery::OPERATOR_TAG;
use crate::model::{Partition, Refusal, Time};
use crate::store;

use super::Destinations;
use super::events::host;
use super::scripts::{self, Load, Pause};

/// A receiver of one tenant's webhooks: scheme, host and port.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDestination)]
pub struct View {
    id: String,
    /// Scheme, host, and port where it does not go without saying.
    origin: String,
    /// `active`, `open`, `paused` or `disabled`.
    state: String,
    /// The first of the failures in a row; absent when the last attempt was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    failing_since: Option<Time>,
    consecutive_failures: u32,
    /// How the last of them ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_class: Option<String>,
    /// Deliveries that wait, or are under way.
    pending: u64,
    /// Deliveries that were given up.
    dead: u64,
    /// When an open one is tried out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    next_probe_at: Option<Time>,
    /// Of the whole fleet; absent without limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_per_second: Option<f64>,
    /// At once by each node; absent for `webhook.maxConcurrencyPerHost`.
    #[serde(skip_serializing_if = "Option::is_none")]
    max_concurrency: Option<u32>,
    /// Only with `?tenant=*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
}

/// Which page.
#[derive(Deserialize, IntoParams)]
pub struct Ask {
    /// Only those.
    #[param(inline)]
    state: Option<In>,
    /// 1..1000.
    #[serde(default)]
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: Limit,
    /// From the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<Cursor<At>>,
}

/// A state that destinations are listed by.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
#[schema(as = WebhookDestinationState)]
pub enum In {
    /// Is sent to.
    Active,
    /// Failed several times in a row.
    Open,
    /// By an administrator.
    Paused,
    /// Failed for too long.
    Disabled,
}

impl In {
    fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Open => "open",
            Self::Paused => "paused",
            Self::Disabled => "disabled",
        }
    }
}

/// Where a page stopped.
#[derive(Serialize, Deserialize, Clone, Default)]
pub struct At {
    partition: u16,
    after: String,
}

/// What is absent or null is not limited.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = WebhookDestinationLimits)]
pub struct Limits {
    /// 0.1..100000, for the whole fleet.
    #[schema(minimum = 0.1, maximum = 100000)]
    max_per_second: Option<f64>,
    /// 1..65536, for each node.
    #[schema(minimum = 1, maximum = 65536)]
    max_concurrency: Option<i64>,
}

/// Partitions asked at once for a page.
const AT_ONCE: usize = 16;
/// The highest rate.
const MAX_PER_SECOND: f64 = 100_000.0;
/// The lowest one: a delivery in ten seconds.
const MIN_PER_SECOND: f64 = 0.1;
/// The most at once.
const MAX_CONCURRENCY: i64 = 65_536;

/// A page of destinations that something was sent to in the last week, or about which something was
/// decided, in an order that stays.
#[utoipa::path(get, operation_id = "webhook_destinations", path = "/admin/webhook-destinations", tag = "admin",
    params(params::OfTenants, Ask),
    responses((status = 200, body = Page<View>), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn list(
    State(app): State<App>,
    admin: Admin,
    Query(ask): Query<Ask>,
) -> http::Result<Json<Page<View>>> {
    let (tag, all) = match admin.tenants() {
        Tenants::One(tenant) => (tenant.tag(), false),
        Tenants::All => ("", true),
    };
    let start = ask.cursor.map_or_else(At::default, |Cursor(at)| at);
    let state = ask.state.map_or("", In::as_str);
    let limit = ask.limit.get();
    let (app, start) = (&app, &start);
    let found =
        app.partitions.all().skip(usize::from(start.partition)).map(|partition| async move {
            let first = partition.number() == start.partition;
            let after = if first { start.after.as_str() } else { "" };
            let most = limit as u64;
            let page =
                app.store.run(partition, scripts::Destinations { tag, state, after, most }).await?;
            Ok::<_, store::Error>((partition, page))
        });
    // In the order of partitions; those behind a full page were asked for nothing, a few at a time.
    let mut pages = stream::iter(found).buffered(AT_ONCE);
    let (mut records, mut next): (Vec<Destination>, _) = (Vec::new(), None);
    while let Some((partition, page)) = pages.try_next().await? {
        let room = limit - records.len();
        if page.more || page.records.len() > room {
            records.extend(page.records.into_iter().take(room));
            let partition = partition.number();
            let last = records.last().filter(|_| room > 0).map(|record| record.id.clone());
            next = Some(At { partition, after: last.unwrap_or_default() });
            break;
        }
        records.extend(page.records);
    }
    let views = views(app, records, all).await?;
    Ok(Json(Page::new(views, next.as_ref())))
}

/// Sets how much a destination is sent; what is not named is not limited.
#[utoipa::path(put, operation_id = "limit_webhook_destination", path = "/admin/webhook-destinations/{id}", tag = "admin",
    params(params::DestinationId, params::OfTenant), request_body = Limits,
    responses((status = 200, body = View), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn limit(
    State(app): State<App>,
    admin: Admin,
    DestinationPath(id): DestinationPath,
    Body(limits): Body<Limits>,
) -> http::Result<Json<View>> {
    let (per_second, concurrency) = limits.check()?;
    let id = id.ok_or(NOT_FOUND)?;
    let limited = of_tag(&app, &admin, &id, |tag| scripts::Limit {
        destination: &id,
        tag,
        per_second,
        concurrency,
    })
    .await?;
    tracing::info!(
        target: "codeq::audit", category = "audit", event = "admin.destination_limited",
        by = admin.subject.as_str(), tenant_id = limited.record.tenant.as_str(), destination = id,
        webhook.host = host(&limited.record), before = ?limited.before,
        after = ?(per_second, concurrency), "the limits of a destination were set"
    );
    shown(&app, limited.record, limited.now_ms).await
}

/// Nothing is sent to a destination until it is resumed. Nothing is lost, but age goes on.
#[utoipa::path(post, operation_id = "pause_webhook_destination", path = "/admin/webhook-destinations/{id}/pause", tag = "admin",
    params(params::DestinationId, params::OfTenant),
    responses((status = 200, body = View), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn pause(
    State(app): State<App>,
    admin: Admin,
    DestinationPath(id): DestinationPath,
) -> http::Result<Json<View>> {
    set_paused(&app, &admin, id, true).await
}

/// What waits for a destination is sent at once, whatever state it was in.
#[utoipa::path(post, operation_id = "resume_webhook_destination", path = "/admin/webhook-destinations/{id}/resume", tag = "admin",
    params(params::DestinationId, params::OfTenant),
    responses((status = 200, body = View), responses::Authenticated, responses::BadRequest, responses::NotFound), security(("bearer" = [])))]
pub async fn resume(
    State(app): State<App>,
    admin: Admin,
    DestinationPath(id): DestinationPath,
) -> http::Result<Json<View>> {
    set_paused(&app, &admin, id, false).await
}

async fn set_paused(
    app: &App,
    admin: &Admin,
    id: Option<String>,
    paused: bool,
) -> http::Result<Json<View>> {
    let id = id.ok_or(NOT_FOUND)?;
    let steered = of_tag(app, admin, &id, |tag| Pause { destination: &id, tag, paused }).await?;
    if !paused {
        Destinations::of(app).look_everywhere(&id).await;
    }
    let event = if paused { "admin.destination_paused" } else { "admin.destination_resumed" };
    tracing::info!(
        target: "codeq::audit", category = "audit", event,
        by = admin.subject.as_str(), tenant_id = steered.record.tenant.as_str(), destination = id,
        webhook.host = host(&steered.record), before = state_of(&steered.before),
        after = state_of(&steered.record.state), "a destination was paused or resumed"
    );
    shown(app, steered.record, steered.now_ms).await
}

const NOT_FOUND: Error = Error::NotFound(Missing::Anything);

/// Does something to a destination of the tenant, or for an operator to that of operator events.
async fn of_tag<'a, S: store::Script>(
    app: &App,
    admin: &'a Admin,
    id: &str,
    what: impl Fn(&'a str) -> S,
) -> http::Result<S::Reply> {
    let home = Destinations::of(app).home(id);
    let mut done = app.store.run(home, what(admin.tenant()?.tag())).await;
    let is_missing = matches!(done, Err(store::Error::Refused(Refusal::NotFound)));
    if is_missing && admin.is_operator() {
        done = app.store.run(home, what(OPERATOR_TAG)).await;
    }
    done.map_err(|error| match error {
        store::Error::Refused(Refusal::NotFound) => NOT_FOUND,
        error => error.into(),
    })
}

async fn shown(app: &App, record: Destination, now_ms: i64) -> http::Result<Json<View>> {
    Destinations::of(app).learn(record.clone(), now_ms);
    let view = views(app, vec![record], false).await?.pop();
    view.map(Json).ok_or(Error::Internal)
}

/// The records with what waits for each, which is spread over all partitions.
async fn views(app: &App, records: Vec<Destination>, all: bool) -> http::Result<Vec<View>> {
    let ids: String = records.iter().map(|record| record.id.as_str()).collect();
    let mut loads = vec![(0, 0); records.len()];
    if !records.is_empty() {
        let load = |partition: Partition| app.store.run(partition, Load { destinations: &ids });
        for part in try_join_all(app.partitions.all().map(load)).await? {
            for (sum, more) in loads.iter_mut().zip(part.pending.into_iter().zip(part.dead)) {
                *sum = (sum.0 + more.0, sum.1 + more.1);
            }
        }
    }
    let view = |(record, load)| View::of(record, load, all);
    Ok(records.into_iter().zip(loads).map(view).collect())
}

/// Scripts leave an active one's state away.
fn state_of(word: &str) -> &str {
    if word.is_empty() { In::Active.as_str() } else { word }
}

impl View {
    fn of(record: Destination, (pending, dead): (u64, u64), all: bool) -> Self {
        let time = |ms: i64| (ms > 0).then(|| Time::from_ms(ms));
        Self {
            state: state_of(&record.state).to_owned(),
            failing_since: time(record.since_ms),
            consecutive_failures: record.failures,
            last_class: Some(record.class).filter(|class| !class.is_empty()),
            pending,
            dead,
            next_probe_at: time(record.until_ms).filter(|_| record.state == "open"),
            max_per_second: record.per_second,
            max_concurrency: record.concurrency,
            tenant_id: Some(record.tenant).filter(|tenant| all && !tenant.is_empty()),
            id: record.id,
            origin: record.origin,
        }
    }
}

impl Limits {
    fn check(&self) -> http::Result<(Option<f64>, Option<u32>)> {
        let rate = self.max_per_second;
        if rate.is_some_and(|rate| !(MIN_PER_SECOND..=MAX_PER_SECOND).contains(&rate)) {
            return Err(Error::InvalidBody("maxPerSecond: between 0.1 and 100000".into()));
        }
        let concurrency = match self.max_concurrency {
            None => None,
            Some(most @ 1..=MAX_CONCURRENCY) => u32::try_from(most).ok(),
            Some(_) => return Err(Error::InvalidBody("maxConcurrency: 1 to 65536".into())),
        };
        Ok((rate, concurrency))
    }
}
