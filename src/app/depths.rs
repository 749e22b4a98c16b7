//! What a scrape asks the store: how many tasks are where, and how late the latest are.

use futures_util::future::try_join_all;

use crate::model::{Command, Partition, TenantId};
use crate::script;
use crate::store;

use super::App;
use super::labels::HOME;
use super::workers::{KEEP_MS, WorkersLately};

script! {
    /// Counts tasks and subscriptions by label.
    pub struct Depths = "depths", read, repeatable {
        once {}
        each { labels: u16 }
    } -> LabelDepths { numbers: Vec<u64>, overdue_ms: u64, overdue_leases: u64 }
}

script! {
    /// Counts the ready tasks of a label by priority.
    pub struct DepthsByPriority = "depths_by_priority", read, repeatable {
        once {}
        each { label: u16 }
    } -> ReadyByPriority { ready: Vec<u64> }
}

script! {
    /// Counts the tasks of a tenant, some queues at a time.
    pub struct DepthsOfTenant<'a> = "depths_of_tenant", read, repeatable {
        once {}
        each { tenant: &'a str, cursor: &'a str }
    } -> TenantPage { numbers: Vec<u64>, cursor: String }
}

/// The numbers of one label, over all tenants and partitions.
#[derive(Clone, Debug, Default)]
pub struct Depth {
    /// The label.
    pub label: String,
    /// Ready, delayed, in progress, dead.
    pub tasks: [u64; 4],
    /// Unexpired subscriptions.
    pub subscriptions: u64,
    /// Whether a queue is paused.
    pub paused: bool,
    /// How long the oldest ready task has been ready.
    pub oldest_ready_ms: u64,
    /// Workers that called lately.
    pub workers: u64,
    /// Ready tasks of each priority, 0 first; only of commands that the settings name.
    pub by_priority: Option<[u64; 10]>,
}

/// What was counted at once.
#[derive(Clone, Debug, Default)]
pub struct Counted {
    /// Of each label.
    pub labels: Vec<Depth>,
    /// How late the most overdue delayed task is.
    pub overdue_ms: u64,
    /// Leases that have ended and that no sweep has noticed yet.
    pub overdue_leases: u64,
    /// Ready, delayed, in progress and dead tasks of each tenant that the settings name.
    pub tenants: Vec<(String, [u64; 4])>,
}

impl App {
    /// Counts everything: a call per partition, and one for the workers. What the settings ask for
    /// beside that costs calls of its own.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn count(&self) -> Result<Counted, store::Error> {
        let spellings = self.labels.all(&self.store).await?;
        let labels = u16::try_from(spellings.len() - 1).unwrap_or(u16::MAX);
        let depths = self.partitions.all().map(|at| self.store.run(at, Depths { labels }));
        let workers = self.store.run(HOME, WorkersLately { labels, keep_ms: KEEP_MS });
        let (depths, workers, by_priority, tenants) = tokio::try_join!(
            try_join_all(depths),
            workers,
            self.by_priority(&spellings),
            try_join_all(self.settings.metrics.tenants.iter().map(|tenant| self.of_tenant(tenant))),
        )?;
        let mut counted = Counted { tenants, ..Counted::default() };
        let workers = workers.numbers.into_iter().chain(std::iter::repeat(0));
        for (spelling, workers) in spellings.iter().zip(workers) {
            let label = spelling.as_str().to_owned();
            counted.labels.push(Depth { label, workers, ..Depth::default() });
        }
        for (label, ready) in by_priority {
            counted.labels[label].by_priority = Some(ready);
        }
        for of_partition in depths {
            counted.overdue_ms = counted.overdue_ms.max(of_partition.overdue_ms);
            counted.overdue_leases += of_partition.overdue_leases;
            for (sums, numbers) in counted.labels.iter_mut().zip(of_partition.numbers.chunks(7)) {
                sums.add(numbers);
            }
        }
        Ok(counted)
    }

    /// Of each command that the settings name and that has a label: its number, and ready tasks.
    async fn by_priority(
        &self,
        spellings: &[Command],
    ) -> Result<Vec<(usize, [u64; 10])>, store::Error> {
        let wanted: Vec<String> =
            self.settings.metrics.priority_commands.iter().map(Command::lower).collect();
        let labels = (1..spellings.len()).filter(|at| wanted.contains(&spellings[*at].lower()));
        let of_label = |at: usize| async move {
            let label = u16::try_from(at).unwrap_or(u16::MAX);
            let of = |partition| self.store.run(partition, DepthsByPriority { label });
            let mut sums = [0; 10];
            for ready in try_join_all(self.partitions.all().map(of)).await? {
                add(&mut sums, &ready.ready);
            }
            Ok((at, sums))
        };
        try_join_all(labels.map(of_label)).await
    }

    async fn of_tenant(&self, tenant: &TenantId) -> Result<(String, [u64; 4]), store::Error> {
        let of = |partition: Partition| async move {
            let (mut sums, mut cursor) = ([0; 4], "0".to_owned());
            loop {
                let page = DepthsOfTenant { tenant: tenant.tag(), cursor: &cursor };
                let page = self.store.run(partition, page).await?;
                add(&mut sums, &page.numbers);
                if page.cursor == "0" {
                    return Ok::<_, store::Error>(sums);
                }
                cursor = page.cursor;
            }
        };
        let mut sums = [0; 4];
        for of_partition in try_join_all(self.partitions.all().map(of)).await? {
            add(&mut sums, &of_partition);
        }
        Ok((tenant.as_str().to_owned(), sums))
    }
}

impl Depth {
    fn add(&mut self, numbers: &[u64]) {
        let [ready, delayed, in_progress, dead, subscriptions, paused, oldest_ms] = *numbers else {
            return;
        };
        add(&mut self.tasks, &[ready, delayed, in_progress, dead]);
        self.subscriptions += subscriptions;
        self.paused |= paused > 0;
        self.oldest_ready_ms = self.oldest_ready_ms.max(oldest_ms);
    }
}

fn add(sums: &mut [u64], more: &[u64]) {
    for (sum, more) in sums.iter_mut().zip(more) {
        *sum += more;
    }
}
