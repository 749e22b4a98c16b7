//! What a script may do: nothing whose cost grows with the queue, and what its header says.

use codeq::model::Refusal;

use super::source::{Source, files};

/// Commands of O(1) or O(log n), and those that are so as we use them. Anything else is refused:
/// KEYS, SCAN, LREM, LPOS, LINSERT, SMEMBERS, SORT, HGETALL, HKEYS, HVALS, …
const ALLOWED: &[&str] = &[
    "DECR",
    "DEL",
    "EXISTS",
    "EXPIRE",
    "GET",
    "GETRANGE",
    "HDEL",
    "HEXISTS",
    "HGET",
    "HINCRBY",
    "HLEN",
    "HMGET",
    "HRANDFIELD",
    "HSET",
    "HSETNX",
    "INCR",
    "INCRBY",
    "LLEN",
    "LPOP",
    "LPUSH",
    "MGET",
    "PERSIST",
    "PEXPIRE",
    "PEXPIREAT",
    "PTTL",
    "RPOP",
    "RPUSH",
    "SADD",
    "SCARD",
    "SET",
    "SETRANGE",
    "SISMEMBER",
    "SREM",
    "STRLEN",
    "TIME",
    "UNLINK",
    "ZADD",
    "ZCARD",
    "ZCOUNT",
    "ZRANK",
    "ZREM",
    "ZSCORE",
];

/// Commands whose cost depends on their arguments: allowed with this text among them.
const BOUNDED: &[(&str, &str, &str)] = &[
    ("ZRANGEBYSCORE", "\"LIMIT\"", "a page"),
    ("ZRANGE", "", "a page: `whole` below refuses all of it"),
    ("LRANGE", "", "a page: `whole` below refuses all of it"),
    ("LTRIM", "", "the history of one task, at most 32 long"),
    ("LINDEX", "", "looks at an end of the list"),
    ("SMISMEMBER", "unpack(queues)", "as many as a page of queues"),
    ("HSCAN", "\"COUNT\"", "a page of the queues of one tenant, for admins"),
];

/// Calls whose command is not written in the call: file, what stands there, why it is fine.
const VARIABLE: &[(&str, &str, &str)] = &[("lua/lib/tomb.lua", "pop", "RPOP or LPOP, named above")];

/// Every `redis.call(…)` of a script: line, command, arguments.
fn calls(source: &Source) -> Vec<(usize, String, String)> {
    let mut found = Vec::new();
    for name in ["redis.call(", "redis.pcall("] {
        for (at, _) in code_of(source).match_indices(name) {
            let code = code_of(source);
            let line = code[..at].lines().count();
            let arguments = until_closed(&code[at + name.len()..]);
            let command =
                arguments.trim_start().strip_prefix('"').and_then(|x| x.split('"').next());
            let command = command.unwrap_or("?").to_owned();
            found.push((line, command, arguments.to_owned()));
        }
    }
    found
}

fn until_closed(text: &str) -> &str {
    let mut depth = 1;
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return &text[..at];
        }
    }
    text
}

/// The script with its comments blanked, line for line.
fn code_of(source: &Source) -> String {
    let code = |line: &str| line.split("--").next().unwrap_or_default().to_owned();
    source.text.lines().map(code).collect::<Vec<_>>().join("\n")
}

fn fault(command: &str, arguments: &str) -> Option<String> {
    if ALLOWED.contains(&command) {
        return None;
    }
    let Some((_, needs, _)) = BOUNDED.iter().find(|(name, ..)| *name == command) else {
        return Some(format!("{command} is not among the commands of known small cost"));
    };
    let whole = arguments.replace([' ', '"', '\n'], "").ends_with(",0,-1");
    if whole || !arguments.contains(needs) {
        return Some(format!("{command} without a bound"));
    }
    None
}

