//! The whole database in words, sorted, so that a snapshot shows every leftover.

use redis::Value;

use super::world::{NAMES, World, id};
use crate::model::record::{destination_digest, idempotency_digest};

/// What a kind of record holds, field by field: `name:B` one byte, `H` two, `I` four, `Q` eight,
/// a number that many characters, `s1` and `s2` text behind its length in one or two bytes.
const BODY: &str = "created:Q due:Q max:H retention:I priority:B hooks:B label:H flags:B queue:24";
const LEASE: &str = "history:B claimed:Q attempt:H ends:H token:16 worker:s2 trace:s1";
const ATTEMPTED: &str = "history:B label:H at:Q visible:Q attempts:H ends:H answer:B delay:Q \
    token:16 worker:s2 trace:s1";
const DONE: &str = "kind:B ends:H completed:Q claimed:Q attempts:H token:16 digest:16 worker:s2 \
    trace:s1 error:s2";
const PAST: &str = "claimed:Q ended:Q attempt:H cause:B to:B worker:s2 trace:s1 reason:s2";
const DELIVERY: &str = "state:B attempts:H base:H claims:B flags:B reason:B kind:B ends:H at:Q \
    born:Q changed:Q tenant:12 destination:16 asked:s1 error:s2";
const ENTRY: &str = "at:Q trigger:B took:I status:H class:B trace:16";
const POLICY: &str = "max:H retention:I changes:I";

impl World {
    /// Every key of the partition but the clock's, with its time to live in steps of 5 s.
    pub fn dump(&mut self) -> String {
        let root = self.db.root().to_owned();
        let mut keys: Vec<String> = self.db.query(redis::cmd("KEYS").arg(format!("{root}*")));
        keys.retain(|key| !key.ends_with(":clock"));
        keys.sort();
        let mut lines = Vec::new();
        for key in keys {
            let suffix = key[root.len()..].to_owned();
            let kind: String = self.db.query(redis::cmd("TYPE").arg(&key));
            let ttl: i64 = self.db.query(redis::cmd("PTTL").arg(&key));
            let entries = self.entries(&key, &suffix, &kind);
            let ttl =
                if ttl < 0 { String::new() } else { format!(" ttl={}s", ttl.div_ceil_5000() * 5) };
            lines.push(format!("{suffix}{ttl} {}", entries.join(" | ")));
        }
        lines.sort();
        named(&lines.join("\n"))
    }

    fn entries(&mut self, key: &str, suffix: &str, kind: &str) -> Vec<String> {
        let bytes = |value: Value| match value {
            Value::BulkString(bytes) => bytes,
            other => panic!("{key}: {other:?}"),
        };
        let mut command = redis::cmd(match kind {
            "string" => "GET",
            "list" => "LRANGE",
            "zset" => "ZRANGE",
            "hash" => "HGETALL",
            "set" => "SMEMBERS",
            other => panic!("{key} is a {other}"),
        });
        command.arg(key);
        if matches!(kind, "list" | "zset") {
            command.arg(0).arg(-1);
        }
        if kind == "zset" {
            command.arg("WITHSCORES");
        }
        let values: Vec<Vec<u8>> = match self.db.query(&command) {
            Value::Array(values) => values.into_iter().map(bytes).collect(),
            Value::Map(pairs) => {
                pairs.into_iter().flat_map(|(k, v)| [bytes(k), bytes(v)]).collect()
            }
            one => vec![bytes(one)],
        };
        let mut entries: Vec<String> = match kind {
            "zset" | "hash" => values
                .chunks(2)
                .map(|pair| format!("{}={}", text(&pair[0]), value(suffix, &pair[1])))
                .collect(),
            _ => values.iter().map(|one| value(suffix, one)).collect(),
        };
        if matches!(kind, "hash" | "set") {
            entries.sort();
        }
        entries
    }
}

trait DivCeil {
    fn div_ceil_5000(self) -> i64;
}

impl DivCeil for i64 {
    fn div_ceil_5000(self) -> i64 {
        (self + 4999) / 5000
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn value(suffix: &str, bytes: &[u8]) -> String {
    let kind = suffix.trim_start_matches(':').split(':').next().unwrap();
    let of_one = suffix.matches(':').count() > 1;
    match kind {
        "b" => body(bytes),
        "f" => record(LEASE, bytes),
        "a" => record(ATTEMPTED, bytes),
        "c" => record(DONE, bytes),
        "h" if of_one => record(PAST, bytes),
        "v" => delivery(bytes),
        "u" => record(POLICY, bytes),
        _ => text(bytes),
    }
}

struct Cut<'a>(&'a [u8]);

impl Cut<'_> {
    fn take(&mut self, n: usize) -> Vec<u8> {
        let (taken, rest) = self.0.split_at_checked(n).expect("a record as long as its fields");
        self.0 = rest;
        taken.to_vec()
    }

