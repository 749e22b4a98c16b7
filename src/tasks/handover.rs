//! A claim that nobody received is given back: the client may be gone before its answer is written.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use axum::response::Response;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use serde::Serialize;
use tokio::time::Instant;

use crate::app::App;
use crate::model::{TaskId, TenantId};

use super::abandon::Abandon;
use super::claim::{self, Claimed};
use super::events;

/// Tasks on their way to a worker. Dropped before the answer is taken up by the connection, it gives
/// them back, without an attempt and to the head of their queues.
pub struct Handover {
    giver: Arc<Giver>,
    tasks: Vec<(TaskId, String)>,
    /// How long the one that had been ready longest was so when it was taken, and when that was.
    ready: Option<(Duration, Instant)>,
}

/// Gives tasks back that were taken for somebody who is gone.
pub struct Giver {
    app: App,
    worker: String,
    tenant: TenantId,
}

impl Handover {
    /// Nothing is on its way yet.
    pub fn new(app: &App, worker: &str, tenant: &TenantId) -> Self {
        let giver = Giver { app: app.clone(), worker: worker.to_owned(), tenant: tenant.clone() };
        Self { giver: Arc::new(giver), tasks: Vec::new(), ready: None }
    }

    /// A task was taken that had been ready for so long, by Redis' clock.
    pub fn add(&mut self, id: TaskId, token: &str, ready: Duration) {
        self.tasks.push((id, token.to_owned()));
        if self.ready.is_none_or(|(longest, _)| ready > longest) {
            self.ready = Some((ready, Instant::now()));
        }
    }

    /// Time since the first of the tasks became ready: by Redis' clock until it was taken, by this
    /// node's from then on. What the answer took from Redis to here is in neither.
    pub fn since_ready(&self) -> Option<Duration> {
        self.ready.map(|(ready, taken)| ready + taken.elapsed())
    }

    /// For answers of the store that come when nobody waits any more.
    pub fn for_orphans(&self) -> Arc<Giver> {
        self.giver.clone()
    }

    /// The answer with the tasks in it. They count as handed over once the connection takes it.
    pub fn answer(self, answer: &impl Serialize) -> Response {
        let json = serde_json::to_vec(answer).expect("strings and numbers are JSON");
        let length = json.len();
        let body = HandoverBody { bytes: Some(json.into()), handover: self };
        Response::builder()
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_LENGTH, length)
            .body(axum::body::Body::new(body))
            .expect("constant headers")
    }
}

impl Drop for Handover {
    fn drop(&mut self) {
        self.giver.give_back(std::mem::take(&mut self.tasks));
    }
}

impl Giver {
    /// Gives back what a claim took after its caller had gone.
    pub fn all(self: &Arc<Self>, claimed: Claimed, lease_ms: u64) {
        claim::count(&self.app, &claimed, lease_ms);
        self.give_back(
            claimed.tasks.into_iter().map(|granted| (granted.id, granted.token)).collect(),
        );
    }

    fn give_back(self: &Arc<Self>, tasks: Vec<(TaskId, String)>) {
        if tasks.is_empty() {
            return;
        }
        let giver = self.clone();
        self.app.background.spawn(async move {
            for (id, token) in &tasks {
                giver.give_back_one(id, token).await;
            }
        });
    }

    async fn give_back_one(&self, id: &TaskId, token: &str) {
        let abandon = Abandon {
            id,
            tenant: &self.tenant,
            worker: &self.worker,
            token,
            undelivered: true,
            span: "",
        };
        match self.app.store.run(id.partition(), abandon).await {
            Ok(abandoned) => {
                events::undelivered(&self.app, id, &abandoned, &self.worker);
                let latest = abandoned.trace.clone();
                self.app.returned(id, &abandoned.head, abandoned.length, latest);
            }
            // It comes back by itself when its lease ends.
            Err(error) => tracing::warn!(
                target: "codeq::task", category = "queue", event = "task.return_failed",
                task_id = %id, error.message = %error, "an undelivered task could not be given back"
            ),
        }
    }
}

struct HandoverBody {
    bytes: Option<Bytes>,
    handover: Handover,
}

impl Body for HandoverBody {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let bytes = self.bytes.take();
        self.handover.tasks.clear();
        Poll::Ready(bytes.map(|bytes| Ok(Frame::data(bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.bytes.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
    }
}
