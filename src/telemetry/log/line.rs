//! One event as one line: the schema that log routing and retention rely on.
//!
//! Operations name flat fields; here they find their place. `category`, `event`, `request_id` and
//! `traceparent` stand at the top, `error` and `error.…` under `error`, everything else under
//! `context`, where a dot (`http.method`, `webhook.host`) makes one more level.

use std::fmt::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::{Level, Metadata};

use super::fields::{Fields, Place, quote};
use crate::model::TaskId;

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

impl Identity {
    /// What stands on every line between its level and its target, made once.
    pub(super) fn pairs(&self, format: Format) -> String {
        let mut text = String::new();
        let mut pairs = Pairs { line: &mut text, format, first: false };
        pairs.plain("service", "codeq");
        pairs.text("env", &self.env);
        pairs.plain("version", env!("CARGO_PKG_VERSION"));
        pairs.text("instance", &self.instance);
        text
    }
}

/// What a line says about the request it belongs to, when its own fields do not.
#[derive(Default)]
pub(super) struct Surroundings<'a> {
    pub(super) request_id: Option<&'a str>,
    pub(super) traceparent: Option<&'a str>,
    pub(super) task: Option<TaskId>,
}

/// Tells the time in RFC 3339, and writes the text of a second once for all its lines.
#[derive(Default)]
pub(super) struct Clock {
    second: u64,
    text: String,
}

impl Clock {
    fn write(&mut self, line: &mut String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        if self.text.is_empty() || self.second != now.as_secs() {
            self.second = now.as_secs();
            self.text.clear();
            let second = i64::try_from(self.second).unwrap_or(i64::MAX);
            let second = jiff::Timestamp::from_second(second).unwrap_or(jiff::Timestamp::MAX);
            // Writing into a string cannot fail.
            let _ = write!(self.text, "{second:.0}");
            self.text.truncate("2026-01-01T00:00:00".len());
        }
        line.push_str(&self.text);
        let _ = write!(line, ".{:03}Z", now.subsec_millis());
    }
}

/// What lines of a process share, and what one line needs beyond its fields.
pub(super) struct Frame<'a> {
    pub(super) format: Format,
    /// [`Identity::pairs`].
    pub(super) identity: &'a str,
    pub(super) metadata: &'a Metadata<'a>,
    pub(super) around: Surroundings<'a>,
}

pub(super) fn write(line: &mut String, clock: &mut Clock, frame: &Frame<'_>, fields: &Fields) {
    let Frame { format, identity, metadata, around } = frame;
    let mut pairs = Pairs { line, format: *format, first: true };
    pairs.open();
    pairs.quoted("timestamp", |line| clock.write(line));
    pairs.plain("level", metadata.level().as_str());
    pairs.line.push_str(identity);
    pairs.plain("target", metadata.target());
    let fallback = if *metadata.level() <= Level::INFO { "\"system\"" } else { "\"debug\"" };
    pairs.json("category", fields.at(Place::Category).unwrap_or(fallback));
    pairs.optional("event", fields.at(Place::Event));
    pairs.json("message", fields.at(Place::Message).unwrap_or("\"\""));
    match (fields.at(Place::RequestId), around.request_id) {
        (Some(own), _) => pairs.json("request_id", own),
        (None, Some(id)) => pairs.text("request_id", id),
        (None, None) => {}
    }
    if let Some(traceparent) = fields.plain(Place::Traceparent).or(around.traceparent) {
        pairs.plain("traceparent", traceparent);
        if let Some((trace_id, span_id)) = ids(traceparent) {
            pairs.plain("trace_id", trace_id);
            pairs.plain("span_id", span_id);
        }
    }
    write_context(&mut pairs, fields, around.task);
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

fn write_context(pairs: &mut Pairs<'_>, fields: &Fields, task: Option<TaskId>) {
    let task = task.filter(|_| fields.json("task_id").is_none());
    if !fields.has_context() && task.is_none() {
        return;
    }
    pairs.begin("context");
    if let Some(task) = task {
        pairs.quoted("task_id", |line| {
            let _ = write!(line, "{task}");
        });
    }
    for (at, (name, place, value)) in fields.iter().enumerate() {
        let Place::Group(length) = place else {
            if place == Place::Context {
                pairs.json(name, value);
            }
            continue;
        };
        // The first field of a group writes all of it; the others have been written by then.
        let group = &name[..length];
        if !fields.iter().take(at).any(|(name, place, _)| is_of(group, name, place)) {
            write_group(pairs, fields, group);
        }
    }
    pairs.end();
}

fn is_of(group: &str, name: &str, place: Place) -> bool {
    matches!(place, Place::Group(length) if &name[..length] == group)
}

fn write_group(pairs: &mut Pairs<'_>, fields: &Fields, group: &str) {
    let is_nested = pairs.format == Format::Json;
    pairs.begin(group);
    for (name, place, value) in fields.iter() {
        if is_of(group, name, place) {
            pairs.json(if is_nested { &name[group.len() + 1..] } else { name }, value);
        }
    }
    pairs.end();
}

fn write_error(pairs: &mut Pairs<'_>, fields: &Fields) {
    let (kind, message) = (fields.at(Place::ErrorType), fields.at(Place::ErrorMessage));
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
        let is_json = self.format == Format::Json;
        if !std::mem::take(&mut self.first) {
            self.line.push(if is_json { ',' } else { ' ' });
        }
        if is_json {
            self.line.push('"');
        }
        self.line.push_str(name);
        self.line.push_str(if is_json { "\":" } else { "=" });
    }

    /// A value that is known to need no escaping.
    fn plain(&mut self, name: &str, value: &str) {
        self.quoted(name, |line| line.push_str(value));
    }

    /// As [`Pairs::plain`], for what writes itself.
    fn quoted(&mut self, name: &str, write: impl FnOnce(&mut String)) {
        self.key(name);
        let mark = if self.format == Format::Json { "\"" } else { "" };
        self.line.push_str(mark);
        write(self.line);
        self.line.push_str(mark);
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
