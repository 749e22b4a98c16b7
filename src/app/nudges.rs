//! Queues that became ready, on their way to those who tell subscribers. Handing one over is a look
//! into a map: who creates a task waits for nothing, and where nobody is subscribed the look is all.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use crate::model::QueueName;
use crate::model::record::Body;

/// Most queues that wait to be told of. What comes beyond is dropped: a nudge is advice, and whoever
/// relies on it polls now and then.
const MOST: usize = 4096;
/// Most queues taken at a time.
const BATCH: usize = 64;
/// How long "nobody is subscribed" is believed.
const BELIEVED: Duration = Duration::from_secs(1);

/// The task by which a queue became ready, as far as traces are concerned.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cause {
    /// Its latest `traceparent`.
    pub trace_parent: Option<String>,
    /// Its `tracestate`.
    pub trace_state: Option<String>,
    /// Its `baggage`.
    pub baggage: Option<String>,
}

impl Cause {
    /// The task with this body; `latest` is its trace context if a step after its creation set one.
    pub fn of(body: Body, latest: Option<String>) -> Self {
        let Body { trace_parent, trace_state, baggage, .. } = body;
        Self { trace_parent: latest.or(trace_parent), trace_state, baggage }
    }
}

/// The hand-off, one for a node.
#[derive(Debug, Default)]
pub struct Nudges {
    state: Mutex<State>,
    news: Notify,
}

#[derive(Debug, Default)]
struct State {
    ready: HashMap<QueueName, Cause>,
    /// Queues, and tenants as [`QueueName::any_of`], that nobody is subscribed to.
    quiet: HashMap<QueueName, Quiet>,
    /// How many queues are remembered in `quiet`.
    missed: usize,
}

#[derive(Debug)]
struct Quiet {
    until: Instant,
    /// What became ready meanwhile: looked at again later, for somebody may have subscribed.
    missed: HashSet<QueueName>,
}

impl Nudges {
    /// A queue became ready. Never waits.
    pub fn offer(&self, queue: &QueueName, cause: impl FnOnce() -> Cause) {
        let mut state = self.state();
        if state.is_quiet(queue) {
            return;
        }
        if state.add(*queue, cause) {
            drop(state);
            self.news.notify_one();
        }
    }

    /// The next queues that became ready, each once, with what made them so. Costs nothing while
    /// there are none.
    pub async fn next(&self) -> Vec<(QueueName, Cause)> {
        loop {
            let heard = self.news.notified();
            let again = {
                let mut state = self.state();
                state.wake(Instant::now());
                let taken = state.take();
                if !taken.is_empty() {
                    return taken;
                }
                state.quiet.values().map(|quiet| quiet.until).min()
            };
            match again {
                Some(at) => tokio::select! { () = heard => {}, () = sleep_until(at) => {} },
                None => heard.await,
            }
        }
    }

    /// Nobody is subscribed to this queue, or to any of a tenant ([`QueueName::any_of`]): not asked
    /// again for a second.
    pub fn quiet(&self, queue: QueueName) {
        let mut state = self.state();
        if state.quiet.len() < MOST {
            let until = Instant::now() + BELIEVED;
            state.quiet.insert(queue, Quiet { until, missed: HashSet::new() });
        }
    }

