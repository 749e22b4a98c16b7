//! Deliveries of all partitions, oldest first, a bounded number of looks at a time.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::app::App;
use crate::model::delivery::Reason;
use crate::model::{DeliveryId, Partition, Time};
use crate::store;
use crate::{gives, script};

gives! {
    /// A delivery that matches: its moment, tenant and name, and why it died.
    pub struct Hit { at_ms: i64, member: String, reason: u8 }
}

script! {
    /// Some deliveries of a partition.
    pub struct Find<'a> = "outbox_find", read, repeatable {
        once {}
        each {
            dead: bool, tenant: &'a str, destination: &'a str, command: &'a str, reason: u8,
            until_ms: i64, from_ms: i64, after: &'a str, span: u64,
        }
    } -> Looked { now_ms: i64, found: Vec<Hit>, ended: bool, from_ms: i64, after: String }
}

/// Most deliveries that one call looks at.
const SPAN: u64 = 256;

/// Which deliveries.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub(super) struct Filter {
    /// Dead ones; else pending ones.
    pub dead: bool,
    /// Tag of a tenant, empty for all.
    pub tenant: String,
    /// Id of a destination, empty for any.
    pub destination: String,
    /// Tag of a command, empty for any.
    pub command: String,
    /// Number of a reason, 0 for any.
    pub reason: u8,
    /// Only those before, in ms.
    pub until_ms: i64,
}

/// Far enough in the future: Lua and JSON keep it exactly.
pub(crate) const FOR_EVER_MS: i64 = 1 << 52;

/// A place in the order: a moment, and at that moment a tenant and a name.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Position {
    pub at_ms: i64,
    pub member: String,
}

impl Position {
    /// Before everything that is not older.
    pub fn since(time: Option<Time>) -> Self {
        Self { at_ms: time.map_or(0, Time::ms).clamp(0, FOR_EVER_MS), member: String::new() }
    }

    fn order(&self) -> (i64, &str) {
        (self.at_ms, &self.member)
    }

    /// Whether a search can have stopped here.
    pub fn is_valid(&self) -> bool {
        let named =
            |tag: &str, name: &str| tag.is_ascii() && DeliveryId::from_short(name).is_some();
        let member = self.member.split_at_checked(12);
        (0..=FOR_EVER_MS).contains(&self.at_ms)
            && (self.member.is_empty() || member.is_some_and(|(tag, name)| named(tag, name)))
    }
}

impl Hit {
    fn order(&self) -> (i64, &str) {
        (self.at_ms, &self.member)
    }

    /// The name that stands behind the tenant's tag.
    pub fn name(&self) -> &str {
        self.member.get(12..).unwrap_or_default()
    }

    /// Why it died.
    pub fn reason(&self) -> Option<Reason> {
        Reason::from_byte(self.reason)
    }
}

/// What was found in one partition and not yet taken.
struct Source {
    partition: Partition,
    hits: VecDeque<Hit>,
    seen: Position,
    ended: bool,
}

/// A search that goes on.
pub(super) struct Search {
    filter: Filter,
    sources: Vec<Source>,
    /// The latest clock of a store that it heard.
    pub now_ms: i64,
}

impl Search {
    pub fn new(app: &App, filter: Filter, from: &Position) -> Self {
        let source = |partition| Source {
            partition,
            hits: VecDeque::new(),
            seen: from.clone(),
            ended: false,
        };
        Self { filter, sources: app.partitions.all().map(source).collect(), now_ms: 0 }
    }

    /// The next ones in order, at most so many, with at most so many looks into each partition.
    /// Fewer than asked for, and not over: nothing more was found that soon.
    pub async fn next(
        &mut self,
        app: &App,
        most: usize,
        looks: usize,
    ) -> Result<Vec<(Partition, Hit)>, store::Error> {
        let mut taken = Vec::new();
        let mut looked = 0;
        while taken.len() < most {
            if looked < looks && self.sources.iter().any(Source::is_hungry) {
                self.look(app).await?;
                looked += 1;
            }
            let before = taken.len();
            self.take(most, &mut taken);
            if self.is_over() || (taken.len() == before && looked == looks) {
                break;
            }
        }
        Ok(taken)
    }

    /// Where a later search goes on, behind the `last` that was taken when that was all it was asked
    /// for; `None` at the end.
    pub fn goes_on_at(&self, last: Option<&Hit>) -> Option<Position> {
        if self.is_over() {
            return None;
        }
        let unknown = self.sources.iter().filter(|source| source.is_hungry());
        let unknown = unknown.map(|source| source.seen.clone()).min();
        last.map(|hit| Position { at_ms: hit.at_ms, member: hit.member.clone() }).or(unknown)
    }

    /// Whether all was taken.
    pub fn is_over(&self) -> bool {
        self.sources.iter().all(|source| source.ended && source.hits.is_empty())
    }

    /// Looks into each partition that has nothing left to take.
    async fn look(&mut self, app: &App) -> Result<(), store::Error> {
        let filter = &self.filter;
        let looks = self.sources.iter().map(|source| async move {
            if !source.is_hungry() {
                return Ok(None);
            }
            let find = Find {
                dead: filter.dead,
                tenant: &filter.tenant,
                destination: &filter.destination,
                command: &filter.command,
                reason: filter.reason,
                until_ms: filter.until_ms,
                from_ms: source.seen.at_ms,
                after: &source.seen.member,
                span: SPAN,
            };
            app.store.run(source.partition, find).await.map(Some)
        });
        let looked = futures_util::future::try_join_all(looks).await?;
        for (source, looked) in self.sources.iter_mut().zip(looked) {
            let Some(looked) = looked else { continue };
            self.now_ms = self.now_ms.max(looked.now_ms);
            source.hits.extend(looked.found);
            source.ended = looked.ended;
            if !looked.ended {
                source.seen = Position { at_ms: looked.from_ms, member: looked.after };
            }
        }
        Ok(())
    }

    /// Takes what stands before everything that was not looked at yet.
    fn take(&mut self, most: usize, taken: &mut Vec<(Partition, Hit)>) {
        while taken.len() < most {
            let hungry = self.sources.iter().filter(|source| source.is_hungry());
            let unknown = hungry.map(|source| source.seen.order()).min();
            let full = self
                .sources
                .iter()
                .enumerate()
                .filter_map(|(n, source)| source.hits.front().map(|hit| (hit.order(), n)));
            let Some((first, n)) = full.min() else { return };
            if unknown.is_some_and(|unknown| first > unknown) {
                return;
            }
            let source = &mut self.sources[n];
            let hit = source.hits.pop_front().expect("it has a first");
            taken.push((source.partition, hit));
        }
    }
}

impl Source {
    /// Whether what comes next can only be told by looking.
    fn is_hungry(&self) -> bool {
        self.hits.is_empty() && !self.ended
    }
}
