//! The phases: what the virtual clients do with the tasks, shared out among them.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::try_join_all;

use super::client::{Client, Held, Plan, Seen};

/// A claim waits this long: a task is always there or about to be, so it is a net, not a load.
const WAIT_SECONDS: u32 = 2;
/// What every node allows a batch claim and another batch to carry.
const CLAIM_LIMIT: u64 = 10;
const BATCH_LIMIT: u64 = 100;

/// What a virtual client does with a task.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// Create; the task stays queued.
    Create,
    /// Claim; the task stays in progress.
    Claim,
    /// Submit what an earlier step claimed.
    Submit,
    /// Create, claim, submit.
    Cycle,
    /// Create and claim: the queue keeps its length.
    Pair,
}

/// The clients, and what is between the phases: claimed tasks.
pub struct Load {
    plan: Rc<Plan>,
    clients: Vec<Client>,
    held: RefCell<Vec<Held>>,
}

/// One phase, seen by all its clients.
struct Phase<'a> {
    step: Step,
    batch: u64,
    /// Tasks left to do, by queue.
    left: Vec<Cell<u64>>,
    held: &'a RefCell<Vec<Held>>,
}

impl Load {
    /// The clients of a plan; they connect with their first call.
    pub fn new(plan: Plan) -> Self {
        let plan = Rc::new(plan);
        let client = |number| Client::new(Rc::clone(&plan), number);
        let clients = (0..plan.concurrency).map(client).collect();
        Self { plan, clients, held: RefCell::default() }
    }

    /// Has the ends of the tasks that follow told to this URL.
    pub fn tell(&mut self, webhook: &str) {
        let plan = Plan { webhook: webhook.to_owned(), ..Plan::clone(&self.plan) };
        self.plan = Rc::new(plan);
        for client in &mut self.clients {
            client.follow(Rc::clone(&self.plan));
        }
    }

    /// Takes `tasks` tasks through `step`, or as many as the time allows.
    ///
    /// # Errors
    /// When the node refuses a call for good (a wrong token, an unknown path, a bad request).
    pub async fn run(&mut self, step: Step, tasks: u64, limit: Duration) -> anyhow::Result<Seen> {
        self.run_by(self.plan.batch, step, tasks, limit).await
    }

    /// As [`Load::run`], in the largest batches: for what is set up or cleared away, not measured.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub async fn run_quickly(
        &mut self,
        step: Step,
        tasks: u64,
        limit: Duration,
    ) -> anyhow::Result<Seen> {
        self.run_by(BATCH_LIMIT, step, tasks, limit).await
    }

    async fn run_by(
        &mut self,
        batch: u64,
        step: Step,
        tasks: u64,
        limit: Duration,
    ) -> anyhow::Result<Seen> {
        let queues = self.plan.commands.len() as u64;
        let share = |queue| tasks / queues + u64::from(queue < tasks % queues);
        let left = (0..queues).map(|queue| Cell::new(share(queue))).collect();
        let phase = Phase { step, batch, left, held: &self.held };
        let deadline = Instant::now() + limit;
        let work = self.clients.iter_mut().enumerate().map(|(number, client)| {
            client.begin(batch == 1, deadline);
            phase.work(client, number)
        });
        try_join_all(work).await?;
        Ok(self.collect())
    }

    /// Claims and submits whatever is ready in the queues; gives the number of tasks.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub async fn drain(&mut self, limit: Duration) -> anyhow::Result<u64> {
        let (queues, deadline) = (self.plan.commands.len(), Instant::now() + limit);
        let work = self.clients.iter_mut().map(|client| {
            client.begin(false, deadline);
            drain(client, queues)
        });
        try_join_all(work).await?;
        Ok(self.collect().tasks)
    }

    fn collect(&mut self) -> Seen {
        let mut all = Seen::default();
        for seen in self.clients.iter_mut().map(|client| std::mem::take(&mut client.seen)) {
            all.tasks += seen.tasks;
            for (into, from) in all.micros.iter_mut().zip(seen.micros) {
                into.extend(from);
            }
            for (trouble, count) in seen.troubles {
                *all.troubles.entry(trouble).or_default() += count;
            }
        }
        all
    }
}

impl Phase<'_> {
    /// Takes up to a batch of work out of a queue's budget, the client's own queue first.
    fn take(&self, number: usize) -> Option<(usize, u64)> {
        let size = if self.step == Step::Claim { self.claim_batch() } else { self.batch };
        let queues = self.left.len();
        (0..queues).map(|offset| (number + offset) % queues).find_map(|queue| {
            let taken = self.left[queue].get().min(size);
            self.left[queue].set(self.left[queue].get() - taken);
            (taken > 0).then_some((queue, taken))
        })
    }

    fn claim_batch(&self) -> u64 {
        self.batch.min(CLAIM_LIMIT)
    }

    async fn work(&self, client: &mut Client, number: usize) -> anyhow::Result<()> {
        while !client.is_over() {
            let Some((queue, wanted)) = self.take(number) else { break };
            let mut done = wanted;
            if matches!(self.step, Step::Create | Step::Cycle | Step::Pair) {
                done = client.create(queue, wanted).await?;
            }
            if matches!(self.step, Step::Claim | Step::Cycle | Step::Pair) {
                let claimed = self.claim(client, queue, done).await?;
                done = claimed.len() as u64;
                if self.step == Step::Cycle {
                    done = client.submit(claimed).await?;
                } else {
                    self.held.borrow_mut().extend(claimed);
                }
            }
            if self.step == Step::Submit {
                let rest = self.held.borrow().len().saturating_sub(wanted as usize);
                let taken = self.held.borrow_mut().split_off(rest);
                if taken.is_empty() {
                    break;
                }
                done = client.submit(taken).await?;
            }
            client.seen.tasks += done;
        }
        Ok(())
    }

    /// All that were asked for, unless the time is over first.
    async fn claim(&self, client: &mut Client, queue: usize, n: u64) -> anyhow::Result<Vec<Held>> {
        let mut claimed = Vec::new();
        while (claimed.len() as u64) < n && !client.is_over() {
            let count = (n - claimed.len() as u64).min(self.claim_batch());
            claimed.extend(client.claim(queue, count, WAIT_SECONDS).await?);
        }
        Ok(claimed)
    }
}

async fn drain(client: &mut Client, queues: usize) -> anyhow::Result<()> {
    for queue in 0..queues {
        while !client.is_over() {
            let mut taken = Vec::new();
            while taken.len() as u64 + CLAIM_LIMIT <= BATCH_LIMIT {
                let more = client.claim(queue, CLAIM_LIMIT, 0).await?;
                if more.is_empty() {
                    break;
                }
                taken.extend(more);
            }
            if taken.is_empty() {
                break;
            }
            client.seen.tasks += client.submit(taken).await?;
        }
    }
    Ok(())
}
