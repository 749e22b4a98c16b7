//! The fields of an event, each value kept as JSON text in one buffer.

use std::fmt::{self, Write};
use std::ops::Range;

use smallvec::SmallVec;
use tracing::field::{Field, Visit};

/// An event's fields in the order in which they were named.
#[derive(Default)]
pub(super) struct Fields {
    text: String,
    all: SmallVec<[(&'static str, Range<usize>); 24]>,
}

impl Fields {
    /// Forgets everything, keeps the memory.
    pub(super) fn clear(&mut self) {
        self.text.clear();
        self.all.clear();
    }

    /// The value of a field as JSON text.
    pub(super) fn json(&self, name: &str) -> Option<&str> {
        let (_, range) = self.all.iter().find(|(known, _)| *known == name)?;
        Some(&self.text[range.clone()])
    }

    /// The value of a field that is a plain string without anything escaped.
    pub(super) fn plain(&self, name: &str) -> Option<&str> {
        let quoted = self.json(name)?;
        quoted.strip_prefix('"')?.strip_suffix('"').filter(|text| !text.contains('\\'))
    }

    /// Every field with its value as JSON text.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        self.all.iter().map(|(name, range)| (*name, &self.text[range.clone()]))
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
        self.all.push((name, start..self.text.len()));
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
