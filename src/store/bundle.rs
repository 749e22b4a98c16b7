//! A script with the modules it requires, as Redis gets it.
//!
//! Redis has no `require`: the modules asked for go in front of the script, each once. What
//! `lib.keys` names is written into the text, so that a name costs one concatenation and the table
//! of all names is never built.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use super::header;

macro_rules! modules {
    ($($name:literal),* $(,)?) => {
        &[$((
            concat!("lib.", $name),
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/lua/lib/", $name, ".lua")),
        )),*]
    };
}

/// Every file of `lua/lib`, by the name under which scripts require it.
const MODULES: &[(&str, &str)] = modules![
    "brief",
    "call",
    "clock",
    "count",
    "dead",
    "delivery",
    "destination",
    "finish",
    "history",
    "keys",
    "lease",
    "lost",
    "number",
    "outbox",
    "place",
    "ready",
    "retry",
    "since",
    "subscription",
    "task",
    "tomb",
];

/// The module whose fields are written into the text.
const KEYS: &str = "lib.keys";

/// The modules that scripts may require.
#[derive(Clone, Debug)]
pub struct Library(BTreeMap<Cow<'static, str>, Cow<'static, str>>);

impl Default for Library {
    /// What stands in `lua/lib`.
    fn default() -> Self {
        let modules = MODULES.iter().map(|&(name, source)| (name.into(), source.into()));
        Self(modules.collect())
    }
}

impl Library {
    /// Puts another source in the place of a module, or adds one: a test replaces `lib.clock`, so
    /// that time stands still.
    #[must_use]
    pub fn with(mut self, name: &'static str, source: impl Into<Cow<'static, str>>) -> Self {
        self.0.insert(name.into(), source.into());
        self
    }

    fn module(&self, name: &str) -> Result<&str, String> {
        self.0.get(name).map(AsRef::as_ref).ok_or_else(|| format!("there is no module {name}"))
    }

    /// What `lib.keys` names: field → suffix.
    fn keys(&self) -> Result<BTreeMap<&str, &str>, String> {
        let mut keys = BTreeMap::new();
        for line in self.module(KEYS)?.lines() {
            let code = line.split("--").next().unwrap_or_default();
            if let Some((field, rest)) = code.split_once('=')
                && let Some(suffix) = rest.split('"').nth(1)
            {
                keys.insert(field.trim(), suffix);
            }
        }
        Ok(keys)
    }
}

/// A script as Redis gets it.
#[derive(Debug)]
pub struct Bundle {
    /// What `SCRIPT LOAD` takes.
    pub text: String,
    /// Its SHA-1 in hex: what `EVALSHA` takes.
    pub sha: String,
    /// How many arguments one item has.
    pub each: usize,
    /// The first line of each file within the text, in order.
    files: Vec<(usize, String)>,
}

impl Bundle {
    /// Puts a script and its modules together. The error names what cannot be resolved; a test
    /// bundles every script there is, so it is not met at run time.
    pub fn new(name: &str, source: &str, library: &Library) -> Result<Self, String> {
        let each = header::count(source, "EACH");
        let mut maker =
            Maker { library, keys: library.keys()?, parts: Vec::new(), open: Vec::new() };
        maker.add(format!("lua/{name}.lua"), source, None)?;

        let once = header::count(source, "ARGV");
        let mut text = format!("local ROOT, ONCE, EACH = KEYS[1], {once}, {each}\n");
        let mut files = Vec::new();
        let mut line = 2;
        for part in maker.parts {
            if let Some(local) = &part.local {
                writeln!(text, "local {local} = (function()").expect("a String takes every write");
                line += 1;
            }
            files.push((line, part.file));
            text.push_str(part.code.trim_end());
            text.push('\n');
            line += part.code.trim_end().lines().count();
            if part.local.is_some() {
                text.push_str("end)()\n");
                line += 1;
            }
        }
        let sha = redis::Script::new(&text).get_hash().to_owned();
        Ok(Self { text, sha, each, files })
    }

    /// The error text of Redis, with `user_script:57` as `lua/nack.lua:34`.
    pub fn explain(&self, error: &str) -> String {
        const MARK: &str = "user_script:";
        let mut out = String::with_capacity(error.len());
        let mut rest = error;
        while let Some((before, after)) = rest.split_once(MARK) {
            let digits = after.trim_start();
            let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
            out.push_str(before.strip_suffix('@').unwrap_or(before));
            match digits[..end].parse() {
                Ok(line) => {
                    out.push_str(&self.place(line));
                    rest = &digits[end..];
                }
                Err(_) => {
                    out.push_str(MARK);
                    rest = after;
                }
            }
        }
        out + rest
    }

