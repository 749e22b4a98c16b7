//! JSON from outside: parsed strictly, refused in words that name the field and repeat nobody's text.

use std::borrow::Cow;
use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::error::Category;

use super::error::Text;

/// How deep a whole body may be nested: a payload may be 128 deep, and a batch puts three levels
/// around it.
pub const MAX_DEPTH: usize = 140;

/// The longest path or rule that a `detail` repeats, in characters.
const MAX_WORDS: usize = 120;

/// How deep arrays and objects are nested in `json`: 0 for a number, 1 for `{}`.
///
/// One pass without recursion or memory, so that a hostile body costs no more than its bytes. For
/// text that is not JSON the number means nothing, and the parser refuses it anyway.
pub fn json_depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    let mut bytes = json.iter();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => {}
        }
    }
    deepest
}

fn skip_string(bytes: &mut std::slice::Iter<'_, u8>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => {
                bytes.next();
            }
            _ => {}
        }
    }
}

/// A JSON object. What serde derives for a struct also takes an array of its fields' values, which no
/// client was ever promised.
#[derive(Debug)]
pub struct Object<T>(pub T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                out.write_str("an object")
            }

            fn visit_map<M: MapAccess<'de>>(self, fields: M) -> Result<T, M::Error> {
                T::deserialize(MapAccessDeserializer::new(fields))
            }
        }

        from.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

/// Reads one JSON object and nothing after it. The error is a `detail`: field and rule.
pub fn parse<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Text> {
    let text = checked(json)?;
    // serde would take an array for a struct, its elements for the fields in their order.
    if text.trim_ascii_start().starts_with('[') {
        return Err("expected an object, found an array".into());
    }
    read(text)
}

/// As [`parse`], but any value.
pub(super) fn parse_any<'de, T: Deserialize<'de>>(json: &'de [u8]) -> Result<T, Text> {
    read(checked(json)?)
}

fn checked(json: &[u8]) -> Result<&str, Text> {
    let Ok(text) = std::str::from_utf8(json) else {
        return Err("not UTF-8".into());
    };
    if json_depth(json) > MAX_DEPTH {
        return Err("nested too deep".into());
    }
    Ok(text)
}

fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Text> {
    // Remembering the path costs an allocation per field, so only a refusal pays for it.
    serde_json::from_str(text).map_err(|plain| match plain.classify() {
        Category::Data => explain::<T>(text).unwrap_or_else(|| rule(&plain).into()),
        _ => rule(&plain).into(),
    })
}

fn explain<'de, T: Deserialize<'de>>(text: &'de str) -> Option<Text> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let refused = serde_path_to_error::deserialize::<_, T>(&mut reader).err()?;
    let path = refused.path().to_string();
    let rule = rule(refused.inner());
    Some(match path.as_str() {
        "." | "" | "?" => rule.into(),
        path => format!("{}: {rule}", printable(path)).into(),
    })
}

fn rule(error: &serde_json::Error) -> String {
    let message = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match error.classify() {
        // Of a value's type and range serde repeats the value, which may be long or a secret.
        Category::Data => without_values(message.strip_suffix(&place).unwrap_or(&message)),
        // The parser's own sentences hold no text of the client; the place is what helps.
        _ => message,
    }
}

/// What a deserializer of another format said, path first, less the values it quotes.
pub(super) fn explained(message: &str) -> String {
    match message.split_once(": ") {
        Some((path, rest)) if !path.contains(' ') => {
            format!("{}: {}", printable(path), without_values(rest))
        }
        _ => without_values(message),
    }
}

/// A message of serde, less the values it quotes.
fn without_values(message: &str) -> String {
    // The client's value stands before the rule, so the last `expected` is ours.
    let expected = message.rfind(", expected ").map(|at| &message[at + 2..]);
    let words = if message.starts_with("invalid type: ") {
        let kinds = ["null", "boolean", "integer", "floating point", "string", "map", "sequence"];
        let found = kinds.iter().find(|kind| message["invalid type: ".len()..].starts_with(**kind));
        match (found, expected) {
            (Some(found), Some(expected)) => format!("{expected}, found {found}"),
            (_, expected) => expected.unwrap_or("invalid type").to_owned(),
        }
    } else if message.starts_with("invalid value: ") || message.starts_with("invalid length ") {
        expected.map_or("invalid value".to_owned(), |rule| format!("invalid value, {rule}"))
    } else if message.starts_with("unknown variant ") {
        expected.unwrap_or("unknown value").to_owned()
    } else if message.starts_with("unknown field ") {
        expected.map_or("unknown field".to_owned(), |rule| format!("unknown field, {rule}"))
    } else {
        message.to_owned()
    };
    printable(&words).into_owned()
}

