//! The fields of an event, each value kept as JSON text in one buffer.

use std::fmt::{self, Write};
use std::ops::Range;

use smallvec::SmallVec;
use tracing::field::{Field, Visit};

/// Where a field stands on its line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Place {
    Message,
    Category,
    Event,
    RequestId,
    Traceparent,
    ErrorType,
    ErrorMessage,
    Context,
    /// Below `context`, in an object whose name is the first so many bytes of the field's.
    Group(usize),
}

impl Place {
    fn of(name: &str) -> Self {
        match name {
            "message" => Self::Message,
            "category" => Self::Category,
            "event" => Self::Event,
            "request_id" => Self::RequestId,
            "traceparent" => Self::Traceparent,
            "error.type" => Self::ErrorType,
            "error" | "error.message" => Self::ErrorMessage,
            _ => name.find('.').map_or(Self::Context, Self::Group),
        }
    }
}

/// An event's fields in the order in which they were named.
#[derive(Default)]
pub(super) struct Fields {
    text: String,
    all: SmallVec<[(&'static str, Place, Range<usize>); 24]>,
}

impl Fields {
    /// Forgets everything, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.all.clear();
    }

    /// The value of a field as JSON text.
    pub(super) fn json(&self, name: &str) -> Option<&str> {
        let (.., range) = self.all.iter().find(|(known, ..)| *known == name)?;
        Some(&self.text[range.clone()])
    }

    /// The value of what stands there, as JSON text.
    pub(super) fn at(&self, place: Place) -> Option<&str> {
        let (.., range) = self.all.iter().find(|(_, known, _)| *known == place)?;
        Some(&self.text[range.clone()])
    }

    /// What stands there, if it is a plain string without anything escaped.
    pub(super) fn plain(&self, place: Place) -> Option<&str> {
        unquoted(self.at(place)?)
    }

    /// Whether anything stands under `context`.
    pub(super) fn has_context(&self) -> bool {
        self.all.iter().any(|(_, place, _)| matches!(place, Place::Context | Place::Group(_)))
    }

    /// Every field with its place and its value as JSON text.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, Place, &str)> {
        self.all.iter().map(|(name, place, range)| (*name, *place, &self.text[range.clone()]))
    }

    fn push(&mut self, field: &Field, write: impl FnOnce(&mut String) -> fmt::Result) {
        let start = self.text.len();
        // Writing into a string fails only when a value's own Display does.
        if write(&mut self.text).is_err() {
            self.text.truncate(start);
            return;
        }
        // `r#type` is how a field that is a keyword is spelled in the macro.
        let name = field.name().strip_prefix("r#").unwrap_or(field.name());
        self.all.push((name, Place::of(name), start..self.text.len()));
    }
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.push(field, |text| quote(text, |quoted| quoted.write_str(value)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.push(field, |text| write!(text, "{value}"));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.push(field, |text| write!(text, "{value}"));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.push(field, |text| write!(text, "{value}"));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        if value.is_finite() {
            self.push(field, |text| write!(text, "{value}"));
        } else {
            self.push(field, |text| write!(text, "\"{value}\""));
        }
    }

    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        self.push(field, |text| quote(text, |quoted| write!(quoted, "{value}")));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.push(field, |text| quote(text, |quoted| write!(quoted, "{value:?}")));
    }
}

/// The text of a JSON string in which nothing is escaped.
pub(super) fn unquoted(json: &str) -> Option<&str> {
    json.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
}

/// Appends what `write` writes as one JSON string.
pub(super) fn quote(
    text: &mut String,
    write: impl FnOnce(&mut Quoted<'_>) -> fmt::Result,
) -> fmt::Result {
    text.push('"');
    write(&mut Quoted(text))?;
    text.push('"');
    Ok(())
}

/// Escapes what passes through, so that a value can never end its line or its string.
pub(super) struct Quoted<'a>(&'a mut String);

impl Write for Quoted<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let mut done = 0;
        for (at, byte) in text.bytes().enumerate() {
            let short = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0..0x20 | 0x7f => "",
                _ => continue,
            };
            self.0.push_str(&text[done..at]);
            done = at + 1;
            if short.is_empty() {
                write!(self.0, "\\u{byte:04x}")?;
            } else {
                self.0.push_str(short);
            }
        }
        self.0.push_str(&text[done..]);
        Ok(())
    }
}
