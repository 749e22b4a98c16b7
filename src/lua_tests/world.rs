//! A partition with a clock of its own, and the calls of a task's life in few words.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::app::artifacts::{Begun, Discard, Upload};
use crate::model::record::{self, BODY_HEAD, Hooks, NewBody};
use crate::model::{Command, Partition, Partitions, Priority, QueueName, TaskId, TenantId};
use crate::queues::dlq::{Back, Gone, Purge, Redrive};
use crate::queues::pause::{Pause, Paused};
use crate::store::direct::{Change, Direct};
use crate::store::testing::TestRedis;
use crate::store::{Error, Library};
use crate::sweeper::{Sweep, Swept};
use crate::tasks::abandon::{Abandon, Abandoned};
use crate::tasks::cancel::{Cancel, Cancelled};
use crate::tasks::claim::{Claim, Claimed};
use crate::tasks::create::{Enqueue, Enqueued};
use crate::tasks::heartbeat::{Heartbeat, Kept};
use crate::tasks::nack::{Nack, Nacked};
use crate::tasks::state::{Placed, Read};
use crate::tasks::submit::{Submit, Submitted};

pub const HERE: Partition = Partition::new(3);
/// When every test begins, in milliseconds.
pub const START: i64 = 1_000_000;
pub const LEASE_MS: u64 = 30_000;
/// Of the fixed policy.
pub const BACKOFF_MS: u64 = 10_000;
pub const MAX_BACKOFF_MS: u64 = 40_000;
pub const MAX_ATTEMPTS: u16 = 5;
pub const RETENTION_S: u32 = 60;
pub const DLQ_MS: u64 = 600_000;
pub const HOLD_MS: u64 = 120_000;
/// How long artifacts that are stored wait for their submit.
pub const UPLOAD_MS: u64 = 20_000;
/// Most of each kind that one sweep moves.
pub const SWEEP_LIMIT: u64 = 64;
pub const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// The clock of the scripts: a key that a test sets.
const CLOCK: &str = "return { now_ms = tonumber(redis.call(\"GET\", ROOT .. \":clock\")) }\n";

/// Everything that expires does so sooner, by as much as the clock went on. What is left counts in
/// steps of five seconds, so that the time the test itself takes does not matter.
const LET_TTLS_PASS: &str = r"
for _, key in ipairs(redis.call('KEYS', KEYS[1] .. '*')) do
  local ttl = redis.call('PTTL', key)
  if ttl >= 0 then
    local left = math.ceil(ttl / 5000) * 5000 - ARGV[1]
    if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('DEL', key) end
  end
end";

/// Two tenants with the same two commands: queues 0 and 1 of the first, 2 and 3 of the second.
pub struct Names {
    pub tenants: [TenantId; 2],
    pub commands: [Command; 2],
    pub queues: [QueueName; 4],
}

pub static NAMES: LazyLock<Names> = LazyLock::new(|| {
    let tenants = ["acme", "beta"].map(|name| TenantId::parse(name).unwrap());
    let commands = ["Mail", "Print"].map(|name| Command::parse(name).unwrap());
    let queues = [0, 1, 2, 3].map(|q| QueueName::of(&tenants[q / 2], &commands[q % 2]));
    Names { tenants, commands, queues }
});

/// The `n`-th task; ids sort as their numbers do.
pub fn id(n: u64) -> TaskId {
    TaskId::parse(&format!("00000000-0000-7003-8000-{n:012x}")).unwrap()
}

/// The number of a task.
pub fn number(id: &TaskId) -> u64 {
    u64::from_str_radix(id.to_string().rsplit('-').next().unwrap(), 16).unwrap()
}

/// The `n`-th lease id.
pub fn token(n: u64) -> String {
    format!("lease-{n:010}")
}

/// The digest of the `n`-th payload or verdict.
pub fn digest(n: u64) -> String {
    format!("digest{n:010}")
}

/// A task to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct New {
    pub n: u64,
    pub queue: usize,
    pub priority: u8,
    pub delay_ms: i64,
    /// 0: the default.
    pub max: u16,
    pub key: Option<String>,
    pub payload: u64,
    pub hooked: bool,
    /// The body was stored beside the call.
    pub stored: bool,
}

