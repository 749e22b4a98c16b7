use std::fmt;

/// One thing that is wrong with the settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The YAML key, or the variable when it has none.
    pub key: String,
    /// What was found, `***` for a secret; `None` when nothing was.
    pub value: Option<String>,
    /// Where it was found: a variable or a file.
    pub from: Option<String>,
    /// What it must be.
    pub rule: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        if let Some(from) = &self.from {
            write!(f, " (from {from})")?;
        }
        write!(f, ": {}", self.rule)
    }
}

/// Everything that is wrong with the settings, so that nobody has to repair one line per start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Problems {
    /// What must be repaired.
    pub problems: Vec<Problem>,
    /// What works but an operator should know.
    pub warnings: Vec<String>,
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => f.write_str("1 problem in the settings:")?,
            n => write!(f, "{n} problems in the settings:")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))?;
        self.warnings.iter().try_for_each(|warning| write!(f, "\n  warning: {warning}"))
    }
}
