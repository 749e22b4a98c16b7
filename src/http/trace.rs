//! W3C trace context and baggage of a request: checked at the door, because they are stored with the
//! task and sent on to workers and webhooks. What is malformed counts as absent.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use super::Context;

/// The longest `tracestate` that is kept, in bytes.
const MAX_TRACESTATE_BYTES: usize = 512;
/// The most entries a `tracestate` may have.
const MAX_TRACESTATE_ENTRIES: usize = 32;
/// Entries longer than this, in bytes, go first when a `tracestate` is shortened.
const LARGE_ENTRY_BYTES: usize = 128;
/// The longest baggage that is kept, in bytes.
const MAX_BAGGAGE_BYTES: usize = 8192;
/// The most members baggage may have.
const MAX_BAGGAGE_MEMBERS: usize = 64;

/// `traceparent`, `tracestate` and `baggage` of a request, each only if it is valid.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct TraceHeaders {
    /// In the form of version 00.
    pub traceparent: Option<String>,
    /// At most 512 bytes; absent without a `traceparent`.
    pub tracestate: Option<String>,
    /// At most 8192 bytes and 64 members; absent when this node drops baggage.
    pub baggage: Option<String>,
}

impl TraceHeaders {
    /// Reads the headers of a request.
    pub fn of(headers: &HeaderMap, keeps_baggage: bool) -> Self {
        let mut parents = headers.get_all("traceparent").iter();
        let traceparent = match (parents.next(), parents.next()) {
            (Some(value), None) => value.to_str().ok().and_then(traceparent),
            _ => None,
        };
        // A state without its parent belongs to no trace.
        let tracestate =
            traceparent.as_ref().and_then(|_| tracestate(&joined(headers, "tracestate")?));
        let baggage = if keeps_baggage { joined(headers, "baggage") } else { None };
        Self { traceparent, tracestate, baggage: baggage.filter(|text| is_baggage(text)) }
    }
}

impl<S: Context> FromRequestParts<S> for TraceHeaders {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Ok(Self::of(&parts.headers, state.keeps_baggage()))
    }
}

/// The values of a header that may be given several times, as one.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Option<Vec<&str>> =
        headers.get_all(name).iter().map(|value| value.to_str().ok()).collect();
    values.filter(|values| !values.is_empty()).map(|values| values.join(","))
}

/// <https://www.w3.org/TR/trace-context/#traceparent-header>
fn traceparent(text: &str) -> Option<String> {
    let lower_hex = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let (known, rest) = text.split_at_checked(55)?;
    let [version, trace, span, flags] = known.split('-').collect::<Vec<_>>().try_into().ok()?;
    let lengths = [version.len(), trace.len(), span.len(), flags.len()];
    let all_zero = |id: &str| id.bytes().all(|b| b == b'0');
    if lengths != [2, 32, 16, 2]
        || ![version, trace, span, flags].into_iter().all(lower_hex)
        || version == "ff"
        || all_zero(trace)
        || all_zero(span)
    {
        return None;
    }
    match (version, rest.as_bytes().first()) {
        ("00", None) => Some(known.to_owned()),
        ("00", Some(_)) => None,
        // A version from the future may go on after a dash. We read what we know of it, pass on
        // what we write ourselves, and of its flags only the one that keeps its meaning.
        (_, None | Some(b'-')) => {
            let sampled = u8::from_str_radix(flags, 16).ok()? & 1;
            Some(format!("00-{trace}-{span}-{sampled:02x}"))
        }
        _ => None,
    }
}

/// <https://www.w3.org/TR/trace-context/#tracestate-header>, shortened by whole entries.
fn tracestate(text: &str) -> Option<String> {
    let trimmed = text.split(',').map(|entry| entry.trim_matches([' ', '\t']));
    let mut entries: Vec<&str> = trimmed.filter(|entry| !entry.is_empty()).collect();
    let mut keys = Vec::with_capacity(entries.len());
    for entry in &entries {
        let (key, value) = entry.split_once('=')?;
        if !is_state_key(key) || !is_state_value(value) || keys.contains(&key) {
            return None;
        }
        keys.push(key);
    }
    if entries.is_empty() || entries.len() > MAX_TRACESTATE_ENTRIES {
        return None;
    }
    let length = |entries: &[&str]| {
        entries.iter().map(|entry| entry.len() + 1).sum::<usize>().saturating_sub(1)
    };
    while length(&entries) > MAX_TRACESTATE_BYTES {
        // Large entries first, then from the end, where the oldest stand.
        let large = entries.iter().rposition(|entry| entry.len() > LARGE_ENTRY_BYTES);
        entries.remove(large.unwrap_or(entries.len() - 1));
    }
    (!entries.is_empty()).then(|| entries.join(","))
}

fn is_state_key(key: &str) -> bool {
    let starts = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    let rest = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-' | b'*' | b'/' | b'@');
    starts && key.len() <= 256 && key.bytes().all(rest)
}

fn is_state_value(value: &str) -> bool {
    let inside = |b: u8| matches!(b, 0x20..=0x2b | 0x2d..=0x3c | 0x3e..=0x7e);
    (1..=256).contains(&value.len()) && value.bytes().all(inside) && !value.ends_with(' ')
}

/// <https://www.w3.org/TR/baggage/#baggage-http-header-format>
fn is_baggage(text: &str) -> bool {
    text.len() <= MAX_BAGGAGE_BYTES
        && text.split(',').count() <= MAX_BAGGAGE_MEMBERS
        && text.split(',').all(is_baggage_member)
}

fn is_baggage_member(member: &str) -> bool {
    let blank = [' ', '\t'];
    let value = |text: &str| text.trim_matches(blank).bytes().all(is_baggage_octet);
    let mut parts = member.split(';');
    let Some((key, first)) = parts.next().and_then(|pair| pair.split_once('=')) else {
        return false;
    };
    let is_property = |property: &str| match property.split_once('=') {
        Some((key, text)) => is_token(key.trim_matches(blank)) && value(text),
        None => is_token(property.trim_matches(blank)),
    };
    is_token(key.trim_matches(blank)) && value(first) && parts.all(is_property)
}

fn is_token(text: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    !text.is_empty() && text.bytes().all(allowed)
}

fn is_baggage_octet(byte: u8) -> bool {
    matches!(byte, 0x21 | 0x23..=0x2b | 0x2d..=0x3a | 0x3c..=0x5b | 0x5d..=0x7e)
}
