use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use ::config::{Config, ConfigError, File, FileFormat, Map, Source, Value, ValueKind};

use super::keys::{self, DEFAULTS, KEYS, Key};
use super::report::Problem;

/// Longest file that a secret is read from.
const MAX_SECRET_FILE_BYTES: usize = 1 << 20;

/// Where settings come from. Tests give a map, so that they run side by side.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The YAML file, if any.
    pub file: Option<PathBuf>,
    /// The environment.
    pub env: BTreeMap<String, String>,
    /// Variables whose value is not UTF-8.
    pub garbled: Vec<String>,
}

impl Sources {
    /// The environment of this process, and the file that `--config` or `CODEQ_CONFIG` names.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        Self::of(file, std::env::vars_os())
    }

    fn of(file: Option<PathBuf>, vars: impl Iterator<Item = (OsString, OsString)>) -> Self {
        let mut sources = Self { file, ..Self::default() };
        for (name, value) in vars {
            let Ok(name) = name.into_string() else { continue };
            match value.into_string() {
                Ok(value) => _ = sources.env.insert(name, value),
                Err(_) => sources.garbled.push(name),
            }
        }
        if sources.file.is_none() {
            sources.file = sources.var("CODEQ_CONFIG").map(PathBuf::from);
        }
        sources
    }

    /// A variable; an empty one counts as unset.
    pub(super) fn var(&self, name: &str) -> Option<&str> {
        self.env.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// Which layer a value came from, in rising precedence.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Origin {
    /// `defaults.yaml`, or what follows from `env`.
    Default,
    /// The YAML file.
    File(String),
    /// A variable.
    Environment(String),
}

impl Origin {
    /// For people; `None` for a default.
    pub fn name(&self) -> Option<&str> {
        match self {
            Self::Default => None,
            Self::File(name) | Self::Environment(name) => Some(name),
        }
    }

    /// 0 default, 1 file, 2 environment.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Default => 0,
            Self::File(_) => 1,
            Self::Environment(_) => 2,
        }
    }
}

/// The layers, laid over each other.
pub(super) struct Layers {
    tree: Map<String, Value>,
    origins: BTreeMap<String, Origin>,
    pub problems: Vec<Problem>,
    pub warnings: Vec<String>,
}

impl Layers {
    pub fn merge(sources: &Sources) -> Self {
        let mut layers = Self {
            tree: Map::new(),
            origins: BTreeMap::new(),
            problems: Vec::new(),
            warnings: Vec::new(),
        };
        let defaults = File::from_str(DEFAULTS, FileFormat::Yaml);
        let file = sources.file.as_deref().map(|path| layers.file(path)).unwrap_or_default();
        let environment = layers.environment(sources);
        let merged = Config::builder()
            .add_source(defaults)
            .add_source(Layer(file))
            .add_source(Layer(environment))
            .build()
            .and_then(|merged| merged.collect());
        match merged {
            Ok(tree) => layers.tree = tree,
            Err(_) => layers.problem("settings", None, None, "could not be put together"),
        }
        layers
    }

    /// The value of a key; null is none.
    pub fn value(&self, key: &str) -> Option<&Value> {
        let (head, last) = match key.rsplit_once('.') {
            Some((head, last)) => (head.split('.').collect(), last),
            None => (Vec::new(), key),
        };
        let mut table = &self.tree;
        for part in head {
            match &table.get(part)?.kind {
                ValueKind::Table(inner) => table = inner,
                _ => return None,
            }
        }
        table.get(last).filter(|value| !matches!(value.kind, ValueKind::Nil))
    }

    /// Where the value of a key came from.
    pub fn origin(&self, key: &str) -> &Origin {
        self.origins.get(key).unwrap_or(&Origin::Default)
    }

    fn problem(&mut self, key: &str, value: Option<String>, from: Option<&str>, rule: &str) {
        self.problems.push(Problem {
            key: key.to_owned(),
            value,
            from: from.map(str::to_owned),
            rule: rule.to_owned(),
        });
    }

