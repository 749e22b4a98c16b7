use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::MetricsSettings;
use crate::model::{Command, Partition};
use crate::script;
use crate::store::{self, Store};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::{Bounded, CommandMetrics};

use super::App;

script! {
    /// Gives a command its label number.
    pub struct Label<'a> = "label", write, repeatable {
        once {}
        each { command: &'a str, spelling: &'a str, cap: u64 }
    } -> #[expect(dead_code, reason = "the spelling is read with its neighbours")] Labelled { label: u16, spelling: String }
}

script! {
    /// Reads the registry.
    pub struct ReadLabels = "labels", read, repeatable {
        once {}
        each { from: u16, most: u16 }
    } -> LabelPage { spellings: Vec<String> }
}

/// Where the registry is: one for the fleet.
pub(super) const HOME: Partition = Partition::new(0);

/// What a command beyond the cap is counted under.
pub(super) const OTHER: &str = "_other";

/// The metric labels of commands: free text from producers, so a fleet-wide registry with a cap
/// bounds them. Numbers are stored with tasks; 0 is `_other`.
pub struct Labels {
    cap: u64,
    pinned: Option<Vec<String>>,
    metrics: Metrics,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    by_command: HashMap<String, u16>,
    /// Every label that is known, by its command in lower case.
    by_lower: HashMap<String, u16>,
    /// Index 0 is `_other`.
    by_number: Vec<Kept>,
}

struct Kept {
    spelling: Command,
    metrics: Arc<CommandMetrics>,
}

impl Kept {
    fn new(spelling: &str, metrics: &Metrics) -> Self {
        Self { spelling: Command::trusted(spelling), metrics: metrics.command(spelling) }
    }
}

impl Known {
    fn nothing(metrics: &Metrics) -> Self {
        Self {
            by_command: HashMap::new(),
            by_lower: HashMap::new(),
            by_number: vec![Kept::new(OTHER, metrics)],
        }
    }
}

impl App {
    /// Runs `count` with the handles of a label; a label that another node gave out is looked up
    /// first.
    pub fn with_label(&self, label: u16, count: impl FnOnce(&CommandMetrics) + Send + 'static) {
        if let Some(metrics) = self.labels.metrics(label) {
            return count(&metrics);
        }
        let later = self.clone();
        self.background.spawn(async move {
            // A store that does not answer costs a count, never a request.
            let _ = later.labels.load(&later.store, label).await;
            if let Some(metrics) = later.labels.metrics(label).or_else(|| later.labels.metrics(0)) {
                count(&metrics);
            }
        });
    }
}

impl Labels {
    /// Knows `_other` only, until it has asked.
    pub fn new(settings: &MetricsSettings, metrics: Metrics) -> Self {
        let pinned: Vec<String> = settings.commands.iter().map(Command::lower).collect();
        Self {
            cap: settings.max_commands as u64,
            pinned: (!pinned.is_empty()).then_some(pinned),
            known: RwLock::new(Known::nothing(&metrics)),
            metrics,
        }
    }

    /// Asks again for what it knew: a Redis that came back empty gives the numbers out anew, and
    /// those from before would count tasks under other commands' names.
    pub fn forget(&self) {
        let nothing = Known::nothing(&self.metrics);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = nothing;
    }

    /// The label number of the command of a task that is made. Past the cap it is counted.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn of_task(&self, store: &Store, command: &Command) -> Result<u16, store::Error> {
        let number = self.number(store, command).await?;
        if number == 0 && command.as_str() != OTHER {
            self.metrics.label_overflow.with(Bounded::Command).inc();
        }
        Ok(number)
    }

    /// The label number of a command. Asks the store once per command and node.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn number(&self, store: &Store, command: &Command) -> Result<u16, store::Error> {
        // Producers mostly spell a command one way, so the spelling is the cheap key.
        {
            let known = self.read();
            if let Some(number) = known.by_command.get(command.as_str()) {
                return Ok(*number);
            }
        }
        let lower = command.lower();
        let refused = self.pinned.as_ref().is_some_and(|pinned| !pinned.contains(&lower));
        if refused || command.as_str() == OTHER {
            return Ok(0);
        }
        let (known, full) = {
            let known = self.read();
            (known.by_lower.get(&lower).copied(), known.by_number.len() as u64 > self.cap)
        };
        if let Some(number) = known {
            self.remember(command, number);
            return Ok(number);
        }
        if full && self.pinned.is_none() {
            // Everything the registry will ever hold is known; the rest need not ask.
            return Ok(0);
        }
        let cap = if self.pinned.is_some() { u64::from(u16::MAX) } else { self.cap };
        let label = Label { command: &command.tag(), spelling: command.as_str(), cap };
        let labelled = store.run(HOME, label).await?;
        // No number left: then all that were given out are worth knowing, so that the rest need not ask.
        self.load(store, if labelled.label > 0 { labelled.label } else { u16::MAX }).await?;
        self.remember(command, labelled.label);
        Ok(labelled.label)
    }

    /// Remembers a spelling; bounded, since there are as many as producers like.
    fn remember(&self, command: &Command, number: u16) {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.by_command.len() < 4 * self.cap as usize {
            known.by_command.insert(command.as_str().to_owned(), number);
        }
    }

    /// The label number of a command if somebody gave it one, else that of all others.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn known(&self, store: &Store, command: &Command) -> Result<u16, store::Error> {
        {
            let known = self.read();
            let own = known.by_command.get(command.as_str());
            if let Some(number) = own.or_else(|| known.by_lower.get(&command.lower())) {
                return Ok(*number);
            }
        }
        let label = Label { command: &command.tag(), spelling: "", cap: 0 };
        Ok(store.run(HOME, label).await?.label)
    }

    /// The handles of a label that is known here already.
    pub fn metrics(&self, number: u16) -> Option<Arc<CommandMetrics>> {
        self.read().by_number.get(usize::from(number)).map(|known| known.metrics.clone())
    }

    /// The command as its label spells it, which is as the fleet first saw it; the task's own spelling
    /// when it has no label, or one that is not known here yet.
    pub fn spelled(&self, number: u16, own: &Command) -> Command {
        let known = self.read();
        let label = known.by_number.get(usize::from(number)).filter(|_| number > 0);
        // Numbers are given out anew by a Redis that came back empty.
        let label = label.filter(|known| {
            known.spelling.as_str() == own.as_str() || known.spelling.lower() == own.lower()
        });
        label.map_or_else(|| own.clone(), |known| known.spelling.clone())
    }

    /// Learns labels up to `number` that other nodes gave out.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn load(&self, store: &Store, number: u16) -> Result<(), store::Error> {
        const PAGE: u16 = 256;
        loop {
            let next = self.read().by_number.len();
            if next > usize::from(number) {
                return Ok(());
            }
            let from = u16::try_from(next).unwrap_or(u16::MAX);
            let page = store.run(HOME, ReadLabels { from, most: PAGE }).await?;
            if page.spellings.is_empty() {
                return Ok(());
            }
            let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
            if known.by_number.len() == next {
                for (number, spelling) in (from..).zip(page.spellings) {
                    known.by_lower.insert(Command::trusted(&spelling).lower(), number);
                    known.by_number.push(Kept::new(&spelling, &self.metrics));
                }
            }
        }
    }

    /// Every label that the fleet has given out, in the order of the numbers.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn all(&self, store: &Store) -> Result<Vec<Command>, store::Error> {
        self.load(store, u16::MAX).await?;
        Ok(self.read().by_number.iter().map(|known| known.spelling.clone()).collect())
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}
