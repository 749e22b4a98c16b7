//! Where spans are sent.

use secrecy::SecretString;
use url::Url;

use super::read::{Reader, split};
use super::tracing::{first, is_own, otel_boolean};
use super::{OtlpEndpoint, OtlpProtocol};

const GRPC_PORT: u16 = 4317;
const HTTP_PORT: u16 = 4318;
/// Appended to the address of a collector that is reached over HTTP.
const TRACES_PATH: &str = "/v1/traces";

fn insecure(r: &mut Reader<'_>) -> bool {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_INSECURE", "OTEL_EXPORTER_OTLP_INSECURE"];
    let configured = r.boolean("tracingOtlpInsecure");
    match first(r, &names) {
        Some((name, text)) if !is_own(r, "tracingOtlpInsecure") => otel_boolean(r, name, text),
        _ => configured,
    }
}

pub(super) fn endpoint(r: &mut Reader<'_>, protocol: OtlpProtocol) -> OtlpEndpoint {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
    let key = "tracingOtlpEndpoint";
    let insecure = insecure(r);
    let configured = r.text(key).unwrap_or_default();
    let variable = first(r, &names).filter(|_| !is_own(r, key));
    let mut text = variable.map_or(configured, |(_, text)| text.to_owned());
    if variable.is_none() && !r.is_set(key) && protocol == OtlpProtocol::HttpProtobuf {
        text = format!("localhost:{HTTP_PORT}");
    }
    match complete(text.trim(), insecure, protocol) {
        Some(mut url) => {
            if protocol == OtlpProtocol::HttpProtobuf {
                add_traces_path(&mut url, variable.map(|(name, _)| name));
            }
            let tls = url.scheme() == "https";
            let url = url.as_str().trim_end_matches('/').to_owned();
            let given = if variable.is_some() { url.clone() } else { text };
            OtlpEndpoint { url, tls, given }
        }
        None => {
            let rule = "must be host:port or a URL with the scheme http or https, without user";
            match variable {
                Some((name, _)) => r.var_problem(name, text.contains('@'), rule),
                None if text.contains('@') => r.problem_at(key, key, rule),
                None => r.problem(key, rule),
            }
            OtlpEndpoint { url: String::new(), tls: false, given: String::new() }
        }
    }
}

/// `host:port` gets the scheme that `insecure` says; a URL has its own.
fn complete(text: &str, insecure: bool, protocol: OtlpProtocol) -> Option<Url> {
    let is_url = text.contains("://");
    let scheme = if insecure { "http" } else { "https" };
    let mut url = match is_url {
        true => Url::parse(text).ok()?,
        false => Url::parse(&format!("{scheme}://{text}")).ok()?,
    };
    if !is_url && url.port().is_none() && !text.ends_with(":80") && !text.ends_with(":443") {
        let port = if protocol == OtlpProtocol::Grpc { GRPC_PORT } else { HTTP_PORT };
        url.set_port(Some(port)).ok()?;
    }
    let plain = url.username().is_empty() && url.password().is_none();
    (matches!(url.scheme(), "http" | "https") && plain && url.port() != Some(0)).then_some(url)
}

/// The variable for traces names the whole address, the general one its beginning; elsewhere a
/// path that is given is meant.
fn add_traces_path(url: &mut Url, variable: Option<&str>) {
    let base = url.path().trim_end_matches('/').to_owned();
    let whole = match variable {
        Some("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") => true,
        Some(_) => false,
        None => !base.is_empty(),
    };
    if !whole {
        url.set_path(&format!("{base}{TRACES_PATH}"));
    }
}

pub(super) fn headers(r: &mut Reader<'_>) -> Vec<(String, SecretString)> {
    let names = ["OTEL_EXPORTER_OTLP_TRACES_HEADERS", "OTEL_EXPORTER_OTLP_HEADERS"];
    let Some((variable, text)) = first(r, &names) else { return Vec::new() };
    let mut headers = Vec::new();
    for pair in split(text) {
        let header = pair.split_once('=').map(|(name, value)| (name.trim(), value.trim()));
        match header.filter(|(name, _)| name.parse::<http::HeaderName>().is_ok()) {
            Some((name, value)) => headers.push((name.to_lowercase(), unescaped(value).into())),
            None => r.var_problem(variable, true, "must be name=value, separated by commas"),
        }
    }
    headers
}

/// With `%XX` turned back into what it stands for.
pub(super) fn unescaped(text: &str) -> String {
    let one_value = text.replace('+', "%2B").replace('&', "%26");
    let mut pairs = url::form_urlencoded::parse(one_value.as_bytes());
    // Without a name the text would end at its first `=`.
    let mut value = pairs.next().map(|(name, _)| name.into_owned()).unwrap_or_default();
    if let Some((_, rest)) = text.split_once('=') {
        value.push('=');
        value.push_str(&unescaped(rest));
    }
    value
}
