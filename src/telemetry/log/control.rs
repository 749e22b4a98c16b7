//! Which lines are written: one level, and module filters beside it. Both can change at run time.

use std::sync::{Arc, Mutex, PoisonError};

use serde::Serialize;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::{Registry, reload};

/// What is in force: the body of `GET /admin/log-level`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct LogLevels {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: String,
    /// Module filters as in `RUST_LOG`: `codeq::webhooks=debug,codeq::store=trace`.
    pub filter: String,
}

/// The level or the filter is not one.
#[derive(Debug, thiserror::Error)]
pub enum WrongFilter {
    /// Not a level.
    #[error("unknown level {0:?}: use error, warn, info, debug or trace")]
    Level(String),
    /// Not module filters.
    #[error("bad filter {0:?}: use module=level pairs separated by commas")]
    Filter(String),
}

impl LogLevels {
    /// Checks both.
    ///
    /// # Errors
    /// Which of the two is wrong, and how it should look.
    pub fn new(level: &str, filter: &str) -> Result<Self, WrongFilter> {
        let levels = Self { level: level.trim().to_lowercase(), filter: filter.trim().to_owned() };
        levels.to_filter()?;
        Ok(levels)
    }

    /// From the environment alone, for the time before settings are read: `LOG_LEVEL`, and
    /// `RUST_LOG` beside it. What is wrong there is reported with the settings, not here.
    pub fn from_env() -> Self {
        let variable = |name| std::env::var(name).unwrap_or_default();
        let level = Self::new(&variable("LOG_LEVEL"), "").map_or("info".into(), |it| it.level);
        let filter = Self::new("info", &variable("RUST_LOG")).map_or(String::new(), |it| it.filter);
        Self { level, filter }
    }

    /// The filter of the log lines. A bare level among the module filters wins over the level.
    ///
    /// The level is that of this program. Libraries below it may print what passes through them,
    /// headers above all, so they write warnings only unless a filter names them.
    pub(crate) fn to_filter(&self) -> Result<EnvFilter, WrongFilter> {
        let mut level = match self.level.as_str() {
            "error" => LevelFilter::ERROR,
            "warn" => LevelFilter::WARN,
            "info" => LevelFilter::INFO,
            "debug" => LevelFilter::DEBUG,
            "trace" => LevelFilter::TRACE,
            other => return Err(WrongFilter::Level(other.to_owned())),
        };
        let mut named = Vec::new();
        for directive in self.filter.split(',').map(str::trim).filter(|text| !text.is_empty()) {
            match directive.parse() {
                Ok(bare) => level = bare,
                Err(_) => named.push(directive),
            }
        }
        // What stands later wins over what is as specific and stands earlier.
        let directives = format!("codeq={level},{}", named.join(","));
        EnvFilter::builder()
            .with_default_directive(level.min(LevelFilter::WARN).into())
            .parse(directives.trim_end_matches(','))
            .map_err(|_| WrongFilter::Filter(self.filter.clone()))
    }
}

/// Changes level and filters of the running node. Cheap to clone.
#[derive(Clone)]
pub struct LogControl {
    now: Arc<Mutex<LogLevels>>,
    handle: reload::Handle<EnvFilter, Registry>,
}

impl LogControl {
    pub(crate) fn new(levels: LogLevels, handle: reload::Handle<EnvFilter, Registry>) -> Self {
        Self { now: Arc::new(Mutex::new(levels)), handle }
    }

    /// What is in force.
    pub fn get(&self) -> LogLevels {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Puts another level, another filter or both in force; what is `None` stays.
    ///
    /// # Errors
    /// When one of them is not valid; nothing changes then.
    pub fn set(&self, level: Option<&str>, filter: Option<&str>) -> Result<LogLevels, WrongFilter> {
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        let next = LogLevels::new(level.unwrap_or(&now.level), filter.unwrap_or(&now.filter))?;
        // Fails only once the subscriber is gone, and with it everything that could be written.
        let _ = self.handle.reload(next.to_filter()?);
        *now = next.clone();
        Ok(next)
    }
}
