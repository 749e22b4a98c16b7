//! Where artifacts lie: files, S3, Google Cloud Storage or Azure, through `object_store`.
//!
//! Nothing is connected before the first object moves, so that a store that is away, or credentials
//! that are not there yet, never keep a node from starting. Everything is bounded: one object, one
//! submit's objects, how many move at once, and what the library repeats.

mod connect;
mod failed;
mod folder;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{StreamExt as _, TryStreamExt as _};
use object_store::{
    Attribute, ObjectMeta, ObjectStore, ObjectStoreExt as _, PutOptions, PutPayload,
};
use tokio::sync::{Mutex, OnceCell, Semaphore};

use crate::telemetry::Metrics;
use crate::telemetry::metrics::{ArtifactOperation as Operation, ArtifactResult};

use connect::{Connected, Place};
pub use failed::Failed;
pub use folder::Folder;

/// The longest that storing the objects of one submit takes, waiting for a turn included.
const STORED_WITHIN: Duration = Duration::from_secs(30);
/// The longest that deleting a folder takes.
const DELETED_WITHIN: Duration = Duration::from_secs(30);
/// The longest that a look at the store takes; below the patience of `/health`.
const SEEN_WITHIN: Duration = Duration::from_millis(1500);
/// How long a look is good for: a probe each second costs no call each second.
const LOOK_LIVES: Duration = Duration::from_secs(10);
/// Most objects of a node that are stored at once.
const PUTS: usize = 32;
/// Most of them of one submit.
const PUTS_OF_ONE: usize = 8;
/// Most objects of a folder deleted at once.
const DELETES: usize = 8;
/// Most objects taken out of a folder in one go; a submit stores at most 100.
const MOST_DELETED: usize = 1000;

/// What is to be stored.
#[derive(Clone, Debug)]
pub struct Content {
    /// The artifact's name, as the worker gave it.
    pub name: String,
    /// Its media type.
    pub kind: String,
    /// Its bytes.
    pub bytes: Bytes,
}

/// The store of artifacts. Cheap to clone.
#[derive(Clone)]
pub struct Objects(Arc<Inner>);

struct Inner {
    place: Place,
    connected: OnceCell<Connected>,
    puts: Semaphore,
    looked: Mutex<Option<(Instant, Result<Duration, Failed>)>>,
    metrics: Metrics,
}

impl Objects {
    /// The store at a URL that the settings have checked. Connects to nothing yet.
    ///
    /// # Errors
    /// When the URL is none of a store.
    pub fn new(url: &str, metrics: Metrics) -> anyhow::Result<Self> {
        Ok(Self(Arc::new(Inner {
            place: Place::parse(url)?,
            connected: OnceCell::new(),
            puts: Semaphore::new(PUTS),
            looked: Mutex::new(None),
            metrics,
        })))
    }

    /// The URL under which a reader finds an artifact.
    pub fn url(&self, folder: &Folder, name: &str) -> String {
        self.0.place.url(&folder.object(name))
    }

    /// Stores every content in the folder, or fails; then some of them may be there.
    ///
    /// # Errors
    /// The class of what went wrong first.
    pub async fn put_all(&self, folder: &Folder, contents: &[Content]) -> Result<(), Failed> {
        let puts: Vec<_> = contents.iter().map(|content| self.put(folder, content)).collect();
        let all = futures_util::stream::iter(puts);
        let all = all.buffer_unordered(PUTS_OF_ONE).try_collect::<()>();
        tokio::time::timeout(STORED_WITHIN, all).await.unwrap_or(Err(Failed::Timeout))
    }

    async fn put(&self, folder: &Folder, content: &Content) -> Result<(), Failed> {
        let _turn = self.0.puts.acquire().await.expect("nobody closes it");
        let counted = Counted::begin(&self.0.metrics, Operation::Put);
        let put = async {
            let connected = self.connected().await?;
            let path = connected.path(&folder.object(&content.name));
            let mut options = PutOptions::default();
            if connected.keeps_types {
                options.attributes.insert(Attribute::ContentType, content.kind.clone().into());
            }
            let payload = PutPayload::from_bytes(content.bytes.clone());
            connected.store.put_opts(&path, payload, options).await.map_err(|e| Failed::of(&e))?;
            Ok(())
        };
        counted.end(put.await, content.bytes.len())
    }