impl New {
    pub fn task(n: u64) -> Self {
        Self {
            n,
            queue: 0,
            priority: 0,
            delay_ms: 0,
            max: 0,
            key: None,
            payload: 0,
            hooked: false,
            stored: false,
        }
    }

    /// Its body as it is packed.
    pub fn pack(&self) -> Bytes {
        let names = &*NAMES;
        let queue = names.queues[self.queue];
        let key = self.key.as_ref().map(|key| record::idempotency_digest(&queue, key));
        let origin = "https://x.example";
        let tenant = &names.tenants[self.queue / 2];
        let destination = record::destination_digest(tenant, origin);
        NewBody {
            queue,
            priority: Priority::clamped(self.priority.into()),
            label: u16::try_from(self.queue % 2 + 1).unwrap(),
            idempotency: key.as_deref(),
            hooks: if self.hooked { Hooks::ALL } else { Hooks::NONE },
            destination: self.hooked.then_some(destination.as_str()),
            tenant,
            command: &names.commands[self.queue % 2],
            webhook: self.hooked.then_some(origin),
            trace_parent: Some(TRACE),
            trace_state: None,
            baggage: None,
            payload: format!("{{\"p\":{}}}", self.payload).as_bytes(),
        }
        .pack()
        .into()
    }
}

/// Who calls for a task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    pub tenant: usize,
    pub worker: &'static str,
    /// "" when none is sent.
    pub token: String,
}

/// The first tenant's worker `w` with a lease id.
pub fn by(lease: u64) -> By {
    By { tenant: 0, worker: "w", token: token(lease) }
}

/// A partition of a Redis of its own.
pub struct World {
    pub db: Direct,
    pub now: i64,
    pub redis: TestRedis,
}

impl World {
    /// Starts a Redis for it.
    pub fn new() -> Self {
        Self::changed(None)
    }

    /// The same with a change in a script.
    pub fn changed(change: Option<Change>) -> Self {
        Self::on(start(&["--appendonly", "no"]), change)
    }

    pub fn on(redis: TestRedis, change: Option<Change>) -> Self {
        let db = connect(&redis, change);
        let mut world = Self { db, now: START, redis };
        world.set_clock(START);
        world
    }

    /// Empties it.
    pub fn reset(&mut self) {
        self.db.query::<()>(&redis::cmd("FLUSHALL"));
        self.set_clock(START);
    }

    fn set_clock(&mut self, now: i64) {
        self.now = now;
        let key = format!("{}:clock", self.db.root());
        self.db.query::<()>(redis::cmd("SET").arg(key).arg(now));
    }

    /// Time goes on, for keys that expire too.
    pub fn advance(&mut self, by_ms: u64) {
        let mut pass = redis::cmd("EVAL");
        pass.arg(LET_TTLS_PASS).arg(1).arg(self.db.root()).arg(by_ms);
        self.db.query::<()>(&pass);
        self.set_clock(self.now + i64::try_from(by_ms).unwrap());
    }

    /// A command on a key of the partition, `world.on_key("SETRANGE", ":b:…", …)`.
    pub fn on_key<T: redis::FromRedisValue>(
        &mut self,
        command: &str,
        suffix: &str,
        rest: &[&[u8]],
    ) -> T {
        let key = format!("{}{suffix}", self.db.root());
        self.db.query(redis::cmd(command).arg(key).arg(rest))
    }

    pub fn enqueue(&mut self, new: &New) -> Result<Enqueued, Error> {
        self.enqueue_all(std::slice::from_ref(new)).unwrap().remove(0)
    }

    /// In one call.
    pub fn enqueue_all(&mut self, all: &[New]) -> Result<Vec<Result<Enqueued, Error>>, Error> {
        enqueue(&mut self.db, all)
    }

