//! A script of `lua/` as a Rust type: `script!` defines it, the compiler checks it against the
//! header of the Lua file.

use super::{Args, Reply};
use crate::model::Refusal;

/// Which link carries a script, and what it may do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// Changes something.
    Write,
    /// Only looks.
    Read,
}

/// One item of work for a script, as [`script!`](crate::script) defines it.
pub trait Script: Send {
    /// Its file in `lua/` without the ending; also the metric label.
    const NAME: &'static str;
    /// The file's text.
    const SOURCE: &'static str;
    /// Which link carries it.
    const CLASS: Class;
    /// Whether a call whose answer got lost may be sent again with the same arguments. A script
    /// that may not is never sent twice, save after an answer that says it failed or never ran.
    const REPEATABLE: bool;
    /// What it gives for one item.
    type Reply: Reply;

    /// Adds the arguments given once per call: items with equal ones share a call.
    fn once(&self, args: &mut Args);
    /// Adds the item's own arguments.
    fn each(&self, args: &mut Args);
}

/// Defines a script: the struct of its arguments, the struct of its reply, and the checks that the
/// header of `lua/<name>.lua` names the same ones in the same order.
///
/// ```ignore
/// script! {
///     /// In progress → delayed, or → dead when no attempt is left.
///     pub struct Nack<'a> = "nack", write, repeatable {       // write|read, repeatable|once_only
///         once { policy: &'a str, base_ms: u64 }
///         each { id: &'a TaskId, reason: &'a str }
///     } -> Nacked { outcome: String, delay_ms: u64 }
/// }
/// ```
#[macro_export]
macro_rules! script {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(<$($life:lifetime),+>)? = $file:literal, $class:ident, $repeat:ident {
            once { $($once:ident : $once_type:ty),* $(,)? }
            each { $($each:ident : $each_type:ty),* $(,)? }
        } -> $(#[$reply_meta:meta])* $reply:ident { $($gives:ident : $gives_type:ty),* $(,)? }
    ) => {
        $crate::script! {
            @from include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/", $file, ".lua")),
            $(#[$meta])*
            $vis struct $name $(<$($life),+>)? = $file, $class, $repeat {
                once { $($once : $once_type),* }
                each { $($each : $each_type),* }
            } -> $(#[$reply_meta])* $reply { $($gives : $gives_type),* }
        }
    };
    (
        @from $source:expr,
        $(#[$meta:meta])*
        $vis:vis struct $name:ident $(<$($life:lifetime),+>)? = $file:literal, $class:ident, $repeat:ident {
            once { $($once:ident : $once_type:ty),* $(,)? }
            each { $($each:ident : $each_type:ty),* $(,)? }
        } -> $(#[$reply_meta:meta])* $reply:ident { $($gives:ident : $gives_type:ty),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name $(<$($life),+>)? {
            $(#[doc = concat!("`", stringify!($once), "` of `lua/", $file, ".lua`.")] pub $once: $once_type,)*
            $(#[doc = concat!("`", stringify!($each), "` of `lua/", $file, ".lua`.")] pub $each: $each_type,)*
        }

        impl $(<$($life),+>)? $crate::store::Script for $name $(<$($life),+>)? {
            const NAME: &'static str = $file;
            const SOURCE: &'static str = $source;
            const CLASS: $crate::store::Class = $crate::script!(@class $class);
            const REPEATABLE: bool = $crate::script!(@repeat $repeat);
            type Reply = $reply;

            #[allow(unused_variables, reason = "a script may take nothing once")]
            fn once(&self, args: &mut $crate::store::Args) {
                $($crate::store::Arg::write(&self.$once, args);)*
            }

            #[allow(unused_variables, reason = "a script may take nothing per item")]
            fn each(&self, args: &mut $crate::store::Args) {
                $($crate::store::Arg::write(&self.$each, args);)*
            }
        }

        $crate::gives! {
            $(#[$reply_meta])*
            #[doc = concat!("What `lua/", $file, ".lua` gives for one item.")]
            $vis struct $reply { $($gives : $gives_type),* }
        }

        const _: () = {
            use $crate::store::header;
            const THE_LUA_FILE: &str = $source;
            assert!(
                header::names(THE_LUA_FILE, "KEYS", &["root"]),
                concat!("the header of lua/", $file, ".lua must say `-- KEYS root` and nothing else under KEYS")
            );
            assert!(
                header::names(THE_LUA_FILE, "ARGV", &[$(stringify!($once)),*]),
                concat!("ARGV in the header of lua/", $file, ".lua and `once` here name different arguments")
            );
            assert!(
                header::names(THE_LUA_FILE, "EACH", &[$(stringify!($each)),*]),
                concat!("EACH in the header of lua/", $file, ".lua and `each` here name different arguments")
            );
            assert!(
                header::count(THE_LUA_FILE, "EACH") > 0,
                concat!("lua/", $file, ".lua takes nothing per item, so nobody could count the items of a call")
            );
            assert!(
                header::names(THE_LUA_FILE, "GIVES", &[$(stringify!($gives)),*]),
                concat!("GIVES in the header of lua/", $file, ".lua and the reply here name different fields")
            );
            assert!(
                header::fails_are_refusals(THE_LUA_FILE),
                concat!("FAILS in the header of lua/", $file, ".lua has a word that is no Refusal")
            );
        };
    };
    (@class write) => { $crate::store::Class::Write };
    (@class read) => { $crate::store::Class::Read };
    (@repeat repeatable) => { true };
    (@repeat once_only) => { false };
}

/// Defines a struct that is read from an array of a script's answer, field by field.
#[macro_export]
macro_rules! gives {
    (
        $(#[$meta:meta])*
        $vis:vis struct $name:ident { $($field:ident : $type:ty),* $(,)? }
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug)]
        $vis struct $name {
            $(#[doc = concat!("The field `", stringify!($field), "`.")] pub $field: $type,)*
        }

        impl $crate::store::Reply for $name {
            #[allow(unused_mut, unused_variables, reason = "an answer may have no fields")]
            fn read(mut fields: $crate::store::Fields) -> Result<Self, $crate::store::Unexpected> {
                Ok(Self { $($field: fields.next(stringify!($field))?,)* })
            }
        }

        impl $crate::store::Field for $name {
            fn read(value: $crate::store::Value) -> Result<Self, $crate::store::Unexpected> {
                <Self as $crate::store::Reply>::read($crate::store::Fields::of(value)?)
            }
        }
    };
}

/// Reads the header of a script: the comment lines at the top of the file, each a tag and a name
/// with prose behind it. All of it runs in the compiler.
pub mod header {
    use super::Refusal;

    /// Whether the lines tagged `tag` name exactly `wanted`, in order.
    pub const fn names(source: &str, tag: &str, wanted: &[&str]) -> bool {
        let (text, tag) = (source.as_bytes(), tag.as_bytes());
        let (mut at, mut seen) = (0, 0);
        while let Some(line_end) = comment_end(text, at) {
            if let Some(word) = tagged(text, at, line_end, tag) {
                let end = word_end(text, word, line_end);
                if seen == wanted.len() || !equal(text, word, end, wanted[seen].as_bytes()) {
                    return false;
                }
                seen += 1;
            }
            at = line_end + 1;
        }
        seen == wanted.len()
    }

    /// How many lines of the header are tagged `tag`.
    pub const fn count(source: &str, tag: &str) -> usize {
        let (text, tag) = (source.as_bytes(), tag.as_bytes());
        let (mut at, mut seen) = (0, 0);
        while let Some(line_end) = comment_end(text, at) {
            if tagged(text, at, line_end, tag).is_some() {
                seen += 1;
            }
            at = line_end + 1;
        }
        seen
    }

    /// Whether every word of the `FAILS` lines is one that [`Refusal`] knows.
    pub const fn fails_are_refusals(source: &str) -> bool {
        let text = source.as_bytes();
        let mut at = 0;
        while let Some(line_end) = comment_end(text, at) {
            if let Some(mut word) = tagged(text, at, line_end, b"FAILS") {
                while word < line_end {
                    let end = word_end(text, word, line_end);
                    if !is_refusal(text, word, end) {
                        return false;
                    }
                    word = skip_spaces(text, end, line_end);
                }
            }
            at = line_end + 1;
        }
        true
    }

    const fn is_refusal(text: &[u8], start: usize, end: usize) -> bool {
        let mut index = 0;
        while index < Refusal::WORDS.len() {
            if equal(text, start, end, Refusal::WORDS[index].0.as_bytes()) {
                return true;
            }
            index += 1;
        }
        false
    }

    /// Where the line that starts at `at` ends, if it is a comment; `None` ends the header.
    const fn comment_end(text: &[u8], at: usize) -> Option<usize> {
        if at + 1 >= text.len() || text[at] != b'-' || text[at + 1] != b'-' {
            return None;
        }
        let mut end = at;
        while end < text.len() && text[end] != b'\n' {
            end += 1;
        }
        Some(end)
    }

    /// Where the first word behind `-- TAG ` starts, if the line is tagged so and has one.
    const fn tagged(text: &[u8], start: usize, end: usize, tag: &[u8]) -> Option<usize> {
        let from = skip_spaces(text, start + 2, end);
        let to = word_end(text, from, end);
        let word = skip_spaces(text, to, end);
        if equal(text, from, to, tag) && word < end { Some(word) } else { None }
    }

    const fn skip_spaces(text: &[u8], mut at: usize, end: usize) -> usize {
        while at < end && (text[at] == b' ' || text[at] == b'\r') {
            at += 1;
        }
        at
    }

    const fn word_end(text: &[u8], mut at: usize, end: usize) -> usize {
        while at < end && text[at] != b' ' && text[at] != b'\r' {
            at += 1;
        }
        at
    }

    const fn equal(text: &[u8], start: usize, end: usize, word: &[u8]) -> bool {
        if end - start != word.len() {
            return false;
        }
        let mut index = 0;
        while index < word.len() {
            if text[start + index] != word[index] {
                return false;
            }
            index += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::header;
    use crate::store::reply::read_item;
    use crate::store::{Args, Class, Error, Script, Value};

    const SOURCE: &str = "\
-- echo: for these tests.
--
-- KEYS  root    the partition
-- ARGV  prefix  put in front
-- EACH  text    what comes back
-- EACH  times   how often
-- GIVES text    the text
-- GIVES length  its length
-- FAILS NOT_FOUND NOT_OWNER
local call = require(\"lib.call\")
-- EACH  later   not in the header
";

    crate::script! {
        @from SOURCE,
        /// For these tests.
        struct Echo<'a> = "echo", read, once_only {
            once { prefix: &'a str }
            each { text: Option<String>, times: u16 }
        } -> #[derive(PartialEq)] Echoed { text: String, length: Option<u64> }
    }

    #[test]
    fn a_header_must_name_the_same_arguments_in_the_same_order() {
        assert!(header::names(SOURCE, "EACH", &["text", "times"]));
        for wrong in
            [&["text"][..], &["times", "text"], &["text", "times", "later"], &["tex", "times"]]
        {
            assert!(!header::names(SOURCE, "EACH", wrong), "{wrong:?}");
        }
        assert!(!header::names(SOURCE, "ARGV", &[]));
        assert_eq!(header::count(SOURCE, "EACH"), 2);
    }

    #[test]
    fn a_header_may_fail_only_with_words_that_rust_knows() {
        assert!(header::fails_are_refusals(SOURCE));
        assert!(!header::fails_are_refusals("-- FAILS NOT_FOUND NOT_FOUNDED\n"));
        assert!(header::fails_are_refusals("-- FAILS"));
    }

    #[test]
    fn a_script_encodes_its_arguments_in_the_order_of_the_header() {
        let echo = Echo { prefix: "p", text: None, times: 7 };
        let args = Args::of(&echo);
        assert_eq!(args.once().collect::<Vec<_>>(), [b"p"]);
        assert_eq!(args.each().collect::<Vec<_>>(), [&b""[..], b"7"]);
        assert_eq!((Echo::NAME, Echo::CLASS, Echo::REPEATABLE), ("echo", Class::Read, false));
    }

    #[test]
    fn an_answer_is_fields_or_a_refusal() {
        let text = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let fields = Value::Array(vec![text("hi"), Value::Int(2)]);
        let read = read_item::<Echoed>("echo", fields).unwrap();
        assert_eq!(read, Echoed { text: "hi".into(), length: Some(2) });
        let short = read_item::<Echoed>("echo", Value::Array(vec![text("hi")])).unwrap();
        assert_eq!(short.length, None);
        let refused = read_item::<Echoed>("echo", text("NOT_OWNER")).unwrap_err();
        assert_eq!(refused, Error::Refused(crate::model::Refusal::NotOwner));
        let wrong = read_item::<Echoed>("echo", Value::Array(vec![])).unwrap_err();
        assert_eq!(
            wrong,
            Error::Script("lua/echo.lua answered text: text expected, got nil".into())
        );
    }
}
