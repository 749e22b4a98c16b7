//! The rules of the house that no linter knows.

use super::source::{Source, files, rust};

/// The rooms, highest first: a room may use those below it, and itself.
const FLOORS: &[&[&str]] = &[
    &["main", "cli"],
    &["node", "routes"],
    &["tasks", "queues", "topics", "subscriptions", "webhooks", "sweeper", "diagnostics"],
    &["http"],
    &["app"],
    &["store", "auth", "egress", "objects"],
    &["config", "telemetry"],
    &["model"],
];

/// The few arrows within a floor: from, to, why.
const SIDEWAYS: &[(&str, &str, &str)] = &[
    ("main", "cli", "argv becomes a command"),
    ("node", "routes", "the node serves them"),
    ("telemetry", "config", "it is set up from settings"),
    (
        "queues",
        "tasks::events",
        "a step of a task's life leaves the same traces wherever it happens",
    ),
    ("sweeper", "tasks::events", "as above"),
    ("tasks", "subscriptions::notify", "a queue became ready"),
    ("queues", "subscriptions::notify", "a queue became ready"),
    ("sweeper", "subscriptions::notify", "a queue became ready"),
    ("subscriptions::notify", "webhooks::destinations", "a nudge asks whether it may be sent"),
    ("queues::list", "tasks", "`tasks::find`: a page shows a task as a read does"),
];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

/// Every path of this crate that a file names, `a::b`, also inside braces.
fn crate_paths(text: &str) -> Vec<String> {
    text.match_indices("crate::")
        .filter(|(at, _)| !text[..*at].ends_with(|c: char| c.is_alphanumeric() || "_$".contains(c)))
        .flat_map(|(at, prefix)| paths_of(&text[at + prefix.len()..]))
        .collect()
}

fn paths_of(rest: &str) -> Vec<String> {
    let Some(inside) = rest.strip_prefix('{') else {
        let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != ':');
        return vec![rest[..end.unwrap_or(rest.len())].trim_end_matches(':').to_owned()];
    };
    let (mut depth, mut paths, mut start) = (0, Vec::new(), 0);
    for (at, c) in inside.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                paths.extend(paths_of(inside[start..at].trim()));
                start = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    paths
}

/// `src/tasks/nack.rs` is `tasks::nack`.
fn module_of(path: &str) -> String {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    inner.replace('/', "::")
}

fn allowed(from: &str, to: &str) -> bool {
    let room = |module: &str| module.split("::").next().unwrap().to_owned();
    let (Some(here), Some(there)) = (floor(&room(from)), floor(&room(to))) else {
        return true; // not a room: a macro, a name of lib.rs
    };
    let within = |module: &str, part: &str| {
        module == part || module.strip_prefix(part).is_some_and(|rest| rest.starts_with("::"))
    };
    here < there
        || room(from) == room(to)
        || SIDEWAYS.iter().any(|(a, b, _)| within(from, a) && within(to, b))
}

