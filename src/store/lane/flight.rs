//! A batch under way.

use std::pin::Pin;
use std::sync::Arc;

use redis::{RedisResult, Value};
use tokio::time::{Instant, timeout};

use super::batch::{Batch, Call};
use super::job::Orphanage;
use super::{Live, Runner};

/// A batch that was sent.
pub(super) type Flight = Pin<Box<dyn Future<Output = Landed> + Send>>;

/// The answers to a pipeline, one per command.
type Answers = Pin<Box<dyn Future<Output = RedisResult<Vec<Value>>> + Send>>;

/// A batch that came back, or did not.
pub(super) struct Landed {
    pub calls: Vec<Call>,
    /// Which connection it was sent on.
    pub connection: u64,
    pub sent: Instant,
    pub outcome: Outcome,
}

/// What became of a flight.
pub(super) enum Outcome {
    /// Each command has an answer, or the connection ended.
    Answered(RedisResult<Vec<Value>>),
    /// No answer in time; it may still come.
    Silent(Answers),
}

impl Runner {
    /// Sends a batch.
    pub(super) fn take_off(&mut self, live: Live, mut batch: Batch) -> Flight {
        batch.prepare(&mut self.scripts);
        let pipeline = batch.pipeline(&mut self.scripts, &self.common.roots);
        let Live { mut connection, number } = live;
        let (calls, limit) = (batch.calls, self.common.command_timeout);
        let commands = calls.len();
        let mut answers: Answers =
            Box::pin(async move { connection.send_packed_commands(&pipeline, 0, commands).await });
        Box::pin(async move {
            let sent = Instant::now();
            let outcome = match timeout(limit, &mut answers).await {
                Ok(answers) => Outcome::Answered(answers),
                Err(_) => Outcome::Silent(answers),
            };
            Landed { calls, connection: number, sent, outcome }
        })
    }
}

/// Who takes an item's answer when its caller has given up; by call, then by item.
type Orphanages = Vec<Vec<Option<Arc<dyn Orphanage>>>>;

/// Goes on waiting for the answers to a flight whose callers were told that nobody knows: what a
/// claim took is given back when its answer comes after all. It ends with the connection, which
/// these answers hold open.
pub(super) fn wait_for_orphans(calls: &[Call], answers: Answers) {
    let orphanages: Orphanages = calls
        .iter()
        .map(|call| call.jobs.iter().map(|job| job.orphanage.clone()).collect())
        .collect();
    if orphanages.iter().flatten().all(Option::is_none) {
        return;
    }
    tokio::spawn(async move {
        match answers.await {
            Ok(values) => place(orphanages, values),
            Err(error) => {
                tracing::warn!(
                    target: "codeq::store", category = "system", event = "store.answers_lost",
                    error.message = %error,
                    "answers to once-only scripts were lost with their connection"
                );
            }
        }
    });
}

fn place(orphanages: Orphanages, values: Vec<Value>) {
    for (orphanages, value) in orphanages.into_iter().zip(values) {
        let Value::Array(items) = value else { continue };
        for (orphanage, item) in orphanages.into_iter().zip(items) {
            if let Some(orphanage) = orphanage {
                orphanage.take(item);
            }
        }
    }
}
