//! `docs/metrics.md` and a scrape, read.

use std::collections::{BTreeMap, BTreeSet};

/// What the page says of one family.
#[derive(Default, Debug)]
pub struct Entry {
    pub kind: String,
    pub help: String,
    /// By name; the values where they are a closed set.
    pub labels: BTreeMap<String, Option<BTreeSet<String>>>,
}

/// The families of the page, by name.
pub fn entries(page: &str) -> BTreeMap<String, Entry> {
    let sections = page.split("\n### `").skip(1);
    sections
        .map(|section| {
            let (name, rest) = section.split_once("`, ").unwrap();
            let (kind, rest) = rest.split_once("\n\n").unwrap();
            let mut lines = rest.lines();
            let help = lines.next().unwrap();
            let labels = lines.filter_map(|line| {
                let (label, values) = line.strip_prefix("- `")?.split_once('`')?;
                let values = values.strip_prefix(": ");
                let values = values.map(|all| all.split(", ").map(str::to_owned).collect());
                Some((label.to_owned(), values))
            });
            let entry =
                Entry { kind: kind.to_owned(), help: help.to_owned(), labels: labels.collect() };
            (name.to_owned(), entry)
        })
        .collect()
}

/// The series of a scrape in the text format: name and labels.
pub fn series(text: &str) -> Vec<(String, BTreeMap<String, String>)> {
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let (series, _) = line.rsplit_once(' ').unwrap();
            let Some((name, labels)) = series.split_once('{') else {
                return (series.to_owned(), BTreeMap::new());
            };
            let labels = labels.strip_suffix("\"}").unwrap().split("\",");
            let pair = |label: &str| {
                let (name, value) = label.split_once("=\"").unwrap();
                (name.to_owned(), value.to_owned())
            };
            (name.to_owned(), labels.map(pair).collect())
        })
        .collect()
}

/// The family of a series: histograms have three names more.
pub fn family_of<'a>(name: &'a str, entries: &BTreeMap<String, Entry>) -> &'a str {
    let ends = ["_bucket", "_sum", "_count"];
    let stem = ends.iter().find_map(|end| name.strip_suffix(end));
    stem.filter(|stem| entries.contains_key(*stem)).unwrap_or(name)
}