    /// What a node does before it enqueues a large body.
    pub fn store_body(&mut self, new: &New) {
        let mut whole = vec![0; BODY_HEAD];
        whole.extend_from_slice(&new.pack());
        self.on_key::<()>("SET", &format!(":b:{}", id(new.n).short()), &[&whole, b"PX", b"20000"]);
    }

    /// Claims from queues in order; none: any of the tenant.
    pub fn claim(
        &mut self,
        tenant: usize,
        queues: &[usize],
        worker: &str,
        leases: &[u64],
    ) -> Result<Claimed, Error> {
        let queues: String = queues.iter().map(|&q| NAMES.queues[q].as_str()).collect();
        let leases: String = leases.iter().map(|&n| token(n)).collect();
        self.db.one(Claim {
            queues: &queues,
            tenant: &NAMES.tenants[tenant],
            worker,
            leases: &leases,
            lease_ms: LEASE_MS,
            span: "",
        })
    }

    /// The first tenant's worker `w` takes a task of queue 0 with that lease id.
    pub fn take(&mut self, lease: u64) -> u64 {
        let claimed = self.claim(0, &[0], "w", &[lease]).unwrap();
        number(&claimed.tasks[0].id)
    }

    pub fn heartbeat(&mut self, n: u64, by: &By) -> Result<Kept, Error> {
        self.db.one(Heartbeat {
            id: &id(n),
            tenant: &NAMES.tenants[by.tenant],
            worker: by.worker,
            token: &by.token,
            extend_ms: LEASE_MS,
            span: "",
        })
    }

    pub fn nack(&mut self, n: u64, by: &By, delay_ms: u64, reason: &str) -> Result<Nacked, Error> {
        self.db.one(Nack {
            policy: "fixed",
            base_ms: BACKOFF_MS,
            max_ms: MAX_BACKOFF_MS,
            dlq_ms: DLQ_MS,
            hold_ms: HOLD_MS,
            id: &id(n),
            tenant: &NAMES.tenants[by.tenant],
            worker: by.worker,
            token: &by.token,
            delay_ms,
            jitter: 0.5,
            reason,
            span: "",
        })
    }

    pub fn abandon(&mut self, n: u64, by: &By, undelivered: bool) -> Result<Abandoned, Error> {
        self.db.one(Abandon {
            id: &id(n),
            tenant: &NAMES.tenants[by.tenant],
            worker: by.worker,
            token: &by.token,
            undelivered,
            span: "",
        })
    }

    /// `kind` 1 is completed, 2 failed.
    pub fn submit(
        &mut self,
        n: u64,
        by: &By,
        kind: u8,
        verdict: u64,
        apart: &str,
    ) -> Result<Submitted, Error> {
        self.submit_with(n, by, kind, verdict, apart, "")
    }

    /// As `submit`, with artifacts in a folder.
    pub fn submit_with(
        &mut self,
        n: u64,
        by: &By,
        kind: u8,
        verdict: u64,
        apart: &str,
        folder: &str,
    ) -> Result<Submitted, Error> {
        self.db.one(Submit {
            hold_ms: HOLD_MS,
            id: &id(n),
            tenant: &NAMES.tenants[by.tenant],
            worker: by.worker,
            token: &by.token,
            kind,
            digest: &digest(verdict),
            error: if kind == 2 { "no ink" } else { "" },
            parts: record::Terminal::pack_parts(None, None).into(),
            apart,
            folder,
            span: "",
        })
    }

    /// What a node does before it stores artifacts.
    pub fn upload(&mut self, n: u64, by: &By, folder: &str) -> Result<Begun, Error> {
        self.db.one(Upload {
            within_ms: UPLOAD_MS,
            id: &id(n),
            tenant: &NAMES.tenants[by.tenant],
            worker: by.worker,
            token: &by.token,
            folder,
            span: "",
        })
    }

    /// What a node does behind the deletion of a folder; whether it was written down.
    pub fn discard(&mut self, n: u64, folder: &str) -> bool {
        let folder = format!("{}{folder}", id(n).short());
        self.db.one(Discard { folder: &folder }).unwrap().gone == 1
    }

