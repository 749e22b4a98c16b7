//! One event as one line: the schema that log routing and retention rely on.
//!
//! Operations name flat fields; here they find their place. `category`, `event`, `request_id` and
//! `traceparent` stand at the top, `error` and `error.…` under `error`, everything else under
//! `context`, where a dot (`http.method`, `webhook.host`) makes one more level.

use std::fmt::Write;

use tracing::{Level, Metadata};

use super::fields::{Fields, quote};

/// How lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Format {
    /// One JSON object a line, for machines.
    #[default]
    Json,
    /// `key=value` pairs, for people.
    Text,
}

/// Who writes: the same on every line of a process.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// `production`, `dev` or another name from the configuration.
    pub env: String,
    /// Tells this node from the others; the same on its spans.
    pub instance: String,
}

/// What a line says about the request it belongs to, when its own fields do not.
#[derive(Default)]
pub(super) struct Surroundings<'a> {
    pub(super) request_id: Option<&'a str>,
    pub(super) traceparent: Option<&'a str>,
}

/// Fields with a place of their own.
const TOP: [&str; 5] = ["message", "category", "event", "request_id", "traceparent"];

pub(super) fn write(
    line: &mut String,
    format: Format,
    identity: &Identity,
    metadata: &Metadata<'_>,
    fields: &Fields,
    around: &Surroundings<'_>,
) {
    let mut pairs = Pairs { line, format, first: true };
    pairs.open();
    pairs.shown("timestamp", format_args!("{:.3}", jiff::Timestamp::now()));
    pairs.shown("level", metadata.level());
    pairs.shown("service", "codeq");
    pairs.text("env", &identity.env);
    pairs.shown("version", env!("CARGO_PKG_VERSION"));
    pairs.text("instance", &identity.instance);
    pairs.shown("target", metadata.target());
    let fallback = if *metadata.level() <= Level::INFO { "\"system\"" } else { "\"debug\"" };
    pairs.json("category", fields.json("category").unwrap_or(fallback));
    pairs.optional("event", fields.json("event"));
    pairs.json("message", fields.json("message").unwrap_or("\"\""));
    match (fields.json("request_id"), around.request_id) {
        (Some(own), _) => pairs.json("request_id", own),
        (None, Some(id)) => pairs.text("request_id", id),
        (None, None) => {}
    }
    if let Some(traceparent) = fields.plain("traceparent").or(around.traceparent) {
        pairs.shown("traceparent", traceparent);
        if let Some((trace_id, span_id)) = ids(traceparent) {
            pairs.shown("trace_id", trace_id);
            pairs.shown("span_id", span_id);
        }
    }
    write_context(&mut pairs, fields);
    write_error(&mut pairs, fields);
    pairs.close();
    pairs.line.push('\n');
}

/// `00-<trace id>-<span id>-<flags>` → the two ids.
fn ids(traceparent: &str) -> Option<(&str, &str)> {
    let mut parts = traceparent.split('-').skip(1);
    let (trace_id, span_id) = (parts.next()?, parts.next()?);
    (trace_id.len() == 32 && span_id.len() == 16).then_some((trace_id, span_id))
}

fn is_error(name: &str) -> bool {
    name == "error" || name.starts_with("error.")
}

fn write_context(pairs: &mut Pairs<'_>, fields: &Fields) {
    let rest = || fields.iter().filter(|(name, _)| !TOP.contains(name) && !is_error(name));
    if rest().next().is_none() {
        return;
    }
    pairs.begin("context");
    for (at, (name, value)) in rest().enumerate() {
        let Some((group, _)) = grouped(name) else {
            pairs.json(name, value);
            continue;
        };
        // The first field of a group writes all of it; the others have been written by then.
        if rest().take(at).any(|(earlier, _)| grouped(earlier).is_some_and(|(g, _)| g == group)) {
            continue;
        }
        match pairs.format {
            Format::Json => {
                pairs.begin(group);
                for (name, value) in rest() {
                    if let Some((_, leaf)) = grouped(name).filter(|(g, _)| *g == group) {
                        pairs.json(leaf, value);
                    }
                }
                pairs.end();
            }
            Format::Text => rest()
                .filter(|(name, _)| grouped(name).is_some_and(|(g, _)| g == group))
                .for_each(|(name, value)| pairs.json(name, value)),
        }
    }
    pairs.end();
}

fn grouped(name: &str) -> Option<(&str, &str)> {
    name.split_once('.')
}

fn write_error(pairs: &mut Pairs<'_>, fields: &Fields) {
    let kind = fields.json("error.type");
    let message = fields.json("error.message").or_else(|| fields.json("error"));
    if kind.is_none() && message.is_none() {
        return;
    }
    let text = pairs.format == Format::Text;
    pairs.begin("error");
    pairs.optional(if text { "error.type" } else { "type" }, kind);
    pairs.optional(if text { "error.message" } else { "message" }, message);
    pairs.end();
}

/// Writes keys and values in either format.
struct Pairs<'a> {
    line: &'a mut String,
    format: Format,
    first: bool,
}

impl Pairs<'_> {
    fn open(&mut self) {
        if self.format == Format::Json {
            self.line.push('{');
        }
    }

    fn close(&mut self) {
        if self.format == Format::Json {
            self.line.push('}');
        }
    }

    /// An object inside; the text format stays flat.
    fn begin(&mut self, name: &str) {
        if self.format == Format::Json {
            self.key(name);
            self.line.push('{');
            self.first = true;
        }
    }

    fn end(&mut self) {
        self.close();
        self.first = false;
    }

    fn key(&mut self, name: &str) {
        let first = std::mem::take(&mut self.first);
        // Writing into a string cannot fail.
        let _ = match self.format {
            Format::Json => write!(self.line, "{}\"{name}\":", if first { "" } else { "," }),
            Format::Text => write!(self.line, "{}{name}=", if first { "" } else { " " }),
        };
    }

    /// A value that is known to need no escaping.
    fn shown(&mut self, name: &str, value: impl std::fmt::Display) {
        self.key(name);
        let _ = match self.format {
            Format::Json => write!(self.line, "\"{value}\""),
            Format::Text => write!(self.line, "{value}"),
        };
    }

    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let mut quoted = String::with_capacity(value.len() + 2);
        let _ = quote(&mut quoted, |quoted| quoted.write_str(value));
        self.json(name, &quoted);
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.json(name, value);
        }
    }

    /// A value that is JSON already; text drops quotes that nobody needs.
    fn json(&mut self, name: &str, value: &str) {
        self.key(name);
        let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
        let needed = |bare: &str| bare.is_empty() || bare.contains([' ', '=', '\\', '"']);
        match bare {
            Some(bare) if self.format == Format::Text && !needed(bare) => self.line.push_str(bare),
            _ => self.line.push_str(value),
        }
    }
}
