//! A queue became ready: whoever subscribed to it is told.
//!
//! Whoever makes a queue ready hands its name over (`App::announce_ready`) and goes on. One loop of
//! each node does the rest: it looks whether anybody is subscribed and the queue still has work,
//! lets the store draw who is told, and sends.

mod send;

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::app::{App, Cause};
use crate::model::{Command, Partition, QueueName};
use crate::telemetry::metrics::CommandMetrics;
use crate::{gives, script, store};

use super::home;
use super::upsert::Mode;
use send::{Letter, Post};

script! {
    /// Whether anybody may want to be told.
    pub struct IsSubscribed<'a> = "subscribed", read, repeatable {
        once {}
        each { tenant: &'a str, queue: &'a str }
    } -> Interest { any: bool }
}

script! {
    /// What there is to tell of a queue on one partition.
    pub struct QueueReady<'a> = "queue_ready", read, repeatable {
        once {}
        each { queue: &'a QueueName }
    } -> Depth { command: String, ready: u64 }
}

gives! {
    /// A subscription that is told.
    pub struct Told { id: String, url: String, tenant: String }
}

script! {
    /// Draws those who are told.
    pub struct Pick<'a> = "subscription_pick", write, once_only {
        once {}
        each { queue: &'a QueueName, mode: &'static str, at_ms: i64, limit: usize }
    } -> Picked { told: Vec<Told>, at_ms: i64, more: bool }
}

/// Most drawn in one call.
const PAGE: usize = 64;

/// What there is to tell.
struct News {
    queue: QueueName,
    command: Command,
    /// As metrics and lines spell it.
    spelled: Command,
    metrics: Arc<CommandMetrics>,
    /// Ready tasks, all partitions of the queue together.
    ready: u64,
    cause: Cause,
}

/// Tells subscribers until told to stop; what is under way then has a moment to arrive.
pub async fn run(app: App, stop: CancellationToken) {
    let post = Arc::new(Post::new(&app));
    let mut under_way = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            ready = app.nudges.next() => {
                for news in wanted(&app, ready).await {
                    tell(&app, &post, Arc::new(news), &mut under_way).await;
                }
            }
            Some(_) = under_way.join_next() => {}
        }
    }
    let arrived = async { while under_way.join_next().await.is_some() {} };
    // A nudge is advice: that it may be cut off costs less than a stop that takes long.
    let _ = tokio::time::timeout(send::LAST_MOMENT, arrived).await;
}

/// What of it anybody may want to hear. A store that does not answer costs nudges, nothing else.
async fn wanted(app: &App, ready: Vec<(QueueName, Cause)>) -> Vec<News> {
    let tenants: BTreeSet<String> =
        ready.iter().map(|(queue, _)| queue.tenant_tag().to_owned()).collect();
    let asked = join_all(tenants.iter().map(|tenant| async move {
        let any = is_subscribed(app, tenant, "").await;
        if any == Ok(false) {
            app.nudges.quiet(QueueName::any_of(tenant));
        }
        any == Ok(true)
    }));
    let listening: BTreeSet<&String> =
        tenants.iter().zip(asked.await).filter(|(_, any)| *any).map(|(tenant, _)| tenant).collect();
    let of_these = ready
        .into_iter()
        .filter(|(queue, _)| listening.contains(&queue.tenant_tag().to_owned()))
        .map(|(queue, cause)| news(app, queue, cause));
    join_all(of_these).await.into_iter().filter_map(|news| news.ok().flatten()).collect()
}

async fn is_subscribed(app: &App, tenant: &str, queue: &str) -> Result<bool, store::Error> {
    let interest = app.store.run(home(app, tenant), IsSubscribed { tenant, queue }).await?;
    Ok(interest.any)
}

/// What there is to tell of a queue; `None` when nobody wants to hear it, or there is no work.
async fn news(app: &App, queue: QueueName, cause: Cause) -> Result<Option<News>, store::Error> {
    if !is_subscribed(app, queue.tenant_tag(), queue.as_str()).await? {
        app.nudges.quiet(queue);
        return Ok(None);
    }
    let looks = shards(app, &queue).map(|partition| {
        let queue = &queue;
        async move { app.store.run(partition, QueueReady { queue }).await }
    });
    let depths = futures_util::future::try_join_all(looks).await?;
    let ready = depths.iter().map(|depth| depth.ready).sum();
    let named = depths.iter().find(|depth| !depth.command.is_empty());
    let Some(named) = named.filter(|_| ready > 0) else { return Ok(None) };
    let command = Command::trusted(&named.command);
    let label = app.labels.number(&app.store, &command).await?;
    let metrics = app.labels.metrics(label).or_else(|| app.labels.metrics(0));
    let metrics = metrics.expect("there is always a label for all others");
    let spelled = app.labels.spelled(label, &command);
    Ok(Some(News { queue, command, spelled, metrics, ready, cause }))
}

/// Every partition on which a queue of this name may lie: the name does not say whether its command
/// is spread.
fn shards(app: &App, queue: &QueueName) -> impl Iterator<Item = Partition> + use<> {
    let most = app.settings.spread.values().copied().max().unwrap_or(1);
    let (partitions, queue) = (app.partitions.clone(), *queue);
    (0..most.clamp(1, partitions.count())).map(move |shard| partitions.of_shard(&queue, shard))
}

/// Draws who is told, and hands each over to be sent.
async fn tell(app: &App, post: &Arc<Post>, news: Arc<News>, under_way: &mut JoinSet<()>) {
    for mode in Mode::ALL {
        let mut at_ms = 0;
        loop {
            let pick = Pick { queue: &news.queue, mode: mode.letter(), at_ms, limit: PAGE };
            let home = home(app, news.queue.tenant_tag());
            let Ok(picked) = app.store.run(home, pick).await else { return };
            for told in picked.told {
                post.send(Letter { told, mode, news: news.clone() }, under_way);
            }
            if !picked.more {
                break;
            }
            at_ms = picked.at_ms;
        }
    }
}
