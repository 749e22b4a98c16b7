use crate::auth::Principal;
use crate::config::Bucket;
use crate::model::{TenantId, digest_text};
use crate::script;
use crate::store;
use crate::telemetry::metrics::RateLimit as Hit;

use super::App;

script! {
    /// Takes from a bucket.
    pub struct Take<'a> = "rate_limit", write, once_only {
        once {}
        each { bucket: &'a str, cost: u64, per_minute: u32, burst: u32 }
    } -> Taken { allowed: bool, wait_ms: u64 }
}

/// Why nothing was taken from a bucket.
#[derive(Debug)]
pub enum NotTaken {
    /// It is empty.
    Empty {
        /// `producer`, `worker` or `admin`.
        scope: &'static str,
        /// The call that costs.
        operation: &'static str,
        /// Until it may succeed.
        retry_after_seconds: u64,
    },
    /// The store does not answer.
    Store(store::Error),
}

impl From<store::Error> for NotTaken {
    fn from(error: store::Error) -> Self {
        Self::Store(error)
    }
}

/// What is limited, as operators name it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// `producer` `create_task`.
    CreateTask,
    /// `worker` `claim`.
    Claim,
    /// `admin` `cleanup`.
    Cleanup,
    /// `webhook` `queue_ready`.
    QueueReady,
    /// `webhook` `task_result`.
    TaskResult,
    /// `webhook` `test`: limited whatever the settings say, for it calls wherever it is told to.
    WebhookTest,
}

/// Test calls of one tenant.
const WEBHOOK_TESTS: Bucket = Bucket { requests_per_minute: 10, burst_size: 10 };

impl Scope {
    fn parts(self) -> (&'static str, &'static str, Hit) {
        match self {
            Self::CreateTask => ("producer", "create_task", Hit::ProducerCreateTask),
            Self::Claim => ("worker", "claim", Hit::WorkerClaim),
            Self::Cleanup => ("admin", "cleanup", Hit::AdminCleanup),
            Self::QueueReady => ("webhook", "queue_ready", Hit::WebhookQueueReady),
            Self::TaskResult => ("webhook", "task_result", Hit::WebhookTaskResult),
            Self::WebhookTest => ("webhook", "test", Hit::WebhookTest),
        }
    }

    fn bucket(self, app: &App) -> Option<&Bucket> {
        let limits = &app.settings.rate_limit;
        match self {
            Self::CreateTask => limits.producer.as_ref(),
            Self::Claim => limits.worker.as_ref(),
            Self::Cleanup => limits.admin.as_ref(),
            Self::QueueReady | Self::TaskResult => limits.webhook.as_ref(),
            Self::WebhookTest => Some(&WEBHOOK_TESTS),
        }
    }
}

impl App {
    /// Takes `cost` from the caller's bucket, if the operator set one. The bucket is the tenant's
    /// and the subject's, never the token's: a refreshed token is no new bucket.
    ///
    /// # Errors
    /// When it is empty, or the store does not answer.
    pub async fn take(
        &self,
        scope: Scope,
        who: &Principal,
        tenant: &TenantId,
        cost: usize,
    ) -> Result<(), NotTaken> {
        self.take_of(scope, tenant, Some(&who.subject), cost).await
    }

    /// Takes one from a tenant's bucket for deliveries, if the operator set one.
    ///
    /// # Errors
    /// As [`App::take`].
    pub async fn take_for_webhook(&self, scope: Scope, tenant: &TenantId) -> Result<(), NotTaken> {
        self.take_of(scope, tenant, None, 1).await
    }

    /// Takes one from a tenant's bucket for test calls, which it shares among its administrators.
    ///
    /// # Errors
    /// As [`App::take`].
    pub async fn take_for_test(&self, tenant: &TenantId) -> Result<(), NotTaken> {
        // The name in place of a subject: deliveries have a bucket of the tenant's own.
        self.take_of(Scope::WebhookTest, tenant, Some("test"), 1).await
    }

    async fn take_of(
        &self,
        scope: Scope,
        tenant: &TenantId,
        subject: Option<&str>,
        cost: usize,
    ) -> Result<(), NotTaken> {
        let Some(limit) = scope.bucket(self) else { return Ok(()) };
        let (name, operation, hit) = scope.parts();
        let mut parts = vec![name.as_bytes(), tenant.as_str().as_bytes()];
        parts.extend(subject.map(str::as_bytes));
        let bucket = digest_text::<15>(&parts);
        let taken = self
            .store
            .run(
                self.partitions.hashed(&parts),
                Take {
                    bucket: &bucket,
                    cost: cost as u64,
                    per_minute: limit.requests_per_minute,
                    burst: limit.burst_size,
                },
            )
            .await?;
        if taken.allowed {
            return Ok(());
        }
        self.metrics.rate_limit_hits.with(hit).inc();
        let retry_after_seconds = taken.wait_ms.div_ceil(1000).max(1);
        Err(NotTaken::Empty { scope: name, operation, retry_after_seconds })
    }
}
