//! Every script runs, and a task goes the ways it can go.

use bytes::Bytes;

use crate::model::record::{Body, Hooks, NewBody, Terminal};
use crate::model::{Command, LeaseToken, Partition, Priority, QueueName, TaskId, TenantId};
use crate::queues::dlq::Redrive;
use crate::store::Store;
use crate::store::testing::TestRedis;
use crate::sweeper::Sweep;
use crate::tasks::abandon::Abandon;
use crate::tasks::claim::{Claim, Claimed};
use crate::tasks::create::{Enqueue, Enqueued};
use crate::tasks::heartbeat::Heartbeat;
use crate::tasks::nack::Nack;
use crate::tasks::state::Read;
use crate::tasks::submit::Submit;

const HERE: Partition = Partition::new(3);

struct World {
    store: Store,
    tenant: TenantId,
    command: Command,
}

impl World {
    async fn on(redis: &TestRedis) -> Self {
        let command = Command::parse("Mail").unwrap();
        Self { store: redis.store().await, tenant: TenantId::parse("acme").unwrap(), command }
    }

    fn queue(&self) -> QueueName {
        QueueName::of(&self.tenant, &self.command)
    }

    async fn enqueue(&self, delay_ms: i64, max: u16) -> Enqueued {
        let id = TaskId::new(HERE, 1);
        let body = NewBody {
            queue: self.queue(),
            priority: Priority::clamped(4),
            label: 1,
            idempotency: None,
            hooks: Hooks::ALL,
            destination: Some("0123456789abcdef"),
            tenant: &self.tenant,
            command: &self.command,
            webhook: Some("http://localhost/x"),
            trace_parent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            trace_state: None,
            baggage: None,
            payload: b"{}",
        };
        let enqueue = Enqueue {
            max_attempts: 5,
            retention_s: 60,
            id: &id,
            command: "Mail",
            run_at_ms: 0,
            delay_ms,
            max,
            digest: "",
            stored: false,
            body: body.pack().into(),
        };
        self.store.run(HERE, enqueue).await.unwrap()
    }

    async fn claim(&self, any: bool) -> Claimed {
        let queue = self.queue();
        let token = LeaseToken::random();
        let claim = Claim {
            queues: if any { "" } else { queue.as_str() },
            tenant: &self.tenant,
            worker: "w",
            leases: token.as_str(),
            lease_ms: 60_000,
            span: "",
        };
        self.store.run(HERE, claim).await.unwrap()
    }

    async fn place(&self, id: &TaskId) -> String {
        self.store.run(HERE, Read { id, tenant: &self.tenant }).await.unwrap().place
    }
}

#[tokio::test]
async fn a_task_is_claimed_kept_and_submitted() {
    a_good_life(&TestRedis::start().await).await;
}

/// A task is claimed, kept and submitted, through the store.
pub async fn a_good_life(redis: &TestRedis) {
    let world = World::on(redis).await;
    let made = world.enqueue(0, 0).await;
    assert_eq!((made.max, made.length, made.replayed), (5, 1, false));
    assert_eq!(world.place(&made.id).await, "ready");

    let claimed = world.claim(true).await;
    let granted = &claimed.tasks[0];
    assert_eq!((granted.id, granted.attempt, claimed.left), (made.id, 1, 0));
    assert_eq!(Body::read(&granted.body).unwrap().payload, "{}");
    assert_eq!(world.place(&made.id).await, "leased");

    let beat = Heartbeat {
        id: &made.id,
        tenant: &world.tenant,
        worker: "w",
        token: &granted.token,
        extend_ms: 1000,
        span: "00f067aa0ba902b8",
    };
    assert!(world.store.run(HERE, beat).await.unwrap().until_ms > 0);

    let submit = Submit {
        hold_ms: 1000,
        id: &made.id,
        tenant: &world.tenant,
        worker: "w",
        token: "",
        kind: 1,
        digest: "0123456789abcdef",
        error: "",
        parts: Bytes::new(),
        apart: "",
        folder: "",
        span: "",
    };
    let first = world.store.run(HERE, submit.clone()).await.unwrap();
    assert!(!first.replayed);
    let again = world.store.run(HERE, submit).await.unwrap();
    assert!(again.replayed);
    assert_eq!(again.record, first.record);
    let terminal = Terminal::read(&first.record).unwrap();
    assert_eq!(
        terminal.trace_parent.as_deref(),
        Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b8-01")
    );
    assert_eq!(world.place(&made.id).await, "done");
}

#[tokio::test]
async fn a_task_that_fails_backs_off_dies_and_comes_back() {
    let redis = TestRedis::start().await;
    let world = World::on(&redis).await;
    let made = world.enqueue(0, 2).await;
    for outcome in ["delayed", "dead"] {
        let mut claimed = world.claim(false).await;
        while claimed.tasks.is_empty() {
            sweep(&world).await;
            claimed = world.claim(false).await;
        }
        let nack = Nack {
            policy: "fixed",
            base_ms: 1,
            max_ms: 1,
            dlq_ms: 60_000,
            hold_ms: 0,
            id: &made.id,
            tenant: &world.tenant,
            worker: "w",
            token: &claimed.tasks[0].token,
            delay_ms: 0,
            jitter: 0.5,
            reason: "smtp",
            span: "",
        };
        let nacked = world.store.run(HERE, nack.clone()).await.unwrap();
        assert_eq!(nacked.outcome, outcome);
        let again = world.store.run(HERE, nack).await.unwrap();
        assert_eq!((again.replayed, again.outcome.as_str()), (true, outcome));
    }
    assert_eq!(world.place(&made.id).await, "dead");
    let queue = world.queue();
    let redrive = Redrive { queue: &queue, ids: "", limit: 10, before_ms: 0, span: "" };
    let back = world.store.run(HERE, redrive).await.unwrap();
    assert_eq!((back.tasks.len(), back.superseded, back.length), (1, 1, 1));
    let claimed = world.claim(true).await;
    assert_eq!(claimed.tasks[0].attempt, 1);
    let abandon = Abandon {
        id: &made.id,
        tenant: &world.tenant,
        worker: "w",
        token: &claimed.tasks[0].token,
        undelivered: false,
        span: "",
    };
    assert_eq!(world.store.run(HERE, abandon).await.unwrap().length, 1);
    assert_eq!(world.place(&made.id).await, "ready");
}

async fn sweep(world: &World) {
    let sweep = Sweep {
        policy: "fixed",
        base_ms: 1,
        max_ms: 1,
        dlq_ms: 60_000,
        hold_ms: 0,
        age_ms: 60_000,
        lost_ms: 60_000,
        guard_ms: 0,
        limit: 64,
        dooms: 0,
        chance: 0.1,
        span: "",
    };
    world.store.run(HERE, sweep).await.unwrap();
}