/// At most [`MAX_WORDS`] characters, none of them invisible.
fn printable(text: &str) -> Cow<'_, str> {
    let plain = |c: char| {
        !c.is_control() && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
    };
    if text.chars().count() <= MAX_WORDS && text.chars().all(plain) {
        return text.into();
    }
    let mut cut: String =
        text.chars().take(MAX_WORDS).map(|c| if plain(c) { c } else { '?' }).collect();
    cut.push('…');
    cut.into()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::value::RawValue;

    use super::*;

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "camelCase")]
    #[expect(dead_code, reason = "only whether it parses matters")]
    struct Ask {
        command: String,
        #[serde(default)]
        delay_seconds: i64,
        #[serde(default)]
        mode: Option<Mode>,
        #[serde(default)]
        items: Vec<Item>,
        #[serde(default)]
        payload: Option<Box<RawValue>>,
    }

    #[derive(Deserialize, Debug)]
    #[serde(rename_all = "lowercase")]
    enum Mode {
        Fanout,
        Group,
    }

    #[derive(Deserialize, Debug)]
    #[expect(dead_code, reason = "only whether it parses matters")]
    struct Item {
        count: u8,
    }

    #[derive(Deserialize, Debug)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "only whether it parses matters")]
    struct Strict {
        #[serde(default)]
        count: u8,
    }

    fn refused(json: &str) -> Text {
        parse::<Ask>(json.as_bytes()).expect_err(json)
    }

    #[test]
    fn a_refusal_names_the_field_and_the_rule() {
        for (json, detail) in [
            (r#"{}"#, "missing field `command`"),
            (r#"{"command":7}"#, "command: expected a string, found integer"),
            (r#"{"command":null}"#, "command: expected a string, found null"),
            (
                r#"{"command":"a","delaySeconds":1.5}"#,
                "delaySeconds: expected i64, found floating point",
            ),
            (
                r#"{"command":"a","items":[{"count":1},{"count":300}]}"#,
                "items[1].count: invalid value, expected u8",
            ),
            (r#"{"command":"a","items":[{"count":1},{}]}"#, "items[1]: missing field `count`"),
            (r#"{"command":"a","mode":"x"}"#, "mode: expected `fanout` or `group`"),
            (r#"{"command":"a","command":"b"}"#, "duplicate field `command`"),
            (r#" []"#, "expected an object, found an array"),
            (r#"7"#, "expected struct Ask, found integer"),
            ("", "EOF while parsing a value at line 1 column 0"),
            (r#"{"command":"a"} x"#, "trailing characters at line 1 column 17"),
        ] {
            assert_eq!(refused(json), detail, "{json}");
        }
        let strict = parse::<Strict>(br#"{"cuont":1}"#).unwrap_err();
        assert_eq!(strict, "cuont: unknown field, expected `count`");
    }

    #[test]
    fn a_refusal_repeats_no_value() {
        for json in [
            r#"{"command":"a","delaySeconds":"geheim"}"#,
            r#"{"command":"a","delaySeconds":"geheim, expected geheim"}"#,
            r#"{"command":"a","mode":"geheim"}"#,
            r#"{"command":"a","mode":{"geheim":1}}"#,
            r#"{"command":["geheim"]}"#,
            r#""geheim""#,
        ] {
            assert!(!refused(json).contains("geheim"), "{json}: {}", refused(json));
        }
        let long = format!(r#"{{"{}":1}}"#, "ä\\u0000".repeat(500));
        assert!(parse::<Strict>(long.as_bytes()).unwrap_err().len() < 400);
    }

    #[test]
    fn what_the_contract_leaves_open_is_accepted() {
        for json in [
            r#"{"command":"a","unknown":1,"unknown":[{}]}"#,
            " \n{\"command\":\"a\"}\r\n\t",
            r#"{"command":"a","delaySeconds":-9223372036854775808}"#,
        ] {
            parse::<Ask>(json.as_bytes()).expect(json);
        }
    }

    #[test]
    fn a_payload_keeps_its_bytes_and_may_be_nested_128_deep() {
        let payload = format!("{}1.00{}", "[ ".repeat(128), "]".repeat(128));
        let json = format!(r#"{{"command":"a","payload":{payload}}}"#);
        assert_eq!(json_depth(payload.as_bytes()), 128);
        assert_eq!(parse::<Ask>(json.as_bytes()).unwrap().payload.unwrap().get(), payload);
        assert_eq!(parse::<Ask>("[".repeat(200_000).as_bytes()).unwrap_err(), "nested too deep");
        assert_eq!(parse::<Ask>(b"{\"command\":\"\xff\"}").unwrap_err(), "not UTF-8");
    }

    #[test]
    fn depth_is_counted_outside_strings_only() {
        for (json, depth) in [
            ("1", 0),
            ("{}", 1),
            (r#"[[],[[]]]"#, 3),
            (r#"["[[[[", {"a\"[[":"\\"}]"#, 2),
            ("]]]]", 0),
            (r#"["\"#, 1),
            ("", 0),
        ] {
            assert_eq!(json_depth(json.as_bytes()), depth, "{json}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parser_panic(bytes: Vec<u8>, text in "[\\[\\]{}\",:a1\\\\ ]{0,64}") {
            let _ = (parse::<Ask>(&bytes), parse::<Ask>(text.as_bytes()));
            let _ = (json_depth(&bytes), json_depth(text.as_bytes()));
        }
    }
}