    /// Somebody of the tenant with this tag subscribed.
    pub fn listened(&self, tenant_tag: &str) {
        let mut state = self.state();
        let now = Instant::now();
        for (queue, quiet) in &mut state.quiet {
            if queue.tenant_tag() == tenant_tag {
                quiet.until = now;
            }
        }
        drop(state);
        self.news.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether nobody is subscribed to it; then it is remembered.
    fn is_quiet(&mut self, queue: &QueueName) -> bool {
        if self.quiet.is_empty() {
            return false;
        }
        let now = Instant::now();
        for name in [QueueName::any_of(queue.tenant_tag()), *queue] {
            if let Some(quiet) = self.quiet.get_mut(&name).filter(|quiet| quiet.until > now) {
                if self.missed < MOST && quiet.missed.insert(*queue) {
                    self.missed += 1;
                }
                return true;
            }
        }
        false
    }

    /// Whether the loop must hear of it.
    fn add(&mut self, queue: QueueName, cause: impl FnOnce() -> Cause) -> bool {
        if self.ready.len() >= MOST || self.ready.contains_key(&queue) {
            return false;
        }
        self.ready.insert(queue, cause());
        self.ready.len() == 1
    }

    /// What was quiet long enough is looked at again if something happened meanwhile.
    fn wake(&mut self, now: Instant) {
        let over: Vec<QueueName> =
            self.quiet.iter().filter(|(_, q)| q.until <= now).map(|(name, _)| *name).collect();
        for name in over {
            let missed = self.quiet.remove(&name).map(|quiet| quiet.missed).unwrap_or_default();
            self.missed -= missed.len();
            for queue in missed {
                self.add(queue, Cause::default);
            }
        }
    }

    fn take(&mut self) -> Vec<(QueueName, Cause)> {
        if self.ready.len() <= BATCH {
            return self.ready.drain().collect();
        }
        let some: Vec<QueueName> = self.ready.keys().take(BATCH).copied().collect();
        some.into_iter().filter_map(|queue| self.ready.remove_entry(&queue)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Command, TenantId};

    fn queue(tenant: &str, command: &str) -> QueueName {
        QueueName::of(&TenantId::parse(tenant).unwrap(), &Command::parse(command).unwrap())
    }

    async fn names(nudges: &Nudges) -> Vec<QueueName> {
        let mut names: Vec<_> = nudges.next().await.into_iter().map(|(name, _)| name).collect();
        names.sort();
        names
    }

    #[tokio::test(start_paused = true)]
    async fn a_queue_waits_once_with_the_first_cause() {
        let nudges = Nudges::default();
        let cause = |text: &str| Cause { trace_parent: Some(text.into()), ..Cause::default() };
        nudges.offer(&queue("acme", "a"), || cause("first"));
        nudges.offer(&queue("acme", "a"), || cause("second"));
        assert_eq!(nudges.next().await, [(queue("acme", "a"), cause("first"))]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_wants_is_looked_at_once_a_second() {
        let nudges = Nudges::default();
        let tenant = QueueName::any_of(queue("acme", "a").tenant_tag());
        nudges.quiet(tenant);
        nudges.quiet(queue("beta", "b"));
        let began = Instant::now();
        for _ in 0..3 {
            nudges.offer(&queue("acme", "a"), || panic!("no cause is put together"));
            nudges.offer(&queue("beta", "b"), || panic!("no cause is put together"));
        }
        nudges.offer(&queue("beta", "c"), Cause::default);
        assert_eq!(names(&nudges).await, [queue("beta", "c")]);
        assert_eq!(began.elapsed(), Duration::ZERO);
        let mut again = vec![queue("acme", "a"), queue("beta", "b")];
        again.sort();
        assert_eq!(names(&nudges).await, again);
        assert!(began.elapsed() >= BELIEVED);
        assert!(nudges.state().quiet.is_empty() && nudges.state().missed == 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_subscriber_hears_at_once_of_what_became_ready_just_before() {
        let nudges = Nudges::default();
        let (mine, other) = (queue("acme", "a"), queue("beta", "a"));
        for name in [mine, other] {
            nudges.quiet(QueueName::any_of(name.tenant_tag()));
            nudges.offer(&name, Cause::default);
        }
        let began = Instant::now();
        nudges.listened(mine.tenant_tag());
        assert_eq!(names(&nudges).await, [mine]);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_an_end_to_what_waits() {
        let nudges = Nudges::default();
        for n in 0..MOST + 10 {
            nudges.offer(&queue("acme", &n.to_string()), Cause::default);
        }
        let mut seen = 0;
        while !nudges.state().ready.is_empty() {
            let taken = nudges.next().await.len();
            assert!(taken <= BATCH);
            seen += taken;
        }
        assert_eq!(seen, MOST);
    }
}