    /// Deletes what lies in a folder; how many objects that were. An empty folder is no failure.
    ///
    /// # Errors
    /// The class of what went wrong first; then some of them may still be there.
    pub async fn delete_all(&self, folder: &Folder) -> Result<usize, Failed> {
        let deleted = async {
            let connected = self.connected().await?;
            let found = connected.store.list(Some(&connected.path(&folder.path())));
            let found: Vec<_> =
                found.take(MOST_DELETED).try_collect().await.map_err(|e| Failed::of(&e))?;
            let count = found.len();
            let deletes: Vec<_> =
                found.into_iter().map(|object| self.delete(connected, object)).collect();
            let deletes = futures_util::stream::iter(deletes);
            deletes.buffer_unordered(DELETES).try_collect::<()>().await?;
            Ok(count)
        };
        tokio::time::timeout(DELETED_WITHIN, deleted).await.unwrap_or(Err(Failed::Timeout))
    }

    async fn delete(&self, connected: &Connected, object: ObjectMeta) -> Result<(), Failed> {
        let counted = Counted::begin(&self.0.metrics, Operation::Delete);
        let gone = match connected.store.delete(&object.location).await {
            // Another node was there first.
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(Failed::of(&error)),
        };
        counted.end(gone, usize::try_from(object.size).unwrap_or(usize::MAX))
    }

    /// Looks whether the store answers, at most every ten seconds; how long it took.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn look(&self) -> Result<Duration, Failed> {
        let mut looked = self.0.looked.lock().await;
        if let Some((at, seen)) = *looked
            && at.elapsed() < LOOK_LIVES
        {
            return seen;
        }
        let begun = Instant::now();
        let seen = tokio::time::timeout(SEEN_WITHIN, self.see()).await;
        let seen = seen.unwrap_or(Err(Failed::Timeout)).map(|()| begun.elapsed());
        *looked = Some((Instant::now(), seen));
        seen
    }

    /// Asks for a folder that never exists: the answer of a store that is well is an empty list.
    async fn see(&self) -> Result<(), Failed> {
        let counted = Counted::begin(&self.0.metrics, Operation::Get);
        let seen = async {
            let connected = self.connected().await?;
            let nothing = connected.path("-/health");
            match connected.store.list(Some(&nothing)).next().await {
                None | Some(Ok(_)) => Ok(()),
                Some(Err(error)) => Err(Failed::of(&error)),
            }
        };
        counted.end(seen.await, 0)
    }

    async fn connected(&self) -> Result<&Connected, Failed> {
        self.0.connected.get_or_try_init(|| self.0.place.connect()).await
    }
}

/// One operation on one object, from its begin to its count; one that is given up counts as failed.
struct Counted<'a> {
    metrics: &'a Metrics,
    operation: Operation,
    begun: Instant,
    result: ArtifactResult,
    bytes: usize,
}

impl<'a> Counted<'a> {
    fn begin(metrics: &'a Metrics, operation: Operation) -> Self {
        let result = match operation {
            Operation::Put => ArtifactResult::PutError,
            Operation::Get => ArtifactResult::GetError,
            Operation::Delete => ArtifactResult::DeleteError,
        };
        Self { metrics, operation, begun: Instant::now(), result, bytes: 0 }
    }

    fn end(mut self, outcome: Result<(), Failed>, bytes: usize) -> Result<(), Failed> {
        if outcome.is_ok() {
            self.bytes = bytes;
            self.result = match self.operation {
                Operation::Put => ArtifactResult::PutOk,
                Operation::Get => ArtifactResult::GetOk,
                Operation::Delete => ArtifactResult::DeleteOk,
            };
        }
        outcome
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.metrics.artifact_operations.with(self.result).inc();
        self.metrics.artifact_bytes.with(self.operation).inc_by(self.bytes as u64);
        let seconds = self.begun.elapsed().as_secs_f64();
        self.metrics.artifact_duration.with(self.operation).observe(seconds);
    }
}

#[cfg(test)]
mod tests;
