//! What stands in a path.

use std::convert::Infallible;

use axum::extract::{FromRequestParts, RawPathParams};
use http::request::Parts;

use super::{Error, Missing, Result};
use crate::model::{Command, DeliveryId, TaskId};
use crate::telemetry::log;

/// The `{id}` of a path, if it can be a task of ours.
///
/// Looking at it refuses nothing: that the task does not exist is said after everything that may be
/// wrong with the request, and in the words of the call. A handler asks with [`id`](Self::id).
#[derive(Clone, Copy, Debug)]
pub struct TaskPath(Option<TaskId>);

impl TaskPath {
    /// The id; else `404` in the words of `missing`, and Redis is not asked.
    pub fn id(&self, missing: Missing) -> Result<TaskId> {
        self.0.ok_or(Error::NotFound(missing))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TaskPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let text = parameter(parts, state, "id").await;
        let id = text.as_deref().and_then(TaskId::parse);
        // Recoveries have ids of the same form.
        if let Some(task) = id.filter(|_| parts.uri.path().contains("/tasks/")) {
            log::about(task);
        }
        Ok(Self(id))
    }
}

/// The `{id}` of a path that names a subscription. As with [`TaskPath`], nothing is refused here;
/// `None` is text that is no UTF-8.
#[derive(Clone, Debug)]
pub struct SubscriptionPath(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for SubscriptionPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self(parameter(parts, state, "id").await))
    }
}

/// The `{id}` of a path, if it can be a `webhook-id`.
///
/// As [`TaskPath`], looking at it refuses nothing.
#[derive(Clone, Copy, Debug)]
pub struct WebhookPath(pub Option<DeliveryId>);

impl<S: Send + Sync> FromRequestParts<S> for WebhookPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let text = parameter(parts, state, "id").await;
        Ok(Self(text.as_deref().and_then(DeliveryId::parse)))
    }
}

/// The `{id}` of a path, if it can name a destination of webhooks. Here nothing is refused, either.
#[derive(Clone, Debug)]
pub struct DestinationPath(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for DestinationPath {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        let is_digest = |text: &String| {
            text.len() == 16
                && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        Ok(Self(parameter(parts, state, "id").await.filter(is_digest)))
    }
}

/// The `{command}` of a path. Refused with `400` `invalid command`.
#[derive(Clone, Debug)]
pub struct CommandPath(pub Command);

impl<S: Send + Sync> FromRequestParts<S> for CommandPath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let Some(text) = parameter(parts, state, "command").await else {
            return Err(Error::InvalidCommand("command must be UTF-8".into()));
        };
        Command::parse(&text).map(Self).map_err(|rule| Error::InvalidCommand(rule.into()))
    }
}

/// The `{name}` of a path, as it was sent. What is no UTF-8 names nothing: `404`.
#[derive(Clone, Debug)]
pub struct NamePath(pub String);

impl<S: Send + Sync> FromRequestParts<S> for NamePath {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self> {
        let name = parameter(parts, state, "name").await;
        name.map(Self).ok_or(Error::NotFound(Missing::Anything))
    }
}

/// A parameter after percent-decoding; `None` when that is not UTF-8.
async fn parameter<S: Send + Sync>(parts: &mut Parts, state: &S, name: &str) -> Option<String> {
    let parameters = RawPathParams::from_request_parts(parts, state).await.ok()?;
    parameters.iter().find(|(key, _)| *key == name).map(|(_, text)| text.to_owned())
}