#[test]
fn arrows_between_rooms_point_down() {
    let mut wrong = Vec::new();
    for Source { path, text } in rust() {
        let from = module_of(&path);
        for to in crate_paths(&text).iter().filter(|to| !allowed(&from, to)) {
            wrong.push(format!("{path} uses crate::{to}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_reading_of_arrows_sees_through_braces() {
    let text = "use crate::{app::App, http::{self, Body}};\nlet x = crate::model::TaskId::new();";
    assert_eq!(crate_paths(text), ["app::App", "http", "model::TaskId::new"]);
    assert!(allowed("tasks::nack", "http::Body") && !allowed("http::body", "tasks::nack"));
    assert!(allowed("sweeper", "tasks::events") && !allowed("sweeper", "tasks::nack"));
    assert!(allowed("tasks::nack", "tasks::events") && !allowed("store::batch", "auth"));
}

#[test]
fn every_room_has_a_floor() {
    for Source { path, .. } in rust() {
        let module = module_of(&path);
        let room = module.split("::").next().unwrap();
        assert!(room == "lib" || floor(room).is_some(), "{path}: on which floor is `{room}`?");
    }
}

#[test]
fn nothing_outside_tests_unwraps() {
    refuse_in_code(&[("", ".unwrap()", "`expect` says why it cannot be")]);
}

/// Where (a prefix of the path), what, and what to do instead.
#[test]
fn operations_leave_clocks_keys_and_tasks_to_the_machinery() {
    let mut rules = Vec::new();
    for room in [
        "src/tasks",
        "src/queues",
        "src/topics",
        "src/subscriptions",
        "src/sweeper",
        "src/webhooks",
    ] {
        rules.extend([
            (room, "SystemTime::now", "the store's clock decides"),
            (room, "tokio::spawn", "long-lived work is owned by the node's tracker"),
            (room, "use redis::", "the store is asked through scripts"),
            (room, "deadpool_redis", "the store is asked through scripts"),
        ]);
    }
    refuse_in_code(&rules);
}

fn refuse_in_code(rules: &[(&str, &str, &str)]) {
    let mut wrong = Vec::new();
    for Source { path, text } in rust() {
        for (place, what, instead) in rules.iter().filter(|(place, ..)| path.starts_with(place)) {
            for (number, _) in text.lines().enumerate().filter(|(_, line)| line.contains(what)) {
                wrong.push(format!("{place}… {path}:{}: {what}: {instead}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A clone works anywhere, so nothing may know one machine or ask one mirror.
#[test]
fn no_file_names_a_machine_or_a_registry() {
    // Put together here, or this file would be the first to be refused.
    let told = [
        ["/wo", "rk/"],
        ["/ro", "ot/"],
        ["/home", "/"],
        ["/Us", "ers/"],
        ["pypi", ".org"],
        ["pythonhosted", ".org"],
        ["npmjs", ".org"],
        ["npmjs", ".com"],
        ["static.crates", ".io"],
        ["index.crates", ".io"],
        ["deb.debian", ".org"],
        ["proxy.golang", ".org"],
    ]
    .map(|parts| parts.concat());
    let mut wrong = Vec::new();
    for Source { path, text } in files("") {
        for (number, line) in text.lines().enumerate() {
            for name in told.iter().filter(|name| line.contains(name.as_str())) {
                wrong.push(format!("{path}:{}: {name}", number + 1));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The names below `[…dependencies]` in `Cargo.toml`.
fn dependencies() -> Vec<String> {
    let manifest = files("Cargo.toml").remove(0).text;
    let (mut names, mut inside) = (Vec::new(), false);
    for line in manifest.lines() {
        if line.starts_with('[') {
            inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| inside) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    names.dedup();
    names
}

#[test]
fn every_dependency_has_its_reason_on_the_page() {
    let page = files("docs/dependencies.md").remove(0).text;
    let rows = page.lines().filter(|line| line.starts_with("| `"));
    let mut told: Vec<_> = rows
        .flat_map(|row| row.split('|').nth(1).unwrap().split(','))
        .map(|name| name.trim().trim_matches('`').to_owned())
        .collect();
    told.sort();
    assert_eq!(told, dependencies());
}

/// Two types of one name become one schema, and the page then describes only one of them.
#[test]
fn every_schema_has_a_name_of_its_own() {
    let mut names = Vec::new();
    for Source { path, text } in rust() {
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        for (at, _) in lines.iter().enumerate().filter(|(_, line)| derives_a_schema(line)) {
            let item = lines[at..].iter().position(|line| line.starts_with("pub ")).unwrap();
            let own = lines[at + item].split([' ', '<']).nth(2).unwrap();
            let renamed = lines[at..at + item]
                .iter()
                .find_map(|line| line.strip_prefix("#[schema(as = ")?.strip_suffix(")]"));
            names.push((renamed.unwrap_or(own).to_owned(), path.clone()));
        }
    }
    names.sort();
    let twice: Vec<_> = names.windows(2).filter(|pair| pair[0].0 == pair[1].0).collect();
    assert!(twice.is_empty(), "say `#[schema(as = …)]`: {twice:#?}");
    assert!(names.len() > 10, "the schemas were not found");
}

fn derives_a_schema(line: &str) -> bool {
    line.starts_with("#[derive(") && line.contains("ToSchema")
}
