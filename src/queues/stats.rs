//! `GET /admin/queues`, `GET /admin/queues/{command}`: the numbers of queues.

use std::collections::{BTreeMap, BTreeSet};

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use crate::app::App;
use crate::http::{self, Admin, CommandPath, Tenants, params, responses};
use crate::model::{Partition, QueueName, TenantId};
use crate::script;

/// A queue with a task in any state, or paused.
#[derive(Serialize, ToSchema, Default, Clone)]
#[serde(rename_all = "camelCase")]
pub struct Queue {
    /// As first registered.
    command: String,
    ready: u64,
    delayed: u64,
    in_progress: u64,
    dlq: u64,
    paused: bool,
    /// How long the oldest ready task has been ready; 0 when none is.
    oldest_ready_age_seconds: f64,
    /// Ready tasks of each priority, 0 first.
    #[serde(skip_serializing_if = "Option::is_none")]
    ready_by_priority: Option<Vec<u64>>,
    /// Only with `?tenant=*`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant_id: Option<String>,
}

script! {
    /// The numbers of a queue on one partition.
    pub struct Stats<'a> = "stats", read, repeatable {
        once {}
        each { queue: &'a QueueName }
    } -> Numbers {
        command: String, ready: u64, delayed: u64, in_progress: u64, dead: u64, paused: bool,
        oldest_ms: u64, priorities: Vec<u64>,
    }
}

script! {
    /// Names of a tenant's queues, some at a time.
    pub struct Queues<'a> = "queues", read, repeatable {
        once {}
        each { tenant: &'a str, cursor: &'a str }
    } -> QueuePage { commands: Vec<String>, cursor: String }
}

script! {
    /// Names of tenants with queues, some at a time.
    pub struct TenantNames<'a> = "tenants", read, repeatable {
        once {}
        each { cursor: &'a str }
    } -> TenantPage { names: Vec<String>, cursor: String }
}

/// Queues of the tenant.
#[utoipa::path(get, path = "/admin/queues", tag = "admin", params(params::OfTenants),
    responses((status = 200, body = Vec<Queue>), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn queues(State(app): State<App>, admin: Admin) -> http::Result<Json<Vec<Queue>>> {
    let of_each = match admin.tenants() {
        Tenants::One(tenant) => vec![of_tenant(&app, tenant).await?],
        Tenants::All => all_tenants(&app).await?,
    };
    Ok(Json(of_each.into_iter().flatten().collect()))
}

/// One queue; zeros for one that was never used.
#[utoipa::path(get, path = "/admin/queues/{command}", tag = "admin",
    params(params::OfCommand, params::OfTenant),
    responses((status = 200, body = Queue), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn queue(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
) -> http::Result<Json<Queue>> {
    let name = QueueName::of(admin.tenant()?, &command);
    let mut queue = Queue { ready_by_priority: Some(vec![0; 10]), ..Queue::default() };
    for partition in app.partitions_of(&name, &command) {
        queue.add(app.store.run(partition, Stats { queue: &name }).await?);
    }
    if queue.command.is_empty() {
        queue.command = command.as_str().to_owned();
    }
    Ok(Json(queue))
}

impl Queue {
    fn add(&mut self, numbers: Numbers) {
        if self.command.is_empty() {
            self.command = numbers.command;
        }
        self.ready += numbers.ready;
        self.delayed += numbers.delayed;
        self.in_progress += numbers.in_progress;
        self.dlq += numbers.dead;
        self.paused |= numbers.paused;
        let age = u32::try_from(numbers.oldest_ms).map_or(f64::from(u32::MAX), f64::from) / 1000.0;
        self.oldest_ready_age_seconds = self.oldest_ready_age_seconds.max(age);
        if let Some(sums) = &mut self.ready_by_priority {
            for (sum, more) in sums.iter_mut().zip(numbers.priorities) {
                *sum += more;
            }
        }
    }
}

async fn of_tenant(app: &App, tenant: &TenantId) -> http::Result<Vec<Queue>> {
    rows(app, tenant.tag()).await.map(|rows| rows.into_values().collect())
}

/// The queues of the tenant with this tag, by their names.
async fn rows(app: &App, tag: &str) -> http::Result<BTreeMap<QueueName, Queue>> {
    let parts = app.partitions.all().map(|partition| rows_of_partition(app, tag, partition));
    let mut rows: BTreeMap<QueueName, Queue> = BTreeMap::new();
    for (name, numbers) in futures_util::future::try_join_all(parts).await?.into_iter().flatten() {
        rows.entry(name).or_default().add(numbers);
    }
    rows.retain(|_, queue| !queue.command.is_empty());
    Ok(rows)
}

async fn rows_of_partition(
    app: &App,
    tag: &str,
    partition: Partition,
) -> http::Result<Vec<(QueueName, Numbers)>> {
    let mut rows = Vec::new();
    let mut cursor = "0".to_owned();
    loop {
        let page = app.store.run(partition, Queues { tenant: tag, cursor: &cursor }).await?;
        let names: Vec<QueueName> = page
            .commands
            .iter()
            .filter_map(|command| QueueName::from_text(&format!("{tag}{command}")))
            .collect();
        let asked = names.iter().map(|name| app.store.run(partition, Stats { queue: name }));
        let numbers = futures_util::future::try_join_all(asked).await?;
        rows.extend(names.into_iter().zip(numbers));
        if page.cursor == "0" {
            return Ok(rows);
        }
        cursor = page.cursor;
    }
}

async fn all_tenants(app: &App) -> http::Result<Vec<Vec<Queue>>> {
    let mut of_each = Vec::new();
    for tenant in tenants(app).await? {
        let rows = rows(app, tenant.tag()).await?.into_values().map(|mut queue| {
            queue.tenant_id = Some(tenant.as_str().to_owned());
            queue
        });
        of_each.push(rows.collect());
    }
    Ok(of_each)
}

/// Everybody who has a queue, in the order of their names.
async fn tenants(app: &App) -> http::Result<Vec<TenantId>> {
    let mut names = BTreeSet::new();
    for partition in app.partitions.all() {
        let mut cursor = "0".to_owned();
        loop {
            let page = app.store.run(partition, TenantNames { cursor: &cursor }).await?;
            names.extend(page.names);
            if page.cursor == "0" {
                break;
            }
            cursor = page.cursor;
        }
    }
    Ok(names.iter().filter_map(|name| TenantId::parse(name)).collect())
}
