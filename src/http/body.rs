//! Request bodies: read within bytes and seconds, then parsed at the edge.

use std::error::Error as _;
use std::time::Duration;

use axum::body::HttpBody as _;
use axum::extract::{FromRequest, Request};
use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http_body_util::BodyExt as _;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::{Context, Error, Result, json};

/// How long a request may take to arrive when the server set no deadline of its own.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);

/// The most that is reserved for a body before its bytes are there.
const RESERVED_BYTES: usize = 64 * 1024;

/// When the whole request must have arrived. The server puts it on each request.
#[derive(Clone, Copy, Debug)]
pub struct ArrivesBy(pub Instant);

/// A JSON body. Refused with `400` `invalid body`.
///
/// `Content-Type` is not looked at: clients of this API often do not send one.
pub struct Body<T>(pub T);

/// As [`Body`], but an empty body, or `null`, stands for the default.
pub struct BodyOrEmpty<T>(pub T);

/// As [`Body`], but refused as `invalid request body`.
pub struct RequestBody<T>(pub T);

/// The bytes of a body, for a handler that parses them with [`json::parse`] itself, to borrow.
pub struct RawBody(pub Bytes);

impl<S: Context, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = read(request, state.max_body_bytes()).await?;
        json::parse(&bytes).map(Self).map_err(Error::InvalidBody)
    }
}

impl<S: Context, T: DeserializeOwned + Default> FromRequest<S> for BodyOrEmpty<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = read(request, state.max_body_bytes()).await?;
        if matches!(bytes.trim_ascii(), b"" | b"null") {
            return Ok(Self(T::default()));
        }
        json::parse(&bytes).map(Self).map_err(Error::InvalidBody)
    }
}

impl<S: Context, T: DeserializeOwned> FromRequest<S> for RequestBody<T> {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        let bytes = read(request, state.max_body_bytes()).await.map_err(|error| match error {
            Error::InvalidBody(detail) => Error::InvalidRequestBody(detail),
            other => other,
        })?;
        json::parse(&bytes).map(Self).map_err(Error::InvalidRequestBody)
    }
}

impl<S: Context> FromRequest<S> for RawBody {
    type Rejection = Error;

    async fn from_request(request: Request, state: &S) -> Result<Self> {
        read(request, state.max_body_bytes()).await.map(Self)
    }
}

/// `413` when `Content-Length` already says so; the body is not touched.
pub(super) fn announced_length_is_allowed(parts: &Parts, max_bytes: usize) -> Result<()> {
    // A length the server let through but that is no number here can only be a huge one.
    let too_large = |text: &http::HeaderValue| {
        text.to_str().ok().and_then(|text| text.parse().ok()).is_none_or(|n: usize| n > max_bytes)
    };
    match parts.headers.get(CONTENT_LENGTH) {
        Some(text) if too_large(text) => Err(Error::BodyTooLarge),
        _ => Ok(()),
    }
}

async fn read(request: Request, max_bytes: usize) -> Result<Bytes> {
    let (parts, body) = request.into_parts();
    announced_length_is_allowed(&parts, max_bytes)?;
    let deadline = parts
        .extensions
        .get()
        .map_or_else(|| Instant::now() + ARRIVES_WITHIN, |at: &ArrivesBy| at.0);
    tokio::time::timeout_at(deadline, collect(body, max_bytes))
        .await
        .map_err(|_| Error::RequestTimeout)?
}

async fn collect(mut body: axum::body::Body, max_bytes: usize) -> Result<Bytes> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    let Some(first) = next(&mut body).await? else { return Ok(Bytes::new()) };
    if first.len() > max_bytes {
        return Err(Error::BodyTooLarge);
    }
    // Nearly every body comes in one piece, which then is not copied.
    let Some(second) = next(&mut body).await? else { return Ok(first) };
    let mut whole = BytesMut::with_capacity(
        expected.clamp(first.len() + second.len(), RESERVED_BYTES.max(first.len() + second.len())),
    );
    whole.extend_from_slice(&first);
    let mut piece = Some(second);
    while let Some(bytes) = piece {
        if whole.len() + bytes.len() > max_bytes {
            return Err(Error::BodyTooLarge);
        }
        whole.extend_from_slice(&bytes);
        piece = next(&mut body).await?;
    }
    Ok(whole.freeze())
}

/// The next piece with bytes in it; trailers carry none.
async fn next(body: &mut axum::body::Body) -> Result<Option<Bytes>> {
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|broken| {
            tracing::debug!(
                target: "codeq::http", category = "debug", event = "http.body_broke_off",
                error.message = %broken, cause = ?broken.source(), "a request body broke off"
            );
            Error::InvalidBody("the body broke off".into())
        })?;
        if let Ok(bytes) = frame.into_data()
            && !bytes.is_empty()
        {
            return Ok(Some(bytes));
        }
    }
    Ok(None)
}
