use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::config::MetricsSettings;
use crate::model::{Command, Partition, Partitions};
use crate::script;
use crate::store::{self, Store};
use crate::telemetry::Metrics;
use crate::telemetry::metrics::CommandMetrics;

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

script! {
    /// Counts tasks and subscriptions by label.
    pub struct Depths = "depths", read, repeatable {
        once {}
        each { labels: u16 }
    } -> LabelDepths { numbers: Vec<u64> }
}

/// Where the registry is: one for the fleet.
const HOME: Partition = Partition::new(0);

/// What a command beyond the cap is counted under.
const OTHER: &str = "_other";

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
    /// Index 0 is `_other`.
    by_number: Vec<(String, Arc<CommandMetrics>)>,
}

impl Known {
    fn nothing(metrics: &Metrics) -> Self {
        Self {
            by_command: HashMap::new(),
            by_number: vec![(OTHER.to_owned(), metrics.command(OTHER))],
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
        let refused = self.pinned.as_ref().is_some_and(|pinned| !pinned.contains(&command.lower()));
        if refused || command.as_str() == OTHER {
            return Ok(0);
        }
        let full = self.read().by_number.len() as u64 > self.cap;
        if full && self.pinned.is_none() && self.read().by_command.len() >= 4 * self.cap as usize {
            // Everything the registry will ever hold is known; the rest need not ask.
            return Ok(0);
        }
        let cap = if self.pinned.is_some() { u64::from(u16::MAX) } else { self.cap };
        let label = Label { command: &command.tag(), spelling: command.as_str(), cap };
        let labelled = store.run(HOME, label).await?;
        if labelled.label > 0 {
            self.load(store, labelled.label).await?;
        }
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        // Bounded: spellings of what has no label are remembered only up to a multiple of the cap.
        if labelled.label > 0 || known.by_command.len() < 4 * self.cap as usize {
            known.by_command.insert(command.as_str().to_owned(), labelled.label);
        }
        Ok(labelled.label)
    }

    /// The label number of a command if somebody gave it one, else that of all others.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn known(&self, store: &Store, command: &Command) -> Result<u16, store::Error> {
        if let Some(number) = self.read().by_command.get(command.as_str()) {
            return Ok(*number);
        }
        let label = Label { command: &command.tag(), spelling: "", cap: 0 };
        Ok(store.run(HOME, label).await?.label)
    }

    /// The handles of a label that is known here already.
    pub fn metrics(&self, number: u16) -> Option<Arc<CommandMetrics>> {
        self.read().by_number.get(usize::from(number)).map(|(_, metrics)| metrics.clone())
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
                for spelling in page.spellings {
                    let metrics = self.metrics.command(&spelling);
                    known.by_number.push((spelling, metrics));
                }
            }
        }
    }

    /// Every label that the fleet has given out, in the order of the numbers.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn all(&self, store: &Store) -> Result<Vec<String>, store::Error> {
        self.load(store, u16::MAX).await?;
        Ok(self.read().by_number.iter().map(|(spelling, _)| spelling.clone()).collect())
    }

    /// How many tasks of each label are ready, delayed, in progress and dead, and how many
    /// subscriptions it has. One call per partition.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn depths(
        &self,
        store: &Store,
        partitions: &Partitions,
    ) -> Result<Vec<(String, [u64; 5])>, store::Error> {
        let spellings = self.all(store).await?;
        let labels = u16::try_from(spellings.len() - 1).unwrap_or(u16::MAX);
        let counted = partitions.all().map(|partition| store.run(partition, Depths { labels }));
        let mut sums: Vec<_> = spellings.into_iter().map(|spelling| (spelling, [0; 5])).collect();
        for of_partition in futures_util::future::try_join_all(counted).await? {
            for (at, number) in of_partition.numbers.into_iter().enumerate() {
                if let Some((_, sum)) = sums.get_mut(at / 5) {
                    sum[at % 5] += number;
                }
            }
        }
        Ok(sums)
    }

    fn read(&self) -> std::sync::RwLockReadGuard<'_, Known> {
        self.known.read().unwrap_or_else(PoisonError::into_inner)
    }
}