#[test]
fn no_script_does_work_that_grows_with_the_queue() {
    let mut wrong = Vec::new();
    for script in files("lua") {
        for (line, command, arguments) in calls(&script) {
            let named = arguments.split(',').next().unwrap_or_default().trim();
            if VARIABLE.iter().any(|(path, name, _)| (*path, *name) == (&script.path, named)) {
                continue;
            }
            if let Some(fault) = fault(&command, &arguments) {
                wrong.push(format!("{}:{line}: {fault}", script.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_gate_refuses_what_it_is_there_for() {
    for call in [
        r#"redis.call("KEYS", "*")"#,
        r#"redis.call("LREM", key.ready .. queue, 1, id)"#,
        r#"redis.call("SMEMBERS", key.paused)"#,
        r#"redis.call("HGETALL", key.counts)"#,
        r#"redis.call("LRANGE", key.ready .. queue, 0, -1)"#,
        r#"redis.call("ZRANGE", set, "0", "-1")"#,
        r#"redis.call("ZRANGEBYSCORE", set, "-inf", f(now))"#,
        "redis.call(\n  command, id)",
    ] {
        let script = Source { path: "x.lua".into(), text: call.into() };
        let [(_, command, arguments)] = &calls(&script)[..] else { panic!("{call}") };
        assert!(fault(command, arguments).is_some(), "{call}");
    }
}

#[test]
fn no_script_decodes_json_or_takes_the_nodes_word_for_time() {
    for script in files("lua") {
        let code = code_of(&script);
        assert!(!code.contains("cjson"), "{}: payloads pass as bytes", script.path);
        assert!(!code.contains("os."), "{}: time is lib.clock", script.path);
        let clock = script.path == "lua/lib/clock.lua";
        assert!(clock || !code.contains("\"TIME\""), "{}: time is lib.clock", script.path);
        let names = script.path == "lua/lib/keys.lua";
        assert!(names || !code.contains("ROOT"), "{}: names are lib.keys", script.path);
        assert!(!code.contains("KEYS["), "{}: names are lib.keys", script.path);
    }
}

/// The transitions: `lua/*.lua` without `lua/lib`.
fn scripts() -> impl Iterator<Item = Source> {
    files("lua").into_iter().filter(|script| !script.path.starts_with("lua/lib/"))
}

/// The first words of the header lines of a kind: `-- EACH  id  task id` gives `id`.
fn header<'a>(script: &'a Source, kind: &str) -> Vec<&'a str> {
    let says = |line: &'a str| line.strip_prefix("-- ")?.strip_prefix(kind)?.strip_prefix(' ');
    let lines = script.text.lines().take_while(|line| line.starts_with("--"));
    lines.filter_map(says).filter_map(|rest| rest.split_whitespace().next()).collect()
}

/// The names between brackets after `text`, of which the script has exactly one.
fn names_after(code: &str, text: &str, end: &str) -> Vec<String> {
    let Some((_, rest)) = code.split_once(text) else { return Vec::new() };
    let list = rest.split(end).next().unwrap_or_default();
    list.split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

#[test]
fn every_header_is_complete() {
    for script in scripts() {
        let path = &script.path;
        let name = path.trim_start_matches("lua/").trim_end_matches(".lua");
        assert!(script.text.starts_with(&format!("-- {name}: ")), "{path}: begins with its name");
        assert_eq!(header(&script, "KEYS"), ["root"], "{path}: one key, the partition's root");
        for kind in ["EACH", "GIVES", "COSTS", "KEEPS"] {
            assert!(!header(&script, kind).is_empty(), "{path}: the header has no {kind} line");
        }
    }
}

#[test]
fn each_line_of_a_header_is_a_parameter_of_the_step() {
    for script in scripts() {
        let (path, code) = (&script.path, code_of(&script));
        let [step] = &names_after(&code, "call.each(", ")")[..] else {
            panic!("{path}: one call.each(step)")
        };
        let mut parameters = names_after(&code, &format!("local function {step}("), ")");
        for name in &mut parameters {
            if name == "message" {
                *name = "error".into(); // which is a function of Lua
            }
        }
        assert_eq!(header(&script, "EACH"), parameters, "{path}: EACH and `{step}` differ");
        let once = header(&script, "ARGV");
        let taken = code.lines().find(|line| line.contains("call.once()")).unwrap_or_default();
        let taken = names_after(taken, "local ", "=");
        // The names may be longer here than there: `default_max` holds `max_attempts`.
        assert_eq!(once.len(), taken.len(), "{path}: ARGV has {once:?}, the script {taken:?}");
    }
}

#[test]
fn every_refusal_is_one_that_rust_knows() {
    let known: Vec<_> = Refusal::WORDS.iter().map(|(word, _)| *word).collect();
    for script in scripts() {
        let fails = script.text.lines().find_map(|line| line.strip_prefix("-- FAILS "));
        for word in fails.unwrap_or_default().split_whitespace() {
            assert!(known.contains(&word), "{}: {word} is no Refusal", script.path);
        }
    }
}
