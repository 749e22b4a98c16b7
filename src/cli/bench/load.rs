//! The virtual clients: each holds one connection and makes one call after the other.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use futures_util::future::try_join_all;
use rand::RngExt as _;
use serde::Deserialize;

use super::http::{Connection, Target};

/// Long enough that no lease ends in a run of the longest phase.
const LEASE_SECONDS: u32 = 3600;
/// A claim waits this long: a task is always there or about to be, so it is a net, not a load.
const WAIT_SECONDS: u32 = 2;
/// What every node allows a batch claim and a batch submit to carry; used to clear away quickly.
pub const CLAIM_LIMIT: u64 = 10;
const SUBMIT_LIMIT: usize = 100;
/// Payloads made ahead; each task takes the next, so no two neighbours are alike.
const PAYLOADS: usize = 256;
/// Pause after an answer that says "not now".
const PAUSE: Duration = Duration::from_millis(50);

/// What the load looks like; the same for all phases.
pub struct Plan {
    /// Where the connections lead, one after the other in turn.
    pub targets: Vec<Target>,
    /// Bearer token of the creates.
    pub producer_token: String,
    /// Bearer token of the claims and submits.
    pub worker_token: String,
    /// Queues the tasks are spread over.
    pub commands: Vec<String>,
    /// Tasks a create or submit call carries; 1 uses the single endpoints.
    pub batch: u64,
    /// Tasks a claim call asks for; 1 uses the single endpoint.
    pub claim_batch: u64,
    /// Bytes of a task's payload.
    pub payload_bytes: usize,
}

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

/// The three calls, as indexes into [`Seen::micros`].
#[derive(Clone, Copy)]
pub enum Call {
    /// `POST /tasks` or its batch.
    Create,
    /// `POST /tasks/claim` or its batch.
    Claim,
    /// `POST /tasks/{id}/result` or its batch.
    Submit,
}

/// What was seen of the calls of a phase.
#[derive(Default)]
pub struct Seen {
    /// Tasks that went through the whole step.
    pub tasks: u64,
    /// Latency of every answered call in microseconds, by [`Call`].
    pub micros: [Vec<u32>; 3],
    /// Calls that were answered "not now" or not at all, by status or `io`; each was repeated.
    pub troubles: BTreeMap<String, u64>,
}

/// The connections and what is between the phases: claimed tasks.
pub struct Load {
    plan: Plan,
    clients: Vec<Client>,
    held: RefCell<Vec<Held>>,
}

struct Client {
    connection: Connection,
    payloads: Vec<String>,
    next_payload: usize,
    body: String,
    seen: Seen,
}

struct Held {
    id: String,
    token: String,
}

/// One phase, seen by all its clients.
struct Phase<'a> {
    plan: &'a Plan,
    step: Step,
    /// Tasks a create or submit carries, and a claim.
    batch: u64,
    claim_batch: u64,
    /// Tasks left to do, by queue.
    left: Vec<Cell<u64>>,
    held: &'a RefCell<Vec<Held>>,
    deadline: Instant,
}

impl Load {
    /// `concurrency` clients; they connect with their first call.
    pub fn new(plan: Plan, concurrency: usize) -> Self {
        let client = |number: usize| Client {
            connection: Connection::new(plan.targets[number % plan.targets.len()].clone()),
            payloads: (0..PAYLOADS.div_ceil(concurrency))
                .map(|_| payload(plan.payload_bytes))
                .collect(),
            next_payload: 0,
            body: String::new(),
            seen: Seen::default(),
        };
        let clients = (0..concurrency).map(client).collect();
        Self { plan, clients, held: RefCell::default() }
    }

    /// Takes `tasks` tasks through `step`, or as many as the time allows.
    ///
    /// # Errors
    /// When the node refuses a call for good (a wrong token, an unknown path, a bad request).
    pub async fn run(&mut self, step: Step, tasks: u64, limit: Duration) -> anyhow::Result<Seen> {
        let (batch, claim_batch) = (self.plan.batch, self.plan.claim_batch);
        self.run_by(batch, claim_batch, step, tasks, limit).await
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
        self.run_by(SUBMIT_LIMIT as u64, CLAIM_LIMIT, step, tasks, limit).await
    }

    async fn run_by(
        &mut self,
        batch: u64,
        claim_batch: u64,
        step: Step,
        tasks: u64,
        limit: Duration,
    ) -> anyhow::Result<Seen> {
        let queues = self.plan.commands.len() as u64;
        let share = |queue| tasks / queues + u64::from(queue < tasks % queues);
        let phase = Phase {
            plan: &self.plan,
            step,
            batch,
            claim_batch,
            left: (0..queues).map(|queue| Cell::new(share(queue))).collect(),
            held: &self.held,
            deadline: Instant::now() + limit,
        };
        let work = self.clients.iter_mut().enumerate();
        try_join_all(work.map(|(number, client)| client.work(&phase, number))).await?;
        Ok(self.collect())
    }

