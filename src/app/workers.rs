//! Which workers called lately, for a gauge of the fleet.
//!
//! A node tells the store of a worker and a command at most once in half a minute, many at a time
//! and behind the calls: a claim or a heartbeat pays for one look into a table. What is told is
//! forgotten by the store after two minutes.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;

use crate::model::{Command, TenantId, digest_text};
use crate::{script, store};

use super::App;
use super::labels::HOME;

script! {
    /// A worker called for a command of this label.
    pub struct WorkerCalled<'a> = "worker_called", write, repeatable {
        once {}
        each { label: u16, worker: &'a str, keep_ms: u64, most: u64 }
    } -> Remembered { counted: bool }
}

script! {
    /// Counts the workers of each label.
    pub struct WorkersLately = "workers", read, repeatable {
        once {}
        each { labels: u16, keep_ms: u64 }
    } -> Lately { numbers: Vec<u64> }
}

/// How long a call counts.
pub const KEEP_MS: u64 = 120_000;
/// How often a node tells of the same worker and command.
const INTERVAL: Duration = Duration::from_secs(30);
/// What comes in that time is told in one go.
const GATHER: Duration = Duration::from_millis(100);
/// How many are told of at once.
const AT_ONCE: usize = 64;
/// Workers of one label that the store tells apart.
const MOST_WORKERS: u64 = 10_000;
/// Pairs of worker and command that a node remembers; more are not told in this half minute.
const MOST_PAIRS: usize = 100_000;
/// Tenants, and commands of each, that a node remembers for claims that name none.
const MOST_TENANTS: usize = 1_000;
const MOST_COMMANDS: usize = 100;

/// The workers that called this node lately.
#[derive(Default)]
pub struct Workers {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// Pairs of worker and command, hashed, and when they were noted.
    told: HashMap<u64, Instant>,
    cleaned: Option<Instant>,
    /// Commands for which workers of a tenant called or took tasks.
    of_tenant: HashMap<TenantId, Vec<Command>>,
    untold: Vec<Called>,
    /// Somebody is about to tell.
    telling: bool,
}

/// A worker that called for a command.
struct Called {
    /// Its hash, as in [`Known::told`].
    pair: u64,
    command: Command,
    /// The worker, as the store knows it.
    worker: String,
}

impl App {
    /// A worker called claim or heartbeat for these commands.
    pub fn worker_called<'a>(
        &self,
        tenant: &TenantId,
        worker: &str,
        commands: impl IntoIterator<Item = &'a Command>,
    ) {
        if self.workers.note(tenant, worker, commands) {
            self.tell_soon();
        }
    }

    /// A worker claimed whatever its tenant has.
    pub fn worker_called_for_any(&self, tenant: &TenantId, worker: &str) {
        let commands = self.workers.commands_of(tenant, worker);
        self.worker_called(tenant, worker, &commands);
    }

    async fn tell_of(&self, called: &Called) -> Result<Remembered, store::Error> {
        let told = async {
            let label = self.labels.known(&self.store, &called.command).await?;
            let (keep_ms, most) = (KEEP_MS, MOST_WORKERS);
            let worker = called.worker.as_str();
            self.store.run(HOME, WorkerCalled { label, worker, keep_ms, most }).await
        };
        // The next call tells it again.
        told.await.inspect_err(|_| {
            self.workers.known().told.remove(&called.pair);
        })
    }

    fn tell_soon(&self) {
        let app = self.clone();
        self.background.spawn(async move {
            tokio::select! {
                () = tokio::time::sleep(GATHER) => {}
                () = app.draining.cancelled() => {}
            }
            let untold = app.workers.take();
            // A few at a time: the tasks of that partition travel the same way.
            let told = futures_util::stream::iter(untold).map(|called| {
                let app = app.clone();
                async move { app.tell_of(&called).await }
            });
            let told: Vec<_> = told.buffer_unordered(AT_ONCE).collect().await;
            if told.iter().flatten().any(|remembered| !remembered.counted) {
                tracing::debug!(most = MOST_WORKERS, "more workers of a command than are counted");
            }
        });
    }
}

