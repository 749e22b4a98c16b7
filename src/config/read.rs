use std::ops::RangeInclusive;
use std::time::Duration;

use ::config::{Value, ValueKind};
use url::Url;

use super::keys::{self, closest};
use super::layers::{Layers, Origin, Sources};
use super::report::Problem;

/// Longest piece of a value that a message repeats.
const SHOWN_CHARS: usize = 80;

/// Reads typed values and collects what is wrong with them. After a problem it hands out a stand-in
/// of the right type, so that reading goes on and finds the rest; [`super::load`] then fails.
pub(super) struct Reader<'a> {
    layers: Layers,
    sources: &'a Sources,
}

impl<'a> Reader<'a> {
    pub fn new(sources: &'a Sources) -> Self {
        Self { layers: Layers::merge(sources), sources }
    }

    pub fn finish(self) -> (Vec<Problem>, Vec<String>) {
        (self.layers.problems, self.layers.warnings)
    }

    /// Where a key's value came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.layers.origin(key)
    }

    /// Whether a key was set by somebody.
    pub fn is_set(&self, key: &str) -> bool {
        self.origin(key).rank() > 0
    }

    /// A variable without a YAML key.
    pub fn var(&self, name: &str) -> Option<&'a str> {
        self.sources.var(name)
    }

    /// A value as it was found.
    pub fn raw(&self, key: &str) -> Option<&Value> {
        self.layers.value(key)
    }

    /// The value of `key` breaks `rule`.
    pub fn problem(&mut self, key: &str, rule: impl Into<String>) {
        let value = self.raw(key).map(|value| match keys::is_secret(key) {
            true => "***".to_owned(),
            false => shown(value),
        });
        let from = self.origin(key).name().map(str::to_owned);
        self.layers.problems.push(Problem { key: key.to_owned(), value, from, rule: rule.into() });
    }

    /// A part of `key`'s value breaks `rule`; the value is not repeated.
    pub fn problem_at(&mut self, key: &str, part: &str, rule: &str) {
        let from = self.origin(key).name().map(str::to_owned);
        let (key, rule) = (part.to_owned(), rule.to_owned());
        self.layers.problems.push(Problem { key, value: None, from, rule });
    }

    /// A variable without a YAML key breaks `rule`; `secret` hides its value.
    pub fn var_problem(&mut self, name: &str, secret: bool, rule: impl Into<String>) {
        let value = self.var(name).map(|text| if secret { "***".to_owned() } else { quoted(text) });
        let key = name.to_owned();
        self.layers.problems.push(Problem { key, value, from: None, rule: rule.into() });
    }

    /// Works, but an operator should know.
    pub fn warn(&mut self, text: impl Into<String>) {
        self.layers.warnings.push(text.into());
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        match &self.raw(key)?.kind {
            ValueKind::String(text) => Some(text.clone()),
            ValueKind::Table(_) | ValueKind::Array(_) => {
                self.problem(key, "must be text");
                None
            }
            _ => {
                // YAML has already turned 0123 into 123 and `no` into false.
                self.problem(key, "must be text: put it in quotes");
                None
            }
        }
    }

    /// A whole number; the stand-in is the least allowed.
    pub fn int<T: TryFrom<i64>>(&mut self, key: &str, range: RangeInclusive<i64>) -> T {
        let (least, most) = (*range.start(), *range.end());
        self.int_if_set(key, range).unwrap_or_else(|| {
            if self.raw(key).is_none() {
                self.problem(key, format!("must be a whole number, {least} to {most}"));
            }
            T::try_from(least).ok().expect("a range fits the type it is read as")
        })
    }

    /// A whole number, when there is one.
    pub fn int_if_set<T: TryFrom<i64>>(
        &mut self,
        key: &str,
        range: RangeInclusive<i64>,
    ) -> Option<T> {
        let found = whole(self.raw(key)?).filter(|number| range.contains(number));
        let number = found.and_then(|number| T::try_from(number).ok());
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.problem(key, format!("must be a whole number, {least} to {most}"));
        }
        number
    }

    pub fn seconds(&mut self, key: &str, range: RangeInclusive<i64>) -> Duration {
        Duration::from_secs(self.int(key, range))
    }

    pub fn millis(&mut self, key: &str, range: RangeInclusive<i64>) -> Duration {
        Duration::from_millis(self.int(key, range))
    }

    /// A number from 0 to 1.
    pub fn ratio(&mut self, key: &str) -> f64 {
        let found = self.raw(key).and_then(|value| match &value.kind {
            ValueKind::Float(number) => Some(*number),
            ValueKind::String(text) => text.trim().parse().ok(),
            _ => whole(value).map(|number| number as f64),
        });
        found.filter(|number| (0.0..=1.0).contains(number)).unwrap_or_else(|| {
            self.problem(key, "must be a number, 0 to 1");
            1.0
        })
    }

    pub fn boolean(&mut self, key: &str) -> bool {
        let found = self.raw(key).and_then(|value| match &value.kind {
            ValueKind::Boolean(flag) => Some(*flag),
            ValueKind::String(text) => truth(text),
            ValueKind::I64(0) => Some(false),
            ValueKind::I64(1) => Some(true),
            _ => None,
        });
        found.unwrap_or_else(|| {
            self.problem(key, "must be true or false");
            false
        })
    }

    /// A list: of YAML, or text with commas.
    pub fn list(&mut self, key: &str) -> Vec<String> {
        let items = match self.raw(key).map(|value| &value.kind) {
            None => Some(Vec::new()),
            Some(ValueKind::String(text)) => Some(split(text)),
            Some(ValueKind::Array(items)) => items.iter().map(scalar).collect(),
            Some(_) => None,
        };
        items.unwrap_or_else(|| {
            self.problem(key, "must be a list");
            Vec::new()
        })
    }

    /// A list whose items are parsed; `parse` answers the rule that an item broke.
    pub fn list_of<T>(
        &mut self,
        key: &str,
        most: usize,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Vec<T> {
        let items = self.list(key);
        if items.len() > most {
            self.problem(key, format!("must have at most {most} items"));
        }
        let mut parsed = Vec::new();
        for item in items {
            match parse(&item) {
                Ok(value) => parsed.push(value),
                Err(rule) => self.problem(key, format!("{} {rule}", quoted(&item))),
            }
        }
        parsed
    }

    /// One of some names; the stand-in is the first.
    pub fn choice<T: Copy>(&mut self, key: &str, names: &[(&str, T)]) -> T {
        let text = self.text(key).unwrap_or_default();
        let found = names.iter().find(|(name, _)| name.eq_ignore_ascii_case(text.trim()));
        found.map(|(_, value)| *value).unwrap_or_else(|| {
            self.problem(key, one_of(&text, names.iter().map(|(name, _)| *name)));
            names[0].1
        })
    }

    /// A URL with a host and one of the schemes.
    pub fn url(&mut self, key: &str, schemes: &[&str]) -> Option<Url> {
        let text = self.text(key)?;
        match parse_url(&text, schemes) {
            Ok(url) => Some(url),
            Err(rule) => {
                self.problem(key, rule);
                None
            }
        }
    }
}

