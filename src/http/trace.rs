//! W3C trace context and baggage of a request: checked at the door, because they are stored with the
//! task and sent on to workers and webhooks. What is malformed counts as absent.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;

use super::Context;
use crate::telemetry::trace;

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
    /// The `traceparent` alone.
    pub fn parent(headers: &HeaderMap) -> Option<String> {
        if !trace::propagates() {
            return None;
        }
        let mut parents = headers.get_all("traceparent").iter();
        match (parents.next(), parents.next()) {
            (Some(value), None) => value.to_str().ok().and_then(traceparent),
            _ => None,
        }
    }

    /// Reads the headers of a request.
    pub fn of(headers: &HeaderMap, keeps_baggage: bool) -> Self {
        let baggage = if keeps_baggage { joined(headers, "baggage") } else { None };
        let baggage = baggage.filter(|text| is_baggage(text));
        let traceparent = Self::parent(headers);
        // A state without its parent belongs to no trace.
        let tracestate =
            traceparent.as_ref().and_then(|_| tracestate(&joined(headers, "tracestate")?));
        Self { traceparent, tracestate, baggage }
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

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
    const SPAN: &str = "b7ad6b7169203331";

    fn kept(headers: &[(&'static str, &str)]) -> TraceHeaders {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        TraceHeaders::of(&map, true)
    }

    fn state_of(state: &str) -> Option<String> {
        kept(&[("traceparent", &format!("00-{TRACE}-{SPAN}-01")), ("tracestate", state)]).tracestate
    }

    fn baggage_of(baggage: &str) -> Option<String> {
        kept(&[("baggage", baggage)]).baggage
    }

    #[test]
    fn a_traceparent_is_kept_as_the_recommendation_reads_it() {
        let zeros = "0".repeat(32);
        let upper = TRACE.to_uppercase();
        for (text, is_kept) in [
            (format!("00-{TRACE}-{SPAN}-01"), Some(format!("00-{TRACE}-{SPAN}-01"))),
            (format!("00-{TRACE}-{SPAN}-00"), Some(format!("00-{TRACE}-{SPAN}-00"))),
            (format!("00-{TRACE}-{SPAN}-03"), Some(format!("00-{TRACE}-{SPAN}-03"))),
            (format!("00-{TRACE}-{SPAN}-01-x"), None),
            (format!("00-{TRACE}-{SPAN}-1"), None),
            (format!("00-{TRACE}-{SPAN}"), None),
            (format!("00-{upper}-{SPAN}-01"), None),
            (format!("00-{zeros}-{SPAN}-01"), None),
            (format!("00-{TRACE}-{}-01", &zeros[..16]), None),
            (format!("ff-{TRACE}-{SPAN}-01"), None),
            (format!("0x-{TRACE}-{SPAN}-01"), None),
            (format!("cc-{TRACE}-{SPAN}-ff"), Some(format!("00-{TRACE}-{SPAN}-01"))),
            (
                format!("cc-{TRACE}-{SPAN}-00-what-the-future-brings"),
                Some(format!("00-{TRACE}-{SPAN}-00")),
            ),
            (format!("cc-{TRACE}-{SPAN}-01."), None),
            (format!("00_{TRACE}_{SPAN}_01"), None),
            (format!("00-{TRACE}-{SPAN}-0g"), None),
            (String::new(), None),
        ] {
            assert_eq!(kept(&[("traceparent", &text)]).traceparent, is_kept, "{text}");
        }
        let one = format!("00-{TRACE}-{SPAN}-01");
        assert_eq!(kept(&[("traceparent", &one), ("traceparent", &one)]), TraceHeaders::default());
    }

    #[test]
    fn a_tracestate_needs_its_parent_and_good_entries() {
        assert_eq!(kept(&[("tracestate", "a=1")]).tracestate, None);
        for (state, is_kept) in [
            ("a=1", Some("a=1")),
            ("a=1 ,\t b=2", Some("a=1,b=2")),
            ("a=1,,b=2,", Some("a=1,b=2")),
            ("tenant@system=x y", Some("tenant@system=x y")),
            ("", None),
            (",", None),
            ("a", None),
            ("a=", None),
            ("A=1", None),
            ("a=1,a=2", None),
            ("a=1=2", None),
            ("a\u{e4}=1", None),
        ] {
            assert_eq!(state_of(state).as_deref(), is_kept, "{state}");
        }
        let many = |n: u32| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert!(state_of(&many(32)).is_some());
        assert_eq!(state_of(&many(33)), None);
    }

    #[test]
    fn a_long_tracestate_loses_whole_entries_large_ones_first_then_the_last() {
        let large = format!("large={}", "x".repeat(200));
        let small = |n: u32| (0..n).map(|i| format!("k{i}={}", "v".repeat(30))).collect::<Vec<_>>();
        let mut entries = vec![large];
        entries.extend(small(12));
        assert_eq!(state_of(&entries.join(",")), Some(small(12).join(",")));
        let whole = small(20).join(",");
        let short = state_of(&whole).unwrap();
        assert!(short.len() <= 512 && 512 < short.len() + 35);
        assert!(whole.starts_with(&format!("{short},")));
    }

    #[test]
    fn baggage_is_kept_whole_or_not_at_all() {
        for good in ["a=1", "a=", "a = 1 ; p ; q=2 , b=%20", "a=b=c"] {
            assert_eq!(baggage_of(good).as_deref(), Some(good));
        }
        for bad in
            ["", "a", "=1", "a=1,", "a=1,,b=2", "a=\"1\"", "a=1 2", "a b=1", "a=1;", "a=\u{e4}"]
        {
            assert_eq!(baggage_of(bad), None, "{bad}");
        }
        let members = |n: u32| (0..n).map(|i| format!("k{i}=v")).collect::<Vec<_>>().join(",");
        assert!(baggage_of(&members(64)).is_some());
        assert_eq!(baggage_of(&members(65)), None);
        assert!(baggage_of(&format!("a={}", "x".repeat(8190))).is_some());
        assert_eq!(baggage_of(&format!("a={}", "x".repeat(8191))), None);
        let several = kept(&[("baggage", "a=1"), ("baggage", "b=2")]);
        assert_eq!(several.baggage.as_deref(), Some("a=1,b=2"));
        let mut headers = HeaderMap::new();
        headers.insert("baggage", HeaderValue::from_static("a=1"));
        assert_eq!(TraceHeaders::of(&headers, false).baggage, None);
    }
}
