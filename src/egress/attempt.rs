//! What came of one attempt.

use std::time::{Duration, SystemTime};

use http::header::RETRY_AFTER;
use http::{HeaderMap, StatusCode};

use crate::model::delivery::Class;

/// Most bytes of an answer's body that are kept.
pub const MAX_EXCERPT: usize = 256;

/// Longest wait that a receiver may ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(3600);

/// One POST, from the look-up to the status line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// How it ended.
    pub outcome: Outcome,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// From the start to the status line or the failure.
    pub duration: Duration,
    /// How long the receiver asked to be left alone, with 429 and 503; at most an hour.
    pub retry_after: Option<Duration>,
    /// The receiver asked never to be told of this again.
    pub abort: bool,
    /// The first [`MAX_EXCERPT`] bytes of the answer, from public addresses only.
    pub excerpt: Option<Vec<u8>>,
}

/// How an attempt ended.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Outcome {
    /// A status of 2xx: delivered, whatever becomes of the body.
    Success,
    /// A redirect, which is not followed.
    Http3xx,
    /// The receiver refuses it.
    Http4xx,
    /// The receiver wants less of it.
    Http429,
    /// The receiver failed, or answered with a status that nobody knows.
    Http5xx,
    /// The name does not resolve.
    Dns,
    /// No connection.
    Connect,
    /// A connection, but no trust in it.
    Tls,
    /// No status line in time.
    Timeout,
    /// The connection broke off, or spoke something other than HTTP.
    Reset,
    /// Nothing may be sent there.
    Blocked {
        /// By what the URL itself says, which will not change; else by what its name resolves to.
        literal: bool,
    },
    /// The egress proxy's own fault.
    Proxy,
}

impl Outcome {
    /// The class, as metrics and attempt logs name it.
    pub fn class(self) -> Class {
        match self {
            Self::Success => Class::Success,
            Self::Http3xx => Class::Http3xx,
            Self::Http4xx => Class::Http4xx,
            Self::Http429 => Class::Http429,
            Self::Http5xx => Class::Http5xx,
            Self::Dns => Class::Dns,
            Self::Connect => Class::Connect,
            Self::Tls => Class::Tls,
            Self::Timeout => Class::Timeout,
            Self::Reset => Class::Reset,
            Self::Blocked { .. } => Class::Blocked,
            Self::Proxy => Class::Proxy,
        }
    }

    /// By the status line.
    pub(super) fn of(status: StatusCode) -> Self {
        match status.as_u16() {
            200..=299 => Self::Success,
            300..=399 => Self::Http3xx,
            429 => Self::Http429,
            400..=499 => Self::Http4xx,
            _ => Self::Http5xx,
        }
    }
}

impl Attempt {
    pub(super) fn failed(outcome: Outcome, duration: Duration) -> Self {
        Self { outcome, status: None, duration, retry_after: None, abort: false, excerpt: None }
    }

    pub(super) fn answered(status: StatusCode, headers: &HeaderMap, duration: Duration) -> Self {
        let outcome = Outcome::of(status);
        let asks_for_time =
            matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        Self {
            outcome,
            status: Some(status.as_u16()),
            duration,
            retry_after: if asks_for_time { retry_after(headers, SystemTime::now()) } else { None },
            abort: outcome != Outcome::Success && asks_to_abort(headers),
            excerpt: None,
        }
    }
}

fn asks_to_abort(headers: &HeaderMap) -> bool {
    headers
        .get("webhook-delivery")
        .is_some_and(|value| value.as_bytes().trim_ascii().eq_ignore_ascii_case(b"abort-message"))
}

/// Seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let wait = if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number has are a long wait, not none.
        text.parse().map_or(MAX_RETRY_AFTER, Duration::from_secs)
    } else {
        let date = httpdate::parse_http_date(text).ok()?;
        date.duration_since(now).unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(text: &str, now: SystemTime) -> Option<u64> {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, text.parse().unwrap())]);
        retry_after(&headers, now).map(|wait| wait.as_secs())
    }

    #[test]
    fn retry_after_is_seconds_or_a_date_and_an_hour_at_most() {
        let now = SystemTime::now();
        for (text, seconds) in [
            ("0", Some(0)),
            ("120", Some(120)),
            (" 7 ", Some(7)),
            ("3601", Some(3600)),
            ("99999999999999999999999", Some(3600)),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
            ("", None),
            ("Wed, 21 Oct 2015 07:28:00 GMT", Some(0)),
        ] {
            assert_eq!(asked(text, now), seconds, "{text:?}");
        }
        let date = httpdate::parse_http_date("Wed, 21 Oct 2015 07:28:00 GMT").unwrap();
        let before = date - Duration::from_secs(90);
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT", before), Some(90));
        let long_before = date - Duration::from_secs(86_400);
        assert_eq!(asked("Wed, 21 Oct 2015 07:28:00 GMT", long_before), Some(3600));
    }

    #[test]
    fn only_429_and_503_ask_for_time() {
        let headers = HeaderMap::from_iter([(RETRY_AFTER, "5".parse().unwrap())]);
        for (status, honoured) in [(429, true), (503, true), (500, false), (200, false)] {
            let status = StatusCode::from_u16(status).unwrap();
            let attempt = Attempt::answered(status, &headers, Duration::ZERO);
            assert_eq!(attempt.retry_after.is_some(), honoured, "{status}");
        }
    }

    #[test]
    fn a_receiver_can_abort_a_message_it_refuses() {
        let name = "webhook-delivery".parse::<http::HeaderName>().unwrap();
        let headers = HeaderMap::from_iter([(name, "Abort-Message ".parse().unwrap())]);
        let of = |status| Attempt::answered(status, &headers, Duration::ZERO).abort;
        assert!(of(StatusCode::BAD_REQUEST) && of(StatusCode::INTERNAL_SERVER_ERROR));
        assert!(!of(StatusCode::OK), "delivered is delivered");
        assert!(!Attempt::answered(StatusCode::GONE, &HeaderMap::new(), Duration::ZERO).abort);
    }

    #[test]
    fn every_status_has_a_class() {
        for (status, class) in [
            (200, "2xx"),
            (204, "2xx"),
            (299, "2xx"),
            (301, "http_3xx"),
            (308, "http_3xx"),
            (404, "http_4xx"),
            (410, "http_4xx"),
            (429, "http_429"),
            (500, "http_5xx"),
            (599, "http_5xx"),
            (101, "http_5xx"),
            (999, "http_5xx"),
        ] {
            assert_eq!(Outcome::of(StatusCode::from_u16(status).unwrap()).class().as_str(), class);
        }
    }
}