    /// Claims and submits whatever is ready in the queues; gives the number of tasks.
    ///
    /// # Errors
    /// As [`Load::run`].
    pub async fn drain(&mut self, limit: Duration) -> anyhow::Result<u64> {
        let phase = Phase {
            plan: &self.plan,
            step: Step::Submit,
            batch: SUBMIT_LIMIT as u64,
            claim_batch: CLAIM_LIMIT,
            left: Vec::new(),
            held: &self.held,
            deadline: Instant::now() + limit,
        };
        try_join_all(self.clients.iter_mut().map(|client| client.drain(&phase))).await?;
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
        let size = if self.step == Step::Claim { self.claim_batch } else { self.batch };
        let queues = self.left.len();
        (0..queues).map(|offset| (number + offset) % queues).find_map(|queue| {
            let taken = self.left[queue].get().min(size);
            self.left[queue].set(self.left[queue].get() - taken);
            (taken > 0).then_some((queue, taken))
        })
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }
}

impl Client {
    async fn work(&mut self, phase: &Phase<'_>, number: usize) -> anyhow::Result<()> {
        while !phase.is_over() {
            let Some((queue, wanted)) = phase.take(number) else { break };
            let mut done = wanted;
            if matches!(phase.step, Step::Create | Step::Cycle | Step::Pair) {
                done = self.create(phase, queue, wanted).await?;
            }
            if matches!(phase.step, Step::Claim | Step::Cycle | Step::Pair) {
                let mut claimed = Vec::new();
                while (claimed.len() as u64) < done && !phase.is_over() {
                    let missing = done - claimed.len() as u64;
                    let count = missing.min(phase.claim_batch);
                    claimed.extend(self.claim(phase, queue, count, WAIT_SECONDS).await?);
                }
                done = claimed.len() as u64;
                if phase.step == Step::Cycle {
                    done = self.submit(phase, claimed).await?;
                } else {
                    phase.held.borrow_mut().extend(claimed);
                }
            }
            if phase.step == Step::Submit {
                let rest = phase.held.borrow().len().saturating_sub(wanted as usize);
                let taken = phase.held.borrow_mut().split_off(rest);
                if taken.is_empty() {
                    break;
                }
                done = self.submit(phase, taken).await?;
            }
            self.seen.tasks += done;
        }
        Ok(())
    }

    async fn drain(&mut self, phase: &Phase<'_>) -> anyhow::Result<()> {
        for queue in 0..phase.plan.commands.len() {
            while !phase.is_over() {
                let mut taken = Vec::new();
                while taken.len() + CLAIM_LIMIT as usize <= SUBMIT_LIMIT {
                    let more = self.claim(phase, queue, CLAIM_LIMIT, 0).await?;
                    if more.is_empty() {
                        break;
                    }
                    taken.extend(more);
                }
                if taken.is_empty() {
                    break;
                }
                self.seen.tasks += self.submit(phase, taken).await?;
            }
        }
        Ok(())
    }

