//! An [`Error`] as an answer: body, headers, and the form it takes inside a batch.

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{CONNECTION, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde::Serialize;
use utoipa::ToSchema;

use super::error::{Error, Text};

/// The body of every error.
#[derive(Serialize, ToSchema, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ErrorBody {
    /// What went wrong, as a sentence.
    #[schema(value_type = String)]
    pub error: Text,
    /// The same for programs; stable.
    #[schema(value_type = String)]
    pub code: &'static str,
    /// The id of the request, as in the header `X-Request-Id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// Which field or check, and why.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text>,
    /// The field of a policy that is out of range.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub field: Option<Text>,
    /// Whose bucket is empty.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scope: Option<&'static str>,
    /// Which call was limited.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<&'static str>,
    /// Seconds until the call may succeed, as in the header `Retry-After`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after_seconds: Option<u64>,
}

/// An item of a batch that failed while others succeeded.
#[derive(Serialize, ToSchema, Clone, PartialEq, Eq, Debug)]
pub struct ItemError {
    /// What went wrong, as a sentence.
    #[schema(value_type = String)]
    pub error: Text,
    /// The same for programs; stable.
    #[schema(value_type = String)]
    pub code: &'static str,
    /// Which field or check, and why.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Text>,
}

impl Error {
    /// As an item of a batch.
    pub fn item(&self) -> ItemError {
        let (_, code, error) = self.says();
        ItemError { error, code, detail: self.detail() }
    }

    /// The JSON of the answer.
    pub fn body(&self, request_id: Option<&str>) -> ErrorBody {
        let (_, code, error) = self.says();
        let limited = match self {
            Self::RateLimited(limited) => Some(*limited),
            _ => None,
        };
        ErrorBody {
            error,
            code,
            request_id: request_id.map(str::to_owned),
            detail: self.detail(),
            field: match self {
                Self::InvalidPolicy { field, .. } => Some(field.clone()),
                _ => None,
            },
            scope: limited.map(|l| l.scope),
            operation: limited.map(|l| l.operation),
            retry_after_seconds: limited.map(|l| l.retry_after_seconds),
        }
    }

    /// The answer. The middleware passes the request's id; it is not known earlier.
    pub fn answer(self, request_id: Option<&str>) -> Response {
        let json = serde_json::to_vec(&self.body(request_id)).expect("texts and numbers are JSON");
        let mut response = Response::new(Body::from(json));
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(seconds) = self.retry_after_seconds() {
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
        }
        match self.status() {
            StatusCode::UNAUTHORIZED => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // What is left of the body is not read, so the connection cannot carry another request.
            StatusCode::REQUEST_TIMEOUT | StatusCode::PAYLOAD_TOO_LARGE => {
                headers.insert(CONNECTION, HeaderValue::from_static("close"));
            }
            _ => {}
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        self.answer(None)
    }
}
