//! Scripts one call at a time, on a connection of its own and without the lanes: a test that plays
//! thousands of steps decides itself when each happens, and may change a script to see it noticed.

use std::collections::HashMap;

use redis::{FromRedisValue, Value};

use super::bundle::Bundle;
use super::testing::TestRedis;
use super::{Args, Error, Library, Script, reply};

/// A change of one file below `lua/`: a mutation that some test must notice.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// The file, `nack` or `lib/lease`.
    pub file: &'static str,
    /// What stands there, exactly once.
    pub from: &'static str,
    /// What stands there instead.
    pub to: &'static str,
}

/// The text of a file below `lua/`.
pub(crate) fn source(file: &str) -> String {
    let path = format!("{}/lua/{file}.lua", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

impl Change {
    fn apply(&self) -> String {
        let text = source(self.file);
        assert_eq!(text.matches(self.from).count(), 1, "lua/{}.lua: {}", self.file, self.from);
        text.replace(self.from, self.to)
    }
}

/// A connection that runs scripts on one partition.
pub(crate) struct Direct {
    connection: redis::Connection,
    root: String,
    library: Library,
    change: Option<Change>,
    bundles: HashMap<&'static str, Bundle>,
}

impl Direct {
    /// Connects. `library` replaces the modules, then `change` one text in one file.
    pub fn new(redis: &TestRedis, root: &str, library: Library, change: Option<Change>) -> Self {
        let connection = redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
        let mut library = library;
        if let Some(change) = change
            && let Some(module) = change.file.strip_prefix("lib/")
        {
            let name: &'static str = Box::leak(format!("lib.{module}").into_boxed_str());
            library = library.with(name, change.apply());
        }
        Self { connection, root: root.to_owned(), library, change, bundles: HashMap::new() }
    }

    /// Runs one script call for the items, which share what is given once.
    pub fn run<S: Script>(&mut self, items: &[S]) -> Result<Vec<Result<S::Reply, Error>>, Error> {
        if !self.bundles.contains_key(S::NAME) {
            let changed = self.change.filter(|change| change.file == S::NAME);
            let text = changed.map_or_else(|| S::SOURCE.to_owned(), |change| change.apply());
            let bundle = Bundle::new(S::NAME, &text, &self.library).unwrap();
            let _: String = self.query(redis::cmd("SCRIPT").arg("LOAD").arg(&bundle.text));
            self.bundles.insert(S::NAME, bundle);
        }
        let bundle = &self.bundles[S::NAME];
        let mut call = redis::cmd("EVALSHA");
        call.arg(&bundle.sha).arg(1).arg(&self.root);
        let args: Vec<Args> = items.iter().map(Args::of).collect();
        for value in args[0].once() {
            call.arg(value);
        }
        for args in &args {
            for value in args.each() {
                call.arg(value);
            }
        }
        match call.query::<Value>(&mut self.connection) {
            Ok(Value::Array(answers)) => {
                Ok(answers.into_iter().map(|answer| reply::read_item(S::NAME, answer)).collect())
            }
            Ok(other) => panic!("lua/{}.lua answered {other:?}", S::NAME),
            Err(error) => Err(Error::Script(bundle.explain(&error.to_string()))),
        }
    }

    /// Runs one item.
    pub fn one<S: Script>(&mut self, item: S) -> Result<S::Reply, Error> {
        self.run(&[item])?.remove(0)
    }

    /// Any other command.
    pub fn query<T: FromRedisValue>(&mut self, command: &redis::Cmd) -> T {
        command.query(&mut self.connection).unwrap()
    }

    /// Many commands at once.
    pub fn pipeline(&mut self, commands: &redis::Pipeline) -> Vec<Value> {
        if commands.is_empty() {
            return Vec::new();
        }
        commands.query(&mut self.connection).unwrap()
    }

    /// The scripts that were called.
    pub fn called(&self) -> Vec<&'static str> {
        let mut names: Vec<_> = self.bundles.keys().copied().collect();
        names.sort_unstable();
        names
    }

    /// What every key of the partition begins with.
    pub fn root(&self) -> &str {
        &self.root
    }
}
