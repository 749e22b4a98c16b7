//! The spans of a task's life, of what time does to tasks, and of calls of the store.

use std::time::SystemTime;

use opentelemetry::Context;
use opentelemetry::trace::{SpanContext, SpanId, SpanKind, TraceContextExt as _};

use super::span::{OpenSpan, Plan, request};
use super::tracers::{Room, store_is_on};
use super::{context, is_on, parent};

/// A step of a task's life.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// A producer's task was taken in; also when it is refused.
    Create,
    /// A worker got the task.
    Claim,
    /// A worker keeps the task.
    Heartbeat,
    /// A worker gives the task back.
    Abandon,
    /// A worker could not do it.
    Nack,
    /// A worker's result.
    SubmitResult,
    /// Back to the queue for another attempt, without a worker's call.
    Requeue,
    /// No attempt is left.
    DeadLetter,
    /// A producer takes it back.
    Cancel,
    /// Out of the dead letters again.
    Redrive,
    /// Artifacts of a result are stored.
    StoreArtifacts,
}

impl Step {
    /// The span's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "codeq.task.create",
            Self::Claim => "codeq.task.claim",
            Self::Heartbeat => "codeq.task.heartbeat",
            Self::Abandon => "codeq.task.abandon",
            Self::Nack => "codeq.task.nack",
            Self::SubmitResult => "codeq.task.submit_result",
            Self::Requeue => "codeq.task.requeue",
            Self::DeadLetter => "codeq.task.dead_letter",
            Self::Cancel => "codeq.task.cancel",
            Self::Redrive => "codeq.task.redrive",
            Self::StoreArtifacts => "codeq.artifacts.store",
        }
    }

    fn kind(self) -> SpanKind {
        match self {
            Self::Create => SpanKind::Producer,
            Self::Claim => SpanKind::Consumer,
            Self::StoreArtifacts => SpanKind::Client,
            _ => SpanKind::Internal,
        }
    }

    fn room(self) -> Room {
        match self {
            Self::SubmitResult | Self::StoreArtifacts => Room::Results,
            Self::Requeue | Self::DeadLetter => Room::Sweeper,
            _ => Room::Scheduler,
        }
    }

    fn plan(self) -> Plan {
        Plan::of(self.room(), self.name(), self.kind())
    }

    /// Opens the span as a child of the request that is being answered.
    pub fn below_current(self) -> OpenSpan {
        self.begun(None)
    }

    /// As [`Step::below_current`], for a step that began then.
    pub fn begun(self, began: Option<SystemTime>) -> OpenSpan {
        if !is_on() {
            return OpenSpan(None);
        }
        OpenSpan(Plan { below: Context::current(), began, ..self.plan() }.start())
    }

    /// Opens the span as a child of another step's context, without a link to the request.
    pub fn below(self, context: Option<&str>) -> OpenSpan {
        if !is_on() {
            return OpenSpan(None);
        }
        OpenSpan(Plan { below: parent(context, None), ..self.plan() }.start())
    }

    /// Opens the span as a child of the context stored with the task, a root when there is none,
    /// linked to the request that is being answered. `id` is what [`super::draw_span_id`] gave.
    pub fn below_task(
        self,
        stored: Option<&str>,
        stored_state: Option<&str>,
        id: Option<SpanId>,
        began: Option<SystemTime>,
    ) -> OpenSpan {
        if !is_on() {
            return OpenSpan(None);
        }
        let below = parent(stored, stored_state);
        OpenSpan(Plan { below, link: Some(request()), id, began, ..self.plan() }.start())
    }
}

/// What time did to a partition, if it did anything.
pub struct Sweep {
    span: OpenSpan,
    id: Option<SpanId>,
}

impl Sweep {
    /// A root that began then; what time did to tasks is told below it. `id` was offered to the
    /// script for the spans of the tasks.
    pub fn open(began: Option<SystemTime>, id: Option<SpanId>) -> Self {
        let plan = Plan::of(Room::Sweeper, "codeq.sweep", SpanKind::Internal);
        Self { span: OpenSpan(Plan { began, ..plan }.start()), id }
    }

    /// None: for one that moved nothing.
    pub fn none() -> Self {
        Self { span: OpenSpan(None), id: None }
    }

    /// The span of the sweep.
    pub fn span(&mut self) -> &mut OpenSpan {
        &mut self.span
    }

    /// Opens the span of the `n`-th task it moved, from 1, below the task's stored context, linked
    /// to the sweep.
    pub fn task(&self, step: Step, n: u16, stored: Option<&str>, state: Option<&str>) -> OpenSpan {
        if !is_on() {
            return OpenSpan(None);
        }
        let link = self.span.0.as_ref().map(|span| sweep_context(span));
        let id = self.id.map(|id| super::nth_span_id(id, n));
        OpenSpan(Plan { below: parent(stored, state), link, id, ..step.plan() }.start())
    }
}

fn sweep_context(span: &opentelemetry_sdk::trace::Span) -> SpanContext {
    opentelemetry::trace::Span::span_context(span).clone()
}

/// Opens the span of a call of the store, below what runs now; nothing unless it was asked for.
pub fn store_call(script: &'static str) -> OpenSpan {
    if !store_is_on() || !Context::current().span().span_context().is_valid() {
        return OpenSpan(None);
    }
    let plan = Plan::of(Room::Repository, "EVALSHA", SpanKind::Client);
    let mut span = OpenSpan(Plan { below: Context::current(), ..plan }.start());
    if let Some(open) = span.0.as_mut() {
        opentelemetry::trace::Span::update_name(open.as_mut(), format!("EVALSHA {script}"));
    }
    span.set("db.system.name", "redis")
        .set("db.operation.name", "EVALSHA")
        .set("db.stored_procedure.name", script);
    span
}

/// The `traceparent` of a step whose span has the drawn id, below `before`.
pub fn traceparent_after(before: Option<&str>, id: Option<SpanId>) -> Option<String> {
    context::with_span(before?, id)
}