impl Workers {
    /// Whether somebody must tell what was noted now.
    fn note<'a>(
        &self,
        tenant: &TenantId,
        worker: &str,
        commands: impl IntoIterator<Item = &'a Command>,
    ) -> bool {
        let now = Instant::now();
        let mut known = self.known();
        known.clean(now);
        let mut member = None;
        for command in commands {
            let pair = self.hasher.hash_one((tenant.tag(), worker, command.as_str()));
            if !known.is_new(pair, now) {
                continue;
            }
            let member = member.get_or_insert_with(|| {
                digest_text::<9>(&[b"worker", tenant.tag().as_bytes(), worker.as_bytes()])
            });
            known.learn(tenant, command);
            known.untold.push(Called { pair, command: command.clone(), worker: member.clone() });
        }
        let must_tell = !known.untold.is_empty() && !known.telling;
        known.telling |= must_tell;
        must_tell
    }

    /// What a claim of this worker for anything is told of; nothing when it was told just now.
    fn commands_of(&self, tenant: &TenantId, worker: &str) -> Vec<Command> {
        let now = Instant::now();
        let any = self.hasher.hash_one((tenant.tag(), worker));
        let mut known = self.known();
        let commands = match known.of_tenant.get(tenant) {
            Some(commands) if !known.told.contains_key(&any) => commands.clone(),
            _ => return Vec::new(),
        };
        known.is_new(any, now);
        commands
    }

    fn take(&self) -> Vec<Called> {
        let mut known = self.known();
        known.telling = false;
        std::mem::take(&mut known.untold)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// Notes a pair. Whether it was not noted lately, and there is room.
    fn is_new(&mut self, pair: u64, now: Instant) -> bool {
        let lately = self.told.get(&pair).is_some_and(|at| now.duration_since(*at) < INTERVAL);
        if lately || self.told.len() >= MOST_PAIRS {
            return false;
        }
        self.told.insert(pair, now);
        true
    }

    /// Forgets what was told long ago, once in a while.
    fn clean(&mut self, now: Instant) {
        if self.cleaned.is_some_and(|at| now.duration_since(at) < INTERVAL) {
            return;
        }
        self.cleaned = Some(now);
        self.told.retain(|_, at| now.duration_since(*at) < INTERVAL);
    }

    fn learn(&mut self, tenant: &TenantId, command: &Command) {
        if self.of_tenant.len() >= MOST_TENANTS && !self.of_tenant.contains_key(tenant) {
            self.of_tenant.clear();
        }
        let commands = self.of_tenant.entry(tenant.clone()).or_default();
        if commands.len() < MOST_COMMANDS && !commands.contains(command) {
            commands.push(command.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(name: &str) -> Command {
        Command::parse(name).unwrap()
    }

    #[test]
    fn a_worker_is_told_once_per_command_and_half_minute_however_often_it_calls() {
        let (workers, tenant) = (Workers::default(), TenantId::parse("acme").unwrap());
        let (mail, print) = (command("mail"), command("print"));
        assert!(workers.note(&tenant, "w", [&mail, &print]));
        for _ in 0..1_000 {
            assert!(!workers.note(&tenant, "w", [&mail]), "somebody is about to tell");
        }
        assert_eq!(workers.take().len(), 2);
        assert!(!workers.note(&tenant, "w", [&mail]));
        assert!(workers.note(&tenant, "v", [&mail]));
        assert_eq!(workers.take().len(), 1);
    }

    #[test]
    fn a_claim_for_anything_is_one_for_what_its_tenant_has() {
        let workers = Workers::default();
        let [acme, globex] = ["acme", "globex"].map(|name| TenantId::parse(name).unwrap());
        workers.note(&acme, "w", [&command("mail")]);
        assert_eq!(workers.commands_of(&acme, "any"), [command("mail")]);
        assert_eq!(workers.commands_of(&acme, "any"), [], "not again in this half minute");
        assert_eq!(workers.commands_of(&globex, "any"), []);
    }
}
