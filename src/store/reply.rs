//! How the answer of a script becomes values.

use bytes::Bytes;
use redis::Value;

use super::Error;
use crate::model::{LeaseToken, Partition, QueueName, Refusal, TaskId, Time};

/// What a script gives for one item: its `GIVES` lines.
pub trait Reply: Sized + Send + 'static {
    /// Reads the fields. The error says which one was not as expected.
    fn read(fields: Fields) -> Result<Self, Unexpected>;
}

/// A script answered something else than its header says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unexpected(String);

impl Unexpected {
    fn of(wanted: &str, got: &Value) -> Self {
        // The value may hold a payload: its kind is enough to find the mistake.
        let got = match got {
            Value::Nil => "nil",
            Value::Int(_) => "a number",
            Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
            Value::Array(_) => "an array",
            _ => "something else",
        };
        Self(format!("{wanted} expected, got {got}"))
    }

    fn named(self, name: &str) -> Self {
        Self(format!("{name}: {}", self.0))
    }
}

impl std::fmt::Display for Unexpected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// The fields of one answer, taken in order.
pub struct Fields(std::vec::IntoIter<Value>);

impl Fields {
    /// The fields inside an array.
    pub fn of(value: Value) -> Result<Self, Unexpected> {
        match value {
            Value::Array(values) => Ok(Self(values.into_iter())),
            other => Err(Unexpected::of("an array", &other)),
        }
    }

    /// Takes the next one. A missing one reads as nil: Lua cuts trailing nils off.
    pub fn next<T: Field>(&mut self, name: &str) -> Result<T, Unexpected> {
        T::read(self.0.next().unwrap_or(Value::Nil)).map_err(|error| error.named(name))
    }
}

/// Reads what a script gave for one item: its fields, or the word of a refusal.
pub(super) fn read_item<R: Reply>(script: &str, value: Value) -> Result<R, Error> {
    let wrong = |what: String| Error::Script(format!("lua/{script}.lua answered {what}"));
    match value {
        Value::Array(fields) => {
            R::read(Fields(fields.into_iter())).map_err(|error| wrong(error.to_string()))
        }
        Value::BulkString(word) => Err(refused(&String::from_utf8_lossy(&word), wrong)),
        Value::SimpleString(word) => Err(refused(&word, wrong)),
        other => Err(wrong(Unexpected::of("fields or a refusal", &other).to_string())),
    }
}

fn refused(word: &str, wrong: impl Fn(String) -> Error) -> Error {
    match Refusal::from_word(word) {
        Some(refusal) => Error::Refused(refusal),
        None => wrong(format!("the word `{word}`, which is no refusal")),
    }
}

/// A value that a script gives as one field.
pub trait Field: Sized {
    /// Reads one value.
    fn read(value: Value) -> Result<Self, Unexpected>;
}

impl Field for i64 {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match &value {
            Value::Int(number) => Ok(*number),
            Value::BulkString(text) => std::str::from_utf8(text)
                .ok()
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Unexpected::of("a number", &value)),
            _ => Err(Unexpected::of("a number", &value)),
        }
    }
}

macro_rules! narrower {
    ($($type:ty),*) => {$(
        impl Field for $type {
            fn read(value: Value) -> Result<Self, Unexpected> {
                let number = i64::read(value)?;
                number.try_into().map_err(|_| {
                    Unexpected(format!("{} expected, got {number}", stringify!($type)))
                })
            }
        }
    )*};
}
narrower!(u8, u16, u32, u64, usize, i32);

impl Field for f64 {
    fn read(value: Value) -> Result<Self, Unexpected> {
        let text = String::read(value)?;
        text.parse().map_err(|_| Unexpected("a number expected, got other text".into()))
    }
}

/// 1 or "1" is true; 0, "0", "" and nil are false.
impl Field for bool {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match &value {
            Value::Int(number) => Ok(*number != 0),
            Value::Nil => Ok(false),
            Value::Boolean(truth) => Ok(*truth),
            Value::BulkString(text) if text == b"1" => Ok(true),
            Value::BulkString(text) if text.is_empty() || text == b"0" => Ok(false),
            _ => Err(Unexpected::of("1 or 0", &value)),
        }
    }
}

impl Field for Bytes {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match value {
            Value::BulkString(bytes) => Ok(bytes.into()),
            Value::SimpleString(text) => Ok(text.into_bytes().into()),
            Value::Int(number) => Ok(number.to_string().into()),
            other => Err(Unexpected::of("bytes", &other)),
        }
    }
}

impl Field for String {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match value {
            Value::BulkString(bytes) => String::from_utf8(bytes)
                .map_err(|_| Unexpected("text expected, got bytes that are not UTF-8".into())),
            Value::SimpleString(text) => Ok(text),
            Value::Int(number) => Ok(number.to_string()),
            other => Err(Unexpected::of("text", &other)),
        }
    }
}

/// Reads the text of a field into a value with a form of its own.
fn text<T>(value: Value, what: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, Unexpected> {
    let text = String::read(value)?;
    parse(&text).ok_or_else(|| Unexpected(format!("{what} expected, got other text")))
}

impl Field for TaskId {
    fn read(value: Value) -> Result<Self, Unexpected> {
        text(value, "a task id", TaskId::from_short)
    }
}

impl Field for QueueName {
    fn read(value: Value) -> Result<Self, Unexpected> {
        text(value, "a queue name", QueueName::from_text)
    }
}

impl Field for LeaseToken {
    fn read(value: Value) -> Result<Self, Unexpected> {
        text(value, "a lease token", LeaseToken::sent)
    }
}

impl Field for Time {
    fn read(value: Value) -> Result<Self, Unexpected> {
        i64::read(value).map(Time::from_ms)
    }
}

impl Field for Partition {
    fn read(value: Value) -> Result<Self, Unexpected> {
        u16::read(value).map(Partition::new)
    }
}

/// nil, false and "" are `None`.
impl<T: Field> Field for Option<T> {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match &value {
            Value::Nil | Value::Boolean(false) => Ok(None),
            Value::BulkString(bytes) if bytes.is_empty() => Ok(None),
            _ => T::read(value).map(Some),
        }
    }
}

impl<T: Field> Field for Vec<T> {
    fn read(value: Value) -> Result<Self, Unexpected> {
        match value {
            Value::Array(values) => values.into_iter().map(T::read).collect(),
            Value::Nil => Ok(Vec::new()),
            other => Err(Unexpected::of("an array", &other)),
        }
    }
}

macro_rules! tuples {
    ($(($($part:ident),+))*) => {$(
        impl<$($part: Field),+> Field for ($($part,)+) {
            fn read(value: Value) -> Result<Self, Unexpected> {
                let mut fields = Fields::of(value)?;
                Ok(($(fields.next::<$part>(stringify!($part))?,)+))
            }
        }
    )*};
}
tuples! { (A, B) (A, B, C) (A, B, C, D) (A, B, C, D, E) (A, B, C, D, E, F) }