    /// The values of the file that are set and known.
    fn file(&mut self, path: &Path) -> Map<String, Value> {
        let name = path.display().to_string();
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) => {
                let rule = format!("cannot be read: {error}");
                self.problem("--config", Some(name), None, &rule);
                return Map::new();
            }
        };
        match File::from_str(&text, FileFormat::Yaml).collect() {
            Ok(table) => self.known("", table, &name),
            Err(error) => {
                self.problem("--config", Some(name), None, &yaml_rule(&text, &error));
                Map::new()
            }
        }
    }

    /// What of a table of the file has a key of ours; the rest is reported.
    fn known(&mut self, head: &str, table: Map<String, Value>, file: &str) -> Map<String, Value> {
        let mut known = Map::new();
        for (part, value) in in_order(table) {
            let name = if head.is_empty() { part.clone() } else { format!("{head}.{part}") };
            if KEYS.iter().any(|key| key.name == name) {
                if !is_empty(&value) {
                    self.origins.insert(name, Origin::File(file.to_owned()));
                    known.insert(part, value);
                }
            } else if KEYS.iter().any(|key| is_below(&key.name, &name)) {
                match value.kind {
                    ValueKind::Table(inner) => {
                        let inner = self.known(&name, inner, file);
                        known.insert(part, Value::new(None, ValueKind::Table(inner)));
                    }
                    _ if is_empty(&value) => {}
                    _ => self.problem(&name, None, Some(file), "is a section: its keys go below"),
                }
            } else {
                self.unknown(&name, value, file);
            }
        }
        known
    }

    fn unknown(&mut self, name: &str, value: Value, file: &str) {
        if keys::is_foreign(name) {
            let warning = format!("{name} in {file} belongs to another back end: it has no effect");
            self.warnings.push(warning);
            return;
        }
        // The keys of a misspelled section say more than its name alone.
        if let ValueKind::Table(inner) = value.kind {
            let section = keys::nearest(name).filter(|near| KEYS.iter().all(|k| k.name != *near));
            if section.is_none() && !inner.is_empty() && !name.contains('.') {
                for (part, value) in in_order(inner) {
                    self.unknown(&format!("{name}.{part}"), value, file);
                }
                return;
            }
        }
        let rule = match keys::nearest(name) {
            Some(near) => format!("is not a known key; did you mean {near}?"),
            None => "is not a known key".to_owned(),
        };
        self.problem(name, None, Some(file), &rule);
    }

    /// The values of the environment, under their keys.
    fn environment(&mut self, sources: &Sources) -> Map<String, Value> {
        let mut tree = Map::new();
        for key in KEYS.iter() {
            let Some(name) = &key.env else { continue };
            if sources.garbled.contains(name) {
                self.problem(&key.name, None, Some(name), "must be UTF-8");
            }
            if let Some((text, name)) = self.variable(sources, key, name) {
                // A path, which the `config` crate takes apart.
                tree.insert(key.name.clone(), Value::new(None, ValueKind::String(text)));
                self.origins.insert(key.name.clone(), Origin::Environment(name));
            }
        }
        tree
    }

    /// The text of a key's variable, or of the file that `<NAME>_FILE` names.
    fn variable(&mut self, sources: &Sources, key: &Key, name: &str) -> Option<(String, String)> {
        let text = sources.var(name).map(|text| (text.to_owned(), name.to_owned()));
        if !key.is_secret() {
            return text;
        }
        let file_name = format!("{name}_FILE");
        let Some(path) = sources.var(&file_name) else { return text };
        if text.is_some() {
            let rule = format!("{name} and {file_name} are both set: one of them must go");
            self.problem(&key.name, Some("***".to_owned()), None, &rule);
            return text;
        }
        match secret_file(Path::new(path)) {
            Ok(text) => Some((text, file_name)),
            Err(rule) => {
                let rule = format!("the file {path} {rule}");
                self.problem(&key.name, None, Some(&file_name), &rule);
                None
            }
        }
    }
}

/// The same messages in the same order every time.
pub(super) fn in_order(table: Map<String, Value>) -> BTreeMap<String, Value> {
    table.into_iter().collect()
}

/// Values under keys, for the `config` crate to lay over others.
#[derive(Clone, Debug)]
struct Layer(Map<String, Value>);

impl Source for Layer {
    fn clone_into_box(&self) -> Box<dyn Source + Send + Sync> {
        Box::new(self.clone())
    }

    fn collect(&self) -> Result<Map<String, Value>, ConfigError> {
        Ok(self.0.clone())
    }
}

fn is_below(name: &str, section: &str) -> bool {
    name.strip_prefix(section).is_some_and(|rest| rest.starts_with('.'))
}

fn is_empty(value: &Value) -> bool {
    match &value.kind {
        ValueKind::Nil => true,
        ValueKind::String(text) => text.is_empty(),
        _ => false,
    }
}

/// The secret in a file, without one trailing newline, which editors add.
fn secret_file(path: &Path) -> Result<String, String> {
    let bytes = std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > MAX_SECRET_FILE_BYTES {
        return Err(format!("is longer than {MAX_SECRET_FILE_BYTES} bytes"));
    }
    let mut text = String::from_utf8(bytes).map_err(|_| "is not UTF-8".to_owned())?;
    if text.ends_with('\n') {
        text.pop();
        if text.ends_with('\r') {
            text.pop();
        }
    }
    if text.is_empty() { Err("is empty".to_owned()) } else { Ok(text) }
}

/// What is wrong with a file, without a word of what it holds: it may hold secrets. The parser's
/// own message is kept only down to the place, which is what one needs.
fn yaml_rule(text: &str, error: &ConfigError) -> String {
    let said = error.to_string();
    let place = said.find(" at byte ").and_then(|at| said.get(at..)).and_then(|place| {
        let place = place.lines().next()?;
        let words: Vec<&str> = place.split_whitespace().collect();
        let line = words.iter().position(|word| *word == "line")?;
        Some(format!("line {}", words.get(line + 1)?.trim_matches(',')))
    });
    match place {
        Some(place) => format!("is not YAML: see {place}"),
        None if text.trim().is_empty() => "is empty".to_owned(),
        None => "must be YAML with keys at the top".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStringExt;

    use super::*;

    #[test]
    fn the_environment_names_the_file_unless_the_command_line_does() {
        let vars = || [("CODEQ_CONFIG".into(), "env.yaml".into())].into_iter();
        assert_eq!(Sources::of(None, vars()).file, Some("env.yaml".into()));
        assert_eq!(Sources::of(Some("arg.yaml".into()), vars()).file, Some("arg.yaml".into()));
        let empty = [("CODEQ_CONFIG".into(), "".into())].into_iter();
        assert_eq!(Sources::of(None, empty).file, None);
    }

    #[test]
    fn a_variable_that_is_not_text_is_refused_by_name() {
        let vars = [("REDIS_PASSWORD".into(), OsString::from_vec(vec![0xff]))].into_iter();
        let layers = Layers::merge(&Sources::of(None, vars));
        assert_eq!(layers.problems.len(), 1);
        assert_eq!(layers.problems[0].key, "redisPassword");
    }
}
