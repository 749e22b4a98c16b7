//! Destinations: which receivers may be sent to, by what became of the attempts before and by what
//! administrators decided. The record of each is in the store and shared by the fleet; a node acts
//! upon what it saw at most a second ago.

pub mod admin;
mod events;
pub mod scripts;

use std::time::Duration;

use futures_util::future::try_join_all;

use crate::app::{App, Destination, Sight};
use crate::model::delivery::{Class, OPERATOR_TAG};
use crate::model::{Partition, TenantId};
use crate::store;
use crate::telemetry::metrics::Cache;

use super::ops;
use events::Change;
use scripts::{Depth, Depths, Failed, Look, Pace, Succeeded, Unpark, Unprobed};

/// The longest that anything is left alone before it is looked at again: a destination that is
/// resumed while another node still thinks it paused heals by itself.
const LONGEST_WAIT_MS: i64 = 30_000;
/// How long the others wait for the outcome of a probe before they look again.
const PROBE_WAIT_MS: i64 = 2_000;
/// Beyond an attempt, for its outcome to be written.
const GRANT_MARGIN: Duration = Duration::from_secs(5);

/// Whether something may be sent to a destination.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// It may.
    Send {
        /// Deliveries at once of this node, instead of the setting.
        max_concurrency: Option<u32>,
        /// Deliveries per second of the fleet: [`Destinations::pace`] hands them out.
        max_per_second: Option<f64>,
    },
    /// One delivery may, by this caller alone in the whole fleet, to see whether it is back.
    Probe {
        /// Until when, by the store's clock: what tells this probe from another.
        granted_ms: i64,
    },
    /// Not before this time by the store's clock, at most 30 s away.
    Wait {
        /// When to ask again.
        until_ms: i64,
    },
}

/// Turns at a destination with a rate.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Paced {
    /// One for each that may be sent: how long from now, at most a second.
    pub delays: Vec<Duration>,
    /// When to ask for those that got none.
    pub wait: Option<Duration>,
}

/// The destinations of the fleet, as this node sees them. Cheap to make and to clone: what is
/// remembered belongs to the [`App`].
#[derive(Clone)]
pub struct Destinations(App);

impl Destinations {
    /// The view of this node.
    pub fn of(app: &App) -> Self {
        Self(app.clone())
    }

