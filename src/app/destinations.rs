use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::gives;

gives! {
    /// The record of a destination as scripts show it. Times are in ms by the store's clock, 0 for
    /// none.
    pub struct Destination {
        id: String, tenant: String, origin: String, state: String, failures: u32, since_ms: i64,
        class: String, until_ms: i64, granted_ms: i64, per_second: Option<f64>,
        concurrency: Option<u32>,
    }
}

/// How long a look at a destination serves this node.
const FRESH: Duration = Duration::from_secs(1);
/// Destinations that are remembered.
const MOST: usize = 10_000;

/// A record and when it was read.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The record.
    pub record: Arc<Destination>,
    read_at: Instant,
    now_ms: i64,
}

impl Sight {
    /// A record that the store just showed, at this time by its clock.
    pub fn new(record: Destination, now_ms: i64) -> Self {
        Self { record: Arc::new(record), read_at: Instant::now(), now_ms }
    }

    /// The same look with another record, for what is being changed just now.
    #[must_use]
    pub fn with(&self, record: Destination) -> Self {
        Self { record: Arc::new(record), ..self.clone() }
    }

    /// The store's clock, as far as this node can tell.
    pub fn now_ms(&self) -> i64 {
        let since = self.read_at.elapsed().as_millis();
        self.now_ms.saturating_add(i64::try_from(since).unwrap_or(i64::MAX))
    }

    /// Whether what it shows may still be acted upon.
    pub fn is_fresh(&self) -> bool {
        self.read_at.elapsed() < FRESH
    }
}

/// What this node knows of a destination. One caller at a time asks the store.
#[derive(Default, Debug)]
pub struct Place {
    /// Held by who asks the store.
    pub asking: tokio::sync::Mutex<()>,
    sight: Mutex<Option<Sight>>,
}

impl Place {
    /// What was last seen, however old.
    pub fn last(&self) -> Option<Sight> {
        self.sight.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What was seen just now.
    pub fn fresh(&self) -> Option<Sight> {
        self.last().filter(Sight::is_fresh)
    }

    fn see(&self, sight: Sight) {
        *self.sight.lock().unwrap_or_else(PoisonError::into_inner) = Some(sight);
    }
}

/// What this node knows of destinations: nothing that the store does not know better, and nothing
/// older than a second that anybody acts upon. Bounded.
#[derive(Default)]
pub struct KnownDestinations(Mutex<HashMap<String, Arc<Place>>>);

impl KnownDestinations {
    /// Where a destination is remembered.
    pub fn place(&self, id: &str) -> Arc<Place> {
        let mut places = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = places.get(id) {
            return place.clone();
        }
        if places.len() >= MOST {
            // Who is being asked about stays: somebody holds it.
            places.retain(|_, place| Arc::strong_count(place) > 1 || place.fresh().is_some());
        }
        if places.len() >= MOST {
            let read_at = |place: &Place| place.last().map(|sight| sight.read_at);
            let oldest = places.iter().min_by_key(|(_, place)| read_at(place));
            let oldest = oldest.map(|(id, _)| id.clone());
            oldest.map(|id| places.remove(&id));
        }
        places.entry(id.to_owned()).or_default().clone()
    }

    /// Remembers what the store showed.
    pub fn see(&self, sight: Sight) {
        self.place(&sight.record.id).see(sight);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: &str) -> Destination {
        Destination {
            id: id.to_owned(),
            tenant: "acme".to_owned(),
            origin: "https://x.example".to_owned(),
            state: String::new(),
            failures: 0,
            since_ms: 0,
            class: String::new(),
            until_ms: 0,
            granted_ms: 0,
            per_second: None,
            concurrency: None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_serves_for_a_second_and_tells_the_stores_time() {
        let known = KnownDestinations::default();
        known.see(Sight::new(record("a"), 5_000));
        tokio::time::advance(Duration::from_millis(900)).await;
        assert_eq!(known.place("a").fresh().unwrap().now_ms(), 5_900);
        tokio::time::advance(Duration::from_millis(100)).await;
        assert!(known.place("a").fresh().is_none());
        assert_eq!(known.place("a").last().unwrap().record.id, "a", "it is not forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn memory_is_bounded_and_the_oldest_is_forgotten_first() {
        let known = KnownDestinations::default();
        known.see(Sight::new(record("oldest"), 0));
        tokio::time::advance(Duration::from_millis(1)).await;
        for n in 0..MOST {
            known.see(Sight::new(record(&n.to_string()), 0));
        }
        assert!(known.place("7").last().is_some());
        assert!(known.0.lock().unwrap().len() <= MOST);
        assert!(known.place("oldest").last().is_none());
    }
}
