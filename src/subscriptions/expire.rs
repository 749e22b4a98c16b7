//! Subscriptions that nobody kept go. Nothing depends on when: who has ended is told nothing and
//! counts for nothing, whether or not its record is there.

use std::time::Duration;

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::app::App;
use crate::egress::Target;
use crate::telemetry::metrics::LoopKind;
use crate::{gives, script, store};

gives! {
    /// A subscription that went.
    pub struct Gone { id: String, tenant: String, url: String }
}

script! {
    /// Removes those of a partition that have ended.
    pub struct Expire = "subscription_expire", write, once_only {
        once {}
        each { limit: u64 }
    } -> Removed { gone: Vec<Gone> }
}

/// Most that one call removes: each may stand in a hundred lines.
const LIMIT: u64 = 16;
/// Most calls in a row for one partition; the rest waits for the next round.
const CALLS: usize = 256;

/// Removes what has ended, round after round, until told to stop.
pub async fn run(app: App, stop: CancellationToken) {
    let pause = app.settings.subscriptions.cleanup_interval_seconds;
    let mut tick = tokio::time::interval(Duration::from_secs(pause.into()));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        // A store that is away says so itself; the next round finds what this one left.
        if let Err(error) = round(&app, &stop).await
            && !error.is_passing()
        {
            app.metrics.loop_failed(LoopKind::Sweeper, &error.to_string());
        }
    }
}

async fn round(app: &App, stop: &CancellationToken) -> Result<(), store::Error> {
    for partition in app.partitions.all() {
        for _ in 0..CALLS {
            let removed = app.store.run(partition, Expire { limit: LIMIT }).await?;
            tell(&removed.gone);
            if removed.gone.len() as u64 != LIMIT || stop.is_cancelled() {
                break;
            }
        }
    }
    Ok(())
}

/// Writes the line of each that went.
pub(super) fn tell(gone: &[Gone]) {
    for Gone { id, tenant, url } in gone {
        tracing::info!(
            target: "codeq::subscriptions", category = "worker", event = "subscription.expired",
            tenant_id = tenant.as_str(), subscription_id = id.as_str(),
            webhook.host = Target::parse_stored(url).ok().as_ref().map(Target::host),
            "a subscription ended"
        );
    }
}