    /// Whether something may be sent, by what was seen in the last second or by one call of the
    /// store. `tenant` is `None` for the operator's own. Makes the record when there is none.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn verdict(
        &self,
        id: &str,
        tenant: Option<&TenantId>,
        origin: &str,
    ) -> Result<Verdict, store::Error> {
        let cache = &self.0.metrics.cache_requests;
        let place = self.0.destinations.place(id);
        if let Some(verdict) = place.fresh().and_then(|sight| judge(&sight)) {
            cache.with(Cache::DestinationHit).inc();
            return Ok(verdict);
        }
        let _asking = place.asking.lock().await;
        if let Some(verdict) = place.fresh().and_then(|sight| judge(&sight)) {
            cache.with(Cache::DestinationHit).inc();
            return Ok(verdict);
        }
        cache.with(Cache::DestinationMiss).inc();
        let grant = self.0.settings.webhook.timeout + GRANT_MARGIN;
        let look = Look {
            grant_ms: whole_ms(grant),
            destination: id,
            tenant: tenant.map_or("", TenantId::as_str),
            tag: tenant.map_or(OPERATOR_TAG, TenantId::tag),
            origin,
        };
        let looked = self.0.store.run(self.home(id), look).await?;
        let sight = Sight::new(looked.record, looked.now_ms);
        self.0.destinations.see(sight.clone());
        if looked.probe {
            return Ok(Verdict::Probe { granted_ms: sight.record.granted_ms });
        }
        // Due by this node's reckoning, and not by the store's.
        let soon = Verdict::Wait { until_ms: sight.now_ms() + 1_000 };
        Ok(judge(&sight).unwrap_or(soon))
    }

    /// Takes up to `n` turns at a destination with a rate; without one all may go at once.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn pace(&self, id: &str, n: u32) -> Result<Paced, store::Error> {
        let last = self.0.destinations.place(id).last();
        if n == 0 || last.is_some_and(|sight| sight.record.per_second.is_none()) {
            let delays = (0..n).map(|_| Duration::ZERO).collect();
            return Ok(Paced { delays, wait: None });
        }
        let turns = self.0.store.run(self.home(id), Pace { destination: id, wanted: n }).await?;
        Ok(Paced {
            delays: turns.delays_ms.into_iter().map(Duration::from_millis).collect(),
            wait: (turns.wait_ms > 0).then(|| Duration::from_millis(turns.wait_ms)),
        })
    }

    /// Until when a destination is to be left alone, by what was seen in the last second.
    pub fn waits(&self, id: &str) -> Option<i64> {
        match judge(&self.0.destinations.place(id).fresh()?) {
            Some(Verdict::Wait { until_ms }) => Some(until_ms),
            _ => None,
        }
    }

    /// An attempt got an answer below 500 other than 429. While nothing failed before, this costs
    /// no call of the store.
    pub async fn succeeded(&self, id: &str, probe: bool) {
        let Some(sight) = self.0.destinations.place(id).last() else { return };
        let record = &sight.record;
        let clean = record.failures == 0 && record.state != "open";
        if !probe && (clean || record.state == "disabled") {
            return;
        }
        if record.state != "open" {
            // Once per change: those that succeed meanwhile see that it is being told.
            let told = Destination { failures: 0, ..Destination::clone(record) };
            self.0.destinations.see(sight.with(told));
        }
        let event = self.event(Change::Recovered, record).unwrap_or_default();
        let succeeded = Succeeded {
            destination: id,
            to: &event.destination,
            event: &event.delivery,
            says: event.record,
        };
        let Ok(cleared) = self.0.store.run(self.home(id), succeeded).await else { return };
        let recovered = cleared.recovered;
        self.learn(cleared.record, cleared.now_ms);
        if recovered {
            self.changed(Change::Recovered, record, "");
            self.look_everywhere(id).await;
        }
    }

    /// A probe was not sent after all: another may be, now.
    pub async fn unprobed(&self, id: &str, granted_ms: i64) {
        let unprobed = Unprobed { destination: id, granted_ms };
        // If it cannot be written, the grant runs out.
        let Ok(given) = self.0.store.run(self.home(id), unprobed).await else { return };
        self.learn(given.record, given.now_ms);
    }

    /// An attempt failed. Only what says something about the destination counts: an answer that is
    /// merely a refusal is a sign of life. `retry_after` is what the receiver asked for.
    pub async fn failed(&self, id: &str, class: Class, probe: bool, retry_after: Option<Duration>) {
        match class {
            Class::Success | Class::Http3xx | Class::Http4xx => {
                return self.succeeded(id, probe).await;
            }
            // Our own fault, or our own rules. A probe that met them has found nobody all the same.
            Class::Proxy => return,
            Class::Blocked if !probe => return,
            _ => {}
        }
        let Some(sight) = self.0.destinations.place(id).last() else { return };
        let record = &sight.record;
        let open = self.event(Change::Opened, record).unwrap_or_default();
        let off = self.event(Change::Disabled, record).unwrap_or_default();
        let failed = Failed {
            disable_ms: self.0.settings.webhook.disable_after.map_or(0, whole_ms),
            destination: id,
            class: class.as_str(),
            probe,
            quiet_ms: retry_after.map_or(0, whole_ms),
            to: &open.destination,
            open: &open.delivery,
            says_open: open.record,
            off: &off.delivery,
            says_off: off.record,
        };
        let Ok(blamed) = self.0.store.run(self.home(id), failed).await else { return };
        self.learn(blamed.record, blamed.now_ms);
        match blamed.changed.as_str() {
            "open" => self.changed(Change::Opened, record, class.as_str()),
            "disabled" => self.changed(Change::Disabled, record, class.as_str()),
            _ => {}
        }
    }

    /// The partition that a destination's record is on.
    pub fn home(&self, id: &str) -> Partition {
        self.0.partitions.hashed(&[id.as_bytes()])
    }

    /// Remembers what the store just showed.
    pub fn learn(&self, record: Destination, now_ms: i64) {
        self.0.destinations.see(Sight::new(record, now_ms));
    }

    /// Has what waits for a destination looked at in every partition. All of it is in the store when
    /// this returns: no other node can park it again for long, whatever becomes of this one.
    pub async fn look_everywhere(&self, id: &str) {
        let unpark = |partition| async move {
            let unparked = self.0.store.run(partition, Unpark { destination: id }).await?;
            if unparked.parked {
                self.0.outbox.nudge(partition, false);
            }
            Ok::<_, store::Error>(())
        };
        // What is missed here is looked at when its park ends.
        let _ = try_join_all(self.0.partitions.all().map(unpark)).await;
    }

    fn event(&self, change: Change, record: &Destination) -> Option<ops::Event> {
        let about = events::About::of(record);
        ops::event(&self.0, self.home(&record.id), change.as_str(), &record.id, &about)
    }

    fn changed(&self, change: Change, record: &Destination, class: &str) {
        events::changed(change, record, class);
        if ops::destination(&self.0).is_some_and(|ops| ops != record.id) {
            self.0.outbox.nudge(self.home(&record.id), false);
        }
    }
}

/// Destinations and tenants that a scrape looks at in one partition: far more than are ever parked at
/// once, and a bound all the same.
const COUNTED: u64 = 1_000;

/// How much is in the outbox of all partitions.
///
/// # Errors
/// When the store does not answer.
pub async fn depth(app: &App) -> Result<Depth, store::Error> {
    let of = |partition| app.store.run(partition, Depths { most: COUNTED });
    let mut sum = Depth { states: vec![0; 4], ..Depth::default() };
    for part in try_join_all(app.partitions.all().map(of)).await? {
        sum.pending += part.pending;
        sum.parked += part.parked;
        sum.dead += part.dead;
        sum.oldest_ms = sum.oldest_ms.max(part.oldest_ms);
        for (sum, more) in sum.states.iter_mut().zip(part.states) {
            *sum += more;
        }
    }
    Ok(sum)
}

/// What a look at a record means now; `None` when the store is to be asked who probes.
fn judge(sight: &Sight) -> Option<Verdict> {
    let (record, now) = (&sight.record, sight.now_ms());
    let wait = |until_ms: i64| {
        Some(Verdict::Wait { until_ms: until_ms.clamp(now + 1, now + LONGEST_WAIT_MS) })
    };
    match record.state.as_str() {
        "" if record.until_ms > now => wait(record.until_ms),
        "" => Some(Verdict::Send {
            max_concurrency: record.concurrency,
            max_per_second: record.per_second,
        }),
        "open" if record.until_ms > now => wait(record.until_ms),
        "open" if record.granted_ms > now => wait(record.granted_ms.min(now + PROBE_WAIT_MS)),
        "open" => None,
        // Paused, disabled, or something that a later version knows.
        _ => wait(now + LONGEST_WAIT_MS),
    }
}

fn whole_ms(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