    fn place(&self, line: usize) -> String {
        match self.files.iter().rev().find(|(first, _)| *first <= line) {
            Some((first, file)) => format!("{file}:{}", line - first + 1),
            None => "the loader".into(),
        }
    }
}

/// One file within a bundle.
struct Part {
    /// The local that holds the module; `None` for the script itself.
    local: Option<String>,
    file: String,
    code: String,
}

struct Maker<'a> {
    library: &'a Library,
    keys: BTreeMap<&'a str, &'a str>,
    /// Finished files, each behind those it needs.
    parts: Vec<Part>,
    /// Modules being added, to notice a circle.
    open: Vec<String>,
}

impl Maker<'_> {
    fn add(&mut self, file: String, source: &str, local: Option<String>) -> Result<(), String> {
        let mut code = String::with_capacity(source.len());
        let mut keys_local = None;
        for (number, line) in source.lines().enumerate() {
            let at = || format!("{file}:{}", number + 1);
            let is_comment = line.trim_start().starts_with("--");
            match required(line).filter(|_| !is_comment) {
                None => code.push_str(line),
                Some((module, _)) if module == KEYS => {
                    let name = line.trim().strip_prefix("local ").and_then(|l| l.split(' ').next());
                    keys_local =
                        Some(name.ok_or_else(|| format!("{}: lib.keys needs a local", at()))?);
                }
                Some((module, call)) => {
                    self.require(module).map_err(|error| format!("{}: {error}", at()))?;
                    code.push_str(&line.replace(call, &local_of(module)));
                }
            }
            code.push('\n');
        }
        if let Some(name) = keys_local {
            code = with_keys(&code, name, &self.keys).map_err(|error| format!("{file}{error}"))?;
        }
        self.parts.push(Part { local, file, code });
        Ok(())
    }

    fn require(&mut self, module: &str) -> Result<(), String> {
        let local = local_of(module);
        if self.parts.iter().any(|part| part.local.as_ref() == Some(&local)) {
            return Ok(());
        }
        if self.open.iter().any(|open| open == module) {
            return Err(format!("{module} requires itself"));
        }
        self.open.push(module.to_owned());
        let library = self.library;
        let file = format!("lua/{}.lua", module.replace('.', "/"));
        self.add(file, library.module(module)?, Some(local))?;
        self.open.pop();
        Ok(())
    }
}

/// The module that a line requires, and the text of the call.
fn required(line: &str) -> Option<(&str, &str)> {
    let call = &line[line.find("require(\"")?..];
    let module = call.split('"').nth(1)?;
    let end = call.find(')')?;
    Some((module, &call[..=end]))
}

fn local_of(module: &str) -> String {
    module.replace('.', "_")
}

/// Writes `ROOT .. ":b:"` where the code says `key.body`.
fn with_keys(code: &str, local: &str, keys: &BTreeMap<&str, &str>) -> Result<String, String> {
    let mut out = String::with_capacity(code.len() * 2);
    for (number, line) in code.lines().enumerate() {
        let at = |what: String| format!(":{}: {what}", number + 1);
        let mut quote = None;
        let mut rest = line;
        while let Some(c) = rest.chars().next() {
            match quote {
                Some(open) => quote = (c != open).then_some(open),
                None if c == '"' || c == '\'' => quote = Some(c),
                None if rest.starts_with("--") => break,
                None if starts_word(&out) && is_word(rest, local) => {
                    let (field, after) = field_of(&rest[local.len()..]).ok_or_else(|| {
                        at(format!("`{local}` is not a value, only its fields are"))
                    })?;
                    let suffix =
                        keys.get(field).ok_or_else(|| at(format!("lib.keys has no `{field}`")))?;
                    // Without brackets a longer name is still one concatenation.
                    let tight = out.ends_with('#') || after.starts_with([':', '[', '.', '(']);
                    let name = format!("ROOT .. \"{suffix}\"");
                    out.push_str(&if tight { format!("({name})") } else { name });
                    rest = after;
                    continue;
                }
                None => {}
            }
            out.push(c);
            rest = &rest[c.len_utf8()..];
        }
        out.push_str(rest);
        out.push('\n');
    }
    Ok(out)
}

fn word_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

/// Whether what comes next is not the tail of a longer word or the field of something else.
fn starts_word(before: &str) -> bool {
    match before.chars().next_back() {
        Some('.') => before.ends_with(".."),
        Some(c) => !word_char(c) && c != ':',
        None => true,
    }
}

fn is_word(rest: &str, word: &str) -> bool {
    rest.strip_prefix(word).is_some_and(|after| !after.starts_with(word_char))
}

