//! `GET /admin/queues/{command}/tasks`: the tasks of a queue in one state.

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::app::App;
use crate::http::{self, Admin, CommandPath, Cursor, Error, Limit, Page, Query, params, responses};
use crate::model::{Partition, QueueName, Task, TaskId, TenantId};
use crate::script;
use crate::tasks;

/// Which page.
#[derive(Deserialize, IntoParams)]
pub struct Ask {
    /// Which index.
    #[param(inline)]
    state: In,
    /// 1..1000.
    #[serde(default)]
    #[param(value_type = u16, required = false, minimum = 1, maximum = 1000)]
    limit: Limit,
    /// From the page before.
    #[param(value_type = String, required = false)]
    cursor: Option<Cursor<At>>,
}

/// The state that tasks are listed by.
#[derive(Deserialize, ToSchema, Clone, Copy)]
#[serde(rename_all = "snake_case")]
pub enum In {
    /// In claim order.
    Ready,
    /// By due time.
    Delayed,
    /// By lease end.
    InProgress,
    /// By death.
    Dlq,
}

impl In {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Delayed => "delayed",
            Self::InProgress => "in_progress",
            Self::Dlq => "dlq",
        }
    }
}

/// Where a page stopped.
#[derive(Serialize, Deserialize, Clone)]
pub struct At {
    shard: u16,
    score: String,
    after: String,
}

script! {
    /// A page of ids.
    pub struct List<'a> = "list", read, repeatable {
        once {}
        each { queue: &'a QueueName, state: &'a str, score: &'a str, after: &'a str, span: u64 }
    } -> Listed { ids: Vec<TaskId>, score: String, after: String }
}

/// Most entries that one script call looks at.
const SPAN: usize = 256;
/// Most calls for one page: a page of a queue with busy neighbours ends early, with a cursor.
const MAX_CALLS: usize = 64;

/// A page of tasks, oldest first.
#[utoipa::path(get, path = "/admin/queues/{command}/tasks", tag = "admin",
    params(params::OfCommand, params::OfTenant, Ask),
    responses((status = 200, body = Page<Task>), responses::Authenticated, responses::BadRequest), security(("bearer" = [])))]
pub async fn tasks(
    State(app): State<App>,
    admin: Admin,
    CommandPath(command): CommandPath,
    Query(ask): Query<Ask>,
) -> http::Result<Json<Page<Task>>> {
    let tenant = admin.tenant()?;
    let queue = QueueName::of(tenant, &command);
    let partitions: Vec<Partition> = app.partitions_of(&queue, &command).collect();
    let mut at = ask.cursor.map_or_else(|| At::start(0), |Cursor(at)| at);
    if !at.is_in(ask.state) {
        return Err(Error::InvalidBody("cursor: not a cursor of this list".into()));
    }
    let mut items = Vec::new();
    for _ in 0..MAX_CALLS {
        let left = ask.limit.get() - items.len();
        let Some(partition) = partitions.get(usize::from(at.shard)) else {
            return Ok(Json(Page::new(items, None::<&At>)));
        };
        if left == 0 {
            break;
        }
        let list = List {
            queue: &queue,
            state: ask.state.as_str(),
            score: &at.score,
            after: &at.after,
            span: left.min(SPAN) as u64,
        };
        let listed = app.store.run(*partition, list).await?;
        items.extend(read(&app, tenant, &listed.ids).await?);
        at = match listed.score.is_empty() {
            true => At::start(at.shard + 1),
            false => At { shard: at.shard, score: listed.score, after: listed.after },
        };
    }
    let more = usize::from(at.shard) < partitions.len();
    Ok(Json(Page::new(items, more.then_some(&at))))
}

impl At {
    fn start(shard: u16) -> Self {
        Self { shard, score: "-inf".to_owned(), after: String::new() }
    }

    /// Whether such a list can have stopped here. A script that goes on from anywhere else would fail,
    /// or count down from a priority of a billion.
    fn is_in(&self, state: In) -> bool {
        let digits = |text: &str, most: usize| {
            (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit())
        };
        let entry = match state {
            In::Ready => digits(&self.score, 1) && digits(&self.after, 12),
            // Scores are milliseconds.
            In::Delayed | In::InProgress | In::Dlq => {
                digits(&self.score, 16) && TaskId::from_short(&self.after).is_some()
            }
        };
        entry || (self.score == "-inf" && self.after.is_empty())
    }
}

/// The tasks of these ids. One that moved on meanwhile is shown where it is now; one that is gone is
/// left out.
async fn read(app: &App, tenant: &TenantId, ids: &[TaskId]) -> http::Result<Vec<Task>> {
    let found = ids.iter().map(|id| tasks::find(app, id, tenant));
    let mut tasks = Vec::with_capacity(ids.len());
    for found in futures_util::future::join_all(found).await {
        match found {
            Ok(found) => tasks.push(found.task()),
            Err(Error::NotFound(_)) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(tasks)
}
