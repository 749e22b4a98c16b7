//! Recoveries are carried on: by one node at a time, under a short lease, and by another when that
//! one falls silent. Every node runs this; it costs nothing while none is running.

use std::collections::HashSet;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::model::{Partition, TaskId};
use crate::telemetry::metrics::LoopKind;
use crate::{script, store};

use super::admin::Replay;
use super::recover::{self, Ask};
use super::search::{Hit, Search};

script! {
    /// Takes a recovery over, or goes on with it.
    pub struct Step<'a> = "recover_step", write, once_only {
        once {}
        each { recovery: &'a TaskId, lease_ms: u64, held_ms: i64, moved: u64, over: bool }
    } -> Granted { till_ms: i64, grant: usize, ask: String }
}

/// How long a recovery is a node's: as long as it may be silent before another carries on.
const LEASE_MS: u64 = 700;
/// Between two steps.
const PACE: Duration = Duration::from_millis(100);
/// Looks into each partition for one step; what is not found that soon is looked for in the next.
const LOOKS: usize = 8;

/// Carries on what is due until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    let mut running = HashSet::new();
    let mut steps = FuturesUnordered::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            due = app.recoveries.next() => {
                for id in due {
                    if running.insert(id) {
                        let app = &app;
                        steps.push(async move { (id, carry_on(app, &id).await) });
                    }
                }
            }
            Some((id, ended)) = steps.next(), if !steps.is_empty() => {
                running.remove(&id);
                if let Err(error) = ended {
                    tell(&app, &id, &error);
                }
            }
        }
    }
}

/// A store that is away says so itself; the next sweep that finds the recovery due goes on.
fn tell(app: &App, id: &TaskId, error: &store::Error) {
    if !error.is_passing() {
        app.metrics.loop_errors.with(LoopKind::Outbox).inc();
        tracing::warn!(
            target: "codeq::webhooks", category = "system", event = "recovery.interrupted",
            recovery_id = %id, error.message = %error,
            "a recovery of webhook deliveries was interrupted and will be carried on"
        );
    }
}

/// Takes a recovery if it is nobody's, and carries it to its end.
async fn carry_on(app: &App, id: &TaskId) -> Result<(), store::Error> {
    let step = |held_ms, moved, over| {
        let step = Step { recovery: id, lease_ms: LEASE_MS, held_ms, moved, over };
        app.store.run(id.partition(), step)
    };
    let taken = step(0, 0, false).await?;
    let Ok(ask) = serde_json::from_str::<Ask>(&taken.ask) else { return Ok(()) };
    // Who had it before may have been cut off between moving and saying so: the partitions know.
    let known = recover::read(app, id).await?;
    let mut moved = known.done + known.failed;
    let mut search = Search::new(app, ask.filter.clone(), &ask.from);
    let mut held_ms = taken.till_ms;
    let mut over = false;
    loop {
        let granted = step(held_ms, moved, over).await?;
        if granted.till_ms == 0 {
            return Ok(());
        }
        held_ms = granted.till_ms;
        let hits = search.next(app, granted.grant, LOOKS).await?;
        replay(app, id, &ask, &hits).await?;
        moved += hits.len() as u64;
        over = search.is_over();
        if !over {
            tokio::time::sleep(PACE).await;
        }
    }
}

/// Sends them again; each is counted where it lies in the same step.
async fn replay(
    app: &App,
    id: &TaskId,
    ask: &Ask,
    hits: &[(Partition, Hit)],
) -> Result<(), store::Error> {
    let recovery = id.short();
    let replays = hits.iter().map(|(partition, hit)| {
        let replay = Replay {
            delivery: hit.name(),
            tenant: &ask.filter.tenant,
            asked: &ask.asked,
            hold_ms: app.hold_ms(),
            recovery: &recovery,
        };
        app.store.run(*partition, replay)
    });
    futures_util::future::try_join_all(replays).await?;
    let partitions: HashSet<u16> = hits.iter().map(|(partition, _)| partition.number()).collect();
    for number in partitions {
        app.outbox.nudge(Partition::new(number), false);
    }
    Ok(())
}