    /// What a node does before it submits a large result.
    pub fn store_part(&mut self, n: u64, name: &str) {
        let suffix = format!(":s:{}:{name}", id(n).short());
        self.on_key::<()>("SET", &suffix, &[b"\"large\"", b"PX", b"20000"]);
    }

    pub fn cancel(&mut self, n: u64, tenant: usize) -> Result<Cancelled, Error> {
        let tenant = &NAMES.tenants[tenant];
        self.db.one(Cancel { hold_ms: HOLD_MS, id: &id(n), tenant, span: "" })
    }

    pub fn sweep(&mut self) -> Swept {
        self.db.one(sweep_of(SWEEP_LIMIT)).unwrap()
    }

    pub fn redrive(&mut self, queue: usize, ids: &[u64], limit: u64) -> Result<Back, Error> {
        let ids = joined(ids);
        let queue = &NAMES.queues[queue];
        self.db.one(Redrive { queue, ids: &ids, limit, before_ms: 0, span: "" })
    }

    pub fn purge(&mut self, queue: usize, ids: &[u64], limit: u64) -> Result<Gone, Error> {
        let ids = joined(ids);
        self.db.one(Purge { queue: &NAMES.queues[queue], ids: &ids, limit, before_ms: 0 })
    }

    pub fn pause(&mut self, queue: usize, paused: bool) -> Result<Paused, Error> {
        let names = &*NAMES;
        self.db.one(Pause {
            queue: &names.queues[queue],
            command: names.commands[queue % 2].as_str(),
            tenant: names.tenants[queue / 2].as_str(),
            label: u16::try_from(queue % 2 + 1).unwrap(),
            paused,
        })
    }

    pub fn read(&mut self, n: u64, tenant: usize) -> Result<Placed, Error> {
        self.db.one(Read { id: &id(n), tenant: &NAMES.tenants[tenant] })
    }

    /// Plays a task into the DLQ of queue 0: its only attempt is given back.
    pub fn bury(&mut self, new: &New) {
        self.enqueue(&New { max: 1, ..new.clone() }).unwrap();
        let n = self.take(900 + new.n);
        assert_eq!(n, new.n);
        self.nack(n, &by(900 + n), 0, "smtp").unwrap();
    }
}

/// Starts a Redis with settings.
pub fn start(arguments: &[&str]) -> TestRedis {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(TestRedis::with(arguments))
}

/// A connection to the partition of the tests.
pub fn connect(redis: &TestRedis, change: Option<Change>) -> Direct {
    let root = Partitions::new("test", 16).root(HERE);
    Direct::new(redis, &root, Library::default().with("lib.clock", CLOCK), change)
}

/// Makes tasks in one call.
pub fn enqueue(db: &mut Direct, all: &[New]) -> Result<Vec<Result<Enqueued, Error>>, Error> {
    let ids: Vec<TaskId> = all.iter().map(|new| id(new.n)).collect();
    let digests: Vec<String> = all.iter().map(|new| digest(new.payload)).collect();
    let items: Vec<_> = (0..all.len())
        .map(|i| Enqueue {
            max_attempts: MAX_ATTEMPTS,
            retention_s: RETENTION_S,
            id: &ids[i],
            command: NAMES.commands[all[i].queue % 2].as_str(),
            run_at_ms: 0,
            delay_ms: all[i].delay_ms,
            max: all[i].max,
            digest: &digests[i],
            stored: all[i].stored,
            body: all[i].pack(),
        })
        .collect();
    db.run(&items)
}

/// A sweep without a guard.
pub fn sweep_of(limit: u64) -> Sweep<'static> {
    Sweep {
        policy: "fixed",
        base_ms: BACKOFF_MS,
        max_ms: MAX_BACKOFF_MS,
        dlq_ms: DLQ_MS,
        hold_ms: HOLD_MS,
        age_ms: HOLD_MS,
        lost_ms: DLQ_MS,
        guard_ms: 0,
        limit,
        dooms: limit,
        chance: 0.5,
        span: "",
    }
}

fn joined(ids: &[u64]) -> String {
    ids.iter().map(|&n| id(n).short()).collect()
}
