//! `docs/metrics.md`, made from the catalog; a test holds the page to it.

use std::fmt::Write as _;

use super::catalog::Families;
use super::{Declared, depth, machine};

const PREFACE: &str = "\
# Metrics

<!-- Made from src/telemetry/metrics: `UPDATE_DOCS=1 cargo test --lib metrics::` writes it, and
`codeq metrics` prints it. -->

`GET /metrics` on the API's port, without a token: Prometheus' text format, or OpenMetrics with
exemplars for those whose `Accept` asks for it, as Prometheus does.

- Each event is counted once in the fleet, by the node whose call made it: add counters up.
- Depths and ages come from Redis and are the same on every node: take their maximum. They are read
  when somebody scrapes, for at most two seconds, and absent while Redis is away.
- `command` is one of the fleet's registry (`metrics.maxCommands`, `metrics.commands`), else
  `_other`. `route` is the template of the call, `_unmatched` for paths that are none; `operation`
  of the store is the name of a script or of a command.
- Series of closed sets of labels exist from the start, at 0; others from their first event.
- Where exemplars are marked, a bucket carries in OpenMetrics the `trace_id` of its last sampled
  observation; Prometheus keeps them with `--enable-feature=exemplar-storage`.

";

/// The whole page.
pub fn reference() -> String {
    let mut page = String::from(PREFACE);
    page.push_str("## Counted by the node\n\n");
    let facts = Families::MEMBERS.iter().zip(Families::EXEMPLARS);
    for (declared, (members, keeps_exemplars)) in Families::ALL.iter().zip(facts) {
        entry(&mut page, declared, &members(), "");
        if *keeps_exemplars {
            page.truncate(page.trim_end().len());
            page.push_str("\n- exemplars\n\n");
        }
    }
    page.push_str("## Read from the store at a scrape\n\n");
    for declared in depth::ALL {
        entry(&mut page, declared, &[], "at a scrape, from Redis.");
    }
    page.push_str("## Read from the machine at a scrape\n\n");
    for declared in machine::ALL {
        entry(
            &mut page,
            declared,
            &[],
            "at a scrape, from the kernel, the allocator or the runtime.",
        );
    }
    page
}

/// One family. `members` are the values of its last labels, where they are a closed set.
fn entry(page: &mut String, declared: &Declared, members: &[Vec<&str>], else_when: &str) {
    let (kind, name) = (declared.kind, declared.name);
    let mut put = |args: std::fmt::Arguments<'_>| {
        page.write_fmt(args).expect("a string takes everything");
    };
    put(format_args!("### `{name}`, {kind}\n\n{}\n\n", declared.help()));
    let when = declared.when().unwrap_or(else_when);
    put(format_args!("- observed: {when}\n"));
    let closed = members.first().map_or(0, Vec::len);
    let open = declared.labels.len() - closed;
    for (at, label) in declared.labels.iter().enumerate() {
        if at < open {
            put(format_args!("- `{label}`\n"));
            continue;
        }
        let mut values: Vec<&str> = members.iter().map(|member| member[at - open]).collect();
        let mut seen = std::collections::BTreeSet::new();
        values.retain(|value| seen.insert(*value));
        put(format_args!("- `{label}`: {}\n", values.join(", ")));
    }
    if !declared.buckets.is_empty() {
        let bounds: Vec<String> = declared.buckets.iter().map(f64::to_string).collect();
        put(format_args!("- buckets: {}\n", bounds.join(" ")));
    }
    put(format_args!("\n"));
}