/// Splits `.body .. id` into `body` and ` .. id`.
fn field_of(after: &str) -> Option<(&str, &str)> {
    let field = after.strip_prefix('.').filter(|field| field.starts_with(word_char))?;
    Some(field.split_at(field.find(|c| !word_char(c)).unwrap_or(field.len())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn library() -> Library {
        Library(BTreeMap::new())
            .with("lib.keys", "return {\n  body = \":b:\", -- a = \"no\"\n  due = \":d\",\n}\n")
            .with("lib.a", "-- a\nlocal b = require(\"lib.b\")\nreturn { b = b }\n")
            .with("lib.b", "local key = require(\"lib.keys\")\nreturn key.due\n")
    }

    #[test]
    fn modules_stand_in_front_once_and_in_order() {
        let source = "-- ARGV x  one\n-- EACH y  two\n-- EACH z  three\n\
            local a = require(\"lib.a\")\nlocal b = require(\"lib.b\")\nreturn a.b == b\n";
        let bundle = Bundle::new("t", source, &library()).unwrap();
        let expected = "\
local ROOT, ONCE, EACH = KEYS[1], 1, 2
local lib_b = (function()

return ROOT .. \":d\"
end)()
local lib_a = (function()
-- a
local b = lib_b
return { b = b }
end)()
-- ARGV x  one
-- EACH y  two
-- EACH z  three
local a = lib_a
local b = lib_b
return a.b == b
";
        assert_eq!(bundle.text, expected);
        assert_eq!(bundle.each, 2);
        assert_eq!(bundle.sha.len(), 40);
    }

    #[test]
    fn an_error_names_the_line_of_the_file() {
        let source = "local a = require(\"lib.a\")\nreturn a.b.c.d\n";
        let bundle = Bundle::new("t", source, &library()).unwrap();
        assert_eq!(
            bundle.explain("user_script:12: attempt to index script: 0ab, on @user_script:12."),
            "lua/t.lua:2: attempt to index script: 0ab, on lua/t.lua:2."
        );
        assert_eq!(bundle.explain("user_script: 9: x"), "lua/lib/a.lua:3: x");
        assert_eq!(bundle.explain("user_script:4: x"), "lua/lib/b.lua:2: x");
        assert_eq!(bundle.explain("no place"), "no place");
    }

    #[test]
    fn key_names_are_written_into_code_and_nowhere_else() {
        let source = "local key = require(\"lib.keys\")\n\
            return key.body .. monkey.body .. x.key.body .. \"key.body\" .. #key.due -- key.none\n";
        let bundle = Bundle::new("t", source, &library()).unwrap();
        let line = bundle.text.lines().last().unwrap();
        assert_eq!(
            line,
            "return ROOT .. \":b:\" .. monkey.body .. x.key.body .. \"key.body\" .. #(ROOT .. \":d\") -- key.none"
        );
    }

    #[test]
    fn what_cannot_be_resolved_is_named() {
        let key = "local key = require(\"lib.keys\")\n";
        for (source, error) in [
            (format!("{key}return key.nothing"), "lua/t.lua:2: lib.keys has no `nothing`"),
            (
                format!("{key}return f(key)"),
                "lua/t.lua:2: `key` is not a value, only its fields are",
            ),
            ("local x = require(\"lib.x\")".into(), "lua/t.lua:1: there is no module lib.x"),
        ] {
            assert_eq!(Bundle::new("t", &source, &library()).unwrap_err(), error);
        }
        let circle = library().with("lib.b", "local a = require(\"lib.a\")");
        let error = Bundle::new("t", "local a = require(\"lib.a\")", &circle).unwrap_err();
        assert!(error.ends_with("lib.a requires itself"), "{error}");
    }

    fn lua_files(folder: &str) -> Vec<String> {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let entries = std::fs::read_dir(path).unwrap();
        let mut names: Vec<String> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter_map(|name| name.strip_suffix(".lua").map(str::to_owned))
            .collect();
        names.sort();
        names
    }

    #[test]
    fn every_module_of_the_folder_is_embedded() {
        let embedded: Vec<String> =
            MODULES.iter().map(|(name, _)| name.trim_start_matches("lib.").to_owned()).collect();
        assert_eq!(embedded, lua_files("lua/lib"));
    }

    #[test]
    fn every_script_bundles() {
        for name in lua_files("lua") {
            let path = format!("{}/lua/{name}.lua", env!("CARGO_MANIFEST_DIR"));
            let source = std::fs::read_to_string(path).unwrap();
            let bundle = Bundle::new(&name, &source, &Library::default()).unwrap();
            assert!(bundle.each > 0, "lua/{name}.lua: without EACH nobody can count the items");
        }
    }
}
