//! One virtual client: a connection, and the three calls of a task's life over it.

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use anyhow::bail;
use rand::RngExt as _;
use serde::Deserialize;

use super::http::{Connection, Target};

/// Long enough that no lease ends in a run of the longest phase.
const LEASE_SECONDS: u32 = 3600;
/// Payloads made ahead, shared out; each task takes the next, so no two neighbours are alike.
const PAYLOADS: usize = 256;
/// Pause after an answer that says "not now".
const PAUSE: Duration = Duration::from_millis(50);

/// What the load looks like; the same for all clients and phases.
pub struct Plan {
    /// Where the connections lead, one after the other in turn.
    pub targets: Vec<Target>,
    /// Bearer token of the creates.
    pub producer_token: String,
    /// Bearer token of the claims and submits.
    pub worker_token: String,
    /// Queues the tasks are spread over.
    pub commands: Vec<String>,
    /// Clients that make one call at a time each.
    pub concurrency: usize,
    /// Tasks a create or submit call carries; 1 uses the single endpoints.
    pub batch: u64,
    /// Bytes of a task's payload.
    pub payload_bytes: usize,
}

/// The three calls, as indexes into [`Seen::micros`].
#[derive(Clone, Copy)]
enum Call {
    Create,
    Claim,
    Submit,
}

/// What was seen of the calls of a phase.
#[derive(Default)]
pub struct Seen {
    /// Tasks that went through the whole step.
    pub tasks: u64,
    /// Latency of every answered call in microseconds: creates, claims, submits.
    pub micros: [Vec<u32>; 3],
    /// Calls that were answered "not now" or not at all, by status or `io`; each was repeated.
    pub troubles: BTreeMap<String, u64>,
}

/// A claimed task.
pub struct Held {
    id: String,
    token: String,
}

/// A virtual client.
pub struct Client {
    plan: Rc<Plan>,
    connection: Connection,
    payloads: Vec<String>,
    next_payload: usize,
    body: String,
    singly: bool,
    deadline: Instant,
    /// What it saw since this was last taken.
    pub seen: Seen,
}

impl Client {
    /// The client of this number; it connects with its first call.
    pub fn new(plan: Rc<Plan>, number: usize) -> Self {
        let share = PAYLOADS.div_ceil(plan.concurrency);
        Self {
            connection: Connection::new(plan.targets[number % plan.targets.len()].clone()),
            payloads: (0..share).map(|_| payload(plan.payload_bytes)).collect(),
            plan,
            next_payload: 0,
            body: String::new(),
            singly: true,
            deadline: Instant::now(),
            seen: Seen::default(),
        }
    }

    /// The calls that follow are repeated until `deadline`, and use the batch endpoints or not.
    pub fn begin(&mut self, singly: bool, deadline: Instant) {
        (self.singly, self.deadline) = (singly, deadline);
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Gives the number of tasks accepted: all, or none when the time is over.
    pub async fn create(&mut self, queue: usize, n: u64) -> anyhow::Result<u64> {
        let plan = Rc::clone(&self.plan);
        let many = !self.singly;
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
                [comma, r#"{"command":""#, &plan.commands[queue], r#"","payload":"#, payload, "}"];
            parts.iter().for_each(|part| body.push_str(part));
        }
        if many {
            body.push_str("]}");
        }
        let answer = self.call(Call::Create, path, &plan.producer_token, &body).await;
        self.body = body;
        Ok(match answer? {
            Some((_, answer)) if many => accepted(&answer, "task")?,
            Some(_) => 1,
            None => 0,
        })
    }

    /// Gives what one call got: nothing when nothing came within the wait.
    pub async fn claim(
        &mut self,
        queue: usize,
        count: u64,
        wait: u32,
    ) -> anyhow::Result<Vec<Held>> {
        let plan = Rc::clone(&self.plan);
        let single = self.singly;
        let path = if single { "/v1/codeq/tasks/claim" } else { "/v1/codeq/tasks/claim/batch" };
        let command = &plan.commands[queue];
        let body = format!(
            r#"{{"commands":["{command}"],"leaseSeconds":{LEASE_SECONDS},"waitSeconds":{wait},"count":{count}}}"#
        );
        let Some((status, answer)) =
            self.call(Call::Claim, path, &plan.worker_token, &body).await?
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
    pub async fn submit(&mut self, tasks: Vec<Held>) -> anyhow::Result<u64> {
        let plan = Rc::clone(&self.plan);
        let token = &plan.worker_token;
        if tasks.is_empty() {
            return Ok(0);
        }
        if self.singly {
            let Held { id, token: lease } = &tasks[0];
            let path = format!("/v1/codeq/tasks/{id}/result");
            let body = format!(
                r#"{{"status":"COMPLETED","result":{{"ok":true}},"leaseToken":"{lease}"}}"#
            );
            let answer = self.call(Call::Submit, &path, token, &body).await?;
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
        let Some((_, answer)) = self.call(Call::Submit, path, token, &body).await? else {
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
            if self.is_over() {
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
