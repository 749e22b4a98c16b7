//! Artifacts on their way: their folder is written down in the task's partition before the first
//! byte is stored, named by the record once the submit is accepted, and deleted in every other case,
//! whichever node is still there (docs/decisions/011-artifacts-are-written-down-before-they-are-stored.md).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

use crate::model::{Partition, TaskId, TenantId};
use crate::objects::{Content, Failed, Folder};
use crate::telemetry::log::Every;
use crate::telemetry::trace::Step;
use crate::{script, store};

use super::App;

script! {
    /// Artifacts of a submit are about to be stored.
    pub struct Upload<'a> = "upload", write, repeatable {
        once { within_ms: u64 }
        each { id: &'a TaskId, tenant: &'a TenantId, worker: &'a str, token: &'a str, folder: &'a str, span: &'a str }
    } -> Begun { held: bool, trace: Option<String> }
}

script! {
    /// A folder of artifacts is empty now.
    pub struct Discard<'a> = "discard", write, repeatable {
        once {}
        each { folder: &'a str }
    } -> Discarded { gone: u64 }
}

/// From when on nobody submits any more what was being stored: far longer than storing may take.
const WITHIN: Duration = Duration::from_secs(300);
/// Most folders that one sweep of a partition gives up.
const MOST_DOOMED: usize = 8;
/// Most folders that a node deletes at once.
const DELETIONS: usize = 16;

/// A store that is away would otherwise fill the log.
static NOT_DELETED: Every = Every::new(Duration::from_secs(60));

/// Turns at deleting folders.
#[derive(Clone)]
pub struct Deletions(Arc<Semaphore>);

impl Default for Deletions {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(DELETIONS)))
    }
}

impl Deletions {
    /// How many folders a sweep may give up now: none while this node has enough to do.
    pub fn room(&self) -> u64 {
        self.0.available_permits().min(MOST_DOOMED) as u64
    }
}

/// Who submits.
#[derive(Clone, Copy)]
pub struct Submitter<'a> {
    /// Whose task it is.
    pub tenant: &'a TenantId,
    /// The worker's subject.
    pub worker: &'a str,
    /// The lease token, "" when none was sent.
    pub token: &'a str,
    /// The span drawn for the submit, "" without tracing.
    pub span: &'a str,
}

/// Why artifacts were not stored.
#[derive(Debug, thiserror::Error)]
pub enum NotStored {
    /// Their folder could not be written down; nothing was stored.
    #[error(transparent)]
    Unknown(#[from] store::Error),
    /// The artifact store failed; a sweep deletes what is there.
    #[error("artifacts: {0}")]
    Failed(#[from] Failed),
}

impl App {
    /// Stores the artifacts of a submit. `false` when the caller does not hold the task: nothing was
    /// stored, and the submit script knows what to say.
    ///
    /// # Errors
    /// When one of them is not there; the submit must not go on.
    pub async fn store_artifacts(
        &self,
        by: Submitter<'_>,
        folder: &Folder,
        contents: &[Content],
    ) -> Result<bool, NotStored> {
        let id = &folder.task;
        let upload = Upload {
            within_ms: u64::try_from(WITHIN.as_millis()).expect("minutes"),
            id,
            tenant: by.tenant,
            worker: by.worker,
            token: by.token,
            folder: &folder.name(),
            span: by.span,
        };
        let begun = self.store.run(id.partition(), upload).await?;
        if !begun.held {
            return Ok(false);
        }
        let mut span = Step::StoreArtifacts.below(begun.trace.as_deref());
        let bytes: usize = contents.iter().map(|content| content.bytes.len()).sum();
        span.set("codeq.artifact_count", i64::try_from(contents.len()).unwrap_or(i64::MAX))
            .set("codeq.artifact_bytes", i64::try_from(bytes).unwrap_or(i64::MAX));
        let stored = self.objects.put_all(folder, contents).await;
        match stored {
            Ok(()) => tracing::debug!(
                target: "codeq::artifacts", category = "debug", event = "artifacts.stored",
                task_id = %id, tenant_id = %by.tenant, count = contents.len(), bytes,
                "artifacts stored"
            ),
            Err(why) => {
                span.failed(why.word());
                tracing::warn!(
                    target: "codeq::artifacts", category = "system", event = "artifacts.failed",
                    task_id = %id, tenant_id = %by.tenant, count = contents.len(), bytes,
                    reason = why.word(), "artifacts could not be stored"
                );
            }
        }
        Ok(stored.map(|()| true)?)
    }

    /// Deletes, behind the answer, what was stored for a submit that was refused.
    pub fn drop_artifacts(&self, folder: Folder) {
        let app = self.clone();
        self.background.spawn(async move { app.delete_folder(folder).await });
    }

    /// Deletes the folders that a sweep gave up.
    pub fn delete_folders(&self, doomed: &[String]) {
        for name in doomed {
            match Folder::parse(name) {
                Some(folder) => self.drop_artifacts(folder),
                None => tracing::warn!(
                    target: "codeq::artifacts", category = "system", event = "artifacts.unknown",
                    "a folder of artifacts has a name that this version cannot read"
                ),
            }
        }
    }

    /// What fails here is found again by a sweep.
    async fn delete_folder(&self, folder: Folder) {
        let deleted = async {
            let _turn = self.deletions.0.acquire().await.expect("nobody closes it");
            self.objects.delete_all(&folder).await
        };
        let deleted = tokio::select! {
            () = self.draining.cancelled() => return,
            deleted = deleted => deleted,
        };
        let id = folder.task;
        match deleted {
            Ok(count) => {
                tracing::debug!(
                    target: "codeq::artifacts", category = "debug", event = "artifacts.deleted",
                    task_id = %id, count, "artifacts deleted"
                );
                let name = format!("{}{}", id.short(), folder.name());
                let partition: Partition = id.partition();
                let _ = self.store.run(partition, Discard { folder: &name }).await;
            }
            Err(why) => {
                if let Some(suppressed) = NOT_DELETED.pass() {
                    tracing::warn!(
                        target: "codeq::artifacts", category = "system",
                        event = "artifacts.not_deleted", task_id = %id, reason = why.word(),
                        suppressed, "artifacts could not be deleted; a sweep tries again"
                    );
                }
            }
        }
    }
}