    fn number(&mut self, n: usize) -> u64 {
        self.take(n).iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
    }

    fn field(&mut self, kind: &str) -> String {
        match kind {
            "B" => self.number(1).to_string(),
            "H" => self.number(2).to_string(),
            "I" => self.number(4).to_string(),
            "Q" => self.number(8).to_string(),
            "s1" | "s2" => {
                let length = self.number(if kind == "s1" { 1 } else { 2 });
                text(&self.take(usize::try_from(length).unwrap()))
            }
            characters => text(&self.take(characters.parse().unwrap())),
        }
    }

    /// Fields that are 0 or empty are left out.
    fn fields(&mut self, layout: &str) -> Vec<String> {
        let fields = layout.split_whitespace().map(|field| field.split_once(':').unwrap());
        fields
            .map(|(name, kind)| (name, self.field(kind)))
            .filter(|(_, value)| !value.is_empty() && value != "0")
            .map(|(name, value)| format!("{name}={value}"))
            .collect()
    }
}

fn record(layout: &str, bytes: &[u8]) -> String {
    if bytes[0] != 1 {
        return format!("{{version {}}}", bytes[0]);
    }
    let mut cut = Cut(&bytes[1..]);
    let mut fields = cut.fields(layout);
    if !cut.0.is_empty() {
        fields.push(format!("rest={:?}", text(cut.0)));
    }
    format!("{{{}}}", fields.join(" "))
}

fn body(bytes: &[u8]) -> String {
    if bytes[0] != 1 {
        return format!("{{version {}}}", bytes[0]);
    }
    let mut cut = Cut(&bytes[1..]);
    let mut fields = cut.fields(BODY);
    let says = |fields: &[String], name: &str| fields.iter().any(|field| field.starts_with(name));
    if says(&fields, "flags=1") {
        fields.push(format!("key={}", cut.field("22")));
    }
    if says(&fields, "hooks=") {
        fields.push(format!("destination={}", cut.field("16")));
    }
    loop {
        match cut.number(1) {
            0 => break,
            tag => fields.push(format!("{tag}:{}", cut.field("s2"))),
        }
    }
    fields.push(text(cut.0));
    format!("{{{}}}", fields.join(" "))
}

/// The fields, each entry of the log, how long the head is, and the body.
fn delivery(bytes: &[u8]) -> String {
    if bytes[0] != 1 {
        return format!("{{version {}}}", bytes[0]);
    }
    let mut cut = Cut(&bytes[1..]);
    let mut fields = cut.fields(DELIVERY);
    for _ in 0..cut.number(1) {
        let length = usize::try_from(cut.number(2)).unwrap();
        fields.push(entry(&cut.take(length)));
    }
    let mut long = || {
        let length = cut.number(4);
        cut.take(usize::try_from(length).unwrap())
    };
    let (head, body) = (long(), long());
    if !head.is_empty() {
        fields.push(format!("head of {}", head.len()));
    }
    if !body.is_empty() {
        fields.push(format!("body={}", text(&body)));
    }
    assert!(cut.0.is_empty(), "a record ends with its body");
    format!("{{{}}}", fields.join(" "))
}

/// An attempt of the log; tests also write what is none.
fn entry(bytes: &[u8]) -> String {
    if bytes.len() < 32 {
        return format!("log={}", text(bytes));
    }
    let mut cut = Cut(bytes);
    let fields: Vec<String> =
        cut.fields(ENTRY).into_iter().filter(|field| !field.contains('\0')).collect();
    format!("log=({} {})", fields.join(" "), text(cut.0))
}

/// Ids and digests of the tests by their names.
fn named(dump: &str) -> String {
    let names = &*NAMES;
    let mut out = dump.to_owned();
    for (q, queue) in names.queues.iter().enumerate() {
        let name = format!("{}/{}", names.tenants[q / 2], names.commands[q % 2]).to_lowercase();
        out = out.replace(queue.as_str(), &name);
        for key in ["k", "k0", "k1"] {
            out = out.replace(&idempotency_digest(queue, key), &format!("{key}@{name}"));
        }
    }
    for tenant in &names.tenants {
        out = out.replace(tenant.tag(), tenant.as_str());
        let destination = destination_digest(tenant, "https://x.example");
        out = out.replace(&destination, &format!("{tenant}@x"));
    }
    for (q, command) in names.commands.iter().enumerate() {
        out = out.replace(names.queues[q].command_tag(), &command.lower());
    }
    for n in 1..100 {
        out = out.replace(&id(n).short(), &format!("#{n}"));
    }
    let short = super::world::TRACE;
    out.replace(short, "TRACE").replace("----------------", "none").replace("lease-000000", "L")
}
