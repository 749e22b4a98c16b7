//! A step of a task's life and its span, before and after the script that takes it.

use std::time::SystemTime;

use crate::app::App;
use crate::http::{self, Caller, Error};
use crate::model::TaskId;
use crate::model::record::Body;
use crate::telemetry::trace::{
    self, OpenSpan, SpanId, Step, draw_span_id, nth_span_id, span_begins,
};

use super::find;

/// A step whose span got its id before the script ran: the script stores the context that the span
/// will have, so nothing is written twice.
#[derive(Clone)]
pub struct Drawn {
    step: Step,
    id: Option<SpanId>,
    /// When it began, if spans are made.
    began: Option<SystemTime>,
    offered: String,
}

impl Drawn {
    /// Draws an id, if spans are made.
    pub fn of(step: Step) -> Self {
        let id = draw_span_id();
        let began = span_begins();
        Self { step, id, began, offered: id.map(|id| id.to_string()).unwrap_or_default() }
    }

    /// What the script takes: 16 digits, or "".
    pub fn offered(&self) -> &str {
        &self.offered
    }

    /// The same step for the `n`-th task, from 1, of a call that moves several.
    pub fn nth(&self, n: usize) -> Self {
        let id = self.id.map(|id| nth_span_id(id, u16::try_from(n).unwrap_or(u16::MAX)));
        Self { id, offered: String::new(), ..*self }
    }

    /// The task's context once the step is done.
    pub fn after(&self, before: Option<&str>) -> Option<String> {
        trace::traceparent_after(before, self.id)
    }

    pub(super) fn span(&self, body: &Body, before: Option<&str>) -> OpenSpan {
        let before = before.or(body.trace_parent.as_deref());
        self.step.below_task(before, body.trace_state.as_deref(), self.id, self.began)
    }

    /// What a step that a caller asked for came to. One that did not take place leaves a span too, which
    /// is stored with no task.
    ///
    /// # Errors
    /// Why it did not take place.
    pub(super) async fn unless_refused<T, E: Into<Error>>(
        &self,
        app: &App,
        id: &TaskId,
        caller: &Caller,
        done: Result<T, E>,
    ) -> http::Result<T> {
        let error = match done {
            Ok(done) => return Ok(done),
            Err(error) => error.into(),
        };
        if !trace::request_is_recorded() {
            return Err(error);
        }
        let failed = error.status().is_server_error();
        // Below the task where it is known; a store that just failed is not asked again.
        let task = match failed {
            true => None,
            false => find(app, id, &caller.tenant).await.ok().map(|found| found.task()),
        };
        let mut span = match &task {
            Some(task) => {
                let (parent, state) = (task.trace_parent.as_deref(), task.trace_state.as_deref());
                self.step.below_task(parent, state, None, self.began)
            }
            None => self.step.begun(self.began),
        };
        span.set("codeq.task_id", id.to_string())
            .set("codeq.tenant_id", caller.tenant.as_str().to_owned());
        if let Some(task) = task {
            span.set("codeq.command", task.command);
        }
        if self.step != Step::Cancel {
            span.set("codeq.worker_id", caller.subject.clone());
        }
        did_not(&mut span, &error);
        Err(error)
    }
}

/// A step did not take place: it was refused, or we failed.
pub(super) fn did_not(span: &mut OpenSpan, error: &Error) {
    match error.status().is_server_error() {
        true => span.failed(error.code()),
        false => span.refused(error.code()),
    }
}
