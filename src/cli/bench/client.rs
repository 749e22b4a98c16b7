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
/// Every task ends like this.
const VERDICT: &str = r#""status":"COMPLETED","result":{"ok":true}"#;
/// Pause after an answer that says "not now".
const PAUSE: Duration = Duration::from_millis(50);

/// What the load looks like; the same for all clients and phases.
#[derive(Clone)]
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
    /// Where the ends of tasks are told; empty for nowhere.
    pub webhook: String,
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

/// What became of an item of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Done,
    /// "Not now".
    Again,
    /// For good.
    Rejected,
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

    /// The calls that follow are those of this plan.
    pub fn follow(&mut self, plan: Rc<Plan>) {
        self.plan = plan;
    }

    /// The calls that follow are repeated until `deadline`, and use the batch endpoints or not.
    pub fn begin(&mut self, singly: bool, deadline: Instant) {
        (self.singly, self.deadline) = (singly, deadline);
    }

    /// Whether the time is over.
    pub fn is_over(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Gives the number of tasks accepted: all, unless the time is over or the node rejects some.
    pub async fn create(&mut self, queue: usize, n: u64) -> anyhow::Result<u64> {
        let plan = Rc::clone(&self.plan);
        let mut body = std::mem::take(&mut self.body);
        let (mut done, mut left) = (0, n);
        while left > 0 {
            self.write_create(&plan.commands[queue], left, &mut body);
            let path = if self.singly { "/v1/codeq/tasks" } else { "/v1/codeq/tasks/batch" };
            let answer = self.call(Call::Create, path, &plan.producer_token, &body).await?;
            let Some((_, answer)) = answer else { break };
            if self.singly {
                (done, left) = (done + 1, left - 1);
                continue;
            }
            let fates = self.fates(&answer, "task").await?;
            done += fates.iter().filter(|fate| **fate == Fate::Done).count() as u64;
            left = fates.iter().filter(|fate| **fate == Fate::Again).count() as u64;
        }
        self.body = body;
        Ok(done)
    }

    fn write_create(&mut self, command: &str, n: u64, body: &mut String) {
        body.clear();
        if !self.singly {
            body.push_str(r#"{"tasks":["#);
        }
        let n = if self.singly { 1 } else { n };
        for item in 0..n {
            self.next_payload = (self.next_payload + 1) % self.payloads.len();
            let comma = if item > 0 { "," } else { "" };
            let payload = &self.payloads[self.next_payload];
            let parts = [comma, r#"{"command":""#, command, r#"","payload":"#, payload];
            parts.iter().for_each(|part| body.push_str(part));
            if !self.plan.webhook.is_empty() {
                let parts = [r#","webhook":""#, &self.plan.webhook, r#"""#];
                parts.iter().for_each(|part| body.push_str(part));
            }
            body.push('}');
        }
        if !self.singly {
            body.push_str("]}");
        }
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

    /// Gives the number of tasks that ended: all, as in [`Client::create`].
    pub async fn submit(&mut self, mut tasks: Vec<Held>) -> anyhow::Result<u64> {
        let plan = Rc::clone(&self.plan);
        let token = &plan.worker_token;
        let mut done = 0;
        while let Some(Held { id, token: lease }) = tasks.first() {
            if self.singly {
                let path = format!("/v1/codeq/tasks/{id}/result");
                let body = format!(r#"{{{VERDICT},"leaseToken":"{lease}"}}"#);
                if self.call(Call::Submit, &path, token, &body).await?.is_none() {
                    break;
                }
                done += 1;
                tasks.remove(0);
                continue;
            }
            let verdict = |Held { id, token }: &Held| {
                format!(r#"{{"taskId":"{id}",{VERDICT},"leaseToken":"{token}"}}"#)
            };
            let verdicts: Vec<String> = tasks.iter().map(verdict).collect();
            let body = format!(r#"{{"results":[{}]}}"#, verdicts.join(","));
            let path = "/v1/codeq/tasks/batch/results";
            let answer = self.call(Call::Submit, path, token, &body).await?;
            let Some((_, answer)) = answer else { break };
            let fates = self.fates(&answer, "result").await?;
            done += fates.iter().filter(|fate| **fate == Fate::Done).count() as u64;
            let mut fates = fates.into_iter();
            tasks.retain(|_| fates.next() == Some(Fate::Again));
        }
        Ok(done)
    }

    /// What became of each item of a batch, counting trouble by its code; those that are done
    /// carry `key`. Waits a little when some have to be sent again.
    async fn fates(&mut self, answer: &[u8], key: &str) -> anyhow::Result<Vec<Fate>> {
        let items: Items<'_> = serde_json::from_slice(answer)?;
        let mut fates = Vec::with_capacity(items.results.len());
        for item in &items.results {
            let code = match item.get("code") {
                Some(code) => serde_json::from_str(code.get())?,
                None if item.contains_key(key) => {
                    fates.push(Fate::Done);
                    continue;
                }
                None => "neither an error nor an answer",
            };
            *self.seen.troubles.entry(format!("item {code}")).or_default() += 1;
            let again = ["store_unavailable", "outcome_unknown", "rate_limited"].contains(&code);
            fates.push(if again { Fate::Again } else { Fate::Rejected });
        }
        if fates.contains(&Fate::Again) {
            tokio::time::sleep(PAUSE).await;
        }
        Ok(fates)
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

#[derive(Deserialize)]
struct Items<'a> {
    #[serde(borrow)]
    results: Vec<BTreeMap<&'a str, &'a serde_json::value::RawValue>>,
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

    #[tokio::test]
    async fn an_item_is_done_to_be_sent_again_or_rejected() {
        let target = Target::new(&"http://127.0.0.1:1".parse().unwrap()).unwrap();
        let plan = Plan {
            targets: vec![target],
            producer_token: String::new(),
            worker_token: String::new(),
            commands: Vec::new(),
            concurrency: 1,
            batch: 2,
            payload_bytes: 2,
            webhook: String::new(),
        };
        let mut client = Client::new(Rc::new(plan), 0);
        let answer = br#"{"results":[{"task":{"id":"1"}},{"error":"x","code":"store_unavailable"},
            {"error":"y","code":"invalid_body"}]}"#;
        let fates = client.fates(answer, "task").await.unwrap();
        assert_eq!(fates, [Fate::Done, Fate::Again, Fate::Rejected]);
        assert_eq!(client.seen.troubles["item invalid_body"], 1);
    }
}