/// A URL with a host and one of the schemes, or the rule it broke.
pub(super) fn parse_url(text: &str, schemes: &[&str]) -> Result<Url, String> {
    let rule = || format!("must be a URL with a host and the scheme {}", schemes.join(" or "));
    let url = Url::parse(text).map_err(|_| rule())?;
    let has_host = url.host_str().is_some_and(|host| !host.is_empty());
    if schemes.contains(&url.scheme()) && has_host { Ok(url) } else { Err(rule()) }
}

/// "must be one of a, b", with the name that was probably meant.
pub(super) fn one_of<'n>(text: &str, names: impl Iterator<Item = &'n str> + Clone) -> String {
    let all = names.clone().collect::<Vec<_>>().join(", ");
    match closest(text, names) {
        Some(near) => format!("must be one of {all}; did you mean {near}?"),
        None => format!("must be one of {all}"),
    }
}

/// Text with commas as a list; empty items count as absent.
pub(super) fn split(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// The words for true and false.
pub(super) fn truth(text: &str) -> Option<bool> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "y" | "on" => Some(true),
        "false" | "0" | "no" | "n" | "off" => Some(false),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<i64> {
    match &value.kind {
        ValueKind::I64(number) => Some(*number),
        ValueKind::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn scalar(value: &Value) -> Option<String> {
    match &value.kind {
        ValueKind::String(text) => Some(text.clone()),
        ValueKind::I64(number) => Some(number.to_string()),
        _ => None,
    }
}

fn shown(value: &Value) -> String {
    match &value.kind {
        ValueKind::String(text) => quoted(text),
        ValueKind::Array(_) => "a list".to_owned(),
        ValueKind::Table(_) => "a map".to_owned(),
        _ => value.to_string(),
    }
}

/// In quotes and not too long, control characters escaped.
pub(super) fn quoted(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}