    /// Gives the number of tasks accepted: all, or none when the time is over.
    async fn create(&mut self, phase: &Phase<'_>, queue: usize, n: u64) -> anyhow::Result<u64> {
        let Plan { commands, producer_token, .. } = phase.plan;
        let many = phase.batch > 1;
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        let path = if many { "/v1/codeq/tasks/batch" } else { "/v1/codeq/tasks" };
        if many {
            body.push_str(r#"{"tasks":["#);
        }
        for item in 0..n {
            self.next_payload = (self.next_payload + 1) % self.payloads.len();
            let comma = if item > 0 { "," } else { "" };
            let payload = &self.payloads[self.next_payload];
            let parts =
                [comma, r#"{"command":""#, &commands[queue], r#"","payload":"#, payload, "}"];
            parts.iter().for_each(|part| body.push_str(part));
        }
        if many {
            body.push_str("]}");
        }
        let answer = self.call(phase, Call::Create, path, producer_token, &body).await;
        self.body = body;
        Ok(match answer? {
            Some((_, answer)) if many => accepted(&answer, "task")?,
            Some(_) => 1,
            None => 0,
        })
    }

    /// Gives what one call got: nothing when nothing came within the wait.
    async fn claim(
        &mut self,
        phase: &Phase<'_>,
        queue: usize,
        count: u64,
        wait: u32,
    ) -> anyhow::Result<Vec<Held>> {
        let Plan { commands, worker_token, .. } = phase.plan;
        let single = phase.claim_batch == 1;
        let path = if single { "/v1/codeq/tasks/claim" } else { "/v1/codeq/tasks/claim/batch" };
        let command = &commands[queue];
        let body = format!(
            r#"{{"commands":["{command}"],"leaseSeconds":{LEASE_SECONDS},"waitSeconds":{wait},"count":{count}}}"#
        );
        let Some((status, answer)) =
            self.call(phase, Call::Claim, path, worker_token, &body).await?
        else {
            return Ok(Vec::new());
        };
        Ok(match status {
            204 => Vec::new(),
            _ if single => vec![serde_json::from_slice::<Claimed>(&answer)?.into()],
            _ => {
                let tasks: ClaimedTasks = serde_json::from_slice(&answer)?;
                tasks.tasks.into_iter().map(Held::from).collect()
            }
        })
    }

    /// Gives the number of tasks that ended.
    async fn submit(&mut self, phase: &Phase<'_>, tasks: Vec<Held>) -> anyhow::Result<u64> {
        let token = &phase.plan.worker_token;
        if tasks.is_empty() {
            return Ok(0);
        }
        if phase.batch == 1 {
            let Held { id, token: lease } = &tasks[0];
            let path = format!("/v1/codeq/tasks/{id}/result");
            let body = format!(
                r#"{{"status":"COMPLETED","result":{{"ok":true}},"leaseToken":"{lease}"}}"#
            );
            let answer = self.call(phase, Call::Submit, &path, token, &body).await?;
            return Ok(u64::from(answer.is_some()));
        }
        let verdicts: Vec<String> = tasks
            .iter()
            .map(|Held { id, token }| {
                format!(
                    r#"{{"taskId":"{id}","status":"COMPLETED","result":{{"ok":true}},"leaseToken":"{token}"}}"#
                )
            })
            .collect();
        let body = format!(r#"{{"results":[{}]}}"#, verdicts.join(","));
        let path = "/v1/codeq/tasks/batch/results";
        let Some((_, answer)) = self.call(phase, Call::Submit, path, token, &body).await? else {
            return Ok(0);
        };
        let done = accepted(&answer, "result")?;
        let refused = tasks.len() as u64 - done;
        if refused > 0 {
            *self.seen.troubles.entry("refused items".to_owned()).or_default() += refused;
        }
        Ok(done)
    }

    /// One call, repeated while the node says "not now"; `None` when the time is over.
    async fn call(
        &mut self,
        phase: &Phase<'_>,
        call: Call,
        path: &str,
        token: &str,
        body: &str,
    ) -> anyhow::Result<Option<(u16, Vec<u8>)>> {
        loop {
            let sent = Instant::now();
            let trouble = match self.connection.call("POST", path, token, body.as_bytes()).await {
                Ok(answer) => match answer.status {
                    200..=299 => {
                        let micros = sent.elapsed().as_micros();
                        let micros = u32::try_from(micros).unwrap_or(u32::MAX);
                        self.seen.micros[call as usize].push(micros);
                        return Ok(Some((answer.status, answer.body.to_vec())));
                    }
                    408 | 429 | 503 => answer.status.to_string(),
                    status => {
                        bail!("{path}: {status} {}", String::from_utf8_lossy(answer.body))
                    }
                },
                Err(_) => "io".to_owned(),
            };
            *self.seen.troubles.entry(trouble).or_default() += 1;
            if phase.is_over() {
                return Ok(None);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
}

#[derive(Deserialize)]
struct ClaimedTasks<'a> {
    #[serde(borrow)]
    tasks: Vec<Claimed<'a>>,
}

#[derive(Deserialize)]
struct Claimed<'a> {
    id: &'a str,
    #[serde(rename = "leaseToken")]
    lease_token: &'a str,
}

impl From<Claimed<'_>> for Held {
    fn from(claimed: Claimed<'_>) -> Self {
        Self { id: claimed.id.to_owned(), token: claimed.lease_token.to_owned() }
    }
}

/// Counts the items of a batch's answer that carry `key`, which is what the accepted ones do.
fn accepted(answer: &[u8], key: &str) -> anyhow::Result<u64> {
    #[derive(Deserialize)]
    struct Items<'a> {
        #[serde(borrow)]
        results: Vec<BTreeMap<&'a str, &'a serde_json::value::RawValue>>,
    }
    let items: Items<'_> = serde_json::from_slice(answer)?;
    Ok(items.results.iter().filter(|item| item.contains_key(key)).count() as u64)
}

/// A JSON text of exactly `bytes` bytes (at least an empty string's two) that hardly compresses.
fn payload(bytes: usize) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-";
    let mut random = rand::rng();
    let inside = bytes.saturating_sub(2);
    let letters = (0..inside).map(|_| char::from(ALPHABET[random.random_range(0..64)]));
    ['"'].into_iter().chain(letters).chain(['"']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_is_json_of_the_size_asked_for() {
        let text = payload(256);
        assert_eq!(text.len(), 256);
        assert!(serde_json::from_str::<String>(&text).is_ok());
        assert_ne!(text, payload(256));
    }

    #[test]
    fn only_accepted_items_of_a_batch_count() {
        let answer = br#"{"results":[{"task":{"id":"1"}},{"error":"x","code":"y"},{"task":{}}]}"#;
        assert_eq!(accepted(answer, "task").unwrap(), 2);
    }
}
