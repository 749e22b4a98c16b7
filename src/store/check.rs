//! Is this the store we think it is, and is it set up to keep what it is given?

use std::fmt;

use super::{Error, Store};

/// The version of the key layout that `lua/lib/keys.lua` describes.
pub const LAYOUT: u16 = 1;

/// What an operator should know about Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// At `maxmemory` Redis would delete tasks.
    Evicts {
        /// The `maxmemory-policy`.
        policy: String,
    },
    /// Without an append-only file a restart loses what came after the last snapshot.
    NoAppendOnlyFile,
    /// Redis did not let us look.
    Hidden {
        /// What we wanted to know.
        what: &'static str,
        /// What Redis said.
        why: String,
    },
}

impl Finding {
    /// Whether tasks will be lost in normal operation: a production node refuses to start.
    pub fn is_dangerous(&self) -> bool {
        matches!(self, Self::Evicts { .. })
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Evicts { policy } => write!(
                f,
                "maxmemory-policy is `{policy}`, so Redis deletes tasks when it is full; \
                 set it to `noeviction`"
            ),
            Self::NoAppendOnlyFile => f.write_str(
                "appendonly is off, so a restart of Redis loses tasks; set `appendonly yes`",
            ),
            Self::Hidden { what, why } => write!(f, "{what} cannot be read: {why}"),
        }
    }
}

/// What [`Store::check`] found; empty when all is well.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings(pub Vec<Finding>);

impl Findings {
    /// Whether one of them is dangerous.
    pub fn are_dangerous(&self) -> bool {
        self.0.iter().any(Finding::is_dangerous)
    }
}

impl Store {
    /// Claims an unused store for this layout, refuses one with another, and looks at how Redis
    /// is set up.
    ///
    /// # Errors
    /// [`Error::WrongLayout`] names both sides; [`Error::Unavailable`] while Redis is away.
    pub async fn check(&self) -> Result<Findings, Error> {
        let mut connection = self.rare().await.map_err(|error| {
            tracing::debug!(
                target: "codeq::store", category = "debug", event = "store.unchecked",
                error.message = %error, "no connection for the check of the store"
            );
            Error::Unavailable
        })?;
        self.check_layout(&mut connection).await?;

        let mut findings = Vec::new();
        match info(&mut connection, "memory").await {
            Ok(memory) => match memory.get("maxmemory_policy") {
                Some(policy) if policy != "noeviction" => {
                    findings.push(Finding::Evicts { policy: policy.to_owned() });
                }
                _ => {}
            },
            Err(why) => findings.push(Finding::Hidden { what: "INFO memory", why }),
        }
        match info(&mut connection, "persistence").await {
            Ok(persistence) if persistence.get("aof_enabled") == Some("0") => {
                findings.push(Finding::NoAppendOnlyFile);
            }
            Ok(_) => {}
            Err(why) => findings.push(Finding::Hidden { what: "INFO persistence", why }),
        }
        Ok(Findings(findings))
    }

    async fn check_layout(&self, connection: &mut deadpool_redis::Connection) -> Result<(), Error> {
        let key = self.partitions().meta_key();
        let ours = format!("layout={LAYOUT} partitions={}", self.partitions().count());
        // The first node writes it, and all read what stands there.
        let (stored,): (String,) = redis::pipe()
            .cmd("SET")
            .arg(&key)
            .arg(&ours)
            .arg("NX")
            .ignore()
            .cmd("GET")
            .arg(&key)
            .query_async(connection)
            .await
            .map_err(|error| error_of(&error))?;
        if stored == ours {
            return Ok(());
        }
        Err(Error::WrongLayout { stored: in_words(&stored), configured: in_words(&ours) })
    }
}

/// `layout=1 partitions=16` as a person says it.
fn in_words(meta: &str) -> String {
    let value = |name| meta.split(' ').find_map(|part| part.strip_prefix(name));
    match (value("layout="), value("partitions=")) {
        (Some(layout), Some(partitions)) => format!("{partitions} partitions in layout {layout}"),
        _ => format!("something unknown (`{meta}`)"),
    }
}

fn error_of(error: &redis::RedisError) -> Error {
    match error.kind() {
        redis::ErrorKind::Server(redis::ServerErrorKind::ResponseError)
        | redis::ErrorKind::Server(redis::ServerErrorKind::NoPerm)
        | redis::ErrorKind::UnexpectedReturnType
        | redis::ErrorKind::Parse => Error::Script(error.to_string()),
        redis::ErrorKind::Extension if error.code() == Some("OOM") => Error::OutOfMemory,
        _ => Error::Unavailable,
    }
}

/// A section of `INFO`.
pub(super) struct Info(String);

impl Info {
    pub fn new(text: String) -> Self {
        Self(text)
    }

    pub fn get(&self, name: &str) -> Option<&str> {
        let value = |line: &'_ str| line.strip_prefix(name)?.strip_prefix(':').map(str::len);
        let line = self.0.lines().find(|line| value(line).is_some())?;
        Some(line[name.len() + 1..].trim())
    }

    pub fn number(&self, name: &str) -> Option<f64> {
        self.get(name)?.parse().ok()
    }
}

async fn info(connection: &mut deadpool_redis::Connection, what: &str) -> Result<Info, String> {
    let text = redis::cmd("INFO").arg(what).query_async(connection).await;
    text.map(Info).map_err(|error| error.to_string())
}
