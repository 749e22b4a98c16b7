//! A scrape, read.

use std::collections::BTreeMap;

/// Series and their values at one moment.
#[derive(Clone, Debug)]
pub struct Scrape(BTreeMap<String, f64>);

impl Scrape {
    pub fn of(text: &str) -> Self {
        let series = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
            let (name, value) = line.rsplit_once(' ').unwrap();
            (name.to_owned(), value.parse().unwrap())
        });
        Self(series.collect())
    }

    /// The value of a series as it stands in the text; 0 when it is not there.
    pub fn value(&self, series: &str) -> f64 {
        self.0.get(series).copied().unwrap_or_default()
    }

    /// Whether a series is there.
    pub fn has(&self, series: &str) -> bool {
        self.0.contains_key(series)
    }

    /// Every series as it stands in the text.
    pub fn series(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Upper bounds and counts of a histogram, named `x_bucket{labels but le}`, smallest first.
    pub fn buckets(&self, series: &str) -> Vec<(String, f64)> {
        let prefix = format!("{},le=\"", series.trim_end_matches('}'));
        let bound = |(name, count): (&String, &f64)| {
            let le = name.strip_prefix(&prefix)?.strip_suffix("\"}")?;
            Some((le.to_owned(), *count))
        };
        let mut buckets: Vec<_> = self.0.iter().filter_map(bound).collect();
        let number = |le: &str| le.replace("+Inf", "inf").parse::<f64>().unwrap();
        buckets.sort_by(|(a, _), (b, _)| number(a).total_cmp(&number(b)));
        buckets
    }

    /// The sum of a family's series whose labels contain `part`.
    pub fn sum(&self, family: &str, part: &str) -> f64 {
        let of_family = |name: &str| {
            name == family || name.strip_prefix(family).is_some_and(|rest| rest.starts_with('{'))
        };
        self.0
            .iter()
            .filter(|(name, _)| of_family(name) && name.contains(part))
            .map(|(_, v)| v)
            .sum()
    }

    /// The names of all families.
    pub fn families(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.0.keys().map(|name| name.split('{').next().unwrap()).collect();
        names.dedup();
        names
    }
}
